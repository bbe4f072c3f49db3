"""Workers that handle ^C: they finish what they have begun."""

from __future__ import annotations

import os
import signal

import warmfork


def work(ready, results):
    stopped = []
    signal.signal(signal.SIGINT, lambda number, frame: stopped.append(number))
    ready.set()
    while not stopped:
        signal.pause()
    results.put("cleaned up")


if __name__ == "__main__":
    ctx = warmfork.get_context()
    results = ctx.Queue()
    events = [ctx.Event() for _ in range(2)]
    processes = [ctx.Process(target=work, args=(event, results)) for event in events]
    for process in processes:
        process.start()
    for event in events:
        event.wait()
    try:
        os.killpg(0, signal.SIGINT)  # as a terminal does at ^C
        signal.pause()
    except KeyboardInterrupt:
        print("interrupted")
    print(sorted(results.get() for _ in processes))
    for process in processes:
        process.join()
    print([process.exitcode for process in processes])
