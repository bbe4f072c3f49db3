"""The command line of a later template names this file, and nothing else: all that varies comes through fd 3."""

from __future__ import annotations

import sys

sys.path.insert(0, __file__.rpartition("/warmfork/")[0])

del __file__  # or a child that starts children would take this file for the main module of its program

from warmfork._idle.idle import Idle  # noqa: E402
from warmfork._machine import fds, pids, sockets  # noqa: E402
from warmfork._template.main import main  # noqa: E402

fds.close_all_but((3,))
pids.give_up_gained()
main(sockets.adopt_socket(3), Idle)
