"""The program of a cell: starts processes and does as it is told on stdin. `python -m tests.faults.program ENGINE`."""

from __future__ import annotations

import faulthandler
import sys
from multiprocessing import shared_memory

from tests.faults import actors, stops


def main() -> None:
    """Start the helpers, make some names, then obey."""
    engine, spares = sys.argv[1], int(sys.argv[2])
    context = actors.get_context(engine, spares)
    helpers = actors.start_helpers(engine, context)
    lock = context.Lock()
    segment = shared_memory.SharedMemory(create=True, size=4096)
    queue = context.Queue()
    starter = actors.Starter(context, lock)
    fds = 0
    stops.say("ready", helpers=helpers, names=[segment.name])
    for line in sys.stdin:
        word, _, rest = line.strip().partition(" ")
        if word == "start":
            starter.start(rest, daemon=rest == "daemon", parent=rest == "parent")
        elif word == "next":
            starter.start_next()
        elif word == "count":
            starter.finish()
            actors.collect()
            if not fds:
                fds = actors.count_fds()
            stops.say("counted", grown=actors.count_fds() - fds, fds=fds)
        elif word == "finish":
            break
        else:
            faulthandler.disable()
            stops.obey(line.strip())
    starter.leave_open()
    segment.close()
    segment.unlink()
    queue.close()
    stops.say("finishing")


if __name__ == "__main__":
    main()
