"""concurrent.futures on warmfork: a fresh process for each task is affordable.

python examples/executor.py
"""

from __future__ import annotations

import os
from concurrent.futures import ProcessPoolExecutor, as_completed

import warmfork


def work(number: int) -> tuple[int, int]:
    return os.getpid(), sum(divisor for divisor in range(1, number) if number % divisor == 0)


if __name__ == "__main__":
    with ProcessPoolExecutor(2, mp_context=warmfork.get_context(), max_tasks_per_child=1) as executor:
        futures = {executor.submit(work, number): number for number in (6, 28, 496, 8128, 9999)}
        for future in as_completed(futures):
            pid, total = future.result()
            number = futures[future]
            print(f"process {pid}: {number} is {'perfect' if total == number else 'not perfect'}")
