"""`python -m tests.elsewhere newest|user`: the suite where the usual run is not.

newest: on the newest supported Python that is found, with PYTHONUNBUFFERED set, which gives streams other layers.
user: as "nobody", on a copy of this tree, with an interpreter that this user can start; only root can do that.

What can't be done here is said in one line, and is no failure. Left out is what can't differ: see SAME.
"""

from __future__ import annotations

import os
import pwd
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path

from tests.conformance.interpreters import ROOT, find_interpreters

SAME = ("architecture", "conformance", "docs", "fuzz", "integrations", "typing", "words")
"""Folders of tests that look at texts, or at functions that ask nothing of the machine: the usual run has them."""

USER = "nobody"
SYSTEM_PYTHONS = ("/usr/bin/python3", "/usr/local/bin/python3")
"""Where an interpreter is that other users can start too; pyenv's are in somebody's home."""


def make_environment(python: str, folder: Path, tree: Path) -> Path:
    """Make a virtual environment with what the tests need. Gives its interpreter."""
    inside = folder / "bin" / "python"
    if not inside.exists():
        subprocess.run([python, "-m", "venv", str(folder)], check=True)
        pip = [str(inside), "-m", "pip", "install", "-q", "--disable-pip-version-check"]
        subprocess.run([*pip, "--upgrade", "pip>=25.1"], check=True)
        subprocess.run([*pip, "--group", "test", "-e", "."], check=True, cwd=tree)
    return inside


def run_on_newest(arguments: Sequence[str]) -> int:
    """Run the suite on the newest Python, its streams unbuffered."""
    newest = max(find_interpreters(), key=lambda found: found.version)
    python = Path(sys.executable)
    folder = ROOT / f".venv-{newest.name}"
    if newest.version <= sys.version_info[:2]:
        print(f"no Python is newer than this one ({newest.name}): the suite is run on it, unbuffered", flush=True)
    else:
        try:
            python = make_environment(newest.executable, folder, ROOT)
        except subprocess.CalledProcessError as error:
            shutil.rmtree(folder, ignore_errors=True)
            print(f"{newest.executable} is not used, but this Python, unbuffered: {error}", flush=True)
    return run_pytest(python, ROOT, arguments, {"PYTHONUNBUFFERED": "1"})


def run_as_user(arguments: Sequence[str]) -> int:
    """Run the suite as another user."""
    if os.getuid() != 0:
        print("only root can run the suite as another user: it is not done here", flush=True)
        return 0
    try:
        user = pwd.getpwnam(USER)
    except KeyError:
        print(f"there is no user {USER} here: the suite is not run as another user", flush=True)
        return 0
    python = next((path for path in SYSTEM_PYTHONS if is_suitable(path, user)), None)
    if python is None:
        print(
            f"{USER} can start no Python of 3.11 or newer here, with venv: the suite is not run as {USER}", flush=True
        )
        return 0
    folder = Path(tempfile.mkdtemp(prefix="warmfork-tests-", dir="/var/tmp"))
    try:
        tree = folder / "tree"
        for name in subprocess.run(
            ["git", "ls-files"], cwd=ROOT, check=True, capture_output=True, text=True
        ).stdout.split("\n"):
            if name and (ROOT / name).is_file():
                (tree / name).parent.mkdir(parents=True, exist_ok=True)
                shutil.copy(ROOT / name, tree / name)
        inside = make_environment(python, folder / "venv", tree)
        subprocess.run(["chown", "-R", f"{user.pw_uid}:{user.pw_gid}", str(folder)], check=True)
        home = {"HOME": str(folder), "TMPDIR": str(folder), "USER": USER, "LOGNAME": USER}
        return run_pytest(inside, tree, [*arguments, "-p", "no:cacheprovider"], home, user)
    finally:
        shutil.rmtree(folder)


def is_suitable(python: str, user: pwd.struct_passwd) -> bool:
    """Can this user start it, is it new enough, and can it make virtual environments?"""
    code = "import ensurepip, sys, venv; sys.exit(sys.version_info < (3, 11))"
    try:
        return (
            subprocess.run([python, "-c", code], user=user.pw_uid, group=user.pw_gid, extra_groups=[]).returncode == 0
        )
    except OSError:
        return False


def run_pytest(
    python: Path,
    tree: Path,
    arguments: Sequence[str],
    changes: Mapping[str, str],
    user: pwd.struct_passwd | None = None,
) -> int:
    """Run pytest in this tree. Gives its exit code."""
    whose = {} if user is None else {"user": user.pw_uid, "group": user.pw_gid, "extra_groups": []}
    left_out = [f"--ignore=tests/{name}" for name in SAME]
    command = [str(python), "-m", "tests.parallel", *left_out, *arguments]
    return subprocess.run(command, cwd=tree, env={**os.environ, **changes}, **whose).returncode


if __name__ == "__main__":
    where, *rest = sys.argv[1:] or [""]
    if where not in ("newest", "user"):
        sys.exit(__doc__)
    sys.exit({"newest": run_on_newest, "user": run_as_user}[where](rest))
