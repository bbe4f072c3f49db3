"""Turns what a suite's runner, counters and supervisor wrote into one row of the table and a list of faults."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

from .exclusions import drop_usual_leftovers, list_exclusions, list_omitted
from .suites import Suite


@dataclass
class Row:
    """One suite on one Python: the numbers, and why it is not good enough (`faults`) if it is not."""

    version: str
    suite: str
    run: int = 0
    passed: int = 0
    skipped: int = 0
    listed: int = 0
    failed: int = 0
    warmfork: int = 0
    stdlib: int = 0
    left: list[str] = field(default_factory=list)
    seconds: float = 0.0
    faults: list[str] = field(default_factory=list)
    times: dict[str, float] = field(default_factory=dict)

    @property
    def group(self) -> str:
        return self.suite.partition(".")[0]

    def as_json(self) -> dict[str, Any]:
        return asdict(self)


def parse_events(lines: Iterable[str]) -> tuple[list[str], dict[str, tuple[str, str]], dict[str, float], bool, bool]:
    """Give the tests loaded, outcome and text by test, seconds by test, whether the run ended, whether it altered."""
    loaded: list[str] = []
    outcomes: dict[str, tuple[str, str]] = {}
    times: dict[str, float] = {}
    ended = altered = False
    for line in lines:
        event = json.loads(line)
        kind = event["event"]
        if kind == "loaded":
            loaded = event["tests"]
        elif kind == "outcome":
            _merge_outcome(outcomes, event["test"], event["outcome"], event["text"])
        elif kind == "stop":
            times[event["test"]] = event["seconds"]
        elif kind == "end":
            ended, altered = True, event["altered"]
    return loaded, outcomes, times, ended, altered


def _merge_outcome(outcomes: dict[str, tuple[str, str]], test: str, outcome: str, text: str) -> None:
    """Keep a failure: a test can have several outcomes (subtests, a tearDown that raises)."""
    held = outcomes.get(test)
    if held is None or held[0] != "failed":
        outcomes[test] = (outcome, text)
    elif outcome == "failed":
        outcomes[test] = ("failed", f"{held[1]}\n{text}")


def count_starts(lines: Iterable[str]) -> Counter[str]:
    """Count the starts by engine."""
    return Counter(line.split()[0] for line in lines)


def end_if_hung(
    version: str,
    suite: Suite,
    engine: str,
    events: Iterable[str],
    starts: Iterable[str],
    report: dict[str, Any],
) -> Row:
    """Make the row. Whatever is off becomes a fault; no fault means that the suite holds."""
    loaded, outcomes, times, ended, altered = parse_events(events)
    counted = count_starts(starts)
    minor = ".".join(version.split(".")[:2])
    excluded = list_exclusions(minor, engine, suite.executor)
    row = Row(version, suite.name, seconds=report["seconds"], left=report["left"], times=times)
    row.warmfork, row.stdlib = counted["warmfork"], counted["stdlib"]
    omitted = list_omitted(minor, suite.module) if suite.executor and engine == "warmfork" else []
    if not suite.patterns or (suite.executor and loaded):
        row.faults += [
            f"{test} is listed as not passing ({why}), but there is no such test"
            for test, why in excluded.items()
            if test.startswith(suite.module + ".") and test not in loaded
        ]
    row.listed += len(set(omitted) & set(loaded))
    loaded = [test for test in loaded if test not in omitted]
    _judge_tests(row, loaded, outcomes, excluded)
    _judge_starts(row, suite, engine)
    if report["timed_out"]:
        row.faults.append(f"the time limit was reached; {_name_unfinished(loaded, times)}")
    elif not ended or report["returncode"] != 0:
        row.faults.append(f"the runner ended with {report['returncode']}; {_name_unfinished(loaded, times)}")
    if altered:
        row.faults.append("the tests say that they altered the environment: dangling processes or threads")
    if not loaded:
        row.faults.append("no test was loaded")
    row.faults += [f"left behind: {item}" for item in drop_usual_leftovers(suite.name, minor, row.left)]
    return row


def _judge_tests(row: Row, loaded: list[str], outcomes: dict[str, tuple[str, str]], excluded: dict[str, str]) -> None:
    for test in loaded:
        if test not in outcomes:
            row.faults.append(f"{test} did not run")
            continue
        row.run += 1
        outcome, text = outcomes[test]
        if test in excluded:
            row.listed += 1
            if outcome != "failed":
                row.faults.append(f"{test} is listed as not passing ({excluded[test]}), but it {outcome}")
        elif outcome == "failed":
            row.failed += 1
            row.faults.append(f"{test} failed\n{text}")
        elif outcome == "skipped":
            row.skipped += 1
        else:
            row.passed += 1
    # setUpModule, setUpClass and the like report under names of their own.
    for test in outcomes.keys() - set(loaded):
        outcome, text = outcomes[test]
        if outcome == "failed":
            row.failed += 1
        row.faults.append(f"{test} {outcome}\n{text}")


def _judge_starts(row: Row, suite: Suite, engine: str) -> None:
    ours, theirs = (row.warmfork, row.stdlib) if engine == "warmfork" else (row.stdlib, row.warmfork)
    if theirs:
        row.faults.append(f"{theirs} starts by the wrong engine, where {engine} was to make all of them")
    if suite.starts and not ours:
        row.faults.append(f"no start by {engine} was counted: was its start-up hook active?")
    if not suite.starts and ours:
        row.faults.append(f"{ours} starts by {engine} in a suite that has nothing to do with forkserver")


def _name_unfinished(loaded: list[str], times: dict[str, float]) -> str:
    waiting = [test for test in loaded if test not in times]
    return f"the first test without an end is {waiting[0]}" if waiting else "all the tests had ended"


def add_up(version: str, name: str, rows: Iterable[Row]) -> Row:
    """Give the sum of the rows."""
    total = Row(version, name)
    for row in rows:
        for number in ("run", "passed", "skipped", "listed", "failed", "warmfork", "stdlib", "seconds"):
            setattr(total, number, getattr(total, number) + getattr(row, number))
        total.left = total.left + row.left
        total.faults = total.faults + row.faults
    return total


def sum_groups(rows: Sequence[Row]) -> list[Row]:
    """Add up the rows of a group (futures.wait and its like), for the README's table."""
    keys = dict.fromkeys((row.version, row.group) for row in rows)
    return [add_up(*key, [row for row in rows if (row.version, row.group) == key]) for key in keys]
