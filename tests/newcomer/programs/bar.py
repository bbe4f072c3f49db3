"""A progress bar."""

from __future__ import annotations

import sys

from tqdm import tqdm

import warmfork


def work(number):
    return number**2


if __name__ == "__main__":
    with warmfork.get_context().Pool(2) as pool:
        print(sum(tqdm(pool.imap_unordered(work, range(30)), total=30, file=sys.stderr)))
