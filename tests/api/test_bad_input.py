"""Bad input: a clear error, raised at the call, with nothing half done and nothing left running."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import pytest

import warmfork
from tests import targets
from tests.running import ROOT
from tests.support import run_program, wait_until
from warmfork._client.client import get_client
from warmfork._machine import platform

MAKERS = pytest.mark.parametrize("make", [warmfork.Template, warmfork.get_context], ids=["template", "get_context"])


@MAKERS
@pytest.mark.parametrize(
    ("preload", "error", "words"),
    [
        ("numpy", TypeError, r'\["numpy"\]'),
        ([1], TypeError, "takes names"),
        ([print], TypeError, "takes names"),
        (["no good"], ValueError, '"no good"'),
        ([""], ValueError, "no name of a module"),
        (["a..b"], ValueError, '"a..b"'),
        (["module:"], ValueError, '"module:"'),
        ([":function"], ValueError, '":function"'),
        (["./path.py"], ValueError, "path.py"),
        (7, TypeError, "list of names"),
    ],
    ids=str,
)
def test_a_preload_list_that_is_none_is_refused_when_it_is_given(make, preload: object, error: type, words: str):
    with pytest.raises(error, match=words):
        make(preload=preload)


@MAKERS
@pytest.mark.parametrize(("option", "value"), [("audit", "maybe"), ("on_preload_error", "ignore"), ("spares", -5)])
def test_an_option_that_is_none_is_refused_with_the_choices(make, option: str, value: object):
    with pytest.raises(ValueError, match=f"{option} is"):
        make(**{option: value})


@MAKERS
def test_an_unknown_option_is_a_type_error(make):
    with pytest.raises(TypeError, match="no_such_option"):
        make(no_such_option=1)


@pytest.fixture
def template():
    with warmfork.Template(preload=["tests.targets"], spares=0) as made:
        yield made


def test_what_is_not_callable_is_refused_before_anything_is_started():
    with warmfork.Template() as template:
        before = set(get_client().channels)
        with pytest.raises(TypeError, match="can be called, not 'print'"):
            template.start("print")
        assert set(get_client().channels) == before


@pytest.mark.parametrize(
    ("options", "error"),
    [
        ({"args": 7}, TypeError),
        ({"kwargs": 7}, TypeError),
        ({"env": {"NAME": 1}}, TypeError),
        ({"env": {"A=B": "x"}}, ValueError),
        ({"env": {"": "x"}}, ValueError),
        ({"env": {"NUL": "a\0b"}}, ValueError),
        ({"cwd": "/no/such/folder"}, FileNotFoundError),
        ({"cwd": "/proc/self/status"}, NotADirectoryError),
    ],
    ids=str,
)
def test_bad_arguments_of_start_are_errors_at_the_call(template: warmfork.Template, options: dict, error: type):
    with pytest.raises(error):
        template.start(targets.give, **{"args": (1,), **options})
    assert template.start(targets.give, (1,)).result(20) == 1
    assert template.generation == 1


def test_a_name_may_be_anything_that_is_text(template: warmfork.Template):
    for name in ("x" * 5000, "späße ☃", "new\nline", "\udcff", "nul\0nul"):
        assert template.start(targets.give, (name == "",), name=name).result(20) is False


def test_a_child_that_can_not_import_its_function_says_so_with_its_own_traceback(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    """ "Target that can't be imported in the child": the parent learns it."""
    (tmp_path / "vanishes.py").write_text("def run(): pass\n")
    monkeypatch.syspath_prepend(tmp_path)
    import vanishes

    (tmp_path / "vanishes.py").unlink()
    with warmfork.Template() as template:
        with pytest.raises(warmfork.ChildError, match="No module named 'vanishes'") as caught:
            template.start(vanishes.run).result(20)
        assert "Traceback" in caught.value.detail and caught.value.outcome == warmfork.Exited(1)
    del sys.modules["vanishes"]


def test_a_process_that_can_not_import_its_target_has_exit_code_1_and_a_traceback_on_stderr(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
):
    (tmp_path / "vanishes.py").write_text("def run(): pass\n")
    monkeypatch.syspath_prepend(tmp_path)
    import vanishes

    (tmp_path / "vanishes.py").unlink()
    process = warmfork.get_context().Process(target=vanishes.run)
    process.start()
    process.join(20)
    assert process.exitcode == 1
    assert "No module named 'vanishes'" in capfd.readouterr().err
    process.close()
    del sys.modules["vanishes"]


def test_a_payload_that_can_not_be_pickled_leaves_no_child(template: warmfork.Template):
    """The child was forked while the payload was pickled: it is sent away, and has gone when the error is raised."""
    for _ in range(3):
        with pytest.raises(TypeError, match="a Stubborn stays where it is"):
            template.start(targets.give, (targets.Stubborn(),))
        # What is there for a millisecond more frees the child's memory.
        wait_until(lambda: Path(f"/proc/{template.pid}/task/{template.pid}/children").read_text() == "", 2.0)


def test_a_handle_that_is_closed_says_so():
    with warmfork.Template() as template:
        child = template.start(targets.give, (1,))
        child.wait(20)
        child.close()
        with pytest.raises(ValueError, match="closed"):
            child.fileno()
        assert child.outcome == warmfork.Exited(0)


def test_another_platform_is_told_what_to_use_instead(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(platform, "_checked", False)
    monkeypatch.setattr(sys, "platform", "darwin")
    for make in (warmfork.Template, warmfork.install):
        with pytest.raises(warmfork.UnsupportedPlatform, match=r'Linux, and this is darwin\n.*get_context\("spawn"\)'):
            make()


def test_importing_works_on_another_platform(tmp_path: Path):
    code = "import sys; sys.platform = 'win32'; import warmfork; print(warmfork.PreloadError.__name__, warmfork.__version__)"
    assert run_program(code, tmp_path).stdout.startswith("PreloadError ")


def test_a_kernel_without_pidfds_is_said_to_be_one(monkeypatch: pytest.MonkeyPatch):
    """M24: EPERM from an old container runtime means the same as ENOSYS."""

    def refuse(*_: object) -> int:
        raise PermissionError(1, "Operation not permitted")

    monkeypatch.setattr(platform, "_checked", False)
    monkeypatch.setattr(os, "pidfd_open", refuse)
    with pytest.raises(warmfork.UnsupportedPlatform, match=r"no pidfds .*Operation not permitted"):
        warmfork.Template()


def test_a_free_threaded_interpreter_is_told_plainly(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(platform, "_checked", False)
    monkeypatch.setattr(sys, "_is_gil_enabled", lambda: False, raising=False)
    with pytest.raises(warmfork.UnsupportedPlatform, match="free-threaded"):
        warmfork.Template()


def test_every_error_of_ours_is_a_warmfork_error_and_says_what_to_do():
    names = ["PreloadError", "AuditError", "StartError", "ChildError", "UnsupportedPlatform"]
    assert all(issubclass(getattr(warmfork, name), warmfork.WarmforkError) for name in names)


def test_a_template_is_no_place_to_start_processes_from_a_module_that_it_preloads(tmp_path: Path):
    (tmp_path / "starts_one.py").write_text(
        "import warmfork\nprocess = warmfork.get_context().Process(target=print)\nprocess.start()\n"
    )
    code = """
        import warmfork
        if __name__ == "__main__":
            try:
                warmfork.get_context(preload=["starts_one"]).Process(target=print).start()
            except warmfork.PreloadError as error:
                print(error.module, "a template starts none" in str(error))
    """
    done = run_program(code, tmp_path, env={"PYTHONPATH": ROOT})
    assert done.stdout == "starts_one True\n"
