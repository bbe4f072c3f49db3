"""The program of a cell: starts processes and does as it is told on stdin. `python -m tests.faults.program ENGINE`."""

from __future__ import annotations

import faulthandler
import logging
import os
import sys
from multiprocessing import shared_memory

from tests.faults import actors, stops


class Plain(logging.Handler):
    """Writes past Python's buffers: their lock is held for ever by a daemon thread that the interpreter's end meets while it
    writes, and the interpreter aborts then (_enter_buffered_busy). Here such threads wait for children that are killed."""

    def emit(self, record: logging.LogRecord) -> None:
        os.write(2, f"{self.format(record)}\n".encode())


def main() -> None:
    """Start the helpers, make some names, then obey."""
    logging.getLogger().addHandler(Plain())
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
