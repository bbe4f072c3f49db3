"""What a template does when nobody wants anything of it, and what of that can be switched off."""

from __future__ import annotations

import gc
from types import SimpleNamespace

import pytest

from warmfork._child import ending
from warmfork._idle import pretouch, rehearsal
from warmfork._idle.idle import TRAFFIC, Idle
from warmfork._template import forking, spares
from warmfork._template.spares import SparePolicy


@pytest.fixture
def done(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """What the idle template did, in order."""
    seen: list[str] = []

    def note(what: str, given: object = None):  # type: ignore[no-untyped-def]
        return lambda *_: (seen.append(what), given)[1]

    monkeypatch.setattr(rehearsal, "rehearse", note("rehearsal", iter([0])))
    monkeypatch.setattr(pretouch, "begin", note("pretouch", SimpleNamespace(reader=0, deadline=0.0)))
    monkeypatch.setattr(ending, "prepare_helper", note("helper"))
    for name in ("collect", "freeze", "unfreeze"):
        monkeypatch.setattr(gc, name, note(name))
    return seen


def make_idle(without: tuple[str, ...] = (), preload: tuple[str, ...] = (), policy: int = spares.AUTO) -> Idle:
    spec = SimpleNamespace(without=without, preload=preload)
    state = SimpleNamespace(spec=spec, board=None, base=(), policy=policy, clients=())
    loop = SimpleNamespace(watch=lambda *_, **__: None)
    return Idle(state, loop, SimpleNamespace(), lambda: None)


def warm(idle: Idle) -> None:
    while not idle.warmed:
        idle.warm()


def test_a_bare_template_rehearses_learns_and_freezes(done):
    """And collects nothing: that would run what the user's objects do when they end."""
    warm(make_idle())
    assert done == ["helper", "rehearsal", "freeze", "pretouch"]


def test_a_template_with_a_preload_has_its_helper_since_the_seal(done):
    warm(make_idle(preload=("numpy",)))
    assert done == ["rehearsal", "freeze", "pretouch"]


def test_what_a_birth_touches_is_found_out_where_there_is_much_traffic_and_not_before(done):
    idle = make_idle()
    idle.state.starts = 2
    while idle.is_warming_due():
        idle.warm()
    assert idle.rehearsed and "pretouch" not in done
    idle.state.starts = TRAFFIC + 1
    assert idle.is_warming_due()
    warm(idle)
    assert "pretouch" in done


def test_a_template_in_which_user_code_is_called_after_forks_has_no_throw_away_child(done, monkeypatch):
    monkeypatch.setattr(forking, "handlers", ["tracing"])
    warm(make_idle())
    assert "pretouch" not in done


def test_a_template_without_spares_learns_nothing_for_them(done):
    warm(make_idle(policy=spares.NONE))
    assert "pretouch" not in done


@pytest.mark.parametrize("name", ["helper", "rehearsal", "pretouch", "freeze"])
def test_what_is_switched_off_is_not_done_and_all_else_is(name, done):
    warm(make_idle(without=(name,)))
    everything = ("helper", "rehearsal", "freeze", "pretouch")
    assert done == [what for what in everything if what != name]


def test_what_goes_wrong_in_warming_up_costs_the_template_nothing_and_is_told(done, monkeypatch):
    def fail(*_: object) -> None:
        raise RuntimeError("of no use")

    monkeypatch.setattr(rehearsal, "rehearse", fail)
    idle = make_idle()
    told: list[str] = []
    monkeypatch.setattr(idle, "tell", told.append)
    warm(idle)
    assert told == ["without warm-up: RuntimeError: of no use"]


def test_what_clients_have_comes_first_then_spares_then_warm_up_and_huge_pages_last(done, monkeypatch):
    """A start from a spare that is cold is faster than one that waits for a fork that is warm."""
    idle = make_idle()
    state = idle.state
    state.children, state.titled, state.busy, state.latest, state.starts = {}, 0, 0.0, 0, 9
    state.wanted = ["a", "b"]
    client = SimpleNamespace(channel=True, traffic=SparePolicy(2))
    state.clients = [client]
    idle.collapses = True
    idle.children.deaths = SimpleNamespace(prepare=lambda: None)
    idle.children.load_wanted = lambda most: (done.append("load"), state.wanted.pop())

    def fork_spare(of: SimpleNamespace) -> None:
        done.append("spare")
        of.traffic.spares.add(len(done))
        state.children[len(done)] = None

    idle.children.fork_spare = fork_spare
    monkeypatch.setattr(idle, "is_memory_scarce", lambda: False)
    monkeypatch.setattr(idle, "collapse", lambda: done.append("collapse"))
    while "collapse" not in done:
        assert idle.get_due() is not None
        idle.use()
        idle.recording = None  # the throw-away child is dead
    kept = [one for one in dict.fromkeys(done) if one in ("load", "spare", "rehearsal", "collapse")]
    assert done[:4] == ["load", "load", "spare", "spare"]
    assert kept == ["load", "spare", "rehearsal", "collapse"]


def test_after_a_burst_its_children_are_left_alone_for_longer_than_after_a_single_start():
    idle = make_idle()
    traffic = SparePolicy(spares.AUTO)
    idle.state.busy, idle.state.latest, idle.state.children = 10.0, 7, {7: None}
    idle.state.clients = [SimpleNamespace(traffic=traffic)]
    traffic.note_start(10.0, missed=True)
    single = idle.get_start()
    traffic.note_start(10.01, missed=True, beside=True)
    assert 10.0 < single < idle.get_start() < 10.0 + spares.TOGETHER
