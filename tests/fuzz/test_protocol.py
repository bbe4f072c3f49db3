"""A process of the tree that has lost its mind costs itself, and nobody else anything (rows 30 to 33, M10, M16).

It holds the door, as all do, and opens channels and feeds; it says anything at any time on them, with any fds. Meanwhile
another client's starts work, and in the end template and tracker are the same, with no fd more and no child left.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from time import monotonic, sleep

import hypothesis
from hypothesis import stateful
from hypothesis import strategies as st

import warmfork
from tests import leftovers, targets
from tests.attacks.attackers import _kept, list_fds
from tests.fuzz.strategies import FILES, KINDS, OPENERS, WORDS, make_message, open_null, spoil
from tests.running import get_tracker
from tests.support import wait_until
from warmfork._client import launch
from warmfork._client.client import get_client
from warmfork._machine import fds, memfds, sockets
from warmfork._words import messages, wire
from warmfork._words.feed import HEADER, MAGIC
from warmfork._words.spec import Spec

SOON = 10.0
"""Seconds within which the other client is served."""

EXAMPLES = int(os.environ.get("WARMFORK_FUZZ_EXAMPLES") or 60)

REFUSALS = (BrokenPipeError, ConnectionError, BlockingIOError)
"""What sending may raise here: the other end has had enough, or is behind."""

template: warmfork.Template
"""The other client's, and the one that is talked to."""


def list_files(pid: int) -> list[str]:
    """What the fds of a process are on. One may be closed meanwhile."""
    found = []
    for fd in os.listdir(f"/proc/{pid}/fd"):
        with suppress(FileNotFoundError):
            found.append(os.readlink(f"/proc/{pid}/fd/{fd}"))
    return sorted(found)


def ask_tracker() -> messages.Message | None:
    """Have the tracker answer: it has read all that was said before."""
    return launch.ask(get_client().door, messages.Ask(1, 1), SOON)


def throw(socket: sockets.socket, data: bytes, openers: list[Callable[[], int]]) -> None:
    """Send this, with these files, whatever comes of it."""
    passed = [opener() for opener in openers]
    try:
        with suppress(*REFUSALS):
            sockets.send(socket, data, passed)
    finally:
        fds.close_all(passed)


class Madness(stateful.RuleBasedStateMachine):
    """What it may do, in any order."""

    channels: stateful.Bundle[sockets.socket] = stateful.Bundle("channels")
    feeds: stateful.Bundle[sockets.socket] = stateful.Bundle("feeds")

    def __init__(self) -> None:
        super().__init__()
        self.template = template.pid
        self.tracker = get_tracker()
        self.opened: list[sockets.socket] = []
        wait_until(lambda: not leftovers.list_children(self.template), SOON)
        # The longest of three: for a moment of each message the tracker lets go of the one that it has in reserve.
        looks = [{pid: list_files(pid) for pid in (self.template, self.tracker)} for _ in range(3) if ask_tracker()]
        self.files = {pid: max((look[pid] for look in looks), key=len) for pid in (self.template, self.tracker)}

    def open_channel(self, spec: Spec, failed: bool = False) -> sockets.socket:
        channel = launch.say_hello(get_client().door, spec, failed)
        self.opened.append(channel)
        return channel

    @stateful.rule(data=WORDS, openers=FILES)
    def throw_at_the_door(self, data: bytes, openers: list[Callable[[], int]]) -> None:
        throw(get_client().door, data, openers)

    @stateful.rule(failed=st.booleans(), openers=FILES)
    def say_hello_with_other_files(self, failed: bool, openers: list[Callable[[], int]]) -> None:
        throw(get_client().door, wire.encode(messages.Hello(os.getpid(), int(failed), len(openers) % 4)), openers)

    @stateful.rule(kind=st.sampled_from(KINDS), data=st.data())
    def say_any_message_with_fds_that_are_what_they_should_be(self, kind: type, data: st.DataObject) -> None:
        openers = list_fds(kind, "/nonexistent", wire.encode(template._get_spec(), largest=1 << 30))
        throw(get_client().door, wire.encode(data.draw(make_message(kind))), openers)
        while _kept:
            _kept.pop().close()

    @stateful.rule(opener=st.sampled_from(OPENERS))
    def say_hello_with_a_channel_that_is_none(self, opener: Callable[[], int]) -> None:
        spec = wire.encode(template._get_spec(), largest=1 << 30)
        openers = [opener, lambda: os.pidfd_open(os.getpid()), lambda: memfds.make_memory("spec", spec), open_null]
        throw(get_client().door, wire.encode(messages.Hello(os.getpid(), 0, 0)), openers)

    @stateful.rule(opener=st.sampled_from(OPENERS))
    def say_hello_with_a_spec_that_is_none(self, opener: Callable[[], int]) -> None:
        ours, theirs = sockets.make_pair()
        self.opened.append(ours)
        openers = [theirs.detach, lambda: os.pidfd_open(os.getpid()), opener, open_null]
        throw(get_client().door, wire.encode(messages.Hello(os.getpid(), 0, 0)), openers)
        with suppress(ConnectionError):
            assert fds.wait_readable(ours.fileno(), SOON), "it is told, or its channel ends"

    @stateful.rule(target=channels, failed=st.booleans())
    def say_hello(self, failed: bool) -> sockets.socket:
        return self.open_channel(template._get_spec(), failed)

    @stateful.rule(target=channels, text=st.text(max_size=10), number=st.integers(-3, 3))
    def say_hello_with_a_spec_of_nothing_that_exists(self, text: str, number: int) -> sockets.socket:
        spec = template._get_spec()
        changed = {"executable": "/nonexistent", "name": text, "preload": (text,), "spares": number}
        return self.open_channel(type(spec)(**{**dict(zip(spec.FIELDS, spec, strict=True)), **changed}))

    @stateful.rule(channel=channels, data=WORDS, openers=FILES)
    def throw_at_a_channel(self, channel: sockets.socket, data: bytes, openers: list[Callable[[], int]]) -> None:
        throw(channel, data, openers) if channel.fileno() >= 0 else None

    @stateful.rule(channel=channels, request=st.integers(-1, 3), name=st.text(max_size=200), many=st.integers(1, 8))
    def ask_for_children_and_wait_for_no_answer(
        self, channel: sockets.socket, request: int, name: str, many: int
    ) -> None:
        for _ in range(many if channel.fileno() >= 0 else 0):
            throw(channel, wire.encode(messages.Spawn(request, 1, name)), [])

    @stateful.rule(target=feeds, channel=channels)
    def take_a_child(self, channel: sockets.socket) -> object:
        if channel.fileno() < 0:
            return stateful.multiple()
        throw(channel, wire.encode(messages.Spawn(7, 1, "taken")), [])
        while fds.wait_readable(channel.fileno(), 1.0):
            try:
                got = sockets.receive(channel)
            except ConnectionError:
                continue
            if not got.data:
                break
            if isinstance(wire.decode(got.data), messages.Spawned) and len(got.fds) == 2:
                os.close(got.fds[0])
                feed = sockets.adopt_socket(got.fds[1])
                self.opened.append(feed)
                return feed
            fds.close_all(got.fds)
        return stateful.multiple()

    @stateful.rule(feed=feeds, data=WORDS, openers=FILES)
    def throw_at_a_child(self, feed: sockets.socket, data: bytes, openers: list[Callable[[], int]]) -> None:
        throw(feed, data, openers) if feed.fileno() >= 0 else None

    @stateful.rule(feed=feeds, sizes=st.tuples(*[st.integers(0, 2**32 - 1)] * 4), at=st.integers(0, 60))
    def feed_a_child_with_sizes_that_are_wrong(self, feed: sockets.socket, sizes: tuple[int, ...], at: int) -> None:
        if feed.fileno() >= 0:
            throw(feed, spoil(HEADER.pack(MAGIC, *sizes) + bytes(40), at + 4, 7), [])

    @stateful.rule(socket=channels | feeds)
    def let_go(self, socket: sockets.socket) -> None:
        socket.close()

    @stateful.rule()
    def another_client_starts(self) -> None:
        child = template.start(targets.give, (42,))
        assert child.result(SOON) == 42
        child.close()

    def teardown(self) -> None:
        self.another_client_starts()
        for socket in self.opened:
            socket.close()
        assert template.pid == self.template and template.generation == 1, "the template is the same"
        assert get_tracker() == self.tracker > 0
        wait_until(lambda: not leftovers.list_children(self.template), SOON, "its children left")
        for pid, before in self.files.items():
            until = monotonic() + SOON
            while len(now := list_files(pid)) > len(before) and monotonic() < until:
                sleep(0.01)
            said = Path(f"/proc/{pid}/cmdline").read_text()
            assert len(now) <= len(before), f"no fd more in {said}: {now}, and not {before}"


def test_whatever_one_process_says_costs_itself_and_nobody_else_anything():
    global template
    with warmfork.Template(spares=0) as template:
        template.wait_ready()
        for _ in range(3):
            assert template.start(targets.give, (1,)).result(SOON) == 1
        settings = hypothesis.settings(max_examples=EXAMPLES, stateful_step_count=20, deadline=None)
        stateful.run_state_machine_as_test(Madness, settings=settings)
        get_client().tidy()
