"""What children will want of what their client has loaded: the modules that a template loads when it is told so.

Better loaded once, by the template, than by each child (1 to 27 ms). A client says which of these it has; a template
loads nothing that is not named here, whoever asks.
"""

from __future__ import annotations

import sys

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable

CLIENT = "warmfork._client.client"
"""What a child loads that makes or attaches something with a name: it tells the tracker."""

STDLIB: dict[str, tuple[str, ...]] = {
    "multiprocessing.synchronize": (),
    "multiprocessing.connection": (),
    "multiprocessing.queues": (),
    "multiprocessing.pool": (),
    "multiprocessing.heap": (),
    "multiprocessing.sharedctypes": (),
    "multiprocessing.shared_memory": (CLIENT,),
    "multiprocessing.managers": ("tempfile", CLIENT),
    "concurrent.futures.process": (),
}
"""What a process object may refer to, and what comes with it. What the client has of these when it says hello is loaded
before the first child, the rest when it is told."""

LATER: dict[str, tuple[str, ...]] = {
    # First what it loads itself: a template loads one after the other, and answers in between.
    "cloudpickle": ("enum", "re", "ast", "inspect", "dataclasses", "logging", "typing", "uuid", "pickle", "platform"),
    "cloudpickle.cloudpickle": ("warmfork._tasks.by_value",),
    "tblib.pickling_support": ("traceback", "ast", "tokenize", "_colorize"),
}
"""What pickles functions and classes by value, and what exceptions bring."""

NESTED: dict[str, tuple[str, ...]] = {
    "warmfork._client.client": (),
    "warmfork.mp.client.config": (),
    "warmfork.mp.client.beginning": (),
    "warmfork.mp.client.popen": ("warmfork._client.waiting",),
    "warmfork.api.template": ("warmfork._client.waiting",),
}
"""What starts processes: wanted where a child has started some, for its siblings will too."""

ALL = {**STDLIB, **LATER, **NESTED}


def list_stdlib() -> tuple[str, ...]:
    """List what this process has loaded of Python's own."""
    return tuple(name for name in STDLIB if name in sys.modules)


def list_had(nested: bool) -> tuple[str, ...]:
    """List what this process has loaded of all; `nested`: it is a child itself."""
    return tuple(name for name in ALL if name in sys.modules and (nested or name not in NESTED))


def list_missing(names: Iterable[str]) -> list[str]:
    """List the modules that are to be loaded here for these, in order: what is not named above is none."""
    return [module for name in names if name in ALL for module in (*ALL[name], name) if module not in sys.modules]


def load(module: str) -> None:
    """Load a module. One that fails is left to the children: what it raises it raises there, where it matters."""
    try:
        __import__(module)
    except (Exception, SystemExit):
        return
