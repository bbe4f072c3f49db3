"""Plays a cell: sets the stage, lets somebody die, and holds everybody to what was promised."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import psutil

from tests import leftovers
from tests.faults import cells
from tests.faults.cells import Cell
from tests.faults.stage import PATIENCE, PROMPT, Fault, Stage

OWN_CODE = 33
"""With what whoever is told to os._exit() does so."""

ORDERED = {"child": 5, "grandchild": 9, "parent": 6, "steady": 7, "daemon": 8}
"""With what each ends when all is well."""

CODES = {cells.KILL: -9, cells.STOP_KILL: -9, cells.TERM: -15, cells.SEGFAULT: -11, cells.OWN_EXIT: OWN_CODE}


class Play:
    """One cell on its stage."""

    def __init__(self, cell: Cell, stage: Stage) -> None:
        self.cell = cell
        self.stage = stage
        self.helpers: dict[str, int] = {}
        self.stopped = ""  # the stop at which somebody stands
        self.stopped_pid = 0
        self.victims: list[int] = []
        self.cast: set[str] = set()  # the children that were started

    def fault(self, text: str) -> None:
        """Note what is wrong, and go on."""
        self.stage.faults.append(text)

    # -- setting the stage

    def set_stage(self) -> None:
        """Bring everybody to where the fault is to find them."""
        cell, stage = self.cell, self.stage
        if cell.who == cells.YOUNG:
            self.note_stop(cell.when)
            self.victims = [self.stopped_pid]
            return
        self.helpers = stage.expect("ready")["helpers"]
        for pid in self.helpers.values():
            stage.watch(pid)
        if cell.when == cells.SOONEST:
            return
        stage.tell_program("next")
        stage.expect("ended", name="next")
        stage.events.clear()
        stage.tell_program("count")
        stage.expect("counted")
        stage.events.clear()
        for name in ("steady", "daemon"):
            self.start(name)
            stage.expect("running", name=name)
        if cell.who == cells.SPARE:
            self.set_spares()
            return
        name = "grandchild" if cell.who in (cells.PARENT, cells.GRANDCHILD) else "child"
        if name == "grandchild":
            self.start("parent")
            stage.expect("running", name="parent")
        if cell.when in (*cells.IN_TEMPLATE, *cells.BIRTH, cells.PAYLOAD):
            self.stop_at(cell.when, name)
        else:
            self.start(name)
            stage.expect("running", name=name)
        if cell.when == cells.EXIT:
            stage.arm("exit")
            stage.order(name, f"exit {ORDERED[name]}")
            self.note_stop("exit")
        elif cell.when == cells.SHUTDOWN:
            stage.tell_program("finish")
            stage.expect("finishing")

    def start(self, name: str) -> None:
        """Have this one started."""
        self.cast.add(name)
        if name == "grandchild":
            self.stage.order("parent", "start")
        else:
            self.stage.tell_program(f"start {name}")

    def stop_at(self, stop: str, name: str) -> None:
        """Start it, and have it stopped there."""
        self.stage.arm(stop)
        self.start(name)
        self.note_stop(stop)

    def note_stop(self, stop: str) -> None:
        """Wait until somebody stands at this stop."""
        self.stopped = stop
        self.stopped_pid = self.stage.expect("stopped", at=stop)["pid"]

    def set_spares(self) -> None:
        """Wait for two spares, and have one of them taken or not."""
        template = self.helpers["template"]
        spares = self.stage.wait("two spares", lambda: list_spares(template), PATIENCE)
        for pid in spares:
            self.stage.watch(pid)
        if self.cell.when == "parked":
            self.victims = [spares[0]]
        else:
            self.stop_at("handed over", "child")

    # -- the fault

    def strike(self) -> None:
        """Let them die, or not, as it is their way."""
        cell, stage = self.cell, self.stage
        self.victims = self.victims or self.choose_victims()
        if cell.how == cells.GROUP_INT:
            os.killpg(stage.program.pid, signal.SIGINT)
            return
        for pid in self.victims:
            if cell.how in (cells.OWN_EXIT, cells.SEGFAULT):
                self.have_it_end(pid)
            elif cell.how == cells.TWICE:
                self.kill_with_successor(pid)
            elif cell.how == cells.STOP_KILL:
                stage.send(pid, signal.SIGSTOP)
                stage.wait("it stopped", lambda pid=pid: (leftovers.read_stat(pid) or "T")[0] == "T", PATIENCE)
            else:
                stage.send(pid, CODES[cell.how] * -1)
        if cell.how == cells.STOP_KILL:
            stage.pump(0.1)  # the others may do what they do about somebody who says nothing
            for pid in self.victims:
                stage.send(pid, signal.SIGKILL)
        if self.is_deadly():
            if cell.how == cells.TERM and self.stopped and self.stopped_pid in self.victims:
                stage.pump(0.05)
                stage.release(self.stopped)  # blocked until it has its own signal mask: then it takes it
            for pid in self.victims:
                stage.wait_dead(pid, f"the {cell.who}")
        if cell.who == cells.YOUNG:
            stage.expect("ready")

    def kill_with_successor(self, pid: int) -> None:
        """Kill a tracker, and the next one at its first line."""
        stage = self.stage
        stage.events.clear()
        stage.arm("begin")
        stage.send(pid, signal.SIGKILL)
        successor = stage.expect("stopped", at="begin")["pid"]
        stage.send(successor, signal.SIGKILL)
        stage.wait_dead(successor, "the successor")

    def is_deadly(self) -> bool:
        """Does whoever is struck die? Helpers take no SIGTERM."""
        return not (self.cell.how == cells.TERM and self.cell.who in (cells.TEMPLATE, cells.TRACKER, cells.BOTH))

    def choose_victims(self) -> list[int]:
        """Give the pids of those that the cell is about."""
        who = self.cell.who
        if who == cells.PROGRAM:
            return [self.stage.program.pid]
        if who == cells.BOTH:
            return [self.helpers["template"], self.helpers["tracker"]]
        if who == cells.PARENT:
            return [self.stage.expect("running", name="parent")["pid"]]
        if who.removesuffix(", then program") in self.helpers:
            return [self.helpers[who.removesuffix(", then program")]]
        if self.stopped:
            return [self.stopped_pid]
        return [self.stage.expect("running", name=who)["pid"]]

    def have_it_end(self, pid: int) -> None:
        """Have it end by its own hand where it listens, else by the signal that its own hand would raise."""
        order = "segfault" if self.cell.how == cells.SEGFAULT else f"_exit {OWN_CODE}"
        if self.stopped and pid == self.stopped_pid:
            self.stage.release(self.stopped, order)
        elif pid == self.stage.program.pid and self.cell.when != cells.SHUTDOWN:
            self.stage.tell_program(order)
        elif self.cell.who in (cells.CHILD, cells.GRANDCHILD):
            self.stage.order(self.cell.who, order)
        else:
            self.stage.send(pid, signal.SIGSEGV)

    # -- what must be so afterwards

    def end_if_hung(self) -> None:
        """Hold everybody to what was promised."""
        if self.stopped and not self.stage.is_dead(self.stopped_pid):
            self.stage.release(self.stopped)
        if self.cell.who in (cells.TEMPLATE_FIRST, cells.TRACKER_FIRST):
            if self.cell.who == cells.TRACKER_FIRST and self.cell.when != cells.SOONEST:
                self.stage.wait("another tracker", self.has_other_tracker, PATIENCE)
            self.stage.send(self.stage.program.pid, signal.SIGKILL)
        if self.stage.program.pid in self.victims or self.cell.who.endswith("then program"):
            self.judge_tree()
        else:
            self.judge_program()
        left = self.stage.find_leftovers()
        if (cell := self.cell).who == cells.TRACKER_FIRST and cell.when == cells.SOONEST:
            left = self.sweep_by_next_program(left)
        for line in left:
            self.fault(line)

    def has_other_tracker(self) -> bool:
        """Has the program started a tracker in the place of the dead one?"""
        children = psutil.Process(self.stage.program.pid).children()
        others = [child for child in children if child.pid != self.helpers["tracker"]]
        return any(" ".join(child.cmdline()).startswith("warmfork: tracker") for child in others)

    def sweep_by_next_program(self, left: list[str]) -> list[str]:
        """The program died before it saw that its tracker was dead: nobody is left to remove names. Its semaphores are
        there until the next program ends, its segments stay: both, and nothing else. Gives what else is left."""
        segments = {f"left: /dev/shm/{name}" for name in self.stage.find("ready")["names"]}
        # In a /dev/shm that others use as well, a segment that nobody has mapped can't be told from theirs.
        if leftovers.has_own_shm() and not segments < set(left):
            self.fault("names are gone that nobody could have removed: the promise is better than the page says")
        code = "import warmfork\nwith warmfork.Template() as template: template.start(int).result(20)"
        subprocess.run([sys.executable, "-c", code], check=True, cwd=self.stage.folder, timeout=PATIENCE)
        return sorted(set(self.stage.find_leftovers()) - segments)

    def judge_tree(self) -> None:
        """The program is dead, and what it owned is gone; what it does not own runs on until it is done."""
        cell, stage = self.cell, self.stage
        within = PROMPT
        if cell.how == cells.GROUP_INT:
            within = PATIENCE
            for name in self.cast:  # one that was not born yet when the signal came runs, and its program waits for it
                stage.order(name, f"exit {ORDERED[name]}")
        stage.wait_dead(stage.program.pid, "the program", within)
        if "daemon" in self.cast:
            daemon = stage.expect("running", name="daemon")["pid"]
            self.note(lambda: stage.wait_dead(daemon, "the daemon of a dead program"))
        if cell.how == cells.GROUP_INT:
            return
        if "steady" in self.cast:
            steady = stage.expect("running", name="steady")["pid"]
            stage.pump(0.02)
            if stage.is_dead(steady):
                self.fault(f"a child that was to be kept has died with its program: {stage.read_truth(steady)}")
        for name in self.cast:
            stage.order(name, f"exit {ORDERED[name]}")

    def judge_program(self) -> None:
        """The program lives: whoever waits is told the truth, soon, and the next start works."""
        cell, stage = self.cell, self.stage
        victim = cell.who if cell.who in (cells.CHILD, cells.GRANDCHILD) else ""
        if cell.who == cells.SPARE and self.stopped:
            victim = "child"
        if cell.who == cells.PARENT:
            victim = "parent"
            self.cast.discard("grandchild")
            # It runs on: nobody has said that it is to end with whoever started it. Or its birth never came to that.
            self.stage.order("grandchild", f"exit {ORDERED['grandchild']}")
        if victim:
            self.hear(victim, CODES[cell.how])
        for name in ("child", "grandchild", "steady", "daemon", "parent"):
            if name in self.cast and name != victim:
                self.note(lambda name=name: self.dismiss(name))
        if cell.when == cells.SHUTDOWN:
            stage.wait_dead(stage.program.pid, "the program at its end", PATIENCE)
        else:
            self.note(self.judge_next_start)
            stage.tell_program("finish")
            stage.wait_dead(stage.program.pid, "the program that was told to finish", PATIENCE)
        stage.wait("its exit code", lambda: stage.program.returncode is not None, PROMPT)
        if stage.program.returncode:
            self.fault(f"the program ended with {stage.program.returncode}")

    def dismiss(self, name: str) -> None:
        """Somebody whom nobody touched runs, until it is told to end; then its own exit code is heard."""
        stage, cell = self.stage, self.cell
        code = ORDERED[name]
        if cell.when == cells.SHUTDOWN and name == "daemon":
            return  # multiprocessing ends daemons when the program ends
        if not (cell.when == cells.EXIT and name == ("grandchild" if "parent" in self.cast else "child")):
            stage.expect("running", name=name)
            told = stage.find("ended", name=name)
            stage.order(name, f"exit {code}")
            if told is not None:
                self.fault(f"{name} was said to have ended with {told['code']} when nobody had ended it")
                return
        self.hear(name, code)

    def hear(self, name: str, code: int | None) -> None:
        """Wait until whoever waits for this child has been told how it ended: this code (None: whatever the kernel
        says), as the kernel has it, soon, and not too soon."""
        stage = self.stage
        pid = (stage.find("running", name=name) or {}).get("pid") or self.stopped_pid
        stage.wait_dead(pid, name, PATIENCE)
        if self.cell.when == cells.SHUTDOWN:
            return  # the program's threads are no longer there to say what they heard
        told = stage.expect("ended", PROMPT + 1.0, name=name)
        died = stage.deaths.get(told["child"])
        if not stage.is_dead(told["child"]):
            self.fault(f"{name} was said to be dead ({told['code']}) and lives")
        elif died is not None and told["at"] - died > PROMPT:
            self.fault(f"the death of {name} was told {told['at'] - died:.1f} s late")
        truth = stage.read_truth(told["child"])
        wanted = [known for known in (code, truth) if known is not None]
        if any(told["code"] != known for known in wanted):
            self.fault(f"{name} ended with {wanted}, and was said to have ended with {told['code']}")

    def judge_next_start(self) -> None:
        """Another start works, and nothing is open in the program that was not before."""
        stage = self.stage
        stage.tell_program("next")
        ended = stage.expect("ended", name="next")
        if ended["code"]:
            self.fault(f"the next start ended with {ended['code']}")
        if self.cell.when != cells.SOONEST and self.cell.who != cells.SPARE:  # spares come and go, and have fds
            stage.tell_program("count")
            grown = stage.expect("counted")["grown"]
            if grown > 0:
                self.fault(f"{grown} fds more are open in the program")
        stage.wait("no zombie below the program", lambda: not list_zombies(stage.program.pid), PROMPT)

    def note(self, check: object) -> None:
        """Make a check, and note what it finds without giving up the others."""
        try:
            check()
        except Fault as fault:
            self.fault(str(fault))


def list_zombies(program: int) -> list[int]:
    """The dead whom the program, or one of its processes, has not reaped."""
    parents, found = [program], []
    while parents:
        for pid in leftovers.list_children(parents.pop()):
            parents.append(pid)
            if (leftovers.read_stat(pid) or "-")[0] == "Z":
                found.append(pid)
    return found


def list_spares(template: int) -> list[int]:
    """The spares of this template, once there are two."""
    found = []
    for pid in leftovers.list_children(template):
        if leftovers.read_title(pid).startswith("warmfork: spare "):
            found.append(pid)
    return found if len(found) >= 2 else []


def play(cell: Cell, engine: str = "warmfork", without: Sequence[str] = ()) -> list[str]:
    """Play one cell, without some of warmfork's techniques. Gives what is wrong; nothing is left of it in any case."""
    spares = "2" if cell.who == cells.SPARE else "0"
    armed = cell.when if cell.who == cells.YOUNG else ""
    with Stage("program", engine, spares, armed=armed, WARMFORK_WITHOUT=",".join(without)) as stage:
        acted = Play(cell, stage)
        try:
            acted.set_stage()
            acted.strike()
            acted.end_if_hung()
        except Fault as fault:
            stage.faults.append(str(fault))
        if stage.faults:
            keep_log(cell, stage)
        return stage.faults


def keep_log(cell: Cell, stage: Stage) -> None:
    """Keep what the program wrote, and what happened, of a cell that failed, where somebody asks for it."""
    folder = os.environ.get("FAULTS_LOGS")
    if folder:
        text = "\n".join([str(cell), *stage.faults, "", *map(str, stage.events), "", stage.read_stderr()])
        Path(folder, str(cell).replace(", ", "-").replace(" ", "_") + ".log").write_text(text)
