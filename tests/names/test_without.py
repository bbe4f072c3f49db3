"""What keeps names is given to the tracker, which supervises processes without it all the same."""

from __future__ import annotations

from pathlib import Path

from tests.running import ROOT
from tests.support import run_program

NOTHING = """\
import sys, types
found = types.ModuleType("warmfork._names.registry")
class Names:
    def __init__(self, loop, book): book.report(30, "names are left alone")
    def succeed(self): pass
    def serve(self, message, got): pass
    def is_busy(self): return False
    def get_due(self): return None
    def do_due(self): pass
    def bury(self, pid): return False
    def bury_root(self): pass
    def end(self): return 0
found.Names = Names
sys.modules["warmfork._names.registry"] = found
"""


def test_a_tracker_that_keeps_no_names_starts_watches_and_succeeds_as_any_other(tmp_path: Path):
    (tmp_path / "sitecustomize.py").write_text(NOTHING)
    code = """
        import logging, os, sys, time, warmfork
        logging.basicConfig(stream=sys.stdout, format="%(message)s")
        with warmfork.Template(preload=["json"]) as template:
            template.wait_ready()
            orphan = template.start(time.sleep, (600,))
            os.kill(template.pid, 9)
            print(template.start(sum, ([1, 2],)).result(20), template.generation)
            orphan.terminate()
            print(orphan.wait(20))
    """
    done = run_program(code, tmp_path, env={"PYTHONPATH": f"{tmp_path}:{ROOT}"})
    assert "3 2\n" in done.stdout and "killed by SIGTERM" in done.stdout
    assert "names are left alone" in done.stdout
