"""`python -m tests.fuzz [--seconds 3600]`: the fuzz tests, round after round with another seed, until the time is over."""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import time
from pathlib import Path


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.fuzz", description=__doc__)
    parser.add_argument("--seconds", type=float, default=3600.0, help="how long (default: an hour)")
    parser.add_argument("--examples", type=int, default=300, help="examples in a round (default: %(default)s)")
    options = parser.parse_args()
    began = time.monotonic()
    rounds = 0
    while time.monotonic() - began < options.seconds:
        seed = int.from_bytes(os.urandom(4), "little")
        command = [sys.executable, "-m", "pytest", "-q", f"--hypothesis-seed={seed}", "-o", "faulthandler_timeout=0"]
        environment = {**os.environ, "WARMFORK_FUZZ_EXAMPLES": str(options.examples)}
        done = subprocess.run([*command, str(Path(__file__).parent)], env=environment, capture_output=True, text=True)
        rounds += 1
        print(
            f"round {rounds}, seed {seed}, {time.monotonic() - began:.0f} s: {done.stdout.strip().splitlines()[-1]}",
            flush=True,
        )
        if done.returncode:
            print(done.stdout, done.stderr)
            return 1
    print(f"{rounds} rounds of {options.examples} examples, nothing found")
    return 0


if __name__ == "__main__":
    sys.exit(main())
