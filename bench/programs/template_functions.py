"""Template.start() of a function that can be imported, and of one of the script, to its result."""

from __future__ import annotations

import math
import statistics
import time
from typing import Any

from contenders import now, report, to_ms

import warmfork

WARM_UP, STARTS = 20, 40
APART = 0.008


def double(number: int) -> int:
    """A function of the script."""
    return 2 * number


def call(template: Any, function: Any, number: int) -> float:
    """Have a child call a function, and give how long that took, in ms."""
    time.sleep(APART)
    begin = now()
    child = template.start(function, (number,))
    result = child.result()
    child.wait()
    taken = to_ms(begin, now())
    assert result == function(number)
    return taken


def main() -> None:
    """Call both in turns."""
    with warmfork.Template() as template:
        first = call(template, double, 7)
        times = [(call(template, math.factorial, 7), call(template, double, 7)) for _ in range(WARM_UP + STARTS)]
    importable, of_script = (statistics.median(some) for some in zip(*times[WARM_UP:], strict=True))
    report(
        {
            "of the script, first": first,
            "importable": importable,
            "of the script": of_script,
            "of the script over importable, x": of_script / importable,
        }
    )


if __name__ == "__main__":
    main()
