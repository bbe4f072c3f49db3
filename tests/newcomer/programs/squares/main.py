"""A command with arguments."""

from __future__ import annotations

import argparse

import warmfork


def square(number):
    return number * number


def main(arguments=None):
    parser = argparse.ArgumentParser(prog="squares")
    parser.add_argument("numbers", nargs="+", type=int)
    parser.add_argument("--workers", type=int, default=2)
    options = parser.parse_args(arguments)
    with warmfork.get_context().Pool(options.workers) as pool:
        print(pool.map(square, options.numbers))


if __name__ == "__main__":
    main()
