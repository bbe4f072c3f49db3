"""The program's main module: what it is to a child, and running it as `__mp_main__`, as multiprocessing does."""

from __future__ import annotations

import os
import sys
from multiprocessing import process

TYPE_CHECKING = False
if TYPE_CHECKING:
    from types import ModuleType


def describe_main() -> tuple[str, str]:
    """Say what `__main__` is to a child: ("name", module), ("path", file), or ("", "") where it can't be imported."""
    main = sys.modules.get("__main__")
    spec = getattr(main, "__spec__", None)
    if spec is not None and spec.name:
        if spec.name == "__main__" or spec.name.endswith(".__main__"):
            return "", ""  # a folder, a zip, a package: multiprocessing leaves these alone
        return "name", str(spec.name)
    path = getattr(main, "__file__", None)
    if path is None or not is_file(path):
        return "", ""
    if not os.path.isabs(path) and process.ORIGINAL_DIR is not None:  # type: ignore[attr-defined]
        path = os.path.join(process.ORIGINAL_DIR, path)  # type: ignore[attr-defined]
    return "path", os.path.normpath(path)


def check_not_importing_main() -> None:
    """Raise RuntimeError, in multiprocessing's words, where `__main__` starts processes while it is imported."""
    if getattr(process.current_process(), "_inheriting", False):
        from multiprocessing import spawn

        spawn._check_not_importing_main()  # type: ignore[attr-defined]


def is_main_typed() -> bool:
    """Is the main module in no file: typed at a prompt, in a notebook, behind -c, or read from stdin?"""
    path = getattr(sys.modules.get("__main__"), "__file__", None)
    return hasattr(sys, "ps1") or not is_file(path)


def is_file(path: object) -> bool:
    """Is the main module in a file that another process can run again? A pipe (`python <(...)`) is read, and /dev/stdin
    and /dev/fd/3 are another file, or none, there."""
    text = str(path)
    if path is None or text.endswith("<stdin>") or text.startswith(("/dev/", "/proc/")):
        return False
    # What is there and no file; what is missing may have been moved, and is up to whoever imports it.
    return not os.path.exists(text) or os.path.isfile(text) or os.path.isdir(text)


def import_main(kind: str, value: str) -> None:
    """Run the main module as `__mp_main__`, unless this process has done that already."""
    if kind == "path" and value.endswith(".py") and os.path.isfile(value):
        if getattr(sys.modules["__main__"], "__file__", None) != value and not is_ipython(value):
            run_file(value)
    elif kind:
        from multiprocessing import spawn

        fix = spawn._fixup_main_from_name if kind == "name" else spawn._fixup_main_from_path  # type: ignore[attr-defined]
        fix(value)


def is_ipython(path: str) -> bool:
    """Is this IPython's launch script, which has no guard? multiprocessing leaves it alone, by its name."""
    return os.path.splitext(os.path.basename(path))[0] == "ipython"


def run_file(path: str) -> None:
    """Run a file as runpy.run_path() does, which costs 4 ms more: it brings pkgutil and zipimport to see whether a
    `.py` is a folder or an archive."""
    from _frozen_importlib_external import SourceFileLoader

    source = SourceFileLoader("__mp_main__", path)
    code = source.source_to_code(source.get_data(path), path)
    module: ModuleType = type(sys)("__mp_main__")
    vars(module).update(__file__=path, __package__="", __cached__=None, __builtins__=__builtins__)
    shadowed = sys.modules.get("__mp_main__")
    argument, sys.argv[:1] = sys.argv[:1], [path]
    sys.modules["__mp_main__"] = module
    try:
        exec(code, vars(module))
    except BaseException:
        if shadowed is None:
            del sys.modules["__mp_main__"]
        else:
            sys.modules["__mp_main__"] = shadowed
        raise
    finally:
        sys.argv[:1] = argument
    former_mains.append(sys.modules["__main__"])
    sys.modules["__main__"] = module


former_mains: list[ModuleType] = []
"""The main modules that were replaced: what they hold must live as long as the process."""
