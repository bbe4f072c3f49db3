"""The program's main module: what it is to a child, and what is wrong with one that can't be run again."""

from __future__ import annotations

import os
import sys

from warmfork._words.errors import PreloadError, StartError, WarmforkError


class MissingGuard(StartError):
    """The script starts processes when it is imported, and children import it."""

    def __init__(self, place: str) -> None:
        super().__init__("__main__", f"{place} starts a process while children import the script")
        self.args = (place,)
        self.place = place

    def __reduce__(self) -> tuple[type[StartError], tuple[object, ...]]:
        return StartError, ("__main__", str(self))

    def __str__(self) -> str:
        return (
            f"{self.place} starts a process, and every child imports this script, so each would start more.\n"
            "Put what starts processes under a guard, at the end of the script:\n"
            '    if __name__ == "__main__":\n'
            "        main()"
        )


MissingGuard.__module__, MissingGuard.__qualname__ = "builtins", "RuntimeError"  # as multiprocessing names it


def check_guard(error: WarmforkError) -> None:
    """Raise MissingGuard where a template could not be had because the script starts processes when it is run there."""
    from warmfork._client.client import STARTS_PROCESSES

    if not (isinstance(error, PreloadError) and error.module == "__main__"):
        return
    if STARTS_PROCESSES in error.cause or "bootstrapping phase" in error.cause:
        raise MissingGuard(find_unguarded(error.traceback)) from None


def find_unguarded(traceback: str) -> str:
    """Give file and line of the script at which a process was started, from the template's traceback."""
    script = describe_main()[1]
    for line in traceback.splitlines():
        file, _, rest = line.strip().removeprefix('File "').partition('", line ')
        if rest and (file == script or rest.endswith("in <module>")):
            return f"{file}, line {rest.partition(',')[0]},"
    return "the script"


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
    if not os.path.isabs(path):
        process = sys.modules.get("multiprocessing.process")
        path = os.path.join(getattr(process, "ORIGINAL_DIR", None) or "", path)
    return "path", os.path.normpath(path)


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
