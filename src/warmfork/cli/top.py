"""`warmfork top`: what `warmfork ps` shows, live, on a terminal of any size."""

from __future__ import annotations

import os
import time

from warmfork.cli import fail
from warmfork.cli.command import BadUsage, Command, Option

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator
    from typing import Any

    from warmfork.cli.census import ProcessRecord

ORDERS = {"m": "memory", "c": "cpu", "a": "age", "s": "starts"}

COMMAND = Command(
    "top",
    "[--once] [--interval SECONDS] [--sort KEY]",
    """
    Shows what `warmfork ps` shows, and keeps it up to date. CPU% is how much of one processor a process has used since
    the last look. The trees stay trees: what is sorted are those that stand beside one another.

    Keys: m, c, a, s sort by memory (PSS), cpu, age, starts. The arrows move the mark. k asks whether to end the marked
    process, and sends it SIGTERM if you say y. q and ^C end top.
    """,
    [
        Option("--once", "look twice, one interval apart, print the table, and end"),
        Option("--interval", "how long from one look to the next: 2, unless told otherwise", "SECONDS"),
        Option("--sort", "what to sort by at first", "KEY", tuple(ORDERS.values())),
    ],
    [
        ("warmfork top", "every two seconds"),
        ("ssh -t host warmfork top --sort memory", "on another machine"),
        ("warmfork top --once --interval 1 > load.txt", "one look, to a file"),
    ],
    [("0", "all is well"), ("1", "the output can't be written"), ("2", "a wrong call, or no terminal")],
)

MOVES = {"\x1b[A": -1, "\x1bOA": -1, "\x1b[B": 1, "\x1bOB": 1}


def main(argv: list[str]) -> int:
    """Show it until q is pressed. Raises BadUsage."""
    given, _ = COMMAND.parse(argv)
    interval = read_interval(given.get("interval", "2"))
    view = View(given.get("sort", "age"))
    if "once" in given:
        from warmfork.cli import table

        view.look()
        time.sleep(interval)
        view.look()
        print("\n".join(view.draw(table.get_width())) if view.found else "nothing of warmfork runs")
        return 0
    try:
        terminal = os.isatty(0) and os.isatty(1)
    except OSError:
        terminal = False
    if not terminal:
        return fail("warmfork top needs a terminal", "warmfork top --once prints one look, warmfork ps the table")
    live(view, interval)
    return 0


def read_interval(text: str) -> float:
    """Give a number of seconds. Raises BadUsage."""
    try:
        seconds = float(text)
    except ValueError:
        seconds = 0.0
    if not 0.1 <= seconds <= 3600:
        raise BadUsage(f'--interval is a number of seconds from 0.1 to 3600, not "{text}"', "for example --interval 1")
    return seconds


class View:
    """What is shown: the processes of the last look, their order, and which is marked."""

    def __init__(self, order: str) -> None:
        self.order = order
        self.found: list[tuple[ProcessRecord, int]] = []
        self.percents: dict[int, float] = {}
        self.marked = 0  # a pid
        self.asking = 0  # the pid for which the question is open
        self.note = ""
        self._born: dict[int, int] = {}  # pid -> when it was started: with it, it is no other
        self._before: dict[tuple[int, int], tuple[float, float]] = {}  # (pid, born) -> when, CPU seconds

    def look(self) -> None:
        """Take a census."""
        from warmfork._machine.pids import read_since
        from warmfork.cli.census import Census

        tops = Census().collect()
        now = time.monotonic()
        self.found = list(self.sort(tops, 0))
        self._born = {record.pid: read_since(record.pid) for record, _ in self.found}
        seen = {}
        self.percents = {}
        for record, _ in self.found:
            if record.cpu_s is None:
                continue
            key = record.pid, self._born[record.pid]
            seen[key] = now, record.cpu_s
            if key in self._before:
                then, used = self._before[key]
                self.percents[record.pid] = max(0.0, 100 * (record.cpu_s - used) / max(now - then, 0.001))
        self._before = seen
        if self.marked not in self._born:
            self.marked = self.found[0][0].pid if self.found else 0
        if self.asking not in self._born:
            self.asking = 0

    def sort(self, records: list[ProcessRecord], depth: int) -> Iterator[tuple[ProcessRecord, int]]:
        """Give all processes with their depth, siblings in order."""
        from warmfork.cli.census import walk

        for record, _ in list(walk(records)):
            record.below.sort(key=self.weigh)
        yield from walk(sorted(records, key=self.weigh), depth)

    def weigh(self, record: ProcessRecord) -> tuple[float, int]:
        """Give what a process is sorted by: the most comes first."""
        weights = {
            "memory": record.pss_mib if record.pss_mib is not None else record.rss_mib,
            "cpu": self.percents.get(record.pid),
            "age": record.age_s,
            "starts": record.starts,
        }
        return -(weights[self.order] or 0), record.pid

    def draw(self, width: int | None) -> list[str]:
        """Give the table as lines."""
        from warmfork.cli import table

        return table.lay_out(table.describe(self.found, self.percents), table.COLUMNS, width)

    def press(self, key: str) -> bool:
        """Do what a key asks for. Gives whether to go on."""
        pids = [record.pid for record, _ in self.found]
        self.note = ""
        if self.asking:
            pid, self.asking = self.asking, 0
            self.note = self.end(pid) if key in ("y", "Y") else "nothing was ended"
        elif key in ("q", "Q"):
            return False
        elif key in ORDERS:
            self.order = ORDERS[key]
            tops = [record for record, depth in self.found if not depth]
            self.found = list(self.sort(tops, 0))
        elif key in MOVES and self.marked in pids:
            at = pids.index(self.marked) + MOVES[key]
            self.marked = pids[min(max(at, 0), len(pids) - 1)]
        elif key == "k" and self.marked in pids:
            self.asking = self.marked
        return True

    def end(self, pid: int) -> str:
        """Send SIGTERM to the process that was seen, and to no other that has its pid. Gives what to tell."""
        import signal

        from warmfork._machine import pids

        pidfd = pids.open_same(pid, self._born.get(pid, 0)) if self._born.get(pid) else -1
        if pidfd < 0:
            return f"{pid} has ended already"
        try:
            if not pids.send_signal(pidfd, signal.SIGTERM):
                return f"{pid} has ended already"
        except OSError as error:
            return f"{pid} could not be ended: {error.strerror}"
        finally:
            os.close(pidfd)
        return f"{pid} was sent SIGTERM"

    def tell(self) -> str:
        """Give the last line: a question, what was done, or the keys."""
        if self.asking:
            from warmfork.cli.table import name_process

            record = next(record for record, _ in self.found if record.pid == self.asking)
            return f"End {record.role} {record.pid} ({name_process(record)})? y/n"
        return self.note or f"by {self.order}   sort: m c a s   mark: ↑ ↓   end: k   quit: q"


def live(view: View, interval: float) -> None:
    """Show it until q or ^C. The terminal is as before afterwards, whatever happens."""
    import signal
    import termios

    from rich.console import Console
    from rich.live import Live

    def leave(number: int, _frame: object) -> None:
        raise SystemExit(128 + number)

    console = Console(highlight=False)
    before = termios.tcgetattr(0)
    handlers = {number: signal.signal(number, leave) for number in (signal.SIGTERM, signal.SIGHUP)}
    try:
        mute(before)
        with Live(console=console, screen=True, auto_refresh=False) as shown:
            look_at = 0.0
            while True:
                if time.monotonic() >= look_at:
                    view.look()
                    look_at = time.monotonic() + interval
                shown.update(paint(view, console.width, console.height), refresh=True)
                for key in read_keys(max(0.0, look_at - time.monotonic())):
                    if not view.press(key):
                        return
    except KeyboardInterrupt:
        return
    finally:
        termios.tcsetattr(0, termios.TCSADRAIN, before)
        for number, handler in handlers.items():
            signal.signal(number, handler)


def mute(attributes: list[Any]) -> None:
    """Have keys come one by one and unseen. ^Z does nothing: it would leave the terminal so."""
    import termios

    changed = [*attributes]
    changed[3] &= ~(termios.ICANON | termios.ECHO)
    changed[6] = [*attributes[6]]
    changed[6][termios.VMIN], changed[6][termios.VTIME] = 1, 0
    changed[6][termios.VSUSP] = b"\0"
    termios.tcsetattr(0, termios.TCSADRAIN, changed)


def paint(view: View, width: int, height: int) -> Any:
    """Give the screen: the table around the marked line, and a line below it."""
    from rich.text import Text

    from warmfork.cli import table

    head, *lines = view.draw(width) if view.found else ["nothing of warmfork runs"]
    at = next((place for place, (record, _) in enumerate(view.found) if record.pid == view.marked), 0)
    room = max(1, height - 2)
    first = min(max(0, at - room + 1), max(0, len(lines) - room))
    text = Text(no_wrap=True, overflow="crop")
    text.append(f"{head}\n", "bold")
    for place, line in enumerate(lines[first : first + room], first):
        text.append(f"{line.ljust(width) if place == at else line}\n", "reverse" if place == at else "")
    text.append("\n" * (room - len(lines[first : first + room])))
    text.append(table.cut(table.show_text(view.tell()), width), "bold" if view.asking else "dim")
    return text


def read_keys(timeout: float) -> list[str]:
    """Wait for keys. An arrow is three bytes; a terminal that is gone is q."""
    import re
    import select

    if not select.select([0], [], [], timeout)[0]:
        return []
    data = os.read(0, 1024)
    return re.findall(r"\x1b[\[O].|.", data.decode("utf-8", "replace"), re.DOTALL) if data else ["q"]
