"""The tracker's command line names this file, and nothing else: all that varies comes through fd 3."""

from __future__ import annotations

import gc
import sys

gc.disable()  # nothing of what is loaded now is garbage
sys.path.insert(0, __file__.rpartition("/warmfork/")[0])

del __file__  # or a child that starts children would take this file for the main module of its program

from warmfork._tracker.main import main  # noqa: E402

main()
