"""Copying straight into another process's memory: process_vm_writev(2), which Python does not wrap.

The memory is named by a pid: there is no call for a pidfd. Whoever writes looks at the pidfd before each call, which
takes a millisecond or two; a pid is not given out again before the kernel has gone through all the others.
"""

from __future__ import annotations

from _struct import pack

from warmfork._machine import calls, fds, pids

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator

    Stretch = tuple[int, int, int]
    """Address here, address there, bytes."""

MOST_AT_ONCE = 8 << 20
"""Bytes in one call: 1 to 3 ms."""

MOST_STRETCHES = 512
"""Stretches in one call. The kernel takes 1024 (UIO_MAXIOV)."""


def write(pid: int, pidfd: int, stretches: list[Stretch]) -> None:
    """Copy these stretches of our memory into the memory of a process.

    Raises ProcessLookupError where it is dead, PermissionError where the kernel forbids it (a seccomp filter, Yama,
    other credentials) or the pid means another process here, OSError with ENOSYS where there is no such call or no
    /proc, and with EFAULT where the memory is not there.
    """
    try:
        named = pids.read_pid(pidfd)
    except FileNotFoundError as error:
        raise OSError(38, "no /proc that says whose pid it is") from error
    if named == -1:
        raise ProcessLookupError(3, "the process is dead")
    if named != pid:  # in another pid namespace than we are
        raise PermissionError(1, f"the process has not the pid {pid} here")
    for batch in cut(stretches):
        while batch:
            if fds.wait_readable(pidfd, 0):
                raise ProcessLookupError(3, "the process is dead")
            local = b"".join([pack("PN", here, size) for here, _, size in batch])
            remote = b"".join([pack("PN", there, size) for _, there, size in batch])
            done = calls.call_or_raise("process_vm_writev", pid, local, len(batch), remote, len(batch), 0)
            batch = skip(batch, done)


def cut(stretches: list[Stretch]) -> Iterator[list[Stretch]]:
    """Cut stretches into batches, each for one call."""
    batch: list[Stretch] = []
    room = MOST_AT_ONCE
    for here, there, size in stretches:
        while size:
            if not room or len(batch) == MOST_STRETCHES:
                yield batch
                batch, room = [], MOST_AT_ONCE
            part = min(size, room)
            batch.append((here, there, part))
            here, there, size, room = here + part, there + part, size - part, room - part
    if batch:
        yield batch


def skip(stretches: list[Stretch], done: int) -> list[Stretch]:
    """Give what is left of these stretches when so many bytes are done."""
    for number, (here, there, size) in enumerate(stretches):
        if done < size:
            return [(here + done, there + done, size - done), *stretches[number + 1 :]]
        done -= size
    return []
