"""Sockets that keep the bounds of messages, and pass fds, without the socket module: `import socket` costs a template 7
to 10 ms."""

from __future__ import annotations

from _socket import (
    AF_UNIX,
    CMSG_SPACE,
    MSG_CMSG_CLOEXEC,
    MSG_CTRUNC,
    MSG_DONTWAIT,
    MSG_NOSIGNAL,
    MSG_TRUNC,
    SCM_RIGHTS,
    SO_DOMAIN,
    SO_LINGER,
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
from posix import close
from select import POLLIN, POLLOUT, poll
from time import monotonic

from warmfork._machine.fds import Fd

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

MOST_FDS = 252
"""So many we send in one message. The kernel takes 253 (SCM_MAX_FD, include/net/scm.h), musl's sendmsg() has room for one
less, and Python's reduction.MAXFDS_TO_SEND says 256."""

KIND = (AF_UNIX, SOCK_SEQPACKET, 0)
BUFFER = 65_536
SCM_CREDENTIALS = 2
CREDENTIALS = Struct("=iII")  # struct ucred: pid, uid, gid (the real ones)
ANCILLARY = CMSG_SPACE((MOST_FDS + 1) * 4) + CMSG_SPACE(CREDENTIALS.size)
"""Room for all that a message can bring: what there is no room for, the kernel closes while we wait in recvmsg()."""
NEVER_BLOCK = MSG_DONTWAIT | MSG_NOSIGNAL
RECEIVE = MSG_DONTWAIT | MSG_CMSG_CLOEXEC  # without MSG_CMSG_CLOEXEC, Python's recvmsg leaves fds inheritable
RECEIVE_BLOCKING = MSG_CMSG_CLOEXEC


class socket(SystemSocket):
    """A socket that closes itself without a ResourceWarning: an interpreter that ends may drop it before its owner."""

    __del__ = SystemSocket.close


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
        while self.fds:
            close_foreign(self.fds.pop())


NO_LINGER = pack("=ii", 0, 0)
"""struct linger: close() does not wait until what was written is sent."""


def stop_lingering(fd: int) -> None:
    """Have the last close() of an fd that somebody sent wait for nobody, if it is a socket: he may have made it linger, for
    up to 18 hours."""
    try:
        made = socket(*KIND, fd)
    except OSError:  # no socket
        return
    try:
        made.setsockopt(SOL_SOCKET, SO_LINGER, NO_LINGER)
    except OSError:  # a kind that does not know of it
        return
    finally:
        made.detach()


def close_foreign(fd: int) -> None:
    """Close an fd that somebody sent, waiting for nobody. What it has not written by then is his loss, and no error."""
    stop_lingering(fd)
    try:
        close(fd)
    except OSError:
        return  # it is closed all the same


def make_pair() -> tuple[socket, socket]:
    """Make two connected SEQPACKET sockets: messages keep their bounds and their fds. Close-on-exec both."""
    first, second = socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC)
    ours, theirs = socket(*KIND, first.detach()), socket(*KIND, second.detach())
    make_patient(ours)
    make_patient(theirs)
    return ours, theirs


def make_patient(made: socket) -> None:
    """Take a new socket's time-out from it, if the program has set one for all its sockets (socket.setdefaulttimeout):
    ours have none, and what others share is not to be non-blocking."""
    if made.gettimeout() is not None:
        made.settimeout(None)


class NoSocket(OSError):
    """An fd that somebody sent is not what it should be."""


def adopt_socket(fd: int) -> socket:
    """Make a socket object of the fd of a socket as make_pair() makes them. Raises NoSocket, the fd closed, where that is
    something else: it may have been sent by anybody."""
    try:
        made = socket(*KIND, fd)
    except OSError as error:
        close_foreign(fd)
        raise NoSocket(error.errno, error.strerror) from error
    try:
        make_patient(made)
        kind = made.getsockopt(SOL_SOCKET, SO_DOMAIN), made.getsockopt(SOL_SOCKET, SO_TYPE)
    except OSError as error:
        close_foreign(made.detach())
        raise NoSocket(error.errno, error.strerror) from error
    if kind != KIND[:2]:
        close_foreign(made.detach())
        raise NoSocket(EPROTOTYPE, "Protocol wrong type for socket")
    return made


EPROTOTYPE = 91


def ask_for_credentials(receiver: socket) -> None:
    """Have the kernel vouch for the pid of each sender. To be done before the other end is shared."""
    receiver.setsockopt(SOL_SOCKET, SO_PASSCRED, 1)


def ask_for_no_credentials(receiver: socket) -> None:
    """Have it so no longer: a socket that asks, and sends, gets a name."""
    receiver.setsockopt(SOL_SOCKET, SO_PASSCRED, 0)


def send(to: socket, data: bytes | memoryview, fds: list[int] | tuple[int, ...] = ()) -> None:
    """Send one message, at once. Raises BlockingIOError where the receiver is behind, OSError where it is gone."""
    if fds:
        to.sendmsg((data,), ((SOL_SOCKET, SCM_RIGHTS, pack(f"={len(fds)}i", *fds)),), NEVER_BLOCK)
    else:
        to.send(data, NEVER_BLOCK)


def try_to_send(to: socket, data: bytes) -> None:
    """Send one message, at once. Whoever is gone, or is behind by hundreds of messages, goes without."""
    try:
        send(to, data)
    except OSError:
        return


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


def receive(from_: socket, flags: int = RECEIVE, size: int = BUFFER) -> Received:
    """Receive one message. Raises BlockingIOError where there is none, or waits (RECEIVE_BLOCKING); `data` is empty at
    the end of the stream."""
    while True:
        try:
            return unpack_received(from_.recvmsg(size, ANCILLARY, flags))
        except BlockingIOError:
            # Whoever shares the socket may have made it non-blocking: that is no reason not to wait.
            if flags & MSG_DONTWAIT:
                raise
        data = poll()
        data.register(from_.fileno(), POLLIN)
        data.poll()


def receive_waiting(from_: socket) -> Received | None:
    """Receive one message, if there is one. It has no data at the end of the stream, however that came."""
    try:
        return receive(from_)
    except BlockingIOError:
        return None
    except OSError:
        return Received(b"", [], 0, False)


def take_answer(got: Received) -> socket:
    """Take the socket over that came along last, for an answer. Raises NoSocket."""
    return adopt_socket(got.take(-1).release())


def receive_next(unread: list[Any], from_: socket) -> bool:
    """Have a message in this list, as the kernel gives it, for unpack_received(): the one that a signal handler which
    raised has left there, or the next. False where there is none. The end of the stream is a message without data."""
    while not unread:
        try:
            # All one call, so that no handler can come, and raise, while nobody knows of the fds.
            unread.extend(map(from_.recvmsg, (BUFFER,), (ANCILLARY,), (RECEIVE,)))
        except BlockingIOError:
            return False
        except ConnectionResetError:  # no end: what was sent comes after (M3)
            continue
        except OSError:
            unread.append((b"", (), 0, None))
    return True


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
