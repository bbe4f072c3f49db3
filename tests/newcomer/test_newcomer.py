"""The programs that somebody writes on the first day, by README and site alone. Each works as it stands."""

from __future__ import annotations

import importlib.util
import json
import os
import signal
import stat
import subprocess
import sys
from pathlib import Path

import pytest

from tests.support import make_environment

PROGRAMS = Path(__file__).parent / "programs"
DEADLINE = 60
SQUARES = "[4, 9]\n"
ITEMS = [f"INFO:root:item {number}" for number in range(5)]

PRINTED = {
    "frames": "[66667, 66667, 66666]\n",
    "pool": "[0, 3, 6, 9]\n",
    "executor": "1 1.0\n0 division by zero\n3 2 True\n",
    "queues": "4950\n",
    "async_work": "[4, 25]\n15\n",
    "shared": "[300, 300, 300, 300]\n",
    "one_log": f"{ITEMS}\n",
    "bar": "8555\n",
    "interrupted": "interrupted\n['cleaned up', 'cleaned up']\n[0, 0]\n",
}
NEEDS = {"frames": ["numpy", "pandas"], "shared": ["numpy"], "bar": ["tqdm"]}
SCRIPT = "#!{python}\nimport sys\nfrom squares.main import main\nif __name__ == '__main__':\n    sys.exit(main())\n"


def skip_without(names: list[str]) -> None:
    missing = [name for name in names if importlib.util.find_spec(name) is None]
    if missing:
        pytest.skip(f"not installed: {', '.join(missing)}")


def run(*command: str | Path) -> tuple[str, str]:
    """Run a command to its end, which must be one with 0, in a session of its own. Gives what it printed."""
    environment = make_environment({"PYTHONPATH": str(PROGRAMS), "PYTHONDONTWRITEBYTECODE": "1"})
    process = subprocess.Popen(
        [str(word) for word in command], cwd=PROGRAMS, env=environment, text=True, start_new_session=True,
        stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
    )  # fmt: skip
    try:
        printed, errors = process.communicate(timeout=DEADLINE)
    except subprocess.TimeoutExpired:
        os.killpg(process.pid, signal.SIGKILL)
        raise
    assert process.returncode == 0, printed + errors
    return printed, errors


@pytest.mark.parametrize("name", PRINTED)
def test_the_program_does_what_it_says(name: str):
    skip_without(NEEDS.get(name, []))
    printed, errors = run(sys.executable, f"{name}.py")
    assert printed == PRINTED[name]
    assert name == "bar" or errors == ""


@pytest.mark.parametrize("how", [["-m", "squares"], ["-m", "squares.main"], ["squares/main.py"]], ids="-".join)
def test_a_command_with_arguments_runs_as_a_module_and_as_a_file(how: list[str]):
    assert run(sys.executable, *how, "2", "3") == (SQUARES, "")


def test_a_command_with_arguments_runs_as_a_console_script(tmp_path: Path):
    script = tmp_path / "squares"
    script.write_text(SCRIPT.format(python=sys.executable))
    script.chmod(script.stat().st_mode | stat.S_IXUSR)
    assert run(script, "2", "3", "--workers", "1") == (SQUARES, "")


CELLS = [
    "import warmfork\nfactor = 3\ndef scale(number):\n    return factor * number",
    "with warmfork.Template() as template:\n    print(template.start(scale, (2,)).result())",
    "with warmfork.get_context().Pool(2) as pool:\n    print(pool.map(scale, [1, 2]))",
    """
try:
    with warmfork.Template() as template:
        template.start(lambda: 1 / 0).result()
except ZeroDivisionError as error:
    print(error)
""",
]
NOTEBOOK = """
import json, sys, warnings
warnings.simplefilter("ignore")
import nbformat
from nbclient import NotebookClient
book = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(cell) for cell in json.loads(sys.argv[1])])
NotebookClient(book, timeout=60, kernel_name="python3").execute()
print(json.dumps(["".join(output.get("text", "") for output in cell.outputs) for cell in book.cells]))
"""


def test_cells_of_a_notebook_start_processes_and_have_their_results():
    skip_without(["nbclient", "nbformat", "ipykernel"])
    printed, _ = run(sys.executable, "-c", NOTEBOOK, json.dumps(CELLS))
    assert json.loads(printed) == ["", "6\n", "[3, 6]\n", "division by zero\n"]
