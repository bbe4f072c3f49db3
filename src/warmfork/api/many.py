"""Many starts at once: all are asked for before any answer is waited for, and it is all of them or none.

They are asked for by a Spawn each and not in one message: the template takes requests one at a time, and in turns with
those of others, so nobody waits for a hundred forks because somebody else wants them. Nothing is fed, and so nothing of
the user's runs, before a whole wave of them exists.
"""

from __future__ import annotations

from resource import RLIMIT_NOFILE, getrlimit
from time import monotonic

from warmfork._client.handle import Child, send_away
from warmfork._client.starting import (
    SPAWN_TIMEOUT,
    TRIES,
    PendingStart,
    get_own_channel,
    make_refusal,
    make_timeout,
    wait_for_template,
)
from warmfork._words.errors import StartError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from warmfork._client.channel import Channel
    from warmfork._client.client import Client
    from warmfork._words.spec import Spec

WAVE = 200
"""Starts that are under way together: each takes two fds of this process until it is fed."""


def start_many(client: Client, spec: Spec, starts: list[PendingStart], timeout: float | None) -> list[Child]:
    """Start all of them, and give their handles in the same order.

    Raises what starting.start() raises. Then none is left running: one that could not be had ends those that were
    started in earlier waves (SIGKILL), and of its own wave none has run anything.
    """
    started: list[Child] = []
    size = max(1, min(WAVE, getrlimit(RLIMIT_NOFILE)[0] // 4))
    try:
        for at in range(0, len(starts), size):
            client.tidy()
            started += start_wave(client, spec, starts[at : at + size], timeout)
    except BaseException:
        end_all(started)
        raise
    return started


def start_wave(client: Client, spec: Spec, starts: list[PendingStart], timeout: float | None) -> list[Child]:
    """Start these, once all of them exist."""
    for _ in range(TRIES):
        channel = get_own_channel(client, spec, timeout)
        channel.check_rights()
        channel.tell_wanted()
        requests: list[int] = []
        waiting: list[Child] = []
        try:
            for start in starts:
                requests.append(channel.take_number())
                if not channel.request(requests[-1], start.order.kill, start.order.name):
                    break
            error: Exception | None = None
            try:
                for start in starts:
                    start.prepare(channel)
            except Exception as caught:
                error = caught
            waiting = wait_all(channel, requests, starts)
            if error is not None:
                raise error
            if len(waiting) == len(starts):
                return feed_all(channel, starts, waiting)
            send_away(waiting)  # the template died: what it has forked leaves, and another one is asked
        except BaseException:
            for request in requests:
                channel.forget_request(request)
            send_away(waiting)
            raise
    raise StartError("template", "it died three times during this start (the log of warmfork.tracker tells how)")


def wait_all(channel: Channel, requests: list[int], starts: list[PendingStart]) -> list[Child]:
    """Wait for the children, and give those that came: fewer than were asked for where the template died. Raises
    StartError where one of them could not be had, the others sent away."""
    deadline = monotonic() + SPAWN_TIMEOUT
    found: list[Child] = []
    error: StartError | None = None
    try:
        for request, start in zip(requests, starts, strict=False):
            answer = wait_for_template(start.client, channel, request, deadline)
            if answer is None:
                if not channel.dead:
                    error = make_timeout(channel)
                    break
            elif answer.failure is not None:
                error = error or make_refusal(answer.failure)
            else:
                found.append(Child._from_answer(channel, answer, start.order))
        if error is not None:
            raise error
    except BaseException:
        send_away(found)
        raise
    return found


def feed_all(channel: Channel, starts: list[PendingStart], waiting: list[Child]) -> list[Child]:
    """Feed them all. Raises what feed_only() raises, the others ended."""
    try:
        for start, child in zip(starts, waiting, strict=True):
            start.feed_only(channel, child)
    except BaseException:
        end_all(waiting)
        raise
    return waiting


def end_all(children: list[Child]) -> None:
    """End children, fed or not, and wait until they are dead."""
    for child in children:
        try:
            if child.is_running():
                child.kill()
        except PermissionError:
            continue  # it has become another user; the others are ended all the same
    send_away(children)
