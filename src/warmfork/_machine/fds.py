"""Sockets, memfds and the passing of fds, without the socket module: `import socket` costs a template 7 to 10 ms."""

from __future__ import annotations

import os
from _socket import (
    AF_UNIX,
    CMSG_SPACE,
    MSG_CMSG_CLOEXEC,
    MSG_CTRUNC,
    MSG_DONTWAIT,
    MSG_NOSIGNAL,
    MSG_TRUNC,
    SCM_RIGHTS,
    SO_PASSCRED,
    SO_TYPE,
    SOCK_CLOEXEC,
    SOCK_SEQPACKET,
    SOL_SOCKET,
    socketpair,
)
from _socket import SHUT_RD as SHUT_RD
from _socket import socket as SystemSocket
from _struct import Struct, pack, unpack
from select import POLLIN, POLLNVAL, POLLOUT, poll
from time import monotonic

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

MOST_FDS = 253
"""The kernel's limit for one message (SCM_MAX_FD, include/net/scm.h). Python's reduction.MAXFDS_TO_SEND says 256."""

GPU_DEVICES = ("/dev/nvidia", "/dev/kfd", "/dev/dri/")
"""Where an open GPU shows in /proc/PID/fd."""

KIND = (AF_UNIX, SOCK_SEQPACKET, 0)
BUFFER = 65_536
SCM_CREDENTIALS = 2
CREDENTIALS = Struct("=iII")  # struct ucred: pid, uid, gid (the real ones)
ANCILLARY = CMSG_SPACE(MOST_FDS * 4) + CMSG_SPACE(CREDENTIALS.size)
FEW = CMSG_SPACE(32) + CMSG_SPACE(CREDENTIALS.size)
NEVER_BLOCK = MSG_DONTWAIT | MSG_NOSIGNAL
RECEIVE = MSG_DONTWAIT | MSG_CMSG_CLOEXEC  # without MSG_CMSG_CLOEXEC, Python's recvmsg leaves fds inheritable
RECEIVE_BLOCKING = MSG_CMSG_CLOEXEC


class socket(SystemSocket):
    """A socket that closes itself without a ResourceWarning: an interpreter that ends may drop it before its owner."""

    __del__ = SystemSocket.close


class Fd:
    """An fd that belongs to this object: closed once, by close(), by the end of a `with` block, or with the object."""

    __slots__ = ("number",)

    def __init__(self, number: int) -> None:
        self.number = number

    def __enter__(self) -> Fd:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def __bool__(self) -> bool:
        return self.number >= 0

    def fileno(self) -> int:
        """Give the number; -1 where it is closed or somebody else's by now."""
        return self.number

    def release(self) -> int:
        """Give the number to somebody who closes it from now on."""
        number, self.number = self.number, -1
        return number

    def close(self) -> None:
        """Close it, if it is still ours."""
        number, self.number = self.number, -1
        if number >= 0:
            os.close(number)

    def __del__(self) -> None:
        if self.number >= 0:
            self.close()


class Received:
    """One message as it came: data, fds, and the sender's ids where the kernel vouches for them (pid 0 where not).

    The fds belong to it: what nobody has taken off the list is closed at the end of a `with` block."""

    __slots__ = ("cut", "data", "fds", "gid", "pid", "uid")

    def __init__(self, data: bytes, fds: list[int], pid: int, cut: bool, uid: int = -1, gid: int = -1) -> None:
        self.data, self.fds, self.pid, self.cut, self.uid, self.gid = data, fds, pid, cut, uid, gid

    def __enter__(self) -> Received:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def take(self, index: int = 0) -> Fd:
        """Take an fd over."""
        return Fd(self.fds.pop(index))

    def close(self) -> None:
        """Close what nobody has taken."""
        fds, self.fds = self.fds, []
        close_all(fds)


def make_pair() -> tuple[socket, socket]:
    """Make two connected SEQPACKET sockets: messages keep their bounds and their fds. Close-on-exec both."""
    first, second = socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC)
    return socket(*KIND, first.detach()), socket(*KIND, second.detach())


class NoSocket(OSError):
    """An fd that somebody sent is not what it should be."""


def adopt_socket(fd: int) -> socket:
    """Make a socket object of a SEQPACKET socket's fd. Raises NoSocket, the fd closed, where that is something else: it
    may have been sent by anybody."""
    try:
        made = socket(*KIND, fd)
    except OSError as error:
        os.close(fd)
        raise NoSocket(error.errno, error.strerror) from error
    try:
        kind = made.getsockopt(SOL_SOCKET, SO_TYPE)
    except OSError as error:
        made.close()
        raise NoSocket(error.errno, error.strerror) from error
    if kind != SOCK_SEQPACKET:
        made.close()
        raise NoSocket(EPROTOTYPE, "Protocol wrong type for socket")
    return made


EPROTOTYPE = 91


def ask_for_credentials(receiver: socket) -> None:
    """Have the kernel vouch for the pid of each sender. To be done before the other end is shared."""
    receiver.setsockopt(SOL_SOCKET, SO_PASSCRED, 1)


def send(to: socket, data: bytes | memoryview, fds: list[int] | tuple[int, ...] = ()) -> None:
    """Send one message, at once. Raises BlockingIOError where the receiver is behind, OSError where it is gone."""
    if fds:
        to.sendmsg((data,), ((SOL_SOCKET, SCM_RIGHTS, pack(f"={len(fds)}i", *fds)),), NEVER_BLOCK)
    else:
        to.send(data, NEVER_BLOCK)


PASSING = (12, 105, 109)
"""ENOMEM, ENOBUFS, ETOOMANYREFS (too many fds of this user on their way, and not received yet): they say nothing of the
receiver, and pass."""


def send_within(
    to: socket, data: bytes | memoryview, fds: list[int] | tuple[int, ...] = (), timeout: float = 10.0
) -> None:
    """Send one message, waiting up to `timeout` seconds for room. Raises TimeoutError after that, or OSError."""
    deadline = -1.0
    while True:
        try:
            return send(to, data, fds)
        except OSError as error:
            if error.errno not in PASSING and not isinstance(error, BlockingIOError):
                raise
            now = monotonic()
            if deadline < 0:
                deadline = now + timeout
            room = poll()
            if error.errno in PASSING:
                if now >= deadline:
                    raise
                room.poll(1)
                continue
            # O_NONBLOCK is never set on a socket that others share (a child's would appear in the parent): wait by
            # poll, and again where one of those others was quicker.
            room.register(to.fileno(), POLLOUT)
            if not room.poll(max(0.0, deadline - now) * 1000):
                raise TimeoutError(f"the receiver has read nothing for {timeout} s") from None


def receive(from_: socket, ancillary: int = FEW, flags: int = RECEIVE, size: int = BUFFER) -> Received:
    """Receive one message. Raises BlockingIOError where there is none; `data` is empty at the end of the stream."""
    return unpack_received(from_.recvmsg(size, ancillary, flags))


def receive_into(unread: list[Any], from_: socket) -> None:
    """Receive one message as the kernel gives it, for unpack_received(), to the end of a list. It is all one call, so
    that no signal handler can come, and raise, while nobody knows of the fds."""
    unread.extend(map(from_.recvmsg, (BUFFER,), (FEW,), (RECEIVE,)))


def unpack_received(raw: tuple[Any, ...]) -> Received:
    """Give what recvmsg() gave as a message."""
    data, control, state, _ = raw
    if not control:
        return Received(data, [], 0, bool(state & MSG_TRUNC))
    fds: list[int] = []
    pid, uid, gid = 0, -1, -1
    for level, kind, content in control:
        if level == SOL_SOCKET and kind == SCM_RIGHTS:
            count = len(content) // 4
            fds.extend(unpack(f"={count}i", content[: count * 4]))
        elif level == SOL_SOCKET and kind == SCM_CREDENTIALS:
            pid, uid, gid = CREDENTIALS.unpack(content)
    return Received(data, fds, pid, bool(state & (MSG_CTRUNC | MSG_TRUNC)), uid, gid)


def wait_readable(fd: int, timeout: float | None) -> bool:
    """Wait until there is something to read on this fd, or its end, up to `timeout` seconds (None: for ever)."""
    ready = poll()
    ready.register(fd, POLLIN)
    return bool(ready.poll(None if timeout is None else max(0.0, timeout) * 1000))


def is_at_end(socket: socket) -> bool:
    """Is the other end of this socket closed? What it has sent before may still be unread."""
    look = poll()
    look.register(socket.fileno(), 0)
    return bool(look.poll(0))  # POLLHUP is always told


def wait_any_readable(these: tuple[int, ...], timeout: float | None) -> bool:
    """Wait until one of these fds is readable, or at its end, up to `timeout` seconds (None: for ever)."""
    ready = poll()
    for fd in these:
        ready.register(fd, POLLIN)
    return bool(ready.poll(None if timeout is None else max(0.0, timeout) * 1000))


def list_readable(these: tuple[int, ...], timeout: float | None) -> list[int]:
    """Wait as wait_any_readable() does, and give those that are."""
    ready = poll()
    for fd in these:
        ready.register(fd, POLLIN)
    return [fd for fd, _ in ready.poll(None if timeout is None else max(0.0, timeout) * 1000)]


def make_memory(name: str, content: bytes = b"", size: int = 0, sealable: bool = False) -> int:
    """Make a memfd that holds `content`, positioned at its start, and is at least `size` bytes large. Where the kernel
    gives none, a file that has no name any longer; all of `size` is allocated in it, so that no mapping of it can fail
    with SIGBUS. Raises OSError."""
    fd = make_memfd(name, sealable)
    try:
        write_all(fd, content)
        if size and no_memfds:
            os.posix_fallocate(fd, 0, size)
        elif size:
            os.ftruncate(fd, size)
    except BaseException:
        os.close(fd)
        raise
    return fd


no_memfds = False
"""Does this kernel, or a filter, refuse memfds? Learnt when the first one is made."""

REFUSED = (1, 13, 38)
"""EPERM, EACCES, ENOSYS: a filter's words for "no such call" (M24)."""


def make_memfd(name: str, sealable: bool) -> int:
    """Make an empty memfd, or a file in its place."""
    global no_memfds
    try:
        return os.memfd_create(name, os.MFD_CLOEXEC | (os.MFD_ALLOW_SEALING if sealable else 0))
    except AttributeError:
        no_memfds = True  # a Python that was built without
    except OSError as error:
        if error.errno not in REFUSED:
            raise
        no_memfds = True
    return make_nameless(name)


def make_nameless(name: str) -> int:
    """Make a file that has no name any longer, in memory if there is such a folder. Its former name shows in /proc."""
    refusal = OSError(2, "no folder for files in memory")
    for folder in ("/dev/shm", os.environ.get("TMPDIR") or "/tmp", "/var/tmp"):
        path = f"{folder}/{name}-{os.urandom(6).hex()}"
        try:
            fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
        except OSError as error:
            refusal = error
            continue
        os.unlink(path)
        return fd
    raise refusal


def write_all(fd: int, content: bytes | memoryview, at: int = 0) -> None:
    """Write it all to a file, at this offset, leaving its position at the start."""
    rest = memoryview(content)
    while rest:
        written = os.pwrite(fd, rest, at)
        at += written
        rest = rest[written:]


def read_all(fd: int, size: int | None = None) -> bytes:
    """Read a file from its start: all of it, or `size` bytes."""
    wanted = os.fstat(fd).st_size if size is None else size
    parts = []
    at = 0
    while at < wanted:
        part = os.pread(fd, wanted - at, at)
        if not part:
            break
        parts.append(part)
        at += len(part)
    return b"".join(parts)


def close_all(fds: list[int] | tuple[int, ...]) -> None:
    """Close these fds."""
    for fd in fds:
        os.close(fd)


def close_all_but(keep: tuple[int, ...]) -> None:
    """Close every fd from 3 up that is not in `keep` (sorted): one close_range(2) for each gap."""
    low = 3
    for fd in keep:
        if fd > low:
            os.closerange(low, fd)
        if fd >= low:
            low = fd + 1
    os.closerange(low, HIGHEST)


HIGHEST = 1 << 30


def list_fds() -> list[int]:
    """List the open fds of this process."""
    # listdir() has an fd of its own while it lists, and says it too: a number that is free, or another's, right after.
    return sorted(fd for fd in map(int, os.listdir("/proc/self/fd")) if is_open(fd))


def list_gpus() -> list[str]:
    """List the GPUs that this process has open."""
    found = set()
    for fd in list_fds():
        try:
            target = os.readlink(f"/proc/self/fd/{fd}")
        except OSError:
            continue
        if target.startswith(GPU_DEVICES):
            found.add(target)
    return sorted(found)


def identify(fd: int) -> tuple[int, int]:
    """Give (st_dev, st_ino): what an fd number must still mean before a cached one is used (0.85 us)."""
    info = os.fstat(fd)
    return info.st_dev, info.st_ino


def is_still(fd: int, identity: tuple[int, int]) -> bool:
    """Does this fd still mean what it meant? The program may have closed it, and opened something else (M9)."""
    try:
        return identify(fd) == identity
    except OSError:
        return False


def is_open(fd: int) -> bool:
    """Is this fd open?"""
    try:
        os.fstat(fd)
    except OSError:
        return False
    return True


def fill_standard_streams() -> None:
    """Put /dev/null where stdin, stdout or stderr is closed, as daemons do. Otherwise the next fd that anybody opens
    gets that number, and a child that is given its client's stdout is given a socket or somebody's file (1 us)."""
    standard = poll()
    for number in (0, 1, 2):
        standard.register(number, 0)
    while any(events & POLLNVAL for _, events in standard.poll(0)):
        os.open(os.devnull, os.O_RDWR | os.O_CLOEXEC)  # takes the lowest number that is free
