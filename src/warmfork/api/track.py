"""track(): names that are to be removed for the dead: semaphores, shared memory, temporary files and folders."""

from __future__ import annotations

import os

from warmfork._machine import platform
from warmfork._words import messages
from warmfork.api.options import check_choice

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Literal, TypeAlias

    Kind: TypeAlias = Literal["file", "folder", "semaphore", "shared_memory"]

KINDS = ("file", "folder", "semaphore", "shared_memory")


def track(name: str | os.PathLike[str], kind: Kind, *, scope: Literal["tree", "process"] = "tree") -> None:
    """Have a name removed for whoever dies without having done so.

    >>> import tempfile, warmfork
    >>> folder = tempfile.mkdtemp()
    >>> warmfork.track(folder, "folder")

    Args:
        name: a path ("file", "folder": with all that is in it), or a name as sem_open() and shm_open() take it.
        kind: "file", "folder", "semaphore" or "shared_memory".
        scope: "tree": it is removed when this program and all that it started through warmfork are dead. "process":
            when this process is dead; where several processes track one name, when the last of them is.

    What is removed is reported, with who left it: to the logger "warmfork.tracker" of the program, or on its stderr
    where that is dead. A name that is gone by then is nobody's loss. A file or a folder is removed in the folder that it
    is in now, wherever that is moved, and in no other that has its path later.

    Raises ValueError, FileNotFoundError where the folder that it is in does not exist, and StartError where there can be
    no tracker.
    """
    path = check_name(name, kind)
    check_choice("scope", scope, ("tree", "process"))
    from warmfork._client.client import get_client

    if scope == "tree":
        get_client().register(kind, path)
    else:
        get_client().hold(kind, path)


def untrack(name: str | os.PathLike[str], kind: Kind) -> None:
    """Have a name left alone from now on: it was removed, or is to stay. One that is not tracked is no error."""
    from warmfork._client.client import get_client

    get_client().tell(messages.Untrack(kind, check_name(name, kind)))


def check_name(name: str | os.PathLike[str], kind: str) -> str:
    """Give the name as the tracker is to have it. Raises ValueError and TypeError."""
    platform.check()
    check_choice("kind", kind, KINDS)
    path = os.fspath(name)
    if not isinstance(path, str):
        raise TypeError(f"name is text or a path, not {name!r}")
    if not path or "\0" in path:
        raise ValueError(f"nothing can have the name {path!r}")
    return os.path.abspath(path) if kind in ("file", "folder") else path
