"""Import what the children will need, and take notes: how long, how much memory, what it left behind."""

from __future__ import annotations

import os
import sys
from time import perf_counter

from warmfork._machine import memory

TYPE_CHECKING = False
if TYPE_CHECKING:
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
        self.threads = count_threads()


def load_all(spec: Spec, board: Board) -> Notes:
    """Load everything that the spec names, in order. Raises Failure where policy says so."""
    notes = Notes()
    if spec.loader:
        # Before the preload list: it runs __main__, as multiprocessing does, and other preloads may need it.
        load_one(spec.loader, spec.loader_arguments, spec, notes, shown="")
    for index, item in enumerate(spec.preload, 1):
        board.write_item(index)
        load_one(item, (), spec, notes, shown=item)
        board.write_report("\n".join(notes.report))
    board.write_item(0)
    flush()
    return notes


def load_one(item: str, arguments: tuple[str, ...], spec: Spec, notes: Notes, shown: str) -> None:
    """Import a module, or import it and call its function."""
    started = perf_counter()
    before = memory.get_resident_kib()
    module, _, function = item.partition(":")
    try:
        __import__(module)
        found = sys.modules[module]
        if function:
            for part in function.split("."):
                found = getattr(found, part)
            given = found(*arguments)  # type: ignore[operator]
            if shown == "" and given:
                notes.notes.extend(given)
    except BaseException as error:  # SystemExit and KeyboardInterrupt too: a preload must not end the template unseen
        handle_failure(shown or "__main__", error, spec, notes)
    if shown:
        spent = (perf_counter() - started) * 1000
        notes.report.append(f"{spent:.1f}\t{memory.get_resident_kib() - before}\t{shown}")
    note_threads(shown or "__main__", notes)


def handle_failure(item: str, error: BaseException, spec: Spec, notes: Notes) -> None:
    """Raise, or note, as the policy says."""
    from traceback import format_exception

    cause = f"{type(error).__name__}: {error}" if str(error) else type(error).__name__
    frames = error.__traceback__.tb_next if error.__traceback__ else None  # the first frame is ours
    text = "".join(format_exception(type(error), error, frames))
    if spec.on_preload_error == "raise" or getattr(error, "warmfork_must_stop", False):
        raise Failure(item, cause, text[-16_000:]) from error
    if spec.on_preload_error == "warn":
        # Where a program has asked the stdlib's forkserver to warn, it looks for this on the server's stderr.
        import warnings

        warnings.warn(f"Failed to preload {item}: {error}", ImportWarning, stacklevel=2)
        notes.notes.append(f'could not preload "{item}": {cause}')


def note_threads(item: str, notes: Notes) -> None:
    """Note the threads that this item left running: a fork does not take them along, and the locks that they hold
    stay locked in every child."""
    now = count_threads()
    if now > notes.threads:
        notes.notes.append(f'"{item}" left {now - notes.threads} thread(s) running: {", ".join(name_threads())}')
    notes.threads = now


def count_threads() -> int:
    """Count the threads of this process, native ones too."""
    return len(os.listdir("/proc/self/task"))


def name_threads() -> list[str]:
    """Name the threads besides the main one: Python's by name, native ones by their kernel name."""
    names = []
    threading = sys.modules.get("threading")
    known = {}
    if threading is not None:
        known = {thread.native_id: thread.name for thread in threading.enumerate()}
    for task in sorted(map(int, os.listdir("/proc/self/task"))):
        if task == os.getpid():
            continue
        if task in known:
            names.append(known[task])
            continue
        try:
            with open(f"/proc/self/task/{task}/comm") as file:
                names.append(file.read().strip() + " (native)")
        except OSError:  # it ended meanwhile
            continue
    return names


def flush() -> None:
    """Flush what the preload printed, so that no child prints it again (row 25)."""
    for stream in (sys.stdout, sys.stderr):
        if stream is not None:
            try:
                stream.flush()
            except (OSError, ValueError):  # the program's stdout is gone: a preload that printed there has lost it
                continue
