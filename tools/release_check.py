"""Is a release fit to be given away? `make release-check`

Builds wheel and sdist, looks at their metadata, and tries them where nothing else is: installed from the wheel, on each
Python that is found; with the lowest and the newest dependencies; uninstalled; and the tests from the sdist alone.
Ends with 1, and says which step failed, if one does.
"""

from __future__ import annotations

import argparse
import email
import os
import re
import subprocess
import sys
import tarfile
import tempfile
import zipfile
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
PYTHONS = ("python3.11", "python3.12", "python3.13", "python3.14", "python3.15")
SMOKE = """
import ctypes, json, multiprocessing, subprocess, sys, warmfork
def work(number): return number * 2
if __name__ == "__main__":
    with warmfork.Template(preload=["json"], name="smoke") as template:
        assert template.start(lambda: 42).result(30) == 42
        try:
            template.start(divmod, (1, 0)).result(30)
        except ZeroDivisionError as error:
            assert error.__traceback__ is not None
        shown = subprocess.run([sys.executable, "-m", "warmfork", "ps", "--json"], stdout=subprocess.PIPE, check=True)
        assert any(one["title"].startswith("warmfork: template smoke") for one in json.loads(shown.stdout))
        subprocess.run([sys.executable, "-m", "warmfork", "top", "--once", "--interval", "0.1"], check=True)
    with multiprocessing.Pool(2) as pool:
        assert pool.map(work, [1, 2]) == [2, 4]
"""


class Failed(Exception):
    """A step of the check failed: what is wrong."""


def run(*command: str | Path, cwd: Path | None = None) -> str:
    """Run a command to its end, away from this folder's own sources. Gives what it printed. Raises Failed."""
    words = [str(word) for word in command]
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("WARMFORK_", "PYTHON"))}
    done = subprocess.run(
        words, cwd=cwd, env=kept, text=True, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, check=False
    )
    if done.returncode:
        raise Failed(f"{' '.join(words)}\nended with {done.returncode}:\n{done.stdout[-4000:]}")
    return done.stdout


def build(folder: Path) -> tuple[Path, Path]:
    """Build wheel and sdist; the wheel from the sdist. Gives both."""
    run(sys.executable, "-m", "build", "--outdir", folder, ROOT)
    (wheel,), (sdist,) = folder.glob("*.whl"), folder.glob("*.tar.gz")
    return wheel, sdist


def check_metadata(wheel: Path, sdist: Path) -> list[str]:
    """Look at what a package index is told. Gives the lowest dependencies, as pip takes them. Raises Failed."""
    run(sys.executable, "-m", "twine", "check", "--strict", wheel, sdist)
    with zipfile.ZipFile(wheel) as archive:
        (name,) = (name for name in archive.namelist() if name.endswith(".dist-info/METADATA"))
        metadata = email.message_from_bytes(archive.read(name))
        names = archive.namelist()
    from readme_renderer.markdown import render

    text = str(metadata.get_payload())
    html = render(text)
    if not html:
        raise Failed("the description can't be rendered")
    dead = [link for link in re.findall(r'(?:href|src)="([^"]*)"', html) if not re.match(r"[a-z]+:|#", link)]
    if dead:
        raise Failed(f"the description has links that lead nowhere on a package index: {dead}")
    version = re.search(r'__version__ = "([^"]+)"', (ROOT / "src/warmfork/__init__.py").read_text())
    if version is None or metadata["Version"] != version[1]:
        raise Failed(f"the version is {metadata['Version']}, and src/warmfork/__init__.py says {version}")
    if metadata["Requires-Python"] != ">=3.11":
        raise Failed(f"Requires-Python is {metadata['Requires-Python']}: it must have no upper bound")
    if not {"warmfork_startup.pth", "warmfork/py.typed"} <= {*names}:
        raise Failed(f"the wheel has no start-up hook or no py.typed: {names}")
    needed = [line for line in metadata.get_all("Requires-Dist", []) if ";" not in line]
    return [re.sub(r"\s*>=\s*", "==", line) for line in needed]


def make_venv(python: str, folder: Path) -> Path:
    """Make an environment. Gives its interpreter."""
    run(python, "-m", "venv", folder)
    made = folder / "bin/python"
    run(made, "-m", "pip", "install", "-q", "--disable-pip-version-check", "--upgrade", "pip>=25.1")
    return made


def list_files(folder: Path) -> set[str]:
    """List an environment's files, but for bytecode."""
    return {str(path) for path in folder.rglob("*") if path.suffix != ".pyc" and path.name != "__pycache__"}


def try_wheel(python: str, wheel: Path, folder: Path, pinned: list[str]) -> str:
    """Install, use, and uninstall it. Gives what was installed. Raises Failed."""
    made = make_venv(python, folder)
    pip = (made, "-m", "pip", "--disable-pip-version-check")
    before = list_files(folder)
    run(*pip, "install", "-q", wheel, *pinned)
    (folder / "smoke.py").write_text(SMOKE)
    seen = run(folder / "bin/warmfork", "run", "-v", folder / "smoke.py", cwd=folder)
    # Two from the template, two of the Pool; ps and top are Python programs that it runs.
    if "4 by warmfork, 2 by subprocess" not in seen:
        raise Failed(f"the small program was not served by warmfork:\n{seen}")
    (folder / "smoke.py").unlink()
    listed = run(*pip, "freeze", "--all")
    others = [
        line.split("==")[0] for line in listed.splitlines() if not line.startswith(("pip=", "setuptools=", "warmfork"))
    ]
    run(*pip, "uninstall", "-q", "-y", "warmfork", *others)
    left = {name for name in list_files(folder) - before if "warmfork" in name}
    if left:
        raise Failed(f"uninstalling leaves {sorted(left)}")
    return " ".join(line for line in listed.splitlines() if not line.startswith(("pip=", "setuptools=", "warmfork")))


def try_sdist(sdist: Path, folder: Path, tests: list[str]) -> str:
    """Run the tests of the sdist, with nothing but it. Gives pytest's last line. Raises Failed."""
    with tarfile.open(sdist) as archive:
        archive.extractall(folder, filter="data")
    (top,) = folder.iterdir()
    made = make_venv(sys.executable, top / ".venv")
    run(made, "-m", "pip", "install", "-q", "--group", "test", "-e", ".", cwd=top)
    return run(made, "-m", "tests.parallel", *tests, cwd=top).splitlines()[-1]


def main() -> int:
    """Do all steps. Gives the exit code."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--tests", default="tests", help="which tests to run from the sdist; empty for none")
    parser.add_argument("--python", action="append", help="an interpreter to try the wheel on; may be repeated")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="release-check-") as name:
        folder = Path(name)
        try:
            wheel, sdist = build(folder / "dist")
            print(f"built {wheel.name} and {sdist.name}", flush=True)
            lowest = check_metadata(wheel, sdist)
            print("metadata and description are fit for a package index", flush=True)
            pythons = options.python or [python for python in PYTHONS if is_there(python)] or [sys.executable]
            for number, python in enumerate(pythons):
                had = try_wheel(python, wheel, folder / f"newest-{number}", [])
                print(f"{python}: works, and leaves nothing, with {had}", flush=True)
            had = try_wheel(pythons[0], wheel, folder / "lowest", lowest)
            print(f"{pythons[0]}: works with the lowest dependencies: {had}", flush=True)
            if options.tests:
                print(f"from the sdist alone: {try_sdist(sdist, folder / 'sdist', options.tests.split())}", flush=True)
        except Failed as why:
            print(f"release-check: {why}", file=sys.stderr)
            return 1
    return 0


def is_there(python: str) -> bool:
    """Is there such an interpreter, with its venv module?"""
    try:
        return not subprocess.run([python, "-c", "import venv, ensurepip"], capture_output=True, check=False).returncode
    except OSError:
        return False


if __name__ == "__main__":
    sys.exit(main())
