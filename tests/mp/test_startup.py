from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from tests.programs import DEADLINE, list_pythons, make_environment, name_python, run

ROOT = Path(__file__).resolve().parents[2]
HOOK = "warmfork_startup.pth"

# Takes the place of warmfork.mp.client.install, so that what is tested is the hook alone.
STAND_IN = """\
import sys, threading, types
calls = []
def install_from_environment():
    calls.append([name for name in ("multiprocessing", "multiprocessing.context", "multiprocessing.popen_forkserver")
                  if name in sys.modules])
stand_in = types.ModuleType("warmfork.mp.client.install")
stand_in.install_from_environment = install_from_environment
sys.modules["warmfork.mp.client.install"] = stand_in
"""


@pytest.fixture(params=list_pythons(), ids=name_python)
def python(request: pytest.FixtureRequest) -> str:
    path: str = request.param
    return path


def run_with_hook(python: str, code: str, *options: str, **changes: str) -> subprocess.CompletedProcess[str]:
    return run([python, *options, "-c", STAND_IN + code], **{"WARMFORK_RUN": "1", **changes})


def test_multiprocessing_is_not_imported_before_the_program_asks_for_it(python):
    done = run_with_hook(python, "print([name for name in sys.modules if name.startswith('multiprocessing')], calls)")
    assert (done.stdout, done.stderr) == ("[] []\n", "")


def test_install_is_called_once_when_the_context_is_there_and_no_engine_is(python):
    done = run_with_hook(python, "import multiprocessing; print(calls)")
    assert (done.stdout, done.stderr) == ("[['multiprocessing', 'multiprocessing.context']]\n", "")


@pytest.mark.parametrize("options", [["-I"], ["-E"], ["-s"], ["-O"], ["-X", "dev", "-Werror"]])
def test_the_hook_stays_under_python_options(python, options):
    done = run_with_hook(python, "import multiprocessing; print(len(calls))", *options)
    assert (done.stdout, done.stderr) == ("1\n", "")


@pytest.mark.parametrize("value", ["", "0"])
def test_without_the_variable_or_with_0_nothing_of_it_is_there(python, value):
    code = (
        "import multiprocessing; print(calls, [f for f in sys.meta_path if type(f).__module__.startswith('warmfork')])"
    )
    done = run_with_hook(python, code, WARMFORK_RUN=value)
    assert (done.stdout, done.stderr) == ("[] []\n", "")


def test_activating_again_adds_no_second_finder(python):
    """The lines of a .pth run twice in a virtual environment before 3.15; two finders recursed for ever."""
    code = (
        "from warmfork import startup\nfrom warmfork.mp.shared import watching\n"
        "startup.activate(); startup.activate()\n"
        "import multiprocessing; print(len(calls), sum(isinstance(f, watching.Finder) for f in sys.meta_path))"
    )
    assert run_with_hook(python, code).stdout == "1 1\n"


def test_a_multiprocessing_that_was_there_before_is_installed_at_once(python):
    code = (
        "import multiprocessing, os; os.environ['WARMFORK_RUN'] = '1'\n"
        "from warmfork.startup import activate\n"
        "activate(); print(len(calls)); activate(); print(len(calls))"
    )
    assert run_with_hook(python, code, WARMFORK_RUN="").stdout == "1\n1\n"


def test_a_multiprocessing_that_is_imported_anew_is_installed_anew(python):
    code = (
        "import multiprocessing\n"
        "for name in [name for name in sys.modules if name.startswith('multiprocessing')]: del sys.modules[name]\n"
        "import multiprocessing; print(len(calls))"
    )
    assert run_with_hook(python, code).stdout == "2\n"


def test_threads_that_import_it_at_once_install_it_once_and_before_they_go_on(python):
    code = (
        "seen = []\n"
        "barrier = threading.Barrier(8)\n"
        "def work():\n"
        "    barrier.wait()\n"
        "    import multiprocessing.context\n"
        "    seen.append(len(calls))\n"
        "threads = [threading.Thread(target=work) for _ in range(8)]\n"
        "for thread in threads: thread.start()\n"
        "for thread in threads: thread.join()\n"
        "print(seen)"
    )
    done = run_with_hook(python, code)
    assert (done.stdout, done.stderr) == (f"{[1] * 8}\n", "")


def test_the_module_has_the_loader_spec_and_source_that_it_has_without_the_hook(python):
    code = (
        "import inspect, multiprocessing.context as c\n"
        "print(type(c.__loader__), type(c.__spec__.loader), c.__spec__.loader is c.__loader__, c.__spec__.origin,\n"
        "      c.__spec__.has_location, c.__file__, len(inspect.getsource(c)), sorted(vars(c)))"
    )
    assert run_with_hook(python, code).stdout == run_with_hook(python, code, WARMFORK_RUN="").stdout


def test_it_works_with_other_finders_before_and_after_it(python):
    code = (
        "class Watcher:\n"
        "    def find_spec(self, name, path, target=None):\n"
        "        asked.append(name)\n"
        "asked = []\n"
        "sys.meta_path.insert(0, Watcher()); sys.meta_path.append(Watcher())\n"
        "import multiprocessing; print(len(calls), 'multiprocessing.context' in asked)"
    )
    done = run_with_hook(python, code)
    assert (done.stdout, done.stderr) == ("1 True\n", "")


def test_an_install_that_fails_costs_one_line_on_stderr_and_nothing_else(python):
    code = (
        "def fail(): raise RuntimeError('two\\nlines')\n"
        "stand_in.install_from_environment = fail\n"
        "import multiprocessing, os; print(os.getpid(), multiprocessing.get_context('forkserver').get_start_method())"
    )
    done = run_with_hook(python, code)
    pid, method = done.stdout.split()
    assert (done.returncode, method) == (0, "forkserver")
    assert done.stderr == f"warmfork: not active in pid {pid}: RuntimeError: two lines\n"


@pytest.mark.parametrize(
    "stderr", ["sys.stderr = None", "sys.stderr.close()", "sys.stderr = open('/dev/full', 'w', 1)"]
)
def test_an_install_that_fails_with_nobody_to_tell_stops_nothing(python, stderr):
    code = (
        "def fail(): raise RuntimeError('no')\n"
        f"stand_in.install_from_environment = fail; {stderr}\n"
        "import multiprocessing; print('goes on', flush=True); import os; os._exit(0)"
    )
    done = run_with_hook(python, code)
    assert (done.returncode, done.stdout) == (0, "goes on\n")


@pytest.mark.parametrize("stderr", ["", "2>&-"])
def test_a_hook_whose_package_is_gone_costs_one_line_at_most(python, stderr):
    """As a package that was deleted by hand would leave it: -S keeps site-packages, and so warmfork, away."""
    line = (ROOT / "src" / HOOK).read_text()
    command = f'exec "$0" -I -S -c "$1" {stderr}'
    done = run(["sh", "-c", command, python, f"import os; print(os.getpid()); exec({line!r})"], WARMFORK_RUN="1")
    assert done.returncode == 0
    pid = done.stdout.strip()
    expected = f"warmfork: not active in pid {pid}: ModuleNotFoundError: No module named 'warmfork'\n"
    assert done.stderr == ("" if stderr else expected)


def test_the_hook_is_one_line_that_costs_under_half_a_millisecond_when_the_variable_is_unset(python):
    """site's own work on the file included. The best of many: what a noisy machine adds is not the hook's."""
    code = (
        "import os, site, sys, sysconfig, time\n"
        "folder = sysconfig.get_path('purelib'); before = set(sys.modules)\n"
        "def measure(repeat):\n"
        "    start = time.perf_counter(); site.addpackage(folder, NAME, set()); return time.perf_counter() - start\n"
        f"NAME = {HOOK!r}; assert os.path.exists(os.path.join(folder, NAME))\n"
        "print(min(map(measure, range(200)))); print(*(set(sys.modules) - before))"
    )
    assert len((ROOT / "src" / HOOK).read_text().splitlines()) == 1
    done = run([python, "-c", code])
    seconds, modules = done.stdout.splitlines()
    assert float(seconds) < 0.0005
    assert not [name for name in modules.split() if name.startswith(("warmfork", "multiprocessing"))]


@pytest.mark.parametrize("editable", [False, True], ids=["wheel", "editable"])
def test_an_install_brings_the_hook_and_an_uninstall_removes_it(editable, tmp_path):
    environment = tmp_path / "environment"
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", environment], check=True, timeout=DEADLINE)
    inner = str(environment / "bin/python")
    pip = [sys.executable, "-m", "pip", "--disable-pip-version-check", "--quiet", "--python", inner]
    kept = make_environment()
    source = ["--editable", str(ROOT)] if editable else [str(ROOT)]
    subprocess.run([*pip, "install", "--no-deps", *source], check=True, env=kept, timeout=300)
    hook = next(environment.glob(f"lib/python*/site-packages/{HOOK}"))
    done = run([inner, "-m", "warmfork", "run", "-c", STAND_IN + "import multiprocessing; print(calls != [])"])
    assert (done.returncode, done.stdout, done.stderr) == (0, "True\n", "")
    subprocess.run([*pip, "uninstall", "--yes", "warmfork"], check=True, env=kept, timeout=DEADLINE)
    assert not hook.exists()
    assert not list(hook.parent.glob("*warmfork*"))
    done = run([inner, "-c", "import multiprocessing; print('plain')"], WARMFORK_RUN="1")
    assert (done.stdout, done.stderr) == ("plain\n", "")
