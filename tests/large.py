"""What children do with large arguments in the tests. It stands alone, as tests/targets.py does."""

from __future__ import annotations

import hashlib
import os
import pickle
import resource
import signal
import sys


def digest(value: object) -> str:
    """A fingerprint of bytes, or of what an array holds."""
    return hashlib.sha256(value.tobytes() if hasattr(value, "tobytes") else value).hexdigest()


def see_array(array) -> tuple[str, str, tuple[int, ...], bool, bool]:
    return (
        digest(array),
        str(array.dtype),
        array.shape,
        array.flags.writeable,
        (array.flags.c_contiguous, array.flags.fnc),
    )


def write_and_see(array) -> tuple[float, float]:
    """Write to an array, and to a fork's copy of it. Gives its sum, and what a forked copy's write left of it here."""
    array[:] = 1
    pid = os.fork()
    if pid == 0:
        array[:] = 2
        os._exit(0)
    os.waitpid(pid, 0)
    return float(array.sum()), float(array[0])


def digest_all(*values: object) -> list[str]:
    return [digest(value) for value in values]


def write_digests(path: str, *values: object) -> None:
    with open(path, "w") as file:
        file.write(" ".join(map(digest, values)))


def read_rss() -> int:
    """This process's own resident memory, in bytes."""
    with open("/proc/self/status") as file:
        fields = dict(line.split(":", 1) for line in file)
    return int(fields["RssAnon"].split()[0]) * 1024


def read_peak() -> int:
    with open("/proc/self/status") as file:
        fields = dict(line.split(":", 1) for line in file)
    return int(fields["VmHWM"].split()[0]) * 1024


def drop_one_by_one(arrays: list[object]) -> list[int]:
    """The resident memory with all these arrays, and after each is let go of."""
    found = [read_rss()]
    while arrays:
        arrays.pop()
        found.append(read_rss())
    return found


def measure_peak(array) -> int:
    return read_peak() + 0 * len(array)


def add_to_segment(segment, size: int) -> int:
    """Add 1 to the first byte of a shared memory segment; say how much of our own memory it takes."""
    segment.buf[0] += 1
    taken = read_rss()
    segment.close()
    return taken


def give_array(size: int):
    import numpy

    return numpy.arange(size, dtype=numpy.float64)


def give_many(count: int, size: int):
    import numpy

    return [numpy.full(size, number, dtype=numpy.uint8) for number in range(count)], "and a text"


def raise_with_array(size: int) -> None:
    import numpy

    raise ValueError("it has an array", numpy.ones(size))


def die_where_room_is_made() -> None:
    """A preload: children die as soon as they have said where their room is."""
    from warmfork._child import large

    large.wait_filled = lambda birth: os.kill(os.getpid(), signal.SIGKILL)


def stop_where_room_is_made() -> None:
    """A preload: children stop before they have said where their room is."""
    from warmfork._child import large

    large.fill = lambda birth: os.kill(os.getpid(), signal.SIGSTOP)


def die_while_it_is_read() -> None:
    """A preload: children die in the middle of what comes over the feed."""
    from warmfork._child import large

    large.receive = lambda birth, view: os.kill(os.getpid(), signal.SIGKILL)


def limit_children() -> None:
    """A preload: children may have 300 MB of address space."""
    os.register_at_fork(after_in_child=lambda: resource.setrlimit(resource.RLIMIT_AS, (300_000_000, -1)))


def fill_memfds() -> None:
    """A preload: where children have a large result, there is no room for it."""
    from warmfork._machine import memfds

    def write(fd: int, content: object, at: int = 0) -> None:
        raise OSError(28, "No space left on device")

    memfds.write_all = write


def count_huge(array) -> int:
    """How much of this process's anonymous memory is in huge pages, in bytes."""
    with open("/proc/self/smaps_rollup") as file:
        fields = dict(line.split(":", 1) for line in file if ":" in line)
    return int(fields["AnonHugePages"].split()[0]) * 1024 + 0 * len(array)


def check(value: object, expected: str) -> None:
    """Exit with 1 where the value has another fingerprint."""
    sys.exit(digest(value) != expected)


class Whole(bytearray):
    """Rebuilt from the object behind its buffer, as the documentation of pickle shows it ("Example" of protocol 5)."""

    def __reduce_ex__(self, protocol: int):
        return Whole._rebuild, (pickle.PickleBuffer(self),)

    @classmethod
    def _rebuild(cls, given: object) -> Whole:
        with memoryview(given) as view:
            return cls(view.obj)


def give_back(*values: object) -> tuple[list[tuple[int, str]], tuple[object, ...]]:
    """What came, and the same as a result."""
    return [(len(value), digest(bytes(value))) for value in values], values
