"""warmfork in half a minute: an unchanged program with numpy and pandas, its processes while it runs, and how long its
pools take beside fork and the stdlib's forkserver.

    python examples/demo.py          (or: make demo)

Everything shown is read or measured there and then. It exits with 1 if anything is not as promised, or is left behind.
"""

from __future__ import annotations

import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from dataclasses import dataclass, field
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
PROGRAM = "examples/frames.py"
WARMFORK = "warmfork"
COMMANDS = {
    "fork": [PROGRAM, "fork"],
    "the stdlib's forkserver": [PROGRAM, "forkserver"],
    WARMFORK: ["-m", "warmfork", "run", PROGRAM, "forkserver"],
}
SEEN = "warmfork, looked at"
PARTS = {"use_pool": "Pool(4)", "use_executor": "ProcessPoolExecutor(4)"}
PROGRAM_SECONDS = 60
CLEAN_SECONDS = 5
LOOK_SECONDS = 0.02
WORKERS = 4
ROLES = ("program", "tracker", "template")
STYLES = {"program": "bold", "tracker": "cyan", "template": "magenta", "child": "green"}


@dataclass(frozen=True)
class Seen:
    """A process of the program, as it was at one moment."""

    process: psutil.Process
    parent: int
    title: str
    role: str


@dataclass
class Run:
    """One run of the program: what it printed, its processes as they were seen, and what they had in /dev/shm."""

    lines: list[str] = field(default_factory=list)
    code: int = -1
    names: set[str] = field(default_factory=set)
    trees: list[list[Seen]] = field(default_factory=list)

    def list_times(self, part: str) -> list[float]:
        """The milliseconds of each round of a part."""
        return [float(line.split()[1]) for line in self.lines if line.startswith(f"{part} ")]

    def list_totals(self) -> set[str]:
        """What the rounds computed: one value, if all is well."""
        return {line.split()[2] for line in self.lines if line.startswith(tuple(PARTS))}


def read_role(title: str, is_root: bool) -> str:
    """What a process is, by its title."""
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
    """Is it program, tracker, template, each the child of the one before it, and below the template all the workers?"""
    by_role = {role: [one for one in seen if one.role == role] for role in (*ROLES, "child")}
    if [len(by_role[role]) for role in ROLES] != [1, 1, 1] or len(by_role["child"]) < WORKERS:
        return False
    program, tracker, template = (by_role[role][0] for role in ROLES)
    below = all(one.parent == template.process.pid for one in by_role["child"])
    return below and tracker.parent == program.process.pid and template.parent == tracker.process.pid


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


def run_program(console: Console, command: list[str], watched: bool, temporary: str) -> Run:
    """Run the program to its end; `watched`: look at its processes meanwhile, which takes time from it, and draw them,
    once for each part."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("WARMFORK_", "PYTHON"))}
    run = Run()
    process = subprocess.Popen(
        [sys.executable, *command], cwd=ROOT, env={**kept, "TMPDIR": temporary}, text=True, start_new_session=True,
        stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
    )  # fmt: skip
    assert process.stdout is not None
    output = process.stdout
    reader = threading.Thread(target=lambda: run.lines.extend(line.rstrip("\n") for line in output))
    reader.start()
    root = psutil.Process(process.pid)
    deadline = time.monotonic() + PROGRAM_SECONDS
    while watched and process.poll() is None and time.monotonic() < deadline:
        seen = look(root)
        part = len({line.split()[0] for line in run.lines if line.startswith(tuple(PARTS))}) if run.lines else 1
        if len(run.trees) < part and is_complete(seen):
            run.trees.append(seen)
            console.print(draw(seen, f"the processes of {list(PARTS.values())[len(run.trees) - 1]} at this moment"))
            run.names |= list_names(seen)
        time.sleep(LOOK_SECONDS)
    try:
        run.code = process.wait(max(0.1, deadline - time.monotonic()))
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()
    reader.join(CLEAN_SECONDS)
    return run


def list_names(seen: list[Seen]) -> set[str]:
    """The semaphores and shared memory that these processes use: no other program's."""
    names = set()
    for one in seen:
        try:
            names |= {region.path for region in one.process.memory_maps() if region.path.startswith("/dev/shm/")}
        except (psutil.Error, OSError):
            continue
    return names


def list_processes(temporary: str) -> list[psutil.Process]:
    """All processes that were given this folder for their temporary files: those of one run, and no others."""
    found = []
    for process in psutil.process_iter():
        try:
            if process.environ().get("TMPDIR") == temporary:
                found.append(process)
        except (psutil.Error, OSError):
            continue
    return found


def find_leftovers(run: Run, temporary: str) -> list[str]:
    """Those of its processes that are alive after a grace period, and its names and files that are still there."""
    _, alive = psutil.wait_procs(list_processes(temporary), timeout=CLEAN_SECONDS)
    left = [f"process {process.pid}" for process in alive]
    for process in alive:
        process.kill()
    left += sorted(name for name in run.names if Path(name).exists())
    return left + [str(path) for path in Path(temporary).iterdir()]


def show_times(console: Console, runs: dict[str, Run]) -> None:
    """A table for each part: its first round, and the median of the others."""
    for part, name in PARTS.items():
        table = Table(box=None, padding=(0, 1), header_style="dim")
        table.add_column(f"  {name}, started by", min_width=40)
        table.add_column("first, ms", justify="right")
        table.add_column("later, ms", justify="right", min_width=9)
        table.add_column("", width=24)
        later = {who: statistics.median(run.list_times(part)[1:] or [0.0]) for who, run in runs.items()}
        for who, run in runs.items():
            first = run.list_times(part)[:1] or [0.0]
            style = "bold green" if who == WARMFORK else ""
            bar = Bar(max(later.values()) or 1, 0, later[who], width=24, color="green" if style else "blue")
            table.add_row(f"  {who}", f"{first[0]:.0f}", f"{later[who]:.1f}", bar, style=style)
        console.print(table)


def main() -> int:
    console = Console(highlight=False)
    runs: dict[str, Run] = {}
    left: list[str] = []
    console.rule("[bold]1. A program that knows nothing of warmfork", align="left")
    console.print(Syntax.from_path(str(ROOT / PROGRAM), line_range=find_lines(), theme="ansi_dark"))
    for who, command in [(SEEN, ["-m", "warmfork", "run", "-v", PROGRAM, "forkserver"]), *COMMANDS.items()]:
        shown = " ".join(["warmfork", *command[2:]] if command[0] == "-m" else ["python", *command])
        console.print(f"[bold]$ {shown}[/]" + ("" if who == SEEN else "[dim]   (timed)[/]"))
        temporary = tempfile.mkdtemp(prefix="demo-")
        try:
            runs[who] = run_program(console, command, who == SEEN, temporary)
            left += find_leftovers(runs[who], temporary)
        finally:
            shutil.rmtree(temporary, ignore_errors=True)
        if runs[who].code:
            console.print("\n".join(runs[who].lines[-20:]), style="red", markup=False)
    own = runs[SEEN]
    said = next((line for line in own.lines if line.startswith("warmfork: ")), "nothing")
    console.print(f"  [dim]{escape(said)}[/]")

    console.rule("[bold]2. From making the workers to their end", align="left")
    show_times(console, {who: runs[who] for who in COMMANDS})

    console.rule("[bold]3. As promised?", align="left")
    promises = {
        "Each run ended with exit code 0": all(run.code == 0 for run in runs.values()),
        "All computed the same": len({total for run in runs.values() for total in run.list_totals()}) == 1,
        "Program, tracker, template, and the workers below it": len(own.trees) == len(PARTS),
        "All processes were started by warmfork": " by warmfork" in said and "," not in said,
        "No process, shared memory or temporary file is left": not left,
    }
    for promise, kept in promises.items():
        console.print(f"  [green]✓[/] {promise}" if kept else f"  [bold red]✗ {promise}[/]")
    for thing in left:
        console.print(f"    left: {thing}", style="red")
    return 0 if all(promises.values()) else 1


def find_lines() -> tuple[int, int]:
    """The lines of the program that are worth showing."""
    lines = (ROOT / PROGRAM).read_text().splitlines()
    return lines.index("def use_pool(context: multiprocessing.context.BaseContext) -> float:") + 1, len(lines) - 3


if __name__ == "__main__":
    sys.exit(main())
