"""Idle time makes births faster, and nothing else depends on it."""

from __future__ import annotations

from pathlib import Path

from tests.running import ROOT
from tests.support import run_program

NOTHING = """\
import sys, types
found = types.ModuleType("warmfork._idle.idle")
class Idle:
    def __init__(self, *_): pass
    def begin(self): return ["idle time is left alone"]
    def get_due(self): return None
    def use(self): pass
found.Idle = Idle
sys.modules["warmfork._idle.idle"] = found
"""


def test_a_template_that_does_nothing_in_idle_time_serves_as_any_other(tmp_path: Path):
    (tmp_path / "sitecustomize.py").write_text(NOTHING)
    code = """
        import logging, sys, warmfork
        logging.basicConfig(stream=sys.stdout, format="%(message)s")
        with warmfork.Template(preload=["json"]) as first, warmfork.Template(preload=["json"], spares=2) as second:
            print([template.start(sum, ([n],)).result(20) for n in range(15) for template in (first, second)])
            print(first.start(lambda: [m for m in __import__("sys").modules if "_idle." in m]).result(20))
    """
    done = run_program(code, tmp_path, env={"PYTHONPATH": f"{tmp_path}:{ROOT}"})
    assert str([n for n in range(15) for _ in "12"]) in done.stdout
    assert done.stdout.count("idle time is left alone") == 2
    assert "['warmfork._idle.idle']" in done.stdout
