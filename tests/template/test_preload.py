"""Preload that speaks: what fails, hangs or prints in the template is told in the program (rows 17 to 25, 28)."""

from __future__ import annotations

import logging
import os
import signal
import sys
import time
from pathlib import Path

import pytest

import warmfork
from tests import targets
from tests.running import ROOT
from tests.support import run_program
from warmfork._machine import calls


@pytest.fixture
def modules(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder on sys.path for modules of the test's own."""
    monkeypatch.syspath_prepend(tmp_path)
    return tmp_path


def write(folder: Path, **texts: str) -> None:
    for name, text in texts.items():
        (folder / f"{name}.py").write_text(text)


def fail_to_preload(item: str, **options: object) -> warmfork.PreloadError:
    with warmfork.Template(preload=["json", item], **options) as template:
        with pytest.raises(warmfork.PreloadError) as caught:
            template.start(targets.give, (1,))
        assert caught.value.module == item and item in str(caught.value) and "hint" in str(caught.value)
        return caught.value


def test_an_unknown_module_is_named(modules: Path):
    """Row 18: the stdlib is silent about it."""
    assert "No module named 'no_such_module'" in fail_to_preload("no_such_module").cause


def test_a_missing_function_is_named():
    assert "no_such_function" in fail_to_preload("json:no_such_function").cause


def test_a_preload_that_raises_comes_with_its_traceback_and_none_of_our_frames(modules: Path):
    """Row 18: in the stdlib it kills the server, and every start raises EOFError."""
    write(modules, raises_deep="def deep():\n    return {}['key']\ndeep()\n")
    error = fail_to_preload("raises_deep")
    assert error.cause == "KeyError: 'key'"
    assert 'raises_deep.py", line 2, in deep' in error.traceback
    assert "_template/preload.py" not in error.traceback


def test_a_preload_whose_own_import_is_missing_says_which(modules: Path):
    write(modules, needs_more="import not_there_either\n")
    error = fail_to_preload("needs_more")
    assert "not_there_either" in error.cause and "needs_more.py" in error.traceback


@pytest.mark.parametrize(
    ("text", "cause"),
    [
        ("import sys; sys.exit('enough')", "SystemExit: enough"),
        ("import os; os._exit(3)", "Exited(code=3)"),
        ("import os; os.kill(os.getpid(), 9)", "killed by SIGKILL"),
        ("raise KeyboardInterrupt", "KeyboardInterrupt"),
    ],
    ids=["sys_exit", "exit", "killed", "interrupt"],
)
def test_a_preload_that_ends_the_template_is_named(modules: Path, text: str, cause: str):
    write(modules, ends_it=text)
    assert cause in fail_to_preload("ends_it").cause


def test_a_preload_that_crashes_quotes_its_stack(modules: Path):
    write(modules, crashes="import ctypes\ndef boom():\n    ctypes.string_at(0)\nboom()\n")
    error = fail_to_preload("crashes")
    assert "killed by SIGSEGV" in error.cause
    assert 'crashes.py", line 3 in boom' in error.traceback and "_template/preload.py" not in error.traceback


def test_a_preload_that_switches_faulthandler_on_keeps_it(modules: Path):
    write(modules, switches="import faulthandler, sys\nfaulthandler.enable(sys.__stderr__)\n")
    with warmfork.Template(preload=["switches"]) as template:
        assert template.start(targets.is_faulthandler_on).result(20)


def test_a_preload_that_hangs_is_given_up_at_the_deadline_and_ended(modules: Path):
    write(
        modules, hangs="import signal, os\nsignal.pthread_sigmask(signal.SIG_BLOCK, [2])\nwhile True: signal.pause()\n"
    )
    with warmfork.Template(preload=["json", "hangs"], start_timeout=0.5) as template:
        began = time.monotonic()
        with pytest.raises(warmfork.StartError, match=r'not ready after 0.5 s .* "hangs"'):
            template.start(targets.give, (1,))
        assert 0.5 <= time.monotonic() - began < 5
        # That nothing of it is left, conftest sees after each test. Here: another template is not held up.
        with warmfork.Template() as other:
            assert other.start(targets.give, (1,)).result(20) == 1


def test_a_start_can_be_repeated_once_the_module_is_mended(modules: Path):
    write(modules, mended="raise ValueError('not yet')")
    with warmfork.Template(preload=["mended"]) as template:
        with pytest.raises(warmfork.PreloadError, match="not yet"):
            template.start(targets.give, (1,))
        write(modules, mended="value = 'this is longer, so that no cached bytecode fits'")
        assert template.start(targets.get_attribute, ("mended", "value")).result(20).startswith("this")


def test_a_failure_is_a_log_line_where_policy_says_warn(modules: Path, caplog: pytest.LogCaptureFixture):
    write(modules, fails="raise OSError('no GPU here')")
    with warmfork.Template(preload=["fails", "colorsys"], on_preload_error="warn") as template:
        assert "colorsys" in template.start(targets.get_module_names).result(20)
    assert [record for record in caplog.records if record.name == "warmfork" and record.levelno == logging.WARNING]
    assert '"fails"' in caplog.text and "no GPU here" in caplog.text


def test_the_whole_sys_path_of_the_program_holds_for_the_preload(modules: Path):
    """Row 17: never so in the stdlib of 3.11."""
    (modules / "inner").mkdir()
    write(modules / "inner", only_here="x = 1")
    sys.path.append(str(modules / "inner"))
    try:
        with warmfork.Template(preload=["only_here"]) as template:
            assert "only_here" in template.start(targets.get_module_names).result(20)
    finally:
        sys.path.remove(str(modules / "inner"))


def test_a_preload_that_leaves_a_thread_is_reported_with_its_module_and_the_thread_s_name(
    modules: Path, caplog: pytest.LogCaptureFixture
):
    """Row 22."""
    write(
        modules,
        pumps="import threading\nthreading.Thread(target=threading.Event().wait, daemon=True, name='the-pump').start()\n",
    )
    with warmfork.Template(preload=["json", "pumps", "colorsys"]) as template:
        assert template.start(targets.give, (1,)).result(20) == 1
    said = [record.getMessage() for record in caplog.records if record.name == "warmfork"]
    assert len(said) == 1 and '"pumps"' in said[0] and "the-pump" in said[0]


def test_a_thread_that_ends_with_the_import_is_not_reported(modules: Path, caplog: pytest.LogCaptureFixture):
    write(modules, brief="import threading\nt = threading.Thread(target=int)\nt.start()\nt.join()\n")
    with warmfork.Template(preload=["brief"], audit="refuse") as template:
        assert template.start(targets.give, (1,)).result(20) == 1
    assert caplog.text == ""


def test_what_the_preload_printed_is_printed_once_and_before_the_children(tmp_path: Path):
    """Row 25: buffered output of the template must not be flushed by each child again."""
    (tmp_path / "prints.py").write_text("print('from the preload', end='!')\n")
    code = """
        import warmfork
        from tests import targets
        print("from the program")
        with warmfork.Template(preload=["prints"]) as template:
            for number in range(3):
                template.start(targets.print_text, (f"child {number}",)).wait(20)
    """
    done = run_program(code, tmp_path, env={"PYTHONPATH": ROOT})
    assert done.stdout.splitlines() == ["from the program", "from the preload!child 0", "child 1", "child 2"]


def test_what_the_preload_changed_of_the_state_is_the_program_s_again_in_the_children(modules: Path, tmp_path: Path):
    """Row 1 and M14: environment, folder, umask, argv, sys.path, signal mask and SIGCHLD are those of the program. A
    variable that the program does not have stays: its module stays too."""
    write(
        modules,
        meddles="""
import os, signal, sys
os.environ["MEDDLED"] = "1"
os.environ.pop("HOME", None)
os.chdir("/")
os.umask(0)
sys.argv[:] = ["meddled"]
sys.path.append("/meddled")
signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGTERM])
signal.signal(signal.SIGCHLD, signal.SIG_IGN)
signal.signal(signal.SIGHUP, signal.SIG_IGN)
os.nice(1)
""",
    )
    with warmfork.Template(preload=["meddles"]) as template:
        child = template.start(targets.see_state)
        here = targets.see_state()
        wanted = {**here, "environ": {**here["environ"], "MEDDLED": "1"}}
        if os.geteuid() != 0:
            wanted["nice"] += 1  # which only root can take back
        assert child.result(20) == wanted
        assert template.start(targets.end_by, (signal.SIGTERM,)).wait(20) == warmfork.Signaled(signal.SIGTERM)
        assert template.start(targets.raise_error, (SystemExit(7),)).wait(20) == warmfork.Exited(7)


def test_what_the_preload_changed_for_good_is_told_and_its_children_start(modules: Path):
    """Without rights of root's, nobody lowers his niceness or raises a hard limit. A client that wants more of it has it."""
    write(
        modules, lasting="import os, resource\nos.nice(3)\nresource.setrlimit(resource.RLIMIT_MSGQUEUE, (1000, 1000))\n"
    )
    code = """
        import logging, os, resource
        import warmfork

        def see():
            return os.nice(0), resource.getrlimit(resource.RLIMIT_MSGQUEUE), resource.getrlimit(resource.RLIMIT_NOFILE)

        if __name__ == "__main__":
            logging.basicConfig(format="%(message)s")
            before = os.nice(0)
            resource.setrlimit(resource.RLIMIT_NOFILE, (100, resource.getrlimit(resource.RLIMIT_NOFILE)[1]))
            with warmfork.Template(preload=["lasting"]) as template:
                nice, *limits = template.start(see).result(20)
                assert (nice - before, limits) == (3, [(1000, 1000), resource.getrlimit(resource.RLIMIT_NOFILE)])
                os.nice(5)
                assert template.start(see).result(20)[0] - before == 5
    """
    drop = drop_right_to_raise if os.geteuid() == 0 else None
    done = run_program(code, modules, env={"PYTHONPATH": str(modules)}, preexec_fn=drop)
    assert "the preload has changed for good: nice, limits; children have it as it left it" in done.stderr


def drop_right_to_raise() -> None:
    """What root loses here, the program that is exec'd next has not."""
    for number in (CAP_SYS_NICE, CAP_SYS_RESOURCE):
        calls.call("prctl", PR_CAPBSET_DROP, number, 0, 0, 0)


PR_CAPBSET_DROP, CAP_SYS_NICE, CAP_SYS_RESOURCE = 24, 23, 24


def test_what_the_preload_changed_is_as_before_in_the_template_too(modules: Path):
    """M14: it takes no signal of the terminal's, and holds no folder that the program is not in."""
    write(modules, unblocks="import os, signal\nsignal.pthread_sigmask(signal.SIG_SETMASK, ())\nos.chdir('/')\n")
    with warmfork.Template(preload=["unblocks"]) as template:
        template.wait_ready()
        assert os.readlink(f"/proc/{template.pid}/cwd") == os.getcwd() != "/"
        os.kill(template.pid, signal.SIGTERM)
        assert template.start(os.getppid).result(20) == template.pid
        assert template.generation == 1


def test_exit_handlers_of_the_preload_run_once_when_the_template_ends_and_in_no_child(modules: Path, tmp_path: Path):
    note = tmp_path / "note"
    write(
        modules,
        tidies=f"""
import atexit, os
def tidy():
    with open({str(note)!r}, "a") as file:
        file.write(str(os.getpid()) + "\\n")
atexit.register(tidy)
""",
    )
    with warmfork.Template(preload=["tidies"]) as template:
        template.wait_ready()
        pid = template.pid
        for _ in range(2):
            template.start(targets.give, (1,)).result(20)
        assert not note.exists()
    assert note.read_text() == f"{pid}\n"


def test_a_process_that_the_preload_forked_does_not_disturb(modules: Path):
    write(modules, forks="import os\npid = os.fork()\nif pid == 0:\n    os._exit(5)\n")
    with warmfork.Template(preload=["forks"]) as template:
        assert template.start(targets.give, (1,)).result(20) == 1


def test_a_preload_must_not_start_processes_of_the_template(modules: Path):
    write(modules, starts="import warmfork\nwarmfork.Template().start(print)\n")
    assert "a process was started while the preload list was loaded" in fail_to_preload("starts").cause


@pytest.mark.skipif(sys.version_info < (3, 15), reason="lazy imports came with 3.15")
def test_lazy_imports_of_a_preload_are_resolved_in_the_template(modules: Path):
    """COMPAT 7: pending, they would cost each child 12 ms."""
    write(
        modules,
        lazy_one="lazy import colorsys\nlazy from wave import open as wave_open\nlazy import no_such_optional\n",
    )
    with warmfork.Template(preload=["lazy_one"]) as template:
        names = template.start(targets.get_module_names).result(20)
        assert {"colorsys", "wave"} <= set(names)


def test_the_collector_is_on_in_a_child_and_what_was_preloaded_is_frozen():
    """Row 24: a collection in a child must not write to every page that it shares with the template."""
    with warmfork.Template(preload=["json"]) as template:
        enabled, frozen = template.start(targets.see_collector).result(20)
        assert enabled and frozen > 1000
