"""A test runner that runs each test in a process of its own, forked from one that has all imports.

python examples/isolated_tests.py FILE...

A test is a function whose name begins with "test". What one leaves behind (patches, environment, threads, a crash), the
next one never sees.
"""

from __future__ import annotations

import importlib
import os
import sys

import warmfork


def run_test(module: str, name: str) -> None:
    """Run one test, in its child."""
    getattr(importlib.import_module(module), name)()


def main(files: list[str]) -> int:
    """Run the tests of these files. Gives the number of those that failed."""
    sys.path[:0] = sorted({os.path.dirname(os.path.abspath(file)) for file in files})
    modules = [os.path.basename(file).removesuffix(".py") for file in files]
    failed = 0
    with warmfork.Template(preload=modules, name="tests") as template:
        for module in modules:
            names = template.run(f"import {module}\n[n for n in vars({module}) if n.startswith('test')]").result
            for name in names:
                try:
                    done = template.run(run_test, (module, name), capture_output=True, text=True, timeout=10)
                    why = "" if done.ok() else done.error.traceback if done.error else str(done.outcome)
                    seconds = done.duration
                except warmfork.LimitExceeded as error:
                    why, seconds = str(error), error.seen
                print(f"{'FAILED' if why else 'passed'} {module}.{name} in {seconds * 1000:.0f} ms")
                if why:
                    failed += 1
                    print("    " + why.rstrip().replace("\n", "\n    "))
    return failed


if __name__ == "__main__":
    sys.exit(min(main(sys.argv[1:]), 100))
