from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from warmfork._words.children import Children
from warmfork._words.messages import Exited, Message, Spawned, SpawnFailed, Welcome


def die(pid: int, status: int = 0) -> Exited:
    return Exited(pid, status, 0, 0, 0, 0)


def take(children: Children, message: Message, fds: list[int]) -> list[int]:
    """Enter a message as if it had just come."""
    came = [object()]
    return children.take(message, fds, came, came[0])


def test_an_answer_is_kept_for_whoever_asked():
    children = Children()
    children.expect(1)
    children.expect(2)
    assert take(children, Spawned(2, 200), [5, 6]) == []
    assert children.waiting == {1}
    answer = children.answers[2]
    assert answer.fds == [5, 6]
    assert answer.record is children.living[200]
    assert answer.failure is None


def test_a_refusal_is_an_answer_without_a_child():
    children = Children()
    children.expect(1)
    refusal = SpawnFailed(1, 11, "fork")
    assert take(children, refusal, []) == []
    assert children.answers[1].failure is refusal
    assert children.answers[1].record is None
    assert children.living == {}


def test_the_fds_of_an_answer_that_nobody_waits_for_are_given_back():
    """Closing the feed sends that child away; its death is entered nevertheless."""
    children = Children()
    assert take(children, Spawned(9, 200), [5, 6]) == [5, 6]
    assert children.answers == {}
    assert 200 in children.living
    take(children, die(200), [])
    assert children.living == {}


def test_the_second_answer_to_one_request_is_given_back():
    children = Children()
    children.expect(1)
    take(children, Spawned(1, 200), [5, 6])
    assert take(children, Spawned(1, 201), [7, 8]) == [7, 8]
    assert children.answers[1].fds == [5, 6]


def test_a_pid_that_the_kernel_gives_out_again_is_not_mistaken():
    children = Children()
    for request in (1, 2):
        children.expect(request)
    take(children, Spawned(1, 200), [])
    first = children.answers[1].record
    take(children, die(200, 9), [])
    take(children, Spawned(2, 200), [])
    second = children.answers[2].record
    assert first is not second
    assert first.exited == die(200, 9)
    assert second.exited is None
    take(children, die(200, 0), [])
    assert (first.exited.status, second.exited.status) == (9, 0)


def test_the_death_of_a_stranger_changes_nothing():
    children = Children()
    assert take(children, die(77), [3]) == [3]
    assert children.living == {}


def test_fds_that_come_with_something_else_are_given_back():
    assert take(Children(), Welcome(1, 2, 3, 4, (), ()), [8]) == [8]


def test_spares_are_given_oldest_first():
    children = Children()
    for pid in (200, 201):
        assert take(children, Spawned(0, pid), [pid, pid + 1000]) == []
    given_ones = [children.take_spare() for _ in range(3)]
    assert [(spare.record.pid, spare.fds) for spare in given_ones[:2]] == [(200, [200, 1200]), (201, [201, 1201])]
    assert given_ones[2] is None
    assert set(children.living) == {200, 201}


def test_a_spare_that_has_died_is_not_given():
    children = Children()
    for pid in (200, 201, 202):
        take(children, Spawned(0, pid), [pid, pid + 10])
    take(children, die(200), [])
    take(children, die(202), [])
    assert children.take_spare().record.pid == 201
    assert children.take_spare() is None and children.spares == []


def test_a_spare_whose_fds_did_not_all_arrive_is_none():
    """The process was out of fds when it came. A later start had it, and failed, with fds to spare."""
    children = Children()
    assert take(children, Spawned(0, 200), [7]) == [7], "to be closed"
    assert children.take_spare() is None and not children.living


@given(
    st.lists(
        st.tuples(st.sampled_from(["ask", "spawn", "refuse", "death", "spare", "take spare"]), st.integers(1, 6)),
        max_size=50,
    )
)
def test_no_fd_is_ever_lost_or_given_twice(events):
    """Each fd that comes in is in an answer, in a spare, or given back to be closed, and once."""
    children = Children()
    came, back = 0, []
    for event, number in events:
        if event == "ask":
            children.expect(number)
            continue
        if event == "take spare":
            spares = list(children.spares)
            children.take_spare()
            for answer in spares[: len(spares) - len(children.spares)]:  # given, or dropped, and closed with that
                back += answer.fds
            continue
        fds = [came + 1, came + 2]
        came += 2
        message = {
            "spawn": Spawned(number, 100 + number % 3),
            "refuse": SpawnFailed(number, 11, "fork"),
            "death": die(100 + number % 3),
            "spare": Spawned(0, 100 + number % 3),
        }[event]
        kept = children.answers.get(number)
        back += take(children, message, fds)
        if event in ("spawn", "refuse") and kept is not None and children.answers[number] is not kept:
            back += kept.fds  # the same number was asked for again, which a client never does
    held = [fd for answer in (*children.answers.values(), *children.spares) for fd in answer.fds]
    assert sorted(back + held) == list(range(1, came + 1))
