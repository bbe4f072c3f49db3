"""An ordinary multiprocessing program. It has never heard of warmfork.

    python examples/plain_program.py                                  on the standard library's forkserver
    warmfork run --preload numpy examples/plain_program.py            the same program on warmfork

A child of a forkserver comes from a clean process: it sees the 777 of the class, and not the 999 that the program
has written over it by the time the child is started. (A child of a plain fork would see 999.)
"""

from __future__ import annotations

import multiprocessing
import sys

import numpy as np

MATRICES = 48
SIZE = 160


class Settings:
    answer = 777


def count_primes(limit: int) -> None:
    """Says what it sees, then works for a moment."""
    print(f"child: Settings.answer is {Settings.answer}", flush=True)
    sieve = np.ones(limit, dtype=bool)
    sieve[:2] = False
    for number in range(2, int(limit**0.5) + 1):
        if sieve[number]:
            sieve[number * number :: number] = False
    print(f"child: there are {int(sieve.sum()):,} primes below {limit:,}", flush=True)


def find_largest_eigenvalue(seed: int) -> float:
    noise = np.random.default_rng(seed).standard_normal((SIZE, SIZE))
    return float(np.linalg.eigvalsh(noise @ noise.T / SIZE)[-1])


def show_progress(done: int, total: int) -> None:
    if sys.stdout.isatty():
        print(f"\rpool:  {done} of {total} matrices", end="\n" if done == total else "", flush=True)
    elif done % (total // 3) == 0:
        print(f"pool:  {done} of {total} matrices", flush=True)


def main() -> None:
    multiprocessing.set_start_method("forkserver")
    Settings.answer = 999
    print(f"main:  Settings.answer is {Settings.answer}", flush=True)
    child = multiprocessing.Process(target=count_primes, args=(40_000_000,))
    child.start()
    child.join()
    if child.exitcode != 0:
        sys.exit(f"the child exited with {child.exitcode}")

    total = 0.0
    with multiprocessing.Pool(2) as pool:
        for done, value in enumerate(pool.imap_unordered(find_largest_eigenvalue, range(MATRICES)), 1):
            total += value
            show_progress(done, MATRICES)
    print(f"main:  the mean of their largest eigenvalues is {total / MATRICES:.3f}", flush=True)


if __name__ == "__main__":
    main()
