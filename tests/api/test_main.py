"""Template(main=True): the template runs the script, as a context's does. And the globals that travel by value."""

from __future__ import annotations

from pathlib import Path

from tests.support import run_program

SCRIPT = """
import logging, warmfork

logging.basicConfig(format="%(processName)s: %(message)s")
factor = 3

class Found:
    def __init__(self, number):
        self.number = number

def work(number):
    logging.warning("set up")
    return Found(number * factor), __name__

def fail():
    raise LookupError(Found(1))

if __name__ == "__main__":
    factor = 5
    with warmfork.Template(main=True) as template:
        found, name = template.start(work, (2,)).result(20)
        print(type(found) is Found, found.number, name)
        print(template.start(lambda: work(1)[0].number).result(20))
        try:
            template.start(fail).result(20)
        except LookupError as error:
            print(type(error.args[0]) is Found)
    with warmfork.Template() as template:
        print(template.start(work, (2,)).result(20)[0].number)
"""


def test_the_script_is_run_in_the_template_and_its_functions_travel_by_name(tmp_path: Path):
    done = run_program(SCRIPT, tmp_path)
    assert done.stdout.splitlines() == ["True 6 __mp_main__", "3", "True", "10"]
    assert done.stderr.count("set up") == 3


def test_a_script_without_a_guard_is_told_which_line_wants_one(tmp_path: Path):
    script = (
        "import warmfork\ntry:\n    with warmfork.Template(main=True) as template:\n"
        "        template.start(print)\nexcept warmfork.StartError as error:\n"
        "    if __name__ != '__main__':\n        raise\n    import pickle\n"
        "    print(error, pickle.loads(pickle.dumps(error)), sep='\\n')\n"
    )
    said = run_program(script, tmp_path).stdout
    assert said.count("line 4, starts a process") == 2 and said.count('if __name__ == "__main__":') == 2


def test_a_script_that_can_not_be_run_again_is_named(tmp_path: Path):
    script = (
        "import warmfork\nif __name__ == '__main__':\n    try:\n        warmfork.Template(main=True).start(print)\n"
        "    except warmfork.PreloadError as error:\n        print(error.module, error.cause)\nelse:\n    1 / 0\n"
    )
    assert run_program(script, tmp_path).stdout == "__main__ ZeroDivisionError: division by zero\n"


def test_a_global_of_over_10_mb_is_named_once(tmp_path: Path):
    script = (
        "import warmfork\ntable = b'x' * 12_000_000\ndef look():\n    return len(table)\n"
        "def work(_):\n    return look()\n"
        "with warmfork.Template() as template:\n    for _ in range(2):\n"
        "        assert template.start(work, (0,)).result(20) == 12_000_000\n"
        "    template.start(len, (table,)).result(20)\n"  # an argument is as large as it is
    )
    said = run_program(script, tmp_path).stderr
    assert said.count("MB") == 1
    assert said.startswith('look uses the global "table", so each start sends its 12.0 MB to the child')
