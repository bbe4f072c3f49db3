"""What an executor and its workers say to each other: tasks down a socket, results up a pipe, and the page that both see.

Both sides are of one version and trust each other: the worker runs what the program sends, and what comes back is a claim.
"""

from __future__ import annotations

from _struct import Struct
from marshal import dumps, loads

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

# -- the page: words of 64 bits, each written by one side only

CLAIMED, CONFIRMED, SINCE, REVOKED, RUNNER, ENDED_FOR, OWNER, FINISHED = range(8)
"""CLAIMED: the task that the worker is about to start. CONFIRMED: it has looked at REVOKED since then, and starts it.
SINCE: when (monotonic, ns). RUNNER: the pid of the process that runs it, where that is not the worker itself. FINISHED: the
last task that it is done with. All written by the worker. OWNER, written by the program: the worker's pid. REVOKED, too: the
worker starts no task up to this number any longer. ENDED_FOR, too: the task for which the worker is being ended, so that a
KeyboardInterrupt in it is known for what it is.

A worker writes CLAIMED, then reads REVOKED; the program writes REVOKED, has all processors catch up (membarrier), then
reads CLAIMED. So at least one of them sees the other's word, and no task is started that the program has taken back."""

WORDS = 8
WORDS_SIZE = 64
"""Words of a page, and their bytes. Each worker has a page of its own, which no other sees."""

NAMES, NAME = 128, 32
"""Names of tasks behind them, for `warmfork ps`, and bytes of each: that of a task stands at its number, modulo NAMES, and
is written by the program when it hands out the task. A worker is never handed more at a time."""

PAGE_SIZE = WORDS_SIZE + NAMES * NAME


def find_name(number: int) -> int:
    """Give where in the page the name of a task is."""
    return WORDS_SIZE + number % NAMES * NAME


# -- tasks: one message has a header, then what its kind has

TASKS = Struct("<QIII")  # number of the first, how many, kind, where a slice begins
BUNDLE, SLICE, LEAVE = 0, 1, 2
"""BUNDLE: calls, pickled, each with its size. SLICE: part of a map(): a function and columns of arguments. LEAVE: no task;
the worker is to end."""
SPILLED = 16
"""Added to the kind: the one task lies in a memfd, which comes along; MEMORY says how."""
SHARED = 32
"""Added to the kind: files of shared memory come along, behind that of SPILLED. The task is alone."""
MEMORY = Struct("<QI")  # bytes of the pickle, number of buffers

ROOM = 65_536
"""Bytes that a worker has room for in a message."""

INLINE = 61_440
"""Bytes of tasks, or of a result, that travel in the message; more goes through a memfd, which takes 50 us."""

MOST_IN_BUNDLE = 64

# -- results: a header, then `size` bytes

RESULT = Struct("<QII")  # number, size, kind
VALUE, RAISED, REFUSED, SKIPPED, PARTIAL, READY, FAILED, ENDED, WORN = range(9)
"""VALUE: a pickle. RAISED: an exception (pack_error). REFUSED: a text: what it gave can't be pickled. SKIPPED: it was taken
back. PARTIAL: a slice's results so far, and the rest was not started (PROGRESS comes first). READY, FAILED (pack_error): the
worker's birth. ENDED: the process of this task is dead (pack_end). WORN: the worker holds more than it
may (HELD), and goes on until it is told to leave."""
PID_AT = 8
"""Above these bits of a kind: the pid of the process that ran the task, where that is not the worker."""
OUTPUT = 32
"""Added to the kind: what the task has written comes first, with its size in front (SIZE)."""
SIZE = Struct("<I")
HELD = Struct("<Q")  # bytes
PROGRESS = Struct("<I")  # how many items of the slice are done

LARGEST = 1 << 26
"""Bytes of a record; a larger one is nonsense."""


def pack_settings(settings: dict[str, Any], rest: bytes) -> bytes:
    """Give what a worker is born with: its settings, and the initializer's pickle."""
    said = dumps(settings)
    return SIZE.pack(len(said)) + said + rest


def unpack_settings(data: bytes | memoryview) -> tuple[dict[str, Any], memoryview]:
    """Give settings and pickle back."""
    view = memoryview(data)
    (size,) = SIZE.unpack_from(view)
    settings: dict[str, Any] = loads(view[SIZE.size : SIZE.size + size])
    return settings, view[SIZE.size + size :]


def pack_error(names: tuple[str, ...], text: str, pickle: bytes) -> bytes:
    """Give an exception as bytes: the names of its classes, its traceback's text, and its pickle (b"": there is none)."""
    said = dumps((names, text.encode("utf-8", "backslashreplace")))
    return SIZE.pack(len(said)) + said + pickle


def unpack_error(data: bytes | memoryview) -> tuple[tuple[str, ...], str, memoryview]:
    """Give names, text and pickle back."""
    view = memoryview(data)
    (size,) = SIZE.unpack_from(view)
    names, text = loads(view[SIZE.size : SIZE.size + size])
    return names, text.decode("utf-8", "replace"), view[SIZE.size + size :]


def pack_end(status: int, stack: str) -> bytes:
    """Give the end of a task's process as bytes: its status, as of waitpid(), and its stack if a fault ended it."""
    return dumps((status, stack))


def unpack_end(data: bytes | memoryview) -> tuple[int, str]:
    """Give it back."""
    status, stack = loads(data)
    return int(status), str(stack)


def name_classes(kind: type[BaseException]) -> tuple[str, ...]:
    """Give the names of an exception's classes, for one who decides by class and must not unpickle it."""
    return tuple(f"{one.__module__}.{one.__qualname__}" for one in kind.__mro__)
