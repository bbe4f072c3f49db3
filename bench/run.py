"""run(), sessions and arun() beside what people use in their place: alternating, medians, and the goals.

python bench/run.py [rounds]      (5 by default; some 20 seconds)
"""

from __future__ import annotations

import asyncio
import os
import socket
import subprocess
import sys
import time
from collections.abc import Callable
from importlib.util import find_spec
from statistics import median

import warmfork
from warmfork._tasks import tree

LIBRARY = "pandas" if find_spec("pandas") else "numpy"
CODE = {
    "pandas": "import pandas, numpy\nprint(int(pandas.Series(numpy.arange(10)).sum()))",
    "numpy": "import numpy\nprint(int(numpy.arange(10).sum()))",
}[LIBRARY]
MANY = 100


def measure(fn: Callable[[], object]) -> float:
    """Give the milliseconds that a call takes."""
    began = time.perf_counter()
    fn()
    return (time.perf_counter() - began) * 1000


def show(what: str, value: str, goal: str, met: bool) -> None:
    """Print a line of the table."""
    print(f"{what:58} {value:>28}   goal {goal:18} {'met' if met else 'NOT MET'}")


def compare_with_subprocess(rounds: int) -> None:
    """A snippet that uses a large library, in a warm child and in a fresh interpreter."""
    preload = ["numpy", LIBRARY]
    fresh, demand, spared = [], [], []
    with warmfork.Template(preload, spares=0) as plain, warmfork.Template(preload, spares=2) as ahead:
        for _ in range(3):
            plain.run(CODE, capture_output=True)
            ahead.run(CODE, capture_output=True)
        for _ in range(rounds):
            fresh.append(measure(lambda: subprocess.run([sys.executable, "-c", CODE], capture_output=True, check=True)))
            demand.append(measure(lambda: plain.run(CODE, capture_output=True, check=True)))
            time.sleep(0.2)  # for the spare
            spared.append(measure(lambda: ahead.run(CODE, capture_output=True, check=True)))
    base = median(fresh)
    print(f"subprocess.run([python, '-c', ...]) with {LIBRARY}: {base:.0f} ms")
    for what, times, goal in (("on demand", demand, 25), ("with a spare", spared, 40)):
        factor = base / median(times)
        show(f"run() of the same, {what}", f"{median(times):.1f} ms, {factor:.0f} x", f">= {goal} x", factor >= goal)


def start_echo() -> socket.socket:
    """Fork a process that sends back what comes, and give the other end."""
    ours, theirs = socket.socketpair()
    if os.fork() == 0:
        ours.close()
        while data := theirs.recv(65_536):
            theirs.sendall(data)
        os._exit(0)
    theirs.close()
    return ours


def compare_with_echo(rounds: int) -> None:
    """A session's round trip, and that of an echo over a socket of the same kind. Of each the median: many short ones in
    a row fit into one slice of the processor's time, and as many longer ones do not."""
    echo = start_echo()

    def ask() -> None:
        echo.sendall(b"x" * 40)
        echo.recv(65_536)

    plain, ours = [], []
    with warmfork.Template(spares=0) as template, template.session() as session:
        session.run("x = 1")
        for _ in range(rounds):
            plain.append(median(measure(ask) for _ in range(300)) * 1000)
            ours.append(median(measure(lambda: session.run("x")) for _ in range(300)) * 1000)
    echo.close()
    os.wait()
    best, mine = median(plain), median(ours)
    show("session.run('x')", f"{mine:.0f} us, {mine / best:.1f} x echo ({best:.0f})", "<= 150 us", mine <= 150)
    show("", f"{mine - best:.0f} us more", "<= 1.5 x echo", mine <= 1.5 * best)


def count_cpu(template: warmfork.Template) -> float:
    """Give the seconds of processor time of this process and the template, with the children that each has reaped."""
    own = os.times()
    return own.user + own.system + tree.get_cpu(template.pid)


async def run_many(template: warmfork.Template) -> tuple[float, float]:
    """Run many at once. Gives the longest time in ms between two turns of the loop: by the clock, and of its own work."""
    longest = own = 0.0

    async def tick() -> None:
        nonlocal longest, own
        while True:
            clock, cpu = time.perf_counter(), time.thread_time()
            await asyncio.sleep(0)
            longest = max(longest, time.perf_counter() - clock)
            own = max(own, time.thread_time() - cpu)
            await asyncio.sleep(0.001)

    ticking = asyncio.create_task(tick())
    await asyncio.gather(*(template.arun("sum(range(100_000))") for _ in range(MANY)))
    ticking.cancel()
    return longest * 1000, own * 1000


def compare_at_once(rounds: int) -> None:
    """Many snippets one after the other, and all at once."""
    row, once, longest, own = [], [], [], []
    with warmfork.Template(["json"], spares=0) as template:
        template.run("1")
        for _ in range(max(1, rounds // 2)):
            before = count_cpu(template)
            for _ in range(MANY):
                template.run("sum(range(100_000))")
            middle = count_cpu(template)
            clock, cpu = asyncio.run(run_many(template))
            row.append(middle - before)
            once.append(count_cpu(template) - middle)
            longest.append(clock)
            own.append(cpu)
    factor = median(once) / median(row)
    show(
        f"{MANY} at once by arun(), processor time",
        f"{median(once):.2f} s, {factor:.2f} x in a row",
        "<= 1.2 x",
        factor <= 1.2,
    )
    show("the loop, longest turn (its own work; by the clock)", f"{median(own):.1f} ms; {median(longest):.1f} ms",
         "<= 5 ms", median(own) <= 5)  # fmt: skip


def main() -> None:
    rounds = int(sys.argv[1]) if len(sys.argv) > 1 else 5
    print(
        f"Python {sys.version.split()[0]}, {os.cpu_count()} processors, load {os.getloadavg()[0]:.1f}, {rounds} rounds"
    )
    compare_with_subprocess(rounds)
    compare_with_echo(rounds)
    compare_at_once(rounds)


if __name__ == "__main__":
    main()
