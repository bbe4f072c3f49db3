"""The install door: programs and libraries that know only the name "forkserver" get warmfork (rows 18 to 20, 28)."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from tests.running import ROOT
from tests.support import run_program

ENV = {"PYTHONPATH": ROOT}

HEAD = """
import multiprocessing, os, sys, warmfork
from multiprocessing import forkserver

def is_ours():
    with open(f"/proc/{os.getppid()}/cmdline") as file:
        return file.read().startswith("warmfork:")

def show():
    print("ours" if is_ours() else "stdlib", flush=True)

def run(context):
    process = context.Process(target=show)
    process.start()
    process.join()
    assert process.exitcode == 0

"""


def run(folder: Path, body: str, **options: object) -> str:
    """Run `body` under a main guard, after HEAD. Gives stdout; stderr must be empty."""
    lines = "".join(f"    {line}\n" for line in body.strip().splitlines())
    done = run_program(HEAD + 'if __name__ == "__main__":\n' + lines, folder, env=ENV, **options)
    assert done.stderr == ""
    return done.stdout


def test_contexts_that_were_taken_before_are_ours_after_and_the_stdlib_s_again_at_the_end(tmp_path: Path):
    body = """
early = multiprocessing.get_context("forkserver")
run(early)
warmfork.install()
run(early)
run(multiprocessing.get_context("forkserver"))
warmfork.uninstall()
run(early)
warmfork.install()
run(early)
"""
    assert run(tmp_path, body).split() == ["stdlib", "ours", "ours", "stdlib", "ours"]


def test_the_name_forkserver_as_the_start_method_means_ours(tmp_path: Path):
    body = """
warmfork.install()
multiprocessing.set_start_method("forkserver")
run(multiprocessing)
with multiprocessing.Pool(1) as pool:
    print(pool.apply(is_ours))
"""
    assert run(tmp_path, body).split() == ["ours", "True"]


def test_spawn_and_fork_stay_what_they_are(tmp_path: Path):
    body = """
warmfork.install()
for method in ("spawn", "fork"):
    process = multiprocessing.get_context(method).Process(target=show)
    process.start()
    process.join()
print(multiprocessing.get_all_start_methods() == sorted(multiprocessing.get_all_start_methods(), key=lambda m: 0))
"""
    assert run(tmp_path, body).split() == ["stdlib", "stdlib", "True"]


def test_the_class_names_and_method_names_that_libraries_compare_are_unchanged(tmp_path: Path):
    body = """
before = type(multiprocessing.get_context("forkserver")), multiprocessing.get_context("forkserver").Process
warmfork.install()
context = multiprocessing.get_context("forkserver")
print((type(context), context.Process) == before, context.get_start_method(), context.Process.__name__)
"""
    assert run(tmp_path, body) == "True forkserver ForkServerProcess\n"


def test_installing_twice_is_one_template_and_other_options_are_a_new_one(tmp_path: Path):
    body = """
def see():
    context = multiprocessing.get_context("forkserver")
    with context.Pool(1) as pool:
        return pool.apply(os.getppid), pool.apply(is_loaded)

warmfork.install()
first = see()
warmfork.install()
assert see() == first
warmfork.install(preload=["colorsys"])
second = see()
print(first[0] != second[0], first[1], second[1])
"""
    head = HEAD.replace("def show", "def is_loaded():\n    return 'colorsys' in sys.modules\n\ndef show", 1)
    lines = "".join(f"    {line}\n" for line in body.strip().splitlines())
    done = run_program(head + 'if __name__ == "__main__":\n' + lines, tmp_path)
    assert (done.stdout, done.stderr) == ("True False True\n", "")


def test_ensure_running_starts_our_template_and_its_pid_is_where_libraries_look(tmp_path: Path):
    """Row 28."""
    body = """
warmfork.install()
multiprocessing.forkserver.ensure_running()
pid = forkserver._forkserver._forkserver_pid
run(multiprocessing.get_context("forkserver"))
with open(f"/proc/{pid}/cmdline") as file:
    print("warmfork: template" in file.read(), forkserver._forkserver._forkserver_pid == pid)
forkserver._forkserver._stop()
print(forkserver._forkserver._forkserver_pid)
run(multiprocessing.get_context("forkserver"))
"""
    assert run(tmp_path, body).splitlines() == ["ours", "True True", "None", "ours"]


@pytest.mark.parametrize("how", ["multiprocessing", "forkserver", "multiprocessing.get_context('forkserver')"])
def test_set_forkserver_preload_works_before_and_after_the_first_start(tmp_path: Path, how: str):
    """Row 19."""
    (tmp_path / "one.py").write_text("")
    (tmp_path / "two.py").write_text("")
    body = f"""
warmfork.install()
context = multiprocessing.get_context("forkserver")
for names in (["one"], ["one", "two"], ["two"]):
    {how}.set_forkserver_preload(names)
    with context.Pool(1) as pool:
        print(pool.apply(eval, ("sorted({{'one', 'two'}} & set(__import__('sys').modules))",)))
"""
    assert run(tmp_path, body).splitlines() == ["['one']", "['one', 'two']", "['two']"]


def test_a_library_s_preload_that_fails_is_logged_and_stops_nothing(tmp_path: Path):
    """Row 18, "warn": what install() was given by libraries."""
    (tmp_path / "broken.py").write_text("raise OSError('no such device')")
    code = HEAD + (
        'if __name__ == "__main__":\n'
        "    warmfork.install()\n"
        '    multiprocessing.set_forkserver_preload(["broken"])\n'
        '    run(multiprocessing.get_context("forkserver"))\n'
    )
    done = run_program(code, tmp_path)
    assert done.stdout == "ours\n"
    assert '"broken"' in done.stderr and "no such device" in done.stderr


def test_a_preload_of_install_that_fails_is_a_preload_error(tmp_path: Path):
    (tmp_path / "broken.py").write_text("raise OSError('no such device')")
    body = """
warmfork.install(preload=["broken"])
try:
    run(multiprocessing.get_context("forkserver"))
except warmfork.PreloadError as error:
    print(error.module, "no such device" in str(error))
"""
    assert run(tmp_path, body) == "broken True\n"


def test_options_come_from_the_environment_and_arguments_win(tmp_path: Path):
    for name in ("one", "two"):
        (tmp_path / f"{name}.py").write_text("")
    body = """
warmfork.install(**({"preload": ["two"]} if sys.argv[1:] else {}))
with multiprocessing.get_context("forkserver").Pool(1) as pool:
    print(pool.apply(eval, ("sorted({'one', 'two'} & set(__import__('sys').modules))",)))
    print(open(f"/proc/{pool.apply(os.getppid)}/cmdline").read().split()[2])
"""
    code = HEAD + 'if __name__ == "__main__":\n' + "".join(f"    {line}\n" for line in body.strip().splitlines())
    env = {"WARMFORK_PRELOAD": "one, ", "WARMFORK_NAME": "my-name"}
    assert run_program(code, tmp_path, env=env).stdout.splitlines() == ["['one']", "my-name"]
    assert run_program(code, tmp_path, "x", env=env).stdout.splitlines() == ["['two']", "my-name"]


def test_uninstall_ends_the_template_and_processes_that_run_run_on(tmp_path: Path):
    body = """
import signal
warmfork.install()
context = multiprocessing.get_context("forkserver")
process = context.Process(target=signal.pause)
process.start()
forkserver.ensure_running()
pid = forkserver._forkserver._forkserver_pid
warmfork.uninstall()
warmfork.uninstall()
import time
deadline = time.monotonic() + 5
while os.path.exists(f"/proc/{pid}") and time.monotonic() < deadline:
    continue  # dead it is; its entry goes when the tracker has reaped it
print(os.path.exists(f"/proc/{pid}"), process.is_alive())
process.terminate()
process.join()
print(process.exitcode)
"""
    assert run(tmp_path, body).split() == ["False", "True", "-15"]


def test_nothing_of_the_stdlib_s_server_runs_once_installed(tmp_path: Path):
    """Neither its server, nor its resource tracker, nor its socket."""
    body = """
warmfork.install()
lock = multiprocessing.get_context("forkserver").Lock()
run(multiprocessing.get_context("forkserver"))
from multiprocessing import resource_tracker
print(resource_tracker._resource_tracker._pid, forkserver._forkserver._forkserver_address)
children = open(f"/proc/{os.getpid()}/task/{os.getpid()}/children").read().split()
print(len(children))
"""
    assert run(tmp_path, body).splitlines() == ["ours", "None None", "1"]


@pytest.mark.skipif(sys.version_info < (3, 15), reason="on_error came with 3.15")
def test_on_error_fail_makes_the_start_fail_as_it_does_in_the_stdlib(tmp_path: Path):
    (tmp_path / "broken.py").write_text("raise OSError('no such device')")
    code = HEAD + (
        'if __name__ == "__main__":\n'
        "    warmfork.install()\n"
        '    multiprocessing.set_forkserver_preload(["broken"], on_error="fail")\n'
        "    try:\n"
        '        run(multiprocessing.get_context("forkserver"))\n'
        "    except EOFError as error:\n"
        "        print(type(error).__mro__[1].__name__)\n"
    )
    done = run_program(code, tmp_path)
    assert done.stdout == "PreloadError\n" and "no such device" in done.stderr
