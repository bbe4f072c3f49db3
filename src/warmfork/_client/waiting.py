"""Waiting, while somebody looks after the tracker: the program alone has a successor when that is dead."""

from __future__ import annotations

from time import monotonic

from warmfork._machine import fds

TYPE_CHECKING = False
if TYPE_CHECKING:
    from warmfork._client.client import Client

client: Client | None = None
"""Whose tracker is looked after: this process's client, once there is one."""


def wait_readable(these: tuple[int, ...], timeout: float | None) -> bool:
    """Wait until one of these fds is readable, or at its end, up to `timeout` seconds (None: for ever)."""
    deadline = None if timeout is None else monotonic() + timeout
    whose = client
    while True:
        tracker = whose.watch_tracker_fd() if whose is not None else -1
        rest = None if deadline is None else deadline - monotonic()
        ready = fds.list_readable((*these, tracker) if tracker >= 0 else these, rest)
        if whose is None or ready != [tracker]:
            return bool(ready)
        whose.look_after_tracker()
        if whose.tree is None or not whose.tree.has_tracker():
            whose = None  # there can be none at this time
