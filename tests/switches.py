"""`python -m tests.switches`: conformance and the fault matrix with each technique off, and with all on."""

from __future__ import annotations

import argparse
import re
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

from warmfork._words.spec import TECHNIQUES

ROOT = Path(__file__).resolve().parents[1]
SUITES = ("conformance", "faults")
VERSION = f"{sys.version_info.major}.{sys.version_info.minor}"
TOTAL = re.compile(r"^(\d+) (suites|cells) .*?(\d+) off", re.MULTILINE)


def run(suite: str, technique: str) -> tuple[str, bool]:
    """Run a suite on this Python without a technique ("": with all). Gives what came of it, and whether that is good."""
    command = [sys.executable, "-m", f"tests.{suite}", *(["--without", technique] if technique else [])]
    command += ["--python", VERSION] if suite == "conformance" else []
    print(f"{technique or 'all on'}: {suite} ...", file=sys.stderr, flush=True)
    done = subprocess.run(command, cwd=ROOT, stdout=subprocess.PIPE, text=True, check=False)
    print("".join(f"{line}\n" for line in done.stdout.splitlines() if line.startswith(("OFF", "    "))), end="")
    found = TOTAL.search(done.stdout)
    if found is None:
        return f"ended with {done.returncode}", False
    return f"{found[1]} {found[2]}, {found[3]} off", done.returncode == 0


def main(argv: Sequence[str] | None = None) -> int:
    """Run all, print the table, and give the exit status: 0 only if all is as it must be."""
    parser = argparse.ArgumentParser(prog="python -m tests.switches", description=__doc__)
    parser.add_argument("--suite", nargs="+", default=SUITES, choices=SUITES, help="only these")
    parser.add_argument("techniques", nargs="*", metavar="TECHNIQUE", help=f"only these: {', '.join(TECHNIQUES)}")
    options = parser.parse_args(argv)
    for name in options.techniques:
        if name not in TECHNIQUES:
            parser.error(f'there is no technique "{name}": there are {", ".join(TECHNIQUES)}')
    good = True
    rows = []
    for technique in options.techniques or ("", *TECHNIQUES):
        cells = [run(suite, technique) for suite in options.suite]
        good = good and all(is_good for _, is_good in cells)
        rows.append((f"without {technique}" if technique else "all on", *(text for text, _ in cells)))
    print(
        f"| {sys.version.split()[0]} | {' | '.join(options.suite)} |", "|---" * (len(options.suite) + 1) + "|", sep="\n"
    )
    for row in rows:
        print(f"| {' | '.join(row)} |")
    return 0 if good else 1


if __name__ == "__main__":
    sys.exit(main())
