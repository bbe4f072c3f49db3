"""The programs in bench/programs, by the names that the command line has for them, and who runs each."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from importlib.util import find_spec

from contenders import FLOOR, FORK, FORKSERVER, FROZEN, LOKY, OWN, PRELOADED, SPAWN, STDLIB

NUMPY_PANDAS = ("numpy", "pandas")
SKLEARN = (*NUMPY_PANDAS, "sklearn")
HEAP = ("heap",)


@dataclass(frozen=True)
class Program:
    """One program of the table: a file, what it is told, and the competitors that run it."""

    name: str
    file: str
    what: str
    competitors: Sequence[str] = (*STDLIB, OWN)
    modules: Sequence[str] = ()
    """What it imports and preloads, where its file leaves that open."""
    size: int | None = None
    needs: Sequence[str] = ()
    """What has to be installed besides `modules`."""
    headline: str = "start and join"
    """The phase that the picture shows."""
    by_command: bool = False
    """Does `warmfork run` run it, where warmfork's turn is?"""

    def list_missing(self) -> list[str]:
        """The modules that this Python lacks for it."""
        return [name for name in (*self.modules, *self.needs) if find_spec(name) is None]


def list_variants() -> Iterable[Program]:
    """The programs of which there are several, by what is loaded."""
    loads = {"bare": (), "numpy": NUMPY_PANDAS, "sklearn": SKLEARN, "heap": HEAP}
    names = {"bare": "nothing loaded", "numpy": "numpy+pandas", "sklearn": "numpy+pandas+sklearn", "heap": "500 MB"}
    for load, modules in loads.items():
        yield Program(f"first-{load}", "first_start.py", f"the first start, {names[load]}", modules=modules)
    for load in ("bare", "numpy"):
        who = (FORK, PRELOADED, FROZEN, OWN)
        what = f"starts 2 to 40, 8 ms apart, {names[load]}"
        yield Program(f"early-{load}", "early_starts.py", what, who, loads[load], headline="starts 2 to 11, sum")
    for load, modules in loads.items():
        who = (FLOOR, FORK, PRELOADED, SPAWN, OWN)
        yield Program(f"noop-{load}", "noop.py", f"a warm no-op, 8 ms apart, {names[load]}", who, modules)


ROUND = "later round, whole"
PROGRAMS = {
    program.name: program
    for program in (
        *list_variants(),
        Program("pool-2", "pool.py", "Pool(2)", size=2, needs=NUMPY_PANDAS, headline=ROUND),
        Program("pool-8", "pool.py", "Pool(8)", size=8, needs=NUMPY_PANDAS, headline=ROUND),
        Program(
            "executor",
            "executor.py",
            "ProcessPoolExecutor(8)",
            (*STDLIB, LOKY, OWN),
            needs=NUMPY_PANDAS,
            headline=ROUND,
        ),
        Program("processes", "processes.py", "8 × Process, Queue, Lock", needs=NUMPY_PANDAS, headline=ROUND),
        Program("manager", "manager.py", "a Manager and 8 processes", headline="whole"),
        Program("tree", "tree.py", "a tree of 84", (FORK, FORKSERVER, PRELOADED, OWN), headline="second tree"),
        Program("template-functions", "template_functions.py", "Template.start()", (OWN,), headline="of the script"),
        Program("late-lock", "late_lock.py", "a Lock made late", headline="with a Lock"),
        Program(
            "dataloader",
            "dataloader.py",
            "DataLoader, 4 workers",
            needs=("torch",),
            headline="first epoch, first batch",
        ),
        Program(
            "joblib",
            "joblib_list.py",
            "joblib over a list",
            (*STDLIB, LOKY, OWN),
            needs=("joblib", "numpy"),
            headline="second list",
        ),
        Program(
            "script",
            "script.py",
            "a script by warmfork run",
            needs=NUMPY_PANDAS,
            headline="whole program",
            by_command=True,
        ),
        Program(
            "payload",
            "payload.py",
            "an array of 100 MB",
            (FORK, PRELOADED, SPAWN, OWN),
            size=100,
            needs=("numpy",),
            headline="start to first read",
        ),
        Program("memory", "memory.py", "memory after pandas work", needs=NUMPY_PANDAS, headline="USS of a worker, MB"),
    )
}


def choose(names: Iterable[str]) -> list[Program]:
    """The programs of these names, also several with commas between; all where there are none. Raises ValueError."""
    wanted = [one.strip() for name in names for one in name.split(",") if one.strip()]
    unknown = [name for name in wanted if name not in PROGRAMS]
    if unknown:
        raise ValueError(f"there is no program {', '.join(unknown)}: there are {', '.join(PROGRAMS)}")
    return [PROGRAMS[name] for name in wanted] or list(PROGRAMS.values())
