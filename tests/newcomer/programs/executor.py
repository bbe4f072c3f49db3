"""A ProcessPoolExecutor whose tasks raise, one an error of the script's own."""

from __future__ import annotations

import traceback
from concurrent.futures import ProcessPoolExecutor

import warmfork


class TooLarge(Exception):
    def __init__(self, number, limit):
        super().__init__(f"{number} is over {limit}")
        self.number, self.limit = number, limit

    def __reduce__(self):
        return TooLarge, (self.number, self.limit)


def check(number):
    if number > 2:
        raise TooLarge(number, 2)
    return 1 / number


if __name__ == "__main__":
    with ProcessPoolExecutor(2, mp_context=warmfork.get_context()) as executor:
        for number, future in [(number, executor.submit(check, number)) for number in (1, 0, 3)]:
            try:
                print(number, future.result())
            except ZeroDivisionError as error:
                print(number, error)
            except TooLarge as error:
                print(number, error.limit, "in check" in "".join(traceback.format_exception(error)))
