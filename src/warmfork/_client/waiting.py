"""Waiting, while somebody looks after the tracker: the program alone has a successor when that is dead."""

from __future__ import annotations

from time import monotonic

from warmfork._client import client as client_
from warmfork._machine import fds


def wait_readable(these: tuple[int, ...], timeout: float | None) -> bool:
    """Wait until one of these fds is readable, or at its end, up to `timeout` seconds (None: for ever)."""
    deadline = None if timeout is None else monotonic() + timeout
    client = client_._client
    while True:
        tracker = client.watch_tracker_fd() if client is not None else -1
        rest = None if deadline is None else deadline - monotonic()
        ready = fds.list_readable((*these, tracker) if tracker >= 0 else these, rest)
        if client is None or ready != [tracker]:
            return bool(ready)
        client.look_after_tracker()
        if client.tree is None or not client.tree.has_tracker():
            client = None  # there can be none at this time
