"""The programs whose children are looked at by tests.child_imports: what they start, and what they did before.

Each case is a function that starts children of a context or of a Template, waits for their ends, and gives their pids. A
program calls it again and again: a template may load what is new when it has nothing else to do, but soon no child of it
may import anything.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from importlib import import_module
from pathlib import Path
from typing import Any

from tests import child_imports as imports

ROOT = Path(__file__).parent.parent
WATCH = "tests.child_imports:watch"
WHENS = ("early", "late", "after spawn", "after forkserver")
"""What the program has loaded when its first process starts: all that the case needs; nothing of it, so that its template
is up before; and, in both others, what the stdlib's own processes brought."""

SECONDS = 5.0
"""How long children may go on importing: after that the template should have loaded what they need."""

PAUSE = 0.05
"""Between one look and the next: a template that is never idle can't load anything."""

IN_A_ROW = 2
"""So many looks one after the other must find nothing."""

Case = Callable[[Any], list[int]]


def run_process(context: Any, target: Callable[..., object], *arguments: object) -> int:
    """Start a process of the context, wait for its end, and give its pid."""
    process = context.Process(target=target, args=arguments)
    process.start()
    process.join()
    if process.exitcode != 0:
        raise ChildProcessError(f"{target.__name__} ended with {process.exitcode}")
    return int(process.pid)


def use_lock(context: Any) -> list[int]:
    return [run_process(context, imports.take_lock, context.Lock())]


def use_event(context: Any) -> list[int]:
    event = context.Event()
    pids = [run_process(context, imports.set_event, event)]
    assert event.is_set()
    return pids


def use_queue(context: Any) -> list[int]:
    queue = context.Queue()
    pids = [run_process(context, imports.put, queue)]
    assert queue.get(timeout=10) == "said"
    return pids


def use_simple_queue(context: Any) -> list[int]:
    queue = context.SimpleQueue()
    pids = [run_process(context, imports.put, queue)]
    assert queue.get() == "said"
    return pids


def use_pipe(context: Any) -> list[int]:
    here, there = context.Pipe()
    pids = [run_process(context, imports.send, there)]
    assert here.recv() == "said"
    return pids


def use_array(context: Any) -> list[int]:
    array = context.Array("i", 3)
    pids = [run_process(context, imports.fill_array, array)]
    assert array[0] == 7
    return pids


def use_value(context: Any) -> list[int]:
    value = context.Value("i", 3)
    pids = [run_process(context, imports.set_value, value)]
    assert value.value == 7
    return pids


def use_shared_memory(context: Any) -> list[int]:
    from multiprocessing.shared_memory import SharedMemory

    memory = SharedMemory(create=True, size=100)
    try:
        pids = [run_process(context, imports.write_shared, memory)]
        assert memory.buf[0] == 7
    finally:
        memory.close()
        memory.unlink()
    return pids


def use_manager(context: Any) -> list[int]:
    with context.Manager() as manager:
        server = manager._process
        proxy = manager.dict()
        pids = [server.pid, run_process(context, imports.fill_proxy, proxy)]
        assert proxy["said"] == 7
    server.join()
    return pids


def use_pool(context: Any) -> list[int]:
    with context.Pool(2) as pool:
        pids = [worker.pid for worker in pool._pool]
        assert pool.map(imports.double, range(8)) == [imports.double(n) for n in range(8)]
        pool.close()
        pool.join()
    return pids


def use_executor(context: Any) -> list[int]:
    from concurrent.futures import ProcessPoolExecutor

    with ProcessPoolExecutor(2, mp_context=context) as executor:
        found = list(executor.map(imports.double, range(8)))
        pids = list(executor._processes)
    assert found == [imports.double(n) for n in range(8)]
    return pids


def nest(context: Any) -> list[int]:
    path = os.path.join(os.environ[imports.FOLDER], "inner")
    outer = run_process(context, imports.start_another, context, path)
    return [outer, int(Path(path).read_text())]


def call_importable(template: Any) -> list[int]:
    return wait_for_result(template.start(imports.double, (21,)), 42)


def call_of_main(template: Any) -> list[int]:
    return wait_for_result(template.start(sys.modules["__main__"].triple, (14,)), 42)


def call_raising(template: Any) -> list[int]:
    child = template.start(imports.fail)
    with contextlib.suppress(ValueError):
        raise AssertionError(f"it did not raise what its function raised: {child.result()}")
    child.wait()
    return [child.pid]


def call_for_much(template: Any) -> list[int]:
    return wait_for_result(template.start(imports.make_large), bytes(imports.LARGE))


def wait_for_result(child: Any, expected: object) -> list[int]:
    """Wait for a child of a Template, look at its result, and give its pid."""
    assert child.result() == expected
    child.wait()
    return [child.pid]


CASES: dict[str, tuple[Case, tuple[str, ...]]] = {
    "lock": (use_lock, ("multiprocessing.synchronize",)),
    "event": (use_event, ("multiprocessing.synchronize",)),
    "queue": (use_queue, ("multiprocessing.queues", "multiprocessing.synchronize")),
    "simple queue": (use_simple_queue, ("multiprocessing.queues", "multiprocessing.synchronize")),
    "pipe": (use_pipe, ("multiprocessing.connection",)),
    "array": (use_array, ("multiprocessing.sharedctypes",)),
    "value": (use_value, ("multiprocessing.sharedctypes",)),
    "shared memory": (use_shared_memory, ("multiprocessing.shared_memory",)),
    "manager": (use_manager, ("multiprocessing.managers",)),
    "pool": (use_pool, ("multiprocessing.pool",)),
    "executor": (use_executor, ("concurrent.futures.process",)),
    "nested": (nest, ()),
    "template, importable": (call_importable, ()),
    "template, of main": (call_of_main, ("cloudpickle",)),
    "template, raising": (call_raising, ("tblib.pickling_support",)),
    "template, large result": (call_for_much, ()),
}
"""Each case, and the modules that its program may have loaded before its first start."""

PROGRAM = """import sys

def triple(number):
    return 3 * number

if __name__ == "__main__":
    from tests.child_import_cases import serve
    serve(sys.argv[1], sys.argv[2])
"""


def serve(name: str, when: str) -> None:
    """In a program: start the children of a case until they import nothing or the time is over; print the last look."""
    case, modules = CASES[name]
    if when.startswith("after"):
        use_stdlib(when.removeprefix("after "))
    if when == "early":
        for module in modules:
            import_module(module)
    import warmfork

    if case.__name__.startswith("call"):
        with warmfork.Template(preload=[WATCH]) as template:
            if when == "late":
                wait_for_result(template.start(imports.nothing), None)
            print(json.dumps(look_often(case, template)))
        return
    context = warmfork.get_context(preload=[WATCH])
    if when == "late":
        context.wait_ready()
        run_process(context, imports.nothing)
    print(json.dumps(look_often(case, context)))


def use_stdlib(method: str) -> None:
    """Run a process by multiprocessing's own spawn or forkserver, before warmfork is loaded."""
    import multiprocessing

    run_process(multiprocessing.get_context(method), imports.nothing)


def look_often(case: Case, of: Any) -> list[list[str]]:
    """Give what each child of the last look has imported."""
    folder = os.environ[imports.FOLDER]
    until = time.monotonic() + SECONDS
    quiet = 0
    while True:
        found = [imports.read_imports(folder, pid) for pid in case(of)]
        quiet = 0 if any(found) else quiet + 1
        if quiet == IN_A_ROW or time.monotonic() > until:
            return found
        time.sleep(PAUSE)


def run_case(name: str, when: str, python: str = sys.executable) -> list[list[str]]:
    """Run the program of a case, and give what each child of its last look has imported.

    Raises CalledProcessError, with what the program said, where it fails.
    """
    with tempfile.TemporaryDirectory() as folder:
        script = Path(folder, "program.py")
        script.write_text(PROGRAM)
        kept = {key: value for key, value in os.environ.items() if not key.startswith("WARMFORK_")}
        notes = Path(folder, "notes")
        notes.mkdir()
        path = os.pathsep.join(filter(None, [str(ROOT), kept.get("PYTHONPATH", "")]))
        done = subprocess.run(
            [python, str(script), name, when],
            env={**kept, "PYTHONPATH": path, "PYTHONDONTWRITEBYTECODE": "1", imports.FOLDER: str(notes)},
            cwd=folder,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=60,
        )
    if done.returncode:
        raise RuntimeError(f"the program of {name}, {when}, ended with {done.returncode}:\n{done.stderr}")
    found: list[list[str]] = json.loads(done.stdout.splitlines()[-1])
    return found


def main(argv: Sequence[str] | None = None) -> int:
    """Show what the children of the cases import; 1 where one imports something."""
    from rich.console import Console
    from rich.progress import track
    from rich.table import Table

    parser = argparse.ArgumentParser(
        description="Show which modules a child imports between its birth and its end.",
        epilog='example: python -m tests.child_imports lock "template, of main" --when late --names',
    )
    parser.add_argument("cases", nargs="*", metavar="CASE", help=f"of {', '.join(CASES)}; all of them by default")
    parser.add_argument("--when", action="append", choices=WHENS, help="what the program did before; may be repeated")
    parser.add_argument("--names", action="store_true", help="all names, and not only how many")
    parser.add_argument("--python", default=sys.executable, metavar="PATH", help="a Python that has warmfork")
    options = parser.parse_args(argv)
    for name in options.cases:
        if name not in CASES:
            parser.error(f'there is no case "{name}": there are {", ".join(CASES)}')
    whens = options.when or WHENS
    names = options.cases or list(CASES)
    console = Console()
    table = Table("a child of", *whens)
    imported = False
    found: dict[tuple[str, str], list[list[str]]] = {}
    pairs = [(name, when) for name in names for when in whens]
    for pair in track(pairs, "running programs", console=Console(stderr=True), transient=True):
        found[pair] = run_case(*pair, options.python)
        imported = imported or any(found[pair])
    for name in names:
        table.add_row(name, *(" + ".join(str(len(one)) for one in found[name, when]) for when in whens))
    console.print(table)
    if options.names:
        for (name, when), lists in found.items():
            for one in filter(None, lists):
                console.print(f"{name}, {when}: {' '.join(one)}", highlight=False, soft_wrap=True, markup=False)
    return 1 if imported else 0
