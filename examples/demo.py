"""warmfork in half a minute: an unchanged multiprocessing program, its processes while it runs, and what a start costs.

    python examples/demo.py          (or: make demo)

Everything shown is read or measured there and then. It exits with 1 if anything is not as promised, or is left behind.
"""

from __future__ import annotations

import os
import selectors
import shutil
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

import psutil
from rich.bar import Bar
from rich.console import Console
from rich.markup import escape
from rich.panel import Panel
from rich.syntax import Syntax
from rich.table import Table
from rich.tree import Tree

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT / "bench"))

from machine import describe_machine  # noqa: E402
from report import make_progress  # noqa: E402
from results import Result, Series  # noqa: E402
from rounds import clean_environment, count_ticks, measure  # noqa: E402

PROGRAM = "examples/plain_program.py"
COMMAND = ["warmfork", "run", "--preload", "numpy", PROGRAM]
COMPETITORS = ("spawn", "fork", "forkserver", "warmfork")
NAMES = {"forkserver": "the stdlib's forkserver"}
STARTS = 90
PROGRAM_SECONDS = 60
CLEAN_SECONDS = 5
LOOK_SECONDS = 0.02
SHM = Path("/dev/shm")
ROLES = ("program", "tracker", "template", "child")
STYLES = {"program": "bold", "tracker": "cyan", "template": "magenta", "child": "green"}


@dataclass(frozen=True)
class Seen:
    """A process of the program, as it was at one moment."""

    process: psutil.Process
    parent: int
    title: str
    role: str


def read_role(title: str, is_root: bool) -> str:
    if is_root:
        return "program"
    words = title.split()
    if words[:1] != ["warmfork:"]:
        return "unknown"
    return words[1] if words[1:2] and words[1] in ("tracker", "template") else "child"


def look(root: psutil.Process) -> list[Seen]:
    """The program and all its descendants, parents first. What vanishes while it is looked at is left out."""
    seen = []
    try:
        found = [root, *root.children(recursive=True)]
    except psutil.Error:
        return []
    for process in found:
        try:
            words, parent = process.cmdline(), process.ppid()
        except psutil.Error:
            continue
        if words:
            title = " ".join(" ".join([Path(words[0]).name, *words[1:]]).split())
            seen.append(Seen(process, parent, title, read_role(title, process == root)))
    return seen


def is_complete(seen: list[Seen]) -> bool:
    """Exactly one process of each role, each the child of the one before it."""
    chain = sorted(seen, key=lambda one: ROLES.index(one.role) if one.role in ROLES else len(ROLES))
    pids = [one.process.pid for one in chain]
    return tuple(one.role for one in chain) == ROLES and [one.parent for one in chain[1:]] == pids[:-1]


def draw(seen: list[Seen], title: str) -> Panel:
    """The tree of processes, each with its pid and its share of memory (PSS: shared pages are divided)."""
    branches: dict[int, Tree] = {}
    top = Tree("")
    for one in seen:
        try:
            share = f"{one.process.memory_full_info().pss / 2**20:.0f} MB"
        except psutil.Error:
            share = "gone"
        label = f"[{STYLES.get(one.role, 'red')}]{escape(one.title)}[/] [dim]{one.process.pid}, {share}[/]"
        branch = Tree(label)
        branches.get(one.parent, top).children.append(branch)
        branches[one.process.pid] = branch
    return Panel(
        top.children[0] if len(top.children) == 1 else top, title=title, title_align="left", border_style="dim"
    )


class Run:
    """The program while it runs: relays its lines, looks at its processes, draws them when they are worth it."""

    def __init__(self, console: Console, temporary: str) -> None:
        self.console = console
        self.lines: list[str] = []
        self.met: set[psutil.Process] = set()
        self.chain_seen = self.pool_seen = False
        environment = {**clean_environment(), "TMPDIR": temporary, "PYTHONUNBUFFERED": "1"}
        self.process = subprocess.Popen(
            [sys.executable, "-m", *COMMAND],
            cwd=ROOT,
            env=environment,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
        self.root = psutil.Process(self.process.pid)

    def follow(self) -> None:
        """Until all that hold its stdout have let go of it, or the time is up."""
        deadline = time.monotonic() + PROGRAM_SECONDS
        rest = b""
        with self.process, selectors.DefaultSelector() as selector:
            if self.process.stdout is None:
                raise RuntimeError("the program was started without a pipe")
            selector.register(self.process.stdout, selectors.EVENT_READ)
            try:
                while time.monotonic() < deadline:
                    if selector.select(LOOK_SECONDS):
                        data = os.read(self.process.stdout.fileno(), 65536)
                        *whole, rest = (rest + data).split(b"\n")
                        for line in [*whole, *([] if data else filter(None, [rest]))]:
                            self.show_line(line.decode(errors="replace"))
                        if not data:
                            return
                    self.look()
                self.show_line(f"demo: no end after {PROGRAM_SECONDS} s")
            finally:
                if self.process.poll() is None and not self.ended():
                    self.kill()

    def ended(self) -> bool:
        """It closed its stdout: give it a moment to exit."""
        try:
            self.process.wait(CLEAN_SECONDS)
        except subprocess.TimeoutExpired:
            return False
        return True

    def show_line(self, line: str) -> None:
        self.lines.append(line)
        self.console.print(f"  [dim]│[/] {escape(line)}", highlight=False)

    def look(self) -> None:
        seen = look(self.root)
        self.met.update(one.process for one in seen)
        if not self.chain_seen and is_complete(seen):
            self.chain_seen = True
            self.console.print(draw(seen, "the processes at this moment"))
        if not self.pool_seen and sum(one.role == "child" for one in seen) > 1:
            self.pool_seen = True
            self.console.print(draw(seen, "and with the pool"))

    def find_leftovers(self) -> list[str]:
        """Those of its processes, seen or in its session, that are alive after a grace period."""
        deadline = time.monotonic() + CLEAN_SECONDS
        while True:
            self.met.update(process for process in psutil.process_iter() if in_session(process.pid, self.process.pid))
            _, alive = psutil.wait_procs(list(self.met), timeout=0.1)
            if not alive or time.monotonic() > deadline:
                return [f"process {process.pid}" for process in alive]

    def kill(self) -> None:
        for process in [self.root, *self.met]:
            if process.is_running():
                process.kill()


def in_session(pid: int, session: int) -> bool:
    try:
        return os.getsid(pid) == session
    except OSError:
        return False


def list_shm() -> set[str]:
    return {entry.name for entry in SHM.iterdir()} if SHM.is_dir() else set()


def find_new_shm(before: set[str]) -> list[str]:
    """What is new in /dev/shm and in nobody's use: other programs on the machine may have made names of their own."""
    new = {name for name in list_shm() - before if (SHM / name).exists()}
    for process in psutil.process_iter() if new else ():
        try:
            used = {Path(region.path).name for region in process.memory_maps()}
        except (psutil.Error, OSError):
            continue
        new -= used
    return [f"{SHM / name}" for name in sorted(new)]


def measure_starts(console: Console) -> list[Series]:
    result = Result(describe_machine(["numpy"]))
    with make_progress(console) as progress:
        task = progress.add_task("", total=count_ticks(len(COMPETITORS), STARTS, modes=1))

        def tick(what: str) -> None:
            progress.update(task, advance=1, description=f"  {what}", refresh=True)

        measure(result, "numpy", ("numpy",), COMPETITORS, n=STARTS, modes=["paced"], tick=tick)
    for gap in result.gaps:
        console.print(f"  not measured: {gap.competitor}: {escape(gap.why)}", style="red", highlight=False)
    return sorted(result.series, key=lambda one: -one.median_us)


def show_starts(console: Console, series: list[Series]) -> None:
    table = Table(box=None, padding=(0, 1), header_style="dim")
    table.add_column("  started by", min_width=25)
    table.add_column("ms", justify="right", min_width=6)
    table.add_column("starts", justify="right")
    table.add_column("", width=26)
    longest = series[0].median_us if series else 1
    for one in series:
        style = "bold green" if one.competitor == "warmfork" else ""
        name = NAMES.get(one.competitor, one.competitor)
        bar = Bar(longest, 0, one.median_us, width=26, color="green" if style else "blue")
        table.add_row(f"  {name}", f"{one.median_us / 1000:.1f}", str(one.n), bar, style=style)
    console.print(table)


def main() -> int:
    console = Console(highlight=False)
    before = list_shm()
    temporary = tempfile.mkdtemp(prefix="demo-")
    try:
        console.rule("[bold]1. A program that knows nothing of warmfork", align="left")
        console.print(Syntax.from_path(str(ROOT / PROGRAM), line_range=find_main(), theme="ansi_dark"))
        console.print(f"[bold]$ {' '.join(COMMAND)}[/]")
        run = Run(console, temporary)
        run.follow()
        left = run.find_leftovers()
        run.kill()
        left += [f"{path}" for path in Path(temporary).iterdir()]
    finally:
        shutil.rmtree(temporary)
    console.rule(f"[bold]2. start() + join() of a process with numpy, median of {STARTS}", align="left")
    series = measure_starts(console)
    show_starts(console, series)
    left += find_new_shm(before)

    console.rule("[bold]3. As promised?", align="left")
    medians = {one.competitor: one.median_us for one in series}
    ours, theirs = medians.get("warmfork"), medians.get("forkserver")
    promises = {
        "The program ended with exit code 0": run.process.returncode == 0,
        "Its child saw 777, although main had written 999 by then": "child: Settings.answer is 777" in run.lines,
        "Program, tracker, template, child: these four and no others": run.chain_seen,
        "Spawn, fork, the stdlib's forkserver and warmfork were measured": len(series) == len(COMPETITORS),
        "warmfork starts faster than the stdlib's forkserver": bool(ours and theirs and ours < theirs),
        "No process, shared memory or temporary file is left": not left,
    }
    for promise, kept in promises.items():
        console.print(f"  [green]✓[/] {promise}" if kept else f"  [bold red]✗ {promise}[/]")
    for thing in left:
        console.print(f"    left: {thing}", style="red")
    return 0 if all(promises.values()) else 1


def find_main() -> tuple[int, int]:
    """The lines of the program that are worth showing: the start method, the 999 and the first child."""
    lines = (ROOT / PROGRAM).read_text().splitlines()
    first = lines.index("def main() -> None:") + 1
    last = next(number for number, line in enumerate(lines, 1) if number > first and "child.join()" in line)
    return first, last


if __name__ == "__main__":
    sys.exit(main())
