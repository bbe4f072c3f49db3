"""Running the program's main module as `__mp_main__`, as multiprocessing does."""

from __future__ import annotations

import os
import sys
from multiprocessing import process

TYPE_CHECKING = False
if TYPE_CHECKING:
    from types import ModuleType


def check_not_importing_main() -> None:
    """Raise RuntimeError, in multiprocessing's words, where `__main__` starts processes while it is imported."""
    if getattr(process.current_process(), "_inheriting", False):
        from multiprocessing import spawn

        spawn._check_not_importing_main()  # type: ignore[attr-defined]


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


def prepare_main(kind: str, value: str) -> list[str]:
    """Run the main module, once for all children: the loader of Template(main=True). Raises what the script raises."""
    from warmfork.mp.shared import names

    names.take_over()
    current = process.current_process()
    current._inheriting = True  # type: ignore[attr-defined]  # multiprocessing refuses to start processes meanwhile
    try:
        import_main(kind, value)
    except BaseException as error:
        error.warmfork_item = "__main__"  # type: ignore[attr-defined]
        raise
    finally:
        del current._inheriting  # type: ignore[attr-defined]
    return []


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
