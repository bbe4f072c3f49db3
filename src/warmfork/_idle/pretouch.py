"""Which pages a birth touches: recorded once by a throw-away child, given to each spare before it is needed.

A page fault costs a child 2 us and more, and a birth has hundreds, the same ones in every child of a template. A spare
has time for them: MADV_POPULATE_WRITE (Linux 5.14) copies the pages that a birth writes, MADV_POPULATE_READ maps the
text that it reads. Only those: populating everything takes 13 ms and shares nothing any longer. No user code runs.
"""

from __future__ import annotations

import os
from mmap import PAGESIZE
from time import monotonic

from warmfork._child import ending
from warmfork._machine import calls, fds, pids
from warmfork._template import forking

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

POPULATE_READ, POPULATE_WRITE = 22, 23
PRESENT, FILE_OR_SHARED, EXCLUSIVE = 0x80, 0x20, 0x01
"""Bits 63, 61 and 56 of an entry of /proc/PID/pagemap (Documentation/admin-guide/mm/pagemap.rst), in its highest byte; they
are shown without privilege."""

LARGEST = 2 << 30
"""Bytes of mappings that are looked at: reading the map of more takes longer than it is worth."""

DEADLINE = 5.0
"""Seconds that the throw-away child may take."""

Range = tuple[int, int, int]
"""Address, bytes, advice."""


class PretouchPlan:
    """What a throw-away child found out."""

    __slots__ = ("helper", "notes", "prefault_calls")

    def __init__(self) -> None:
        self.prefault_calls: list[Callable[[], int]] = []  # each gives a process a few of the pages of a birth
        self.helper: bool | None = None  # could it make the helper that takes over a dead child's memory?
        self.notes: list[str] = []  # what can't be had here, for the log


class Recording:
    """A throw-away child that lives a life and tells what it touched. The template does not wait for it."""

    __slots__ = ("data", "deadline", "pidfd", "reader")

    def __init__(self, pidfd: int, reader: int) -> None:
        self.pidfd, self.reader = pidfd, reader
        self.data = b""
        self.deadline = monotonic() + DEADLINE

    def read(self) -> bool:
        """Read what there is. True where that was all."""
        try:
            part = os.read(self.reader, 65_536)
        except BlockingIOError:
            return False
        self.data += part
        return not part

    def give_up(self) -> None:
        """It takes too long: end it, which ends what it says."""
        self.deadline += DEADLINE
        pids.send_signal(self.pidfd, 9)

    def learn(self) -> PretouchPlan:
        """Learn from what it said. What can't be had costs speed only."""
        learnt = PretouchPlan()
        try:
            ranges, learnt.helper, trouble = parse(self.data)
            learnt.prefault_calls = prepare(ranges)
            if learnt.helper is None and not self.data:
                trouble, learnt.helper = "the child that finds out hung or was killed", False  # by a filter, it may be
        except (OSError, ImportError, AttributeError, ValueError) as error:
            trouble = str(error)  # no _ctypes
        if not learnt.prefault_calls:
            learnt.notes.append(f"without pretouch: {trouble or 'nothing was found'}")
        if learnt.helper is False:
            learnt.notes.append("without helper: clone() is refused, so a death is known when the memory is torn down")
        return learnt

    def close(self) -> None:
        """Let go of it; the loop reaps it."""
        fds.close_all((self.reader, self.pidfd))


def begin(live: Callable[[], object]) -> Recording:
    """Have a throw-away child live a life. Raises OSError where there is none to be had."""
    reader, writer = os.pipe2(os.O_CLOEXEC | os.O_NONBLOCK)
    os.set_blocking(writer, True)
    try:
        pid = forking.fork()
    except OSError:
        fds.close_all((reader, writer))
        raise
    if pid == 0:
        try:
            os.write(writer, report(live))
        finally:
            os._exit(0)
    os.close(writer)
    try:
        return Recording(pids.open_pidfd(pid), reader)
    except OSError:
        os.close(reader)  # it ends when it has nobody to tell
        raise


def parse(data: bytes) -> tuple[list[Range], bool | None, str]:
    """Give what it touched, whether it could make a helper, and what kept it from telling."""
    helper, _, rest = data.partition(b"\n")
    trouble, _, rest = rest.partition(b"\n")
    # The last line may have been cut short.
    ranges = [(a, b, c) for a, b, c in (map(int, line.split()) for line in rest.split(b"\n")[:-1])]
    return ranges, WORDS.get(helper), os.fsdecode(trouble)


WORDS = {b"True": True, b"False": False}


def report(live: Callable[[], object]) -> bytes:
    """In the throw-away child: live, and say what was found."""
    live()
    helper, trouble, touched = ending.try_helper(), "", []
    try:
        touched = list_touched()
        written = [each for each in touched if each[2] == POPULATE_WRITE]
        if written and prepare(written[:1])[0]() != 0:
            trouble, touched = "madvise(MADV_POPULATE_WRITE) fails (Linux 5.14 has it)", []
    except (OSError, ImportError, AttributeError, ValueError) as error:
        trouble = " ".join(str(error).split())
    lines = [b"%d %d %d\n" % each for each in touched]
    return (f"{helper}\n{trouble}\n".encode(errors="replace") + b"".join(lines))[:60_000]


def list_touched() -> list[Range]:
    """List what this process has for itself of its private memory, and what it has mapped of its text."""
    found: list[Range] = []
    pagemap = os.open("/proc/self/pagemap", os.O_RDONLY | os.O_CLOEXEC)
    try:
        with open("/proc/self/maps", "rb") as maps:
            lines = maps.read().splitlines()
        for line in lines:
            span, rights, _, device = line.split()[:4]
            start, end = (int(part, 16) for part in span.split(b"-"))
            if end - start > LARGEST or not rights.endswith(b"p") or line.endswith((b"[vvar]", b"[vsyscall]")):
                continue
            if rights.startswith(b"rw"):
                found += list_ranges(pagemap, start, end, EXCLUSIVE, POPULATE_WRITE)
            elif rights.startswith(b"r") and device != b"00:00":
                found += list_ranges(pagemap, start, end, FILE_OR_SHARED, POPULATE_READ)
    finally:
        os.close(pagemap)
    return found


def list_ranges(pagemap: int, start: int, end: int, bit: int, advice: int) -> list[Range]:
    """List the runs of pages that are present and have this bit."""
    entries = os.pread(pagemap, (end - start) // PAGESIZE * 8, start // PAGESIZE * 8)[7::8]
    wanted = PRESENT | bit
    # One byte a page, 1 where it is wanted: the search for the ends of runs is C's.
    marks = entries.translate(bytes(entry & wanted == wanted for entry in range(256)))
    found: list[Range] = []
    begun = marks.find(1)
    while begun >= 0:
        ended = marks.find(0, begun)
        ended = ended if ended >= 0 else len(marks)
        found.append((start + begun * PAGESIZE, (ended - begun) * PAGESIZE, advice))
        begun = marks.find(1, ended)
    return found


def prepare(ranges: list[Range]) -> list[Callable[[], int]]:
    """Make the calls that give a process these pages. What a spare lacks of them (a mapping that is gone, an older
    kernel) fails there, and costs it nothing but the fault that it had anyway."""
    return [
        calls.prepare("madvise", calls.make_pointer(a), calls.make_pointer(size), advice) for a, size, advice in ranges
    ]
