"""All children log to one file."""

from __future__ import annotations

import logging
import logging.handlers
import os
import tempfile

import warmfork


def prepare(queue):
    logging.basicConfig(level=logging.INFO, handlers=[logging.handlers.QueueHandler(queue)])


def work(number):
    logging.info("item %d", number)


if __name__ == "__main__":
    ctx = warmfork.get_context()
    queue = ctx.Queue()
    with tempfile.TemporaryDirectory() as folder:
        path = os.path.join(folder, "app.log")
        handler = logging.FileHandler(path)
        listener = logging.handlers.QueueListener(queue, handler)
        listener.start()
        with ctx.Pool(2, initializer=prepare, initargs=(queue,)) as pool:
            pool.map(work, range(5))
            pool.close()
            pool.join()
        listener.stop()
        handler.close()
        with open(path) as file:
            print(sorted(file.read().splitlines()))
