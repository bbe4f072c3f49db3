"""Where a template is born: its environment, its folder, its interpreter; and the environments that users give."""

from __future__ import annotations

import os
import sys

from warmfork._words.errors import StartError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping
    from typing import Literal

MINIMAL = ("PATH", "LANG", "LC_ALL", "TZ")
"""What a minimal environment has of this program's: nothing that a secret is put in."""


class Birthplace:
    """What a template is born with, where that is not this program's (None)."""

    def __init__(
        self,
        env: Mapping[str, str] | Literal["minimal"] | None,
        cwd: str | os.PathLike[str] | None,
        python: str | os.PathLike[str] | None,
    ) -> None:
        """Raises TypeError and ValueError for what is no environment, OSError for what is no folder or no program."""
        self.environment = encode_environment(env)
        self.folder = os.path.abspath(cwd) if cwd is not None else None
        self.python = find_program(python) if python is not None else None
        os.close(open_folder(cwd)) if cwd is not None else None
        self._path: tuple[str, ...] = ()

    def find_path(self) -> tuple[str, ...]:
        """Ask the other interpreter for its sys.path, once. Raises StartError where it gives none, or has no warmfork."""
        import subprocess

        if not self._path:
            environment = None
            if self.environment is not None:
                environment = {os.fsdecode(name): os.fsdecode(value) for name, value in self.environment.items()}
            asked = subprocess.run(
                [self.python or "", "-c", PROBE],
                capture_output=True,
                cwd=self.folder,
                env=environment,
                text=True,
                errors="replace",
            )
            if asked.returncode:
                last = asked.stderr.strip().rpartition("\n")[2]
                raise StartError("launch", f"{self.python} can't be a template: {last or asked.returncode}")
            self._path = tuple(asked.stdout.split("\0")[:-1])
        return self._path


PROBE = """\
import sys
sys.path.remove("")
import warmfork
if not (3, 11) <= sys.version_info < (3, 16):
    sys.exit(f"Python {sys.version.split()[0]}: 3.11 to 3.15 is needed")
print(*sys.path, sep="\\0", end="\\0")
"""


def find_program(given: str | os.PathLike[str]) -> str:
    """Give the full path of a program. Raises FileNotFoundError."""
    from shutil import which

    found = which(os.fspath(given))
    if found is None:
        raise FileNotFoundError(2, "no such program", os.fspath(given))
    return os.path.abspath(found)


def open_folder(cwd: str | os.PathLike[str] | None) -> int:
    """Open a folder for a child to begin in; -1 where none is given. Raises OSError."""
    return os.open(cwd, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC) if cwd is not None else -1


def get_here() -> str:
    """Give the working directory, or "" where somebody has deleted it."""
    try:
        return os.getcwd()
    except FileNotFoundError:
        return ""


def make_minimal() -> dict[str, str]:
    """Give an environment in which nothing of this program's is but where to find programs, and the language."""
    return {"PATH": os.defpath, "HOME": "/nonexistent"} | {
        name: os.environ[name] for name in MINIMAL if name in os.environ
    }


def encode_environment(env: Mapping[str, str] | Literal["minimal"] | None) -> dict[bytes, bytes] | None:
    """Give an environment as bytes. Raises TypeError and ValueError for what putenv() would refuse in the child."""
    if env is None:
        return None
    if isinstance(env, str):
        if env != "minimal":
            raise ValueError(f'env is a mapping, or "minimal", not {env!r}')
        env = make_minimal()
    found = {os.fsencode(name): os.fsencode(value) for name, value in env.items()}
    for name, value in found.items():
        if not name or b"=" in name or b"\0" in name + value:
            raise ValueError(f"env: no variable can be {os.fsdecode(name)!r}={os.fsdecode(value)!r}")
    return found


def get_sys_path() -> tuple[str, ...]:
    """Give sys.path with "" resolved, as a child in another folder needs it."""
    return tuple(entry or get_here() for entry in sys.path if isinstance(entry, str))  # type: ignore[redundant-expr]
