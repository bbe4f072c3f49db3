"""A child has the environment that its client has at start(), and what follows from it."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

import warmfork
from tests import ends
from tests.support import run_program

ZONES = """
    import os, tempfile, time
    import warmfork

    tempfile.gettempdir()  # which the template remembers
    CHOSEN = {chosen!r}
    if CHOSEN:
        tempfile.tempdir = CHOSEN

    def see():
        return os.environ.get("TZ"), time.localtime(0).tm_hour, tempfile.gettempdir()

    if __name__ == "__main__":
        os.environ["TZ"] = "UTC0"
        with warmfork.Template(preload=["program"]) as template:
            found = [template.start(see).result(20)]
            os.environ.update(TZ="JST-9", TMPDIR=os.getcwd() + "/first")
            found.append(template.start(see).result(20))
            found.append(template.start(see, env={{"TZ": "EST+5", "TMPDIR": os.getcwd() + "/second"}}).result(20))
        print(found)
"""


@pytest.mark.parametrize("chosen", ["", "/chosen"])
def test_local_time_and_the_temporary_folder_follow_the_environment(tmp_path: Path, chosen: str):
    """As in a process that read its environment when it began. A folder that somebody has chosen stays."""
    for name in ("old", "first", "second"):
        (tmp_path / name).mkdir()
    env = {"TMPDIR": str(tmp_path / "old"), "PYTHONPATH": str(tmp_path)}
    found = eval(run_program(ZONES.format(chosen=chosen), tmp_path, env=env).stdout)
    folders = [chosen or str(tmp_path / name) for name in ("old", "first", "second")]
    assert found == list(zip(("UTC0", "JST-9", "EST+5"), (0, 9, 19), folders, strict=True))


@pytest.mark.parametrize("spares", [0, 2])
def test_an_environment_that_is_any_mapping_is_the_child_s(monkeypatch: pytest.MonkeyPatch, spares: int):
    """As tests put one in its place."""
    with warmfork.Template(preload=["tests.ends"], spares=spares) as template:
        template.start(int).wait(20)
        monkeypatch.setattr(os, "environ", {"PATH": "/nowhere", "ONLY": "this"})
        assert template.start(ends.see_environment).result(20) == {"PATH": "/nowhere", "ONLY": "this"}


def test_an_environment_that_a_script_has_replaced_is_replaced_in_the_child(tmp_path: Path):
    code = """
        import os
        import warmfork

        os.environ = {**os.environ, "MINE": "1"}

        def work():
            print(os.environ["LATER"], os.environ["MINE"], os.environ.get("GONE"), open("/proc/self/comm").read() != "")

        if __name__ == "__main__":
            context = warmfork.get_context()
            for _ in range(2):
                os.environ["LATER"] = "yes"
                process = context.Process(target=work)
                process.start()
                process.join()
                os.environ.pop("GONE", None)
    """
    out = run_program(code, tmp_path, env={"GONE": "set"}).stdout
    assert out == "yes 1 set True\nyes 1 None True\n"
