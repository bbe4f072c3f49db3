"""What a preload left besides threads: sockets that all children would share, and locks that stay held in each."""

from __future__ import annotations

import os
from _socket import AF_UNIX, SO_ACCEPTCONN, SO_PEERCRED, SOCK_DGRAM, SOL_SOCKET, socket

from warmfork._machine import fds, locks

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping


def find_sockets(noted: Mapping[tuple[int, int], str]) -> list[str]:
    """Give a finding for each socket that is connected or listens, of those that were noted with their item."""
    found = []
    for fd in fds.list_fds():
        item = noted.get(fds.identify(fd))
        kind = describe(fd) if item is not None else ""
        if kind:
            found.append(f'"{item}" left a {kind} open: all children would share it')
    return found


def describe(fd: int) -> str:
    """Say what a socket is, or "" where it does no harm: it is neither connected nor listens, or both ends are ours."""
    try:
        copy = socket(fileno=os.dup(fd))
    except OSError:
        return ""
    try:
        if copy.type & 15 == SOCK_DGRAM:
            return ""
        if copy.getsockopt(SOL_SOCKET, SO_ACCEPTCONN):
            return f"listening socket{name(copy.getsockname())}"
        peer = copy.getpeername()
        if copy.family == AF_UNIX:
            other = int.from_bytes(copy.getsockopt(SOL_SOCKET, SO_PEERCRED, 12)[:4], "little")
            if other == os.getpid():
                return ""
        return f"connected socket{name(peer)}"
    except OSError:
        return ""  # it is not connected
    finally:
        copy.close()


def name(address: object) -> str:
    """Give an address as a finding shows it."""
    if isinstance(address, tuple):
        return f" ({address[0]} port {address[1]})"
    return f" ({address})" if address else ""


def find_locks() -> list[str]:
    """Give a finding for each of Python's locks that is held."""
    return [f'"{module}" holds the lock {name}: it stays held in every child' for module, name in locks.find_held()]
