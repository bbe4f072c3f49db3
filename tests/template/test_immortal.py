"""What birth uses is immortal in a template that has warmed up, so that children do not write its reference counts."""

from __future__ import annotations

import ast
import subprocess
import sys
from pathlib import Path

import pytest

from tests.running import ROOT
from tests.support import run_program
from warmfork._template import immortal

ENV = {"PYTHONPATH": ROOT}
needs_immortals = pytest.mark.skipif(not immortal.HAVE_IMMORTALS, reason="immortal objects came with 3.12")

PROGRAM = """
import os, resource, sys, threading, time
import warmfork
from warmfork._child import birth
from warmfork.mp.child import bootstrap

LARGE = 1 << 31
mine = "".join(["a name ", "of mine"])

def own(): pass

class Own: pass

def tell():
    faults = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    counted = (birth.become, birth.become.__code__, bootstrap, threading.Thread, threading._after_fork, os.umask)
    print({
        "faults": faults,
        "immortal": [sys.getrefcount(found) >= LARGE for found in counted],
        "warm": "warmfork._template.immortal" in sys.modules or "warmfork._template.rehearsal" in sys.modules,
        "own": [sys.getrefcount(found) < LARGE for found in (own, own.__code__, Own, mine, sys.modules["__mp_main__"])],
        "state": [sys.getrefcount(found) < LARGE for found in (sys.modules, os.environ, birth.Birth.__slots__ and [])],
    })
    sys.stdout.flush()

def run(**options):
    context = warmfork.get_context(spares=0, **options)
    for number in range(40):
        process = context.Process(target=tell if number > 20 else int)
        process.start()
        process.join()
        assert process.exitcode == 0
        time.sleep(0.004)  # a program that does something between two starts
    context.stop_template()

if __name__ == "__main__":
    run(without=sys.argv[1:])
"""


def run(folder: Path, *without: str) -> list[dict[str, object]]:
    """What children of a template tell that has had time to warm up."""
    done = run_program(PROGRAM, folder, *without, env=ENV)
    return [ast.literal_eval(line) for line in done.stdout.splitlines()]


@needs_immortals
def test_a_third_fewer_pages_are_copied_in_a_birth(tmp_path):
    with_it, without = run(tmp_path)[-5:], run(tmp_path, "immortal")[-5:]
    assert with_it[-1]["immortal"] == [True] * 6
    assert without[-1]["immortal"] == [False] * 6

    def middle(told: list[dict[str, object]]) -> object:
        return sorted(one["faults"] for one in told)[2]

    # 490 and 350 on 3.13, 510 and 415 on 3.15.
    assert middle(with_it) < 0.9 * middle(without), f"{with_it} {without}"


@needs_immortals
def test_what_is_the_program_s_own_is_left_alone_and_so_is_what_has_a_state(tmp_path):
    last = run(tmp_path)[-1]
    assert last["own"] == [True] * 5
    assert last["state"] == [True] * 3


@pytest.mark.skipif(immortal.HAVE_IMMORTALS, reason="about Pythons without")
def test_a_python_without_immortal_objects_does_without(tmp_path):
    assert list(immortal.keep_for_ever()) == []
    assert run(tmp_path)[-1]["immortal"] == [False] * 6


KEEP = """
import sys
from warmfork._template import immortal
class Fleeting:
    def __del__(self): print("gone")
kept, free = Fleeting(), Fleeting()
keeper = immortal.Keeper()
print(keeper.keep(kept), keeper.keep(kept), keeper.keep(None))
before = sys.getrefcount(kept)
many = [kept] * 100_000
many += many
del many
print(abs(sys.getrefcount(kept) - before) < 10)  # since 3.14 a frame may give back what it took before
del kept, free
"""


@needs_immortals
def test_an_immortal_object_is_not_counted_and_never_freed():
    done = subprocess.run([sys.executable, "-c", KEEP], capture_output=True, text=True, check=True, timeout=60)
    assert done.stdout == "True False False\nTrue\ngone\n"


ALL = """
import gc, sys, threading
import json, logging, multiprocessing.pool, random, warmfork.mp.child.bootstrap
from warmfork._template import immortal
for _ in immortal.keep_for_ever():
    pass
again = sum(1 for _ in immortal.keep_for_ever())
gc.collect()
import asyncio, concurrent.futures, dataclasses
thread = threading.Thread(target=json.dumps, args=({"a": sys.intern("b" * 20)},))
thread.start()
thread.join()
with concurrent.futures.ThreadPoolExecutor(2) as pool:
    assert list(pool.map(str, range(3))) == ["0", "1", "2"]
async def main(): return 7
assert asyncio.run(main()) == 7
class Sub(threading.Thread): pass
names = [sys.intern(name + "") for name in dir(threading)]
del Sub, names
gc.collect()
logging.getLogger("x").warning("still here")
"""


@needs_immortals
def test_an_interpreter_lives_on_and_ends_as_ever(tmp_path):
    """To its very end, where all modules are torn down."""
    done = subprocess.run([sys.executable, "-X", "dev", "-c", ALL], capture_output=True, text=True, timeout=60)
    assert (done.returncode, done.stderr) == (0, "still here\n")
