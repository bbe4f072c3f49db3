"""A Pool with an initializer."""

from __future__ import annotations

import warmfork

settings = {}


def prepare(scale):
    settings["scale"] = scale


def work(number):
    return number * settings["scale"]


if __name__ == "__main__":
    with warmfork.get_context().Pool(2, initializer=prepare, initargs=(3,)) as pool:
        print(pool.map(work, range(4)))
