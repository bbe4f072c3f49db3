# The tracker's command line names this file, and nothing else: all that varies comes through fd 3.
import sys

sys.path.insert(0, __file__.rpartition("/warmfork/")[0])

from warmfork._tracker.main import main  # noqa: E402

main()
