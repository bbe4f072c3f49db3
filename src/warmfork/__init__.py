"""warmfork: the forkserver for Python.

One clean process imports what a program needs, goes quiet, and every process that the program starts is a fork of it.
The names below are loaded on first use: a template never pays for the client's side.
"""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from warmfork._client.handle import Child as Child
    from warmfork._words.errors import AuditError as AuditError
    from warmfork._words.errors import ChildError as ChildError
    from warmfork._words.errors import PreloadError as PreloadError
    from warmfork._words.errors import Refused as Refused
    from warmfork._words.errors import StartError as StartError
    from warmfork._words.errors import TemplateDied as TemplateDied
    from warmfork._words.errors import UnsupportedPlatform as UnsupportedPlatform
    from warmfork._words.errors import WarmforkError as WarmforkError
    from warmfork._words.outcome import Exited as Exited
    from warmfork._words.outcome import Lost as Lost
    from warmfork._words.outcome import Outcome as Outcome
    from warmfork._words.outcome import Signaled as Signaled
    from warmfork._words.outcome import Usage as Usage
    from warmfork.api.completed import Completed as Completed
    from warmfork.api.completed import Failure as Failure
    from warmfork.api.completed import ResultError as ResultError
    from warmfork.api.completed import RunError as RunError
    from warmfork.api.executor.errors import ExecutorBroken as ExecutorBroken
    from warmfork.api.executor.errors import ForkedError as ForkedError
    from warmfork.api.executor.errors import Full as Full
    from warmfork.api.executor.errors import InitializerError as InitializerError
    from warmfork.api.executor.errors import QueueTimeout as QueueTimeout
    from warmfork.api.executor.errors import TaskTimeout as TaskTimeout
    from warmfork.api.executor.errors import WorkerDied as WorkerDied
    from warmfork.api.executor.executor import Executor as Executor
    from warmfork.api.executor.futures import TaskFuture as TaskFuture
    from warmfork.api.limits import LimitExceeded as LimitExceeded
    from warmfork.api.limits import TimeLimitExceeded as TimeLimitExceeded
    from warmfork.api.session import Session as Session
    from warmfork.api.session import SessionEnded as SessionEnded
    from warmfork.api.sharing import Shared as Shared
    from warmfork.api.sharing import share_readonly as share_readonly
    from warmfork.api.streams import DEVNULL as DEVNULL
    from warmfork.api.streams import PIPE as PIPE
    from warmfork.api.streams import STDOUT as STDOUT
    from warmfork.api.template import Template as Template
    from warmfork.api.track import track as track
    from warmfork.api.track import untrack as untrack
    from warmfork.mp.client.context import get_context as get_context
    from warmfork.mp.client.install import install as install
    from warmfork.mp.client.install import uninstall as uninstall
    from warmfork.mp.client.popen import get_child as get_child

__version__ = "0.1.0.dev0"

_PLACES = {
    "AuditError": "warmfork._words.errors",
    "Child": "warmfork._client.handle",
    "ChildError": "warmfork._words.errors",
    "Completed": "warmfork.api.completed",
    "DEVNULL": "warmfork.api.streams",
    "Executor": "warmfork.api.executor.executor",
    "ExecutorBroken": "warmfork.api.executor.errors",
    "Exited": "warmfork._words.outcome",
    "Failure": "warmfork.api.completed",
    "ForkedError": "warmfork.api.executor.errors",
    "Full": "warmfork.api.executor.errors",
    "InitializerError": "warmfork.api.executor.errors",
    "LimitExceeded": "warmfork.api.limits",
    "Lost": "warmfork._words.outcome",
    "Outcome": "warmfork._words.outcome",
    "PIPE": "warmfork.api.streams",
    "PreloadError": "warmfork._words.errors",
    "QueueTimeout": "warmfork.api.executor.errors",
    "Refused": "warmfork._words.errors",
    "ResultError": "warmfork.api.completed",
    "RunError": "warmfork.api.completed",
    "STDOUT": "warmfork.api.streams",
    "Session": "warmfork.api.session",
    "SessionEnded": "warmfork.api.session",
    "Shared": "warmfork.api.sharing",
    "Signaled": "warmfork._words.outcome",
    "StartError": "warmfork._words.errors",
    "TaskFuture": "warmfork.api.executor.futures",
    "TaskTimeout": "warmfork.api.executor.errors",
    "Template": "warmfork.api.template",
    "TemplateDied": "warmfork._words.errors",
    "TimeLimitExceeded": "warmfork.api.limits",
    "UnsupportedPlatform": "warmfork._words.errors",
    "Usage": "warmfork._words.outcome",
    "WarmforkError": "warmfork._words.errors",
    "WorkerDied": "warmfork.api.executor.errors",
    "get_child": "warmfork.mp.client.popen",
    "get_context": "warmfork.mp.client.context",
    "install": "warmfork.mp.client.install",
    "share_readonly": "warmfork.api.sharing",
    "track": "warmfork.api.track",
    "uninstall": "warmfork.mp.client.install",
    "untrack": "warmfork.api.track",
}

__all__ = [*_PLACES]  # noqa: PLE0604  # one list of names, not two to keep in step


def __getattr__(name: str) -> object:
    if name not in _PLACES:
        raise AttributeError(f"module 'warmfork' has no attribute {name!r}")
    import sys

    __import__(_PLACES[name])
    value: object = getattr(sys.modules[_PLACES[name]], name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *_PLACES})
