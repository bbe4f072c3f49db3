"""Shared memory and a lock."""

from __future__ import annotations

from multiprocessing.shared_memory import SharedMemory

import numpy as np

import warmfork


def add(name, lock):
    segment = SharedMemory(name)
    numbers = np.ndarray(4, dtype=np.int64, buffer=segment.buf)
    for _ in range(100):
        with lock:
            numbers += 1
    del numbers
    segment.close()


if __name__ == "__main__":
    ctx = warmfork.get_context(preload=["numpy"])
    segment = SharedMemory(create=True, size=32)
    numbers = np.ndarray(4, dtype=np.int64, buffer=segment.buf)
    numbers[:] = 0
    lock = ctx.Lock()
    processes = [ctx.Process(target=add, args=(segment.name, lock)) for _ in range(3)]
    for process in processes:
        process.start()
    for process in processes:
        process.join()
    print(numbers.tolist())
    del numbers
    segment.close()
    segment.unlink()
