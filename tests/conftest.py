"""After each test: is anything left? And the settings that all tests share."""

from __future__ import annotations

import os
import signal
import tempfile
from collections.abc import Iterator
from pathlib import Path

import hypothesis
import pytest

import warmfork
from tests import leftovers, targets
from tests.running import list_spares
from tests.support import wait_until
from warmfork._machine import pids

hypothesis.settings.register_profile("warmfork", deadline=None, database=None, max_examples=100)
hypothesis.settings.load_profile("warmfork")


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item, call):
    report = yield
    if report.when == "call":
        item.stash[FAILED] = report.failed
    return report


FAILED = pytest.StashKey[bool]()


@pytest.fixture(scope="session")
def private_tmpdir(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A TMPDIR of our own, so that what lies in it is ours."""
    folder = tmp_path_factory.mktemp("t")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("TMPDIR", str(folder))
        patch.setenv("XDG_CACHE_HOME", str(tmp_path_factory.mktemp("cache")))  # where preload="auto" keeps things
        patch.setattr(tempfile, "tempdir", None)
        yield folder


@pytest.fixture(scope="session", autouse=True)
def interruptible() -> None:
    """What we start can be interrupted. A shell starts what it runs in the background with SIGINT and SIGQUIT ignored, and
    nohup does so with SIGHUP; programs inherit that, and tests of these signals waited for ever."""
    for number in (signal.SIGINT, signal.SIGQUIT, signal.SIGHUP):
        if signal.getsignal(number) is signal.SIG_IGN:
            signal.signal(number, signal.default_int_handler if number == signal.SIGINT else signal.SIG_DFL)


@pytest.fixture(scope="session", autouse=True)
def group() -> None:
    """We are in a process group that our processes can join. One that is in another pid namespace they can't: nobody has
    spares there, and that has a test of its own."""
    if os.getpgrp() == 0:
        os.setpgid(0, 0)


@pytest.fixture(scope="session")
def subreaper() -> None:
    """Orphans of what we start become our children, so that none goes unseen."""
    pids.become_subreaper()


@pytest.fixture(autouse=True)
def nothing_is_left(request: pytest.FixtureRequest, private_tmpdir: Path, subreaper: None) -> Iterator[None]:
    """Fail a test that has left something behind (see leftovers.py)."""
    pid = os.getpid()
    before = leftovers.Snapshot(private_tmpdir)
    yield
    if os.getpid() != pid:
        # A forked copy that ran on into pytest would report a second time.
        os._exit(99)
    left = before.collect()
    if left and not request.node.stash.get(FAILED, False):
        pytest.fail("left behind:\n" + "\n".join(left), pytrace=False)


@pytest.fixture(scope="module")
def shared() -> Iterator[warmfork.Template]:
    """A template without spares, for all tests of a file."""
    with warmfork.Template(preload=["tests.targets"], spares=0) as made:
        made.wait_ready()
        yield made


@pytest.fixture
def template(shared: warmfork.Template) -> Iterator[warmfork.Template]:
    yield shared
    shared._children.clear()  # it keeps the handles of its last children until its next start


@pytest.fixture(params=[0, 2], ids=["forked", "spare"])
def either(request: pytest.FixtureRequest) -> Iterator[warmfork.Template]:
    """Without spares, and with two of them at hand: a start must look the same."""
    with warmfork.Template(preload=["tests.targets"], spares=request.param) as made:
        made.wait_ready()
        pid = made.pid
        if request.param:
            made.start(targets.give, (1,)).result(20)
            wait_until(lambda: len(list_spares(pid)) == request.param)
        yield made
