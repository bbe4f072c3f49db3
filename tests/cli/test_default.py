"""What "the default start method" is under `warmfork run`, and what -v says was started by whom."""

from __future__ import annotations

import sys
import textwrap
from pathlib import Path

import pytest

from tests.programs import list_pythons, name_python, run


@pytest.fixture(params=list_pythons(), ids=name_python)
def python(request: pytest.FixtureRequest) -> str:
    path: str = request.param
    return path


def run_code(python: str, code: str, tmp_path: Path, *words: str, **env: str) -> tuple[str, str]:
    """Run a program. Gives what it printed on stdout and stderr."""
    program = tmp_path / "program.py"
    program.write_text(textwrap.dedent(code))
    done = run([python, "-m", "warmfork", "run", *words, str(program)], **env)
    assert done.returncode == 0, done.stderr
    return done.stdout, done.stderr


POOLS = """
    import multiprocessing, os
    from concurrent.futures import ProcessPoolExecutor
    def find_parent(_):
        with open(f"/proc/{os.getppid()}/cmdline") as file:
            return file.read().split("\\0")[0]
    if __name__ == "__main__":
        with multiprocessing.Pool(1) as pool:
            print(pool.map(find_parent, [0])[0])
        with ProcessPoolExecutor(1) as pool:
            print(*pool.map(find_parent, [0]))
"""


def test_a_pool_and_an_executor_that_name_no_method_are_warmforks(python, tmp_path):
    stdout, stderr = run_code(python, POOLS, tmp_path)
    assert [line.startswith("warmfork: template program") or line for line in stdout.splitlines()] == [True, True]
    assert stderr == ""


def test_nested_python_programs_are_covered(python, tmp_path):
    inner = tmp_path / "inner.py"
    inner.write_text(textwrap.dedent(POOLS))
    code = f"import subprocess, sys; subprocess.run([sys.executable, {str(inner)!r}], check=True)"
    stdout, _ = run_code(python, code, tmp_path)
    assert stdout.count("warmfork: template") == 2


def test_a_program_that_sets_a_method_gets_it(python, tmp_path):
    code = """
        import multiprocessing
        print(multiprocessing.get_start_method(allow_none=True))
        multiprocessing.set_start_method("fork")
        print(multiprocessing.get_start_method())
    """
    assert run_code(python, code, tmp_path)[0].split() == ["None", "fork"]


def test_once_it_was_asked_for_the_default_is_pinned_as_always(python, tmp_path):
    code = """
        import multiprocessing
        print(multiprocessing.get_start_method(), type(multiprocessing.get_context()).__name__)
        try:
            multiprocessing.set_start_method("fork")
        except RuntimeError as error:
            print(error)
    """
    assert run_code(python, code, tmp_path)[0].splitlines() == [
        "forkserver ForkServerContext",
        "context has already been set",
    ]


def test_keep_default_leaves_the_default(python, tmp_path):
    code = "import multiprocessing; print(multiprocessing.get_start_method())"
    plain = run([python, "-c", code]).stdout
    assert run_code(python, code, tmp_path, "--keep-default")[0] == plain


def test_a_program_without_processes_loads_no_multiprocessing(python, tmp_path):
    code = "import sys; print([name for name in sys.modules if 'multiprocessing' in name])"
    assert run_code(python, code, tmp_path)[0] == "[]\n"
    assert run_code(python, code, tmp_path, "-v") == ("[]\n", "warmfork: no processes\n")


STARTS = """
    import multiprocessing, os, subprocess, sys
    def work(): pass
    if __name__ == "__main__":
        for method in (None, None, "fork", "spawn"):
            process = multiprocessing.get_context(method).Process(target=work)
            process.start()
            process.join()
        subprocess.run(["true"], check=True)
        subprocess.run(["/bin/true"], check=True, close_fds=False)  # by posix_spawn
        if not os.fork():
            os._exit(0)
        os.wait()
        os.waitpid(os.posix_spawn("/bin/true", ["true"], {}), 0)
"""


def test_verbose_says_what_was_started_by_whom(python, tmp_path):
    _, stderr = run_code(python, STARTS, tmp_path, "-v")
    assert stderr.splitlines()[-1] == (
        "warmfork: 8 processes: 2 by warmfork, 2 by fork, 2 by subprocess, 1 by spawn, 1 by posix_spawn"
    )


def test_verbose_names_the_library_that_starts_something(python, tmp_path):
    (tmp_path / "library.py").write_text("import os\ndef start():\n    os.fork() or os._exit(0)\n    os.wait()\n")
    _, stderr = run_code(python, "import library; library.start(); library.start()", tmp_path, "-v")
    assert stderr.splitlines()[-1] == "warmfork: 2 processes: 2 by fork (library)"


def test_a_nested_program_tells_its_own(python, tmp_path):
    inner = tmp_path / "inner.py"
    inner.write_text(textwrap.dedent(POOLS))
    code = f"import subprocess, sys; subprocess.run([sys.executable, {str(inner)!r}], check=True)"
    _, stderr = run_code(python, code, tmp_path, "-v")
    first, second = stderr.splitlines()
    assert first.startswith("warmfork: pid ") and first.endswith(" (inner.py): 2 processes: 2 by warmfork")
    assert second == "warmfork: 1 process: 1 by subprocess"


@pytest.mark.parametrize("door", ["warmfork.install()", "warmfork.get_context()"])
def test_the_variable_has_install_report_too(tmp_path, door):
    code = f"""
        import multiprocessing, warmfork
        def work(): pass
        if __name__ == "__main__":
            {door}
            warmfork.install()
            process = multiprocessing.get_context("forkserver").Process(target=work)
            process.start()
            process.join()
    """
    program = tmp_path / "program.py"
    program.write_text(textwrap.dedent(code))
    done = run([sys.executable, str(program)], WARMFORK_REPORT="1")
    assert (done.returncode, done.stderr) == (0, "warmfork: 1 process: 1 by warmfork\n")
    assert run([sys.executable, str(program)]).stderr == ""


@pytest.mark.parametrize("method", ["forkserver", "spawn"])
def test_children_that_install_too_tell_nothing(method, tmp_path):
    program = tmp_path / "program.py"
    program.write_text(
        "import multiprocessing, warmfork\n"
        "warmfork.install()\n"
        "def work(): pass\n"
        "if __name__ == '__main__':\n"
        f"    process = multiprocessing.get_context({method!r}).Process(target=work)\n"
        "    process.start()\n"
        "    process.join()\n"
    )
    done = run([sys.executable, str(program)], WARMFORK_REPORT="1")
    by = "warmfork" if method == "forkserver" else "spawn"
    assert (done.returncode, done.stderr) == (0, f"warmfork: 1 process: 1 by {by}\n")


def test_a_forked_child_that_ends_as_a_program_tells_nothing_of_its_parents(python, tmp_path):
    code = """
        import os, sys
        if not os.fork():
            sys.exit()
        os.wait()
    """
    _, stderr = run_code(python, code, tmp_path, "-v")
    assert stderr == "warmfork: 1 process: 1 by fork\n"
