"""Runs one test module in the target interpreter and appends what happened, line by line, to a JSON file.

It is started as a folder (`python inside ...`): multiprocessing then does not run it again in the children,
just as it does not with `python -m test`. Nothing here imports multiprocessing before the tests do.
"""

from __future__ import annotations

import argparse
import faulthandler
import gc
import importlib
import json
import os
import signal
import sys
import time
import traceback
import unittest


class Recorder(unittest.TestResult):
    """A result that writes every event at once, so that a crash or a time limit loses none."""

    def __init__(self, path: str, listed: list[str]) -> None:
        super().__init__()
        self._path = path
        self._listed = listed
        self._began = 0.0

    def write(self, event: str, **fields: object) -> None:
        # Opened each time: some of the tests close or count file descriptors, others fork.
        fd = os.open(self._path, os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            os.write(fd, json.dumps({"event": event, **fields}).encode() + b"\n")
        finally:
            os.close(fd)

    def _note(self, test: unittest.TestCase, outcome: str, text: str = "") -> None:
        self.write("outcome", test=test.id(), outcome=outcome, text=text)

    def startTest(self, test: unittest.TestCase) -> None:
        super().startTest(test)
        self._began = time.monotonic()
        print(f"-- {test.id()}", file=sys.stderr, flush=True)
        self.write("start", test=test.id())

    def stopTest(self, test: unittest.TestCase) -> None:
        super().stopTest(test)
        if test.id() in self._listed:
            # It ended half way, and left to others what it would have cleaned up: an executor ends when it is collected.
            gc.collect()
            importlib.import_module("test.support").environment_altered = False
        self.write("stop", test=test.id(), seconds=round(time.monotonic() - self._began, 3))

    def addSuccess(self, test: unittest.TestCase) -> None:
        super().addSuccess(test)
        self._note(test, "passed")

    def addSkip(self, test: unittest.TestCase, reason: str) -> None:
        super().addSkip(test, reason)
        self._note(test, "skipped", reason)

    def addExpectedFailure(self, test: unittest.TestCase, err: object) -> None:
        super().addExpectedFailure(test, err)
        self._note(test, "passed")

    def addUnexpectedSuccess(self, test: unittest.TestCase) -> None:
        super().addUnexpectedSuccess(test)
        self._note(test, "failed", "passed, though it is marked as an expected failure")

    def addError(self, test: unittest.TestCase, err: object) -> None:
        super().addError(test, err)
        self._note(test, "failed", self.errors[-1][1])

    def addFailure(self, test: unittest.TestCase, err: object) -> None:
        super().addFailure(test, err)
        self._note(test, "failed", self.failures[-1][1])

    def addSubTest(self, test: unittest.TestCase, subtest: unittest.TestCase, err: object) -> None:
        super().addSubTest(test, subtest, err)
        if err is not None:
            text = "".join(traceback.format_exception(*err))
            self._note(test, "failed", f"{subtest.id()}\n{text}")


def list_ids(suite: unittest.TestSuite) -> list[str]:
    """Give the ids of all the tests in the suite."""
    ids: list[str] = []
    for item in suite:
        ids += list_ids(item) if isinstance(item, unittest.TestSuite) else [item.id()]
    return ids


def drop_tests(suite: unittest.TestSuite, omitted: list[str]) -> unittest.TestSuite:
    """Give the suite without these tests."""
    kept = [
        drop_tests(item, omitted) if isinstance(item, unittest.TestSuite) else item
        for item in suite
        if isinstance(item, unittest.TestSuite) or item.id() not in omitted
    ]
    return type(suite)(kept)


def run_tests(module: str, patterns: list[str], omitted: list[str], listed: list[str], events: str) -> None:
    """Load the module's tests that match a pattern and run them, less those to be omitted."""
    recorder = Recorder(events, listed)
    loader = unittest.TestLoader()
    if patterns:
        loader.testNamePatterns = [f"*{pattern}*" for pattern in patterns]
    suite = loader.loadTestsFromModule(importlib.import_module(module))
    if loader.errors:
        raise ImportError(f"{module} could not be loaded: {loader.errors[0]}")
    recorder.write("loaded", tests=list_ids(suite))
    suite = drop_tests(suite, omitted)
    suite.run(recorder)
    support = importlib.import_module("test.support")
    recorder.write("end", altered=bool(support.environment_altered))


def main() -> None:
    """Set the process up as CPython's own runner does, then run."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--module", required=True)
    parser.add_argument("--events", required=True)
    parser.add_argument("-k", action="append", default=[], dest="patterns")
    parser.add_argument("--omit", action="append", default=[], dest="omitted")
    parser.add_argument("--listed", action="append", default=[])
    options = parser.parse_args()
    faulthandler.enable()
    # A shell's background job inherits an ignored SIGINT, and then the tests that send one hang.
    signal.signal(signal.SIGINT, signal.default_int_handler)
    # The log is a file: what is buffered would be written again by every process that a test forks.
    sys.stdout.reconfigure(line_buffering=True)
    # Left at None, test.support.use_resources means that all resources are on, as with `python -m test -u all`.
    run_tests(options.module, options.patterns, options.omitted, options.listed, options.events)


if __name__ == "__main__":
    main()
