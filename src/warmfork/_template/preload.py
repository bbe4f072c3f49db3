"""Import what the children will need, and take notes: how long, how much memory, what it left behind."""

from __future__ import annotations

import os
import sys
from time import perf_counter, sleep

from warmfork._child import stdio
from warmfork._machine import fds, memory
from warmfork._template import forking
from warmfork._words import wire
from warmfork._words.spec import LEARNT

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from warmfork._words.board import Board
    from warmfork._words.spec import Spec


class Failure(Exception):
    """A preload failed: the item, its cause, its traceback."""

    def __init__(self, module: str, cause: str, traceback: str) -> None:
        super().__init__(module, cause, traceback)
        self.module, self.cause, self.traceback = module, cause, traceback


class Notes:
    """What the preload found: notes for the client's log, and the report for the board."""

    def __init__(self) -> None:
        self.notes: list[str] = []
        self.report: list[str] = []
        self.threads: dict[int, tuple[str, str]] = {}  # those that were left running: name, and by which item
        self.sockets: dict[tuple[int, int], str] = {}  # those that were left open, and by which item
        self.own_sockets = list_sockets()
        self.began = perf_counter()


def load_all(spec: Spec, board: Board) -> Notes:
    """Load everything that the spec names, in order. Raises Failure where policy says so."""
    notes = Notes()
    if spec.loader:
        # Before the preload list: it runs __main__, as multiprocessing does.
        notes.notes.extend(run_loader(spec, notes))
    for index, (item, policy) in enumerate(zip(spec.preload, spec.policies, strict=True), 1):
        board.write_item(index)
        load_one(item, policy, notes)
        board.write_report("\n".join(notes.report))
    board.write_item(0)
    stdio.flush()  # what the preload printed, or each child would print it again
    return notes


def run_loader(spec: Spec, notes: Notes) -> list[str]:
    """Call what the spec's door wants done first. It handles its own errors, but for those that forbid a template."""
    started, before = perf_counter(), memory.get_resident_kib()
    try:
        given: list[str] = find(spec.loader)(*spec.loader_arguments)
    except BaseException as error:
        raise Failure(getattr(error, "warmfork_item", spec.loader), describe(error), format_error(error)) from error
    if spec.loader_arguments:
        note_cost("__main__", started, before, notes)
    note_threads("__main__", notes)
    left = [name for name, _ in find_staying(notes)]
    if left:
        # Importing can't be undone. The client asks for a template without it.
        raise Failure("__main__", f"it leaves threads running: {', '.join(left)}", "")
    return given


def load_one(item: str, policy: str, notes: Notes) -> None:
    """Import a module, or import it and call its function."""
    started, before = perf_counter(), memory.get_resident_kib()
    try:
        found = find(item)
        if ":" in item:
            said = found()
            if item == LEARNT:
                notes.notes.extend(said)
    except BaseException as error:  # SystemExit and KeyboardInterrupt too: a preload must not end the template unseen
        handle_failure(item, policy, error, notes)
    note_cost(item, started, before, notes)
    note_threads(item, notes)
    for socket in list_sockets() - notes.own_sockets:
        notes.sockets.setdefault(socket, item)


def list_sockets() -> set[tuple[int, int]]:
    """List the sockets of this process, by what tells them from others."""
    found = set()
    for fd in fds.list_fds():
        try:
            info = os.fstat(fd)
        except OSError:  # another thread has closed it meanwhile
            continue
        if info.st_mode & 0o170000 == 0o140000:
            found.add((info.st_dev, info.st_ino))
    return found


def find(item: str) -> Any:
    """Give the module, or the function in it, that an item names."""
    module, _, function = item.partition(":")
    __import__(module)
    found: Any = sys.modules[module]
    for part in function.split(".") if function else ():
        found = getattr(found, part)
    return found


def note_cost(item: str, started: float, before: int, notes: Notes) -> None:
    """Note milliseconds and KiB for the report."""
    spent = (perf_counter() - started) * 1000
    notes.report.append(f"{spent:.1f}\t{memory.get_resident_kib() - before}\t{item}")


def describe(error: BaseException) -> str:
    """Give an error in one line."""
    return f"{type(error).__name__}: {error}" if str(error) else type(error).__name__


def format_error(error: BaseException) -> str:
    """Give an error's traceback, without our own frames at its start, cut to what fits in a message."""
    from traceback import format_exception

    frames = error.__traceback__
    while frames is not None and frames.tb_frame.f_code.co_filename == __file__:
        frames = frames.tb_next
    return wire.keep_end("".join(format_exception(type(error), error, frames)))


def handle_failure(item: str, policy: str, error: BaseException, notes: Notes) -> None:
    """Raise, or note, as the policy says."""
    if policy in ("raise", "fail"):
        text = format_error(error)
        if policy == "fail" and sys.stderr is not None:
            sys.stderr.write(text)
        stdio.flush()
        raise Failure(item, describe(error), text) from error
    if policy == "warn":
        import warnings

        warnings.warn(f"Failed to preload {item}: {error}", ImportWarning, stacklevel=2)
    notes.notes.append(f'could not preload "{item}": {describe(error)}')


def note_threads(item: str, notes: Notes) -> None:
    """Note the threads that this item left running: a fork does not take them along, and the locks that they hold stay
    locked in every child."""
    for task, name in name_threads().items():
        notes.threads.setdefault(task, (name, item))


def list_left(notes: Notes) -> list[tuple[str, str]]:
    """List the threads that still run, each by its name and the item that left it."""
    running = name_threads()
    return [found for task, found in notes.threads.items() if task in running]


def stop_threads_that_fork_stops() -> None:
    """Fork once, and throw the child away: at-fork handlers of native libraries (OpenBLAS) stop their threads before the
    fork. Nobody waits for the child: the template's loop reaps it."""
    import warnings

    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        if forking.fork() == 0:
            os._exit(0)


ENDING = 0.02
"""Seconds that a thread which was joined, or stopped by a fork, may take until the kernel knows it no longer."""


def find_staying(notes: Notes) -> list[tuple[str, str]]:
    """Find the threads that stay, in the template and at forks, each by its name and the item that left it."""
    if list_left(notes):
        stop_threads_that_fork_stops()
    until = perf_counter() + ENDING
    while list_left(notes) and perf_counter() < until:
        sleep(ENDING / 100)
    return list_left(notes)


def count_threads() -> int:
    """Count the threads of this process, native ones too."""
    return len(os.listdir("/proc/self/task"))


def name_threads() -> dict[int, str]:
    """Name the threads besides the main one by their ids: Python's by name, native ones by their own name, if they have
    one. Where they have not, it is that of the thread which has started them. Those that bear a fork are left out."""
    threading = sys.modules.get("threading")
    known = {}
    if threading is not None:
        known = {thread.native_id: thread.name for thread in threading.enumerate()}
    main = os.getpid()
    ours = read_name(main)
    if count_threads() == 1:
        return {}
    named = {}
    from warmfork._words import allowed

    for task in sorted(map(int, os.listdir("/proc/self/task"))):
        name = read_name(task) if task != main else ""
        if not name or name in allowed.NAMES:  # it ended meanwhile, or is harmless
            continue
        named[task] = known.get(task) or ("a native thread" if name == ours else f"{name} (native)")
    return named


def read_name(task: int) -> str:
    """Read the name that the kernel has of a thread of this process; "" where it is dead."""
    return fds.try_to_read(f"/proc/self/task/{task}/comm").decode("utf-8", "replace").strip()
