"""A template loads what its clients have loaded since it was sealed, so that its children need not."""

from __future__ import annotations

import sys

import warmfork
from tests.support import wait_until
from warmfork._client.channel import Channel
from warmfork._machine import fds, sockets
from warmfork._words import messages, wire


def find_loaded(*names: str) -> list[str]:
    """In a child: which of these does it have from its template? It must not load them to unpickle this."""
    return [name for name in names if name in sys.modules]


def say(template: warmfork.Template, *names: str) -> None:
    sockets.send_within(template._get_channel(20).socket, wire.encode(messages.Wanted(names)))


def test_what_a_client_says_that_it_has_is_there_in_its_next_child(monkeypatch):
    monkeypatch.delitem(sys.modules, "multiprocessing.sharedctypes", raising=False)  # a client says what it has
    with warmfork.Template(preload=[__name__], spares=0) as template:
        assert template.start(find_loaded, ("multiprocessing.sharedctypes",)).result(20) == []
        say(template, "multiprocessing.sharedctypes")
        assert template.start(find_loaded, ("multiprocessing.sharedctypes",)).result(20) != []


def test_nothing_else_is_loaded_whoever_asks_for_it():
    with warmfork.Template(preload=[__name__], spares=0) as template:
        say(template, "this", "tests.crashing", "multiprocessing.dummy", "", "multiprocessing.heap; import this")
        assert template.start(find_loaded, ("this", "tests.crashing", "multiprocessing.dummy")).result(20) == []


def test_it_is_loaded_in_idle_time_before_anybody_asks_for_a_child():
    """A spare that is forked after it has it: nobody has waited for that."""
    with warmfork.Template(preload=[__name__], spares=1) as template:
        template.start(find_loaded).result(20)
        say(template, "multiprocessing.sharedctypes")

        def has() -> bool:
            """A spare may be older."""
            return bool(template.start(find_loaded, ("multiprocessing.sharedctypes",)).result(20))

        wait_until(has, 20.0, "a child that has it")


def test_a_client_says_once_what_it_has(monkeypatch):
    here, there = sockets.make_pair()
    channel = Channel(here)
    monkeypatch.delitem(sys.modules, "multiprocessing.heap", raising=False)
    channel.tell_wanted()
    while fds.wait_readable(there.fileno(), 0):
        sockets.receive(there).close()
    channel.tell_wanted()
    assert not fds.wait_readable(there.fileno(), 0), "nothing is new"
    monkeypatch.setitem(sys.modules, "not_in_the_table", sys)
    channel.tell_wanted()
    assert not fds.wait_readable(there.fileno(), 0), "nothing is new that children will want"
    monkeypatch.setitem(sys.modules, "multiprocessing.heap", sys)
    for _ in range(2):
        channel.tell_wanted()
    with sockets.receive(there) as got:
        assert wire.decode(got.data) == messages.Wanted(("multiprocessing.heap",))
    assert not fds.wait_readable(there.fileno(), 0)
    there.close()
    monkeypatch.setitem(sys.modules, "multiprocessing.sharedctypes", sys)
    channel.told = frozenset()
    channel.modules = 0
    channel.tell_wanted()  # to a template that is dead: the start itself says so
    channel.close()
