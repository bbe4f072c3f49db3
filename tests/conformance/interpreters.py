"""Finds the Python interpreters of this machine and makes the virtual environments that the suites run in."""

from __future__ import annotations

import fcntl
import hashlib
import json
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
ENVIRONMENTS = ROOT / ".venv-conformance"
INSIDE = Path(__file__).resolve().parent / "inside"
VERSIONS = ((3, 11), (3, 12), (3, 13), (3, 14), (3, 15))

HOOKS = ("conformance_count.py", "conformance_executor.py")
"""What each interpreter of a suite has in its site-packages."""

_PROBE = """
import importlib.util, json, sys
has_tests = importlib.util.find_spec("test") and importlib.util.find_spec("test._test_multiprocessing")
print(json.dumps([sys.version_info[:2], sys.version.split()[0], sys._base_executable, bool(has_tests)]))
"""
_COUNT_HOOK = 'import os; os.environ.get("WARMFORK_CONFORMANCE_STARTS") and __import__("conformance_count")\n'


@dataclass(frozen=True)
class Interpreter:
    """A base interpreter (never a virtual environment's)."""

    version: tuple[int, int]
    release: str
    executable: str
    has_tests: bool

    @property
    def name(self) -> str:
        return "{}.{}".format(*self.version)


def _list_candidates() -> Iterator[str]:
    yield sys.executable
    pyenv = Path(os.environ.get("PYENV_ROOT") or Path.home() / ".pyenv") / "versions"
    names = [f"python{major}.{minor}" for major, minor in VERSIONS]
    for name in names:
        yield from sorted(map(str, pyenv.glob(f"*/bin/{name}")), reverse=True)
    for folder in os.get_exec_path():
        for name in (*names, "python3"):
            if os.access(os.path.join(folder, name), os.X_OK):
                yield os.path.join(folder, name)


def _probe(executable: str) -> Interpreter | None:
    # A pyenv shim answers with an error where its version is not selected: then there is nothing to be had there.
    done = subprocess.run([executable, "-I", "-c", _PROBE], capture_output=True, text=True, check=False)
    if done.returncode:
        return None
    version, release, base, has_tests = json.loads(done.stdout)
    return Interpreter((version[0], version[1]), release, base, has_tests)


def find_interpreters() -> list[Interpreter]:
    """Give one interpreter for each supported version, preferring those that come with CPython's tests."""
    best: dict[tuple[int, int], Interpreter] = {}
    for candidate in dict.fromkeys(_list_candidates()):
        found = _probe(candidate)
        if found is None or found.version not in VERSIONS:
            continue
        held = best.get(found.version)
        if held is None or (found.has_tests and not held.has_tests):
            best[found.version] = found
    return [best[version] for version in sorted(best)]


def _stamp(interpreter: Interpreter, engine: str) -> str:
    digest = hashlib.sha256(f"{interpreter.release} {interpreter.executable} {_COUNT_HOOK}".encode())
    for name in HOOKS:
        digest.update((INSIDE / name).read_bytes())
    if engine == "warmfork":
        for name in ("pyproject.toml", "src/warmfork_startup.pth"):
            digest.update((ROOT / name).read_bytes())
    return digest.hexdigest()


def _run(command: list[str]) -> str:
    done = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, check=False)
    if done.returncode:
        raise RuntimeError(f"{' '.join(command)} exited with {done.returncode}:\n{done.stdout}")
    return done.stdout


def prepare_environment(interpreter: Interpreter, engine: str) -> str:
    """Make the virtual environment, unless it is there and up to date; give its interpreter's path."""
    folder = ENVIRONMENTS / (interpreter.name if engine == "warmfork" else f"{interpreter.name}-stdlib")
    python = str(folder / "bin" / "python")
    ENVIRONMENTS.mkdir(exist_ok=True)
    with open(f"{folder}.lock", "w", encoding="utf-8") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        stamp = folder / "conformance.stamp"
        wanted = _stamp(interpreter, engine)
        if stamp.exists() and stamp.read_text(encoding="utf-8") == wanted:
            return python
        shutil.rmtree(folder, ignore_errors=True)
        pip = [] if engine == "warmfork" else ["--without-pip"]
        _run([interpreter.executable, "-m", "venv", *pip, str(folder)])
        if engine == "warmfork":
            _run([python, "-m", "pip", "install", "--quiet", "--disable-pip-version-check", "-e", str(ROOT)])
        packages = Path(_run([python, "-c", "import sysconfig; print(sysconfig.get_path('purelib'))"]).strip())
        for name in HOOKS:
            shutil.copy(INSIDE / name, packages)
        (packages / "conformance_count.pth").write_text(_COUNT_HOOK, encoding="utf-8")
        stamp.write_text(wanted, encoding="utf-8")
    return python


def has_module(python: str, module: str) -> bool:
    """Say whether that interpreter can find the module, without importing more than its package."""
    package = module.rpartition(".")[0]
    code = f"import importlib.util as u, sys; sys.exit(not (u.find_spec({package!r}) and u.find_spec({module!r})))"
    return not subprocess.run([python, "-I", "-c", code], stderr=subprocess.DEVNULL, check=False).returncode
