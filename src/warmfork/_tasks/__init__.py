"""What run(), sessions, the executor and Template.start() do in a child, and what is said to it."""

from __future__ import annotations

import os


def end_what_is_left() -> None:
    """End what this process has started and left behind: it was this tree's."""
    try:
        os.waitid(os.P_ALL, 0, os.WEXITED | os.WNOHANG | os.WNOWAIT)
    except ChildProcessError:
        return  # there is nobody, as mostly, and what looks for them need not be loaded
    from warmfork._tasks import tree

    tree.end_descendants()
