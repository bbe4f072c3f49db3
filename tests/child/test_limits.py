"""The program's limits are its children's, and none of ours."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.support import run_program


@pytest.mark.parametrize("hard", [False, True])
def test_a_limit_of_the_size_of_files_keeps_nothing_from_being_started(tmp_path: Path, hard: bool):
    """Neither large arguments nor a large environment; a large result comes back where the limit can be raised, or it is
    said why not."""
    code = """
        import os, resource, sys
        import warmfork

        def work(*values):
            return [len(value) for value in values], resource.getrlimit(resource.RLIMIT_FSIZE), bytes(300_000)

        def check(value, size):
            sys.exit(len(value) != size)

        if __name__ == "__main__":
            with warmfork.Template(preload=["program"]) as template:
                context = warmfork.get_context()
                context.Process(target=int).start()
                template.start(int).wait(20)
                limits = 100_000, 100_000 if sys.argv[1] == "True" else resource.RLIM_INFINITY
                resource.setrlimit(resource.RLIMIT_FSIZE, limits)
                os.environ["LARGE"] = "x" * 90_000
                for value in (bytes(1_000_000), list(range(100_000)), [b"1"] * 1_000_000):
                    process = context.Process(target=check, args=(value, len(value)))
                    process.start()
                    process.join()
                    assert process.exitcode == 0
                    child = template.start(work, (b"1", list(range(100_000)), bytes(1_000_000)))
                    try:
                        got = child.result(20)
                    except OSError as error:
                        assert limits[1] == 100_000 and "no room for a result of 300," in str(error), error
                        assert "ulimit -f" in str(error)
                    else:
                        assert got == ([1, 100_000, 1_000_000], limits, bytes(300_000)), got[:2]
                assert resource.getrlimit(resource.RLIMIT_FSIZE) == limits
            print("done")
    """
    assert run_program(code, tmp_path, str(hard), env={"PYTHONPATH": str(tmp_path)}).stdout == "done\n"


def test_where_no_file_may_be_written_the_first_start_works_and_so_does_an_executor(tmp_path: Path):
    """`ulimit -S -f 0`, of which memory files are part."""
    code = """
        import resource
        import warmfork

        if __name__ == "__main__":
            resource.setrlimit(resource.RLIMIT_FSIZE, (0, resource.getrlimit(resource.RLIMIT_FSIZE)[1]))
            with warmfork.Template() as template, warmfork.Executor(1, template=template) as executor:
                print(template.start(pow, (2, 3)).result(20), executor.submit(pow, 2, 4).result(20))
            print(resource.getrlimit(resource.RLIMIT_FSIZE)[0])
    """
    assert run_program(code, tmp_path).stdout == "8 16\n0\n"
