"""`python -m tests.conformance`: finds the interpreters, runs the suites, prints the table and what is off."""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from warmfork._words.spec import TECHNIQUES

from .exclusions import list_exclusions, list_omitted
from .interpreters import ENVIRONMENTS, INSIDE, ROOT, Interpreter, find_interpreters, has_module, prepare_environment
from .suites import SUITES, Suite, choose_suites
from .table import format_table
from .verdict import Row, end_if_hung, sum_groups


def _parse(argv: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m tests.conformance", description=__doc__)
    parser.add_argument("--quick", action="store_true", help="a part, on the running interpreter only")
    parser.add_argument("--python", nargs="+", default=[], metavar="X.Y", help="only these versions")
    parser.add_argument(
        "--suite",
        nargs="+",
        default=[],
        metavar="NAME",
        choices=sorted({suite.name for suite in SUITES} | {suite.group for suite in SUITES}),
        help="only these: %(choices)s",
    )
    parser.add_argument("-k", action="append", default=[], dest="patterns", metavar="PATTERN", help="only these tests")
    parser.add_argument("--engine", choices=("warmfork", "stdlib"), default="warmfork", help="who is to be tested")
    parser.add_argument(
        "--without",
        nargs="+",
        default=[],
        metavar="NAME",
        choices=TECHNIQUES,
        help="techniques of warmfork to do without (docs/switches.md): %(choices)s",
    )
    parser.add_argument("--repeat", type=int, default=1, metavar="N", help="the whole thing N times in a row")
    parser.add_argument("--jobs", type=int, choices=(1, 2), help="suites side by side (default: 1; with --quick 2)")
    parser.add_argument("--limit", type=float, default=900, metavar="SECONDS", help="time limit for each suite")
    parser.add_argument("--markdown", action="store_true", help="the README's table: one line for each group")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write all results there")
    options = parser.parse_args(argv)
    if options.repeat < 1:
        parser.error("--repeat: at least 1")
    options.jobs = options.jobs or (2 if options.quick else 1)
    return options


def _choose_interpreters(options: argparse.Namespace) -> list[Interpreter]:
    found = {interpreter.name: interpreter for interpreter in find_interpreters()}
    names = options.python or ([f"{sys.version_info[0]}.{sys.version_info[1]}"] if options.quick else list(found))
    missing = [name for name in names if name not in found]
    if missing:
        raise SystemExit(f"no Python {', '.join(missing)} on PATH or in pyenv; found: {', '.join(found)}")
    return [found[name] for name in names]


def _plan(interpreter: Interpreter, python: str, options: argparse.Namespace) -> list[tuple[Suite, str]]:
    """Give the suites that this interpreter has, each with the module to run; say which it has not."""
    plan = []
    for suite in choose_suites(interpreter.version, options.suite, options.quick):
        if suite.executor and options.engine == "stdlib":
            continue  # that would be the suites of ProcessPoolExecutor a second time
        if has_module(python, suite.module):
            plan.append((suite, suite.module))
        elif suite.driver:
            plan.append((suite, suite.driver))
        else:
            _say(f"{interpreter.name} {suite.name}: this interpreter comes without {suite.module}")
    return plan


def _say(text: str) -> None:
    print(text, file=sys.stderr, flush=True)


def _make_environment(engine: str, work: Path, without: Sequence[str], executor: bool) -> dict[str, str]:
    """Give the suite's environment: ours, less what would steer Python or warmfork."""
    keep = {name: value for name, value in os.environ.items() if not name.startswith(("PYTHON", "WARMFORK_"))}
    keep.pop("VIRTUAL_ENV", None)
    keep |= {
        "TMPDIR": str(work / "tmp"),
        "WARMFORK_CONFORMANCE_STARTS": str(work / "starts"),
        "WARMFORK_CONFORMANCE_ENGINE": engine,
    }
    if engine == "warmfork":
        keep["WARMFORK_RUN"] = "1"
        keep["WARMFORK_KEEP_DEFAULT"] = "1"  # what is looked at is "forkserver"; the default stays CPython's
        if executor:
            keep["WARMFORK_CONFORMANCE_EXECUTOR"] = "1"
        if without:
            keep["WARMFORK_WITHOUT"] = ",".join(without)
    return keep


def _run_suite(interpreter: Interpreter, python: str, suite: Suite, module: str, options: argparse.Namespace) -> Row:
    log = ENVIRONMENTS / "logs" / f"{interpreter.name}-{suite.name}-{options.engine}.log"
    log.parent.mkdir(exist_ok=True)
    with tempfile.TemporaryDirectory(prefix="wfc-", ignore_cleanup_errors=True) as folder:
        work = Path(folder)
        for name in ("tmp", "cwd"):
            (work / name).mkdir()
        for name in ("starts", "events"):
            (work / name).touch()
        patterns = options.patterns or suite.patterns
        omitted = list_omitted(interpreter.name, module) if suite.executor else []
        listed = list_exclusions(interpreter.name, options.engine, True) if suite.executor else {}
        request = {
            "command": [python, str(INSIDE), "--module", module, "--events", str(work / "events")]
            + [part for pattern in patterns for part in ("-k", pattern)]
            + [part for test in omitted for part in ("--omit", test)]
            + [part for test in listed for part in ("--listed", test)],
            "env": _make_environment(options.engine, work, options.without, suite.executor),
            "cwd": str(work / "cwd"),
            "watch": [str(work / "tmp"), str(work / "cwd")],
            "log": str(log),
            "limit": options.limit,
            "grace": 10.0,
        }
        done = subprocess.run(
            [sys.executable, "-m", f"{__package__}.supervisor"],
            input=json.dumps(request),
            stdout=subprocess.PIPE,
            text=True,
            cwd=ROOT,
            check=True,
        )
        report = json.loads(done.stdout)
        row = end_if_hung(
            interpreter.release,
            suite,
            options.engine,
            (work / "events").read_text(encoding="utf-8").splitlines(),
            (work / "starts").read_text(encoding="utf-8").splitlines(),
            report,
        )
    if row.faults:
        row.faults.append(f"its output is in {log.relative_to(ROOT)}")
    _say(f"{interpreter.name} {suite.name}: {row.run} run in {row.seconds:.0f} s, {'OFF' if row.faults else 'ok'}")
    return row


def _run_round(options: argparse.Namespace, interpreters: Sequence[Interpreter]) -> list[Row]:
    rows: list[Row] = []
    for interpreter in interpreters:
        if not interpreter.has_tests:
            _say(f"{interpreter.name}: {interpreter.executable} comes without CPython's tests (the package `test`)")
            continue
        python = prepare_environment(interpreter, options.engine)
        plan = _plan(interpreter, python, options)
        with ThreadPoolExecutor(options.jobs) as pool:
            rows += pool.map(lambda item, i=interpreter, p=python: _run_suite(i, p, *item, options), plan)
    return rows


def _print_faults(rows: Sequence[Row]) -> None:
    for row in rows:
        for fault in row.faults:
            print(f"\nOFF: {row.version} {row.suite}: {fault}")


def main(argv: Sequence[str] | None = None) -> int:
    """Run, print, and give the exit status: 0 only if all that ran is as it must be."""
    options = _parse(argv)
    interpreters = _choose_interpreters(options)
    rounds: list[list[Row]] = []
    for number in range(options.repeat):
        if options.repeat > 1:
            _say(f"round {number + 1} of {options.repeat}")
        rows = _run_round(options, interpreters)
        rounds.append(rows)
        print(format_table(sum_groups(rows) if options.markdown else rows), flush=True)
        _print_faults(rows)
    if options.json:
        content = [[row.as_json() for row in rows] for rows in rounds]
        options.json.write_text(json.dumps(content, indent=1), encoding="utf-8")
    if not any(rounds):
        _say("nothing could be run: no interpreter here comes with CPython's tests")
        # A part of `make test` has to work where Python was packaged without its tests.
        return 0 if options.quick else 1
    off = sum(bool(row.faults) for rows in rounds for row in rows)
    print(f"\n{sum(map(len, rounds))} suites run, {off} off")
    return 1 if off else 0


if __name__ == "__main__":
    sys.exit(main())
