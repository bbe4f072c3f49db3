"""Producer and consumer."""

from __future__ import annotations

import warmfork


def produce(queue, count):
    for number in range(count):
        queue.put(number)
    queue.put(None)


def consume(queue, results):
    total = 0
    while (number := queue.get()) is not None:
        total += number
    results.put(total)


if __name__ == "__main__":
    ctx = warmfork.get_context()
    queue, results = ctx.Queue(maxsize=5), ctx.Queue()
    processes = [
        ctx.Process(target=produce, args=(queue, 100)),
        ctx.Process(target=consume, args=(queue, results)),
    ]
    for process in processes:
        process.start()
    print(results.get())
    for process in processes:
        process.join()
