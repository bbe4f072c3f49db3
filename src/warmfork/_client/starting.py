"""One start: a spare that is at hand, or a fork that is asked for; then the feed."""

from __future__ import annotations

import os
from time import monotonic, monotonic_ns

from warmfork._client import feeding
from warmfork._client.handle import Child, send_away
from warmfork._machine import pids
from warmfork._words import messages
from warmfork._words.errors import StartError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

    from warmfork._client.channel import Channel
    from warmfork._client.client import Client
    from warmfork._client.feeding import Payload, StartRequest
    from warmfork._words.children import Answer
    from warmfork._words.spec import Spec

TRIES = 3
"""Templates that may die under a start before it is given up. Nothing was fed to any of them, so trying again is safe."""

SPAWN_TIMEOUT = 60.0
"""Seconds for a sealed template to answer. It takes a millisecond; a machine that swaps may need many."""

SUSPICION = 6.0
"""Seconds without an answer after which the tracker is asked to look whether the template hangs."""


class PendingStart:
    """A start under way: what is to be started, and the feed once it is made."""

    def __init__(self, client: Client, order: StartRequest, make_payload: Callable[[], Payload]) -> None:
        self.client = client
        self.order = order
        self.make_payload = make_payload
        self.payload: Payload | None = None
        self.said: dict[str, Any] = {}

    def prepare(self, channel: Channel) -> None:
        """Pickle, and take the state. What the user's objects raise comes through."""
        if self.payload is None:
            self.payload = self.make_payload()
        self.said = feeding.take_state(channel.born, self.order)

    def feed(self, channel: Channel, child: Child) -> OSError | None:
        """Feed a child what was prepared, all of it. Where it took less, because it is dead, leaves, or stands still, it is
        ended, and the error is given: nothing of the user's has run in it. Raises StartError where this process can't send
        it, and other errors, the child sent away."""
        payload = self.payload
        if payload is None:
            raise RuntimeError("a child is sent what prepare() has made")
        link = child._link
        link.fed_us = monotonic_ns() // 1000
        try:
            feeding.feed(link.feed, channel.born, self.order, self.said, payload, self.client.get_door_fd())
            if payload.buffers:
                from warmfork._client import filling

                filling.fill(link, payload.buffers)
        except (ConnectionError, TimeoutError) as error:
            end_unfed(child)
            link.close()
            return error
        except BaseException as error:
            end_unfed(child)
            send_away([child])
            if isinstance(error, OSError):
                why = f"what the child is to do can't be sent: {error.strerror or error}"
                raise StartError("feed", why, error.errno) from error
            raise
        link.keep = payload.keep
        link.births = self.client.in_birth
        link.births.add(link)
        return None

    def feed_only(self, channel: Channel, child: Child) -> None:
        """Feed a child for which there is no other one. One that died before it was fed is a child all the same, and its
        outcome tells. Raises StartError where that would say that all went well, or it has taken nothing for long; and what
        feed() raises."""
        error = self.feed(channel, child)
        if error is None:
            return
        outcome = child.wait()
        if isinstance(error, TimeoutError):
            child.close()
            raise StartError("buffers" if self.payload and self.payload.buffers else "feed", str(error))
        if outcome.ok:
            child.close()
            raise StartError("feed", f"the child ended before it had taken what it was to do: {outcome}")


def end_unfed(child: Child) -> None:
    """End a child that was not fed whole: it may be stopped, or a fork of ours have a copy of its feed, and then it would
    not leave when that is closed."""
    try:
        child.kill()
    except PermissionError:  # a preload has made its template another user
        return


def start(
    client: Client, spec: Spec, order: StartRequest, make_payload: Callable[[], Payload], timeout: float | None
) -> Child:
    """Start a child. `make_payload` is called while the template forks; what it raises comes through, and the child that
    was forked for it is sent away. Raises PreloadError, AuditError, StartError, Refused."""
    under_way = PendingStart(client, order, make_payload)
    for _ in range(TRIES):
        channel = get_own_channel(client, spec, timeout)
        channel.check_rights()
        client.tidy()
        channel.tell_wanted()
        child = start_spare(under_way, channel) or start_fork(under_way, channel)
        if child is not None:
            channel.tell_wanted()  # what it took to pickle it
            return child
    raise StartError("template", "it died three times during this start (the log of warmfork.tracker tells how)")


def get_own_channel(client: Client, spec: Spec, timeout: float | None) -> Channel:
    """Give a channel whose fds still mean what they did (M9)."""
    channel = client.get_channel(spec, timeout)
    if not channel.is_ours():
        channel.forget()
        channel = client.get_channel(spec, timeout)
    return channel


def start_spare(under_way: PendingStart, channel: Channel) -> Child | None:
    """Start a child that was forked ahead: one send to it, no round trip. None where there is none at hand."""
    spare = channel.take_spare()
    if spare is None:
        return None
    try:
        under_way.prepare(channel)
    except BaseException:
        channel.return_spare(spare)
        raise
    while spare is not None:
        child = Child._from_answer(channel, spare, under_way.order)
        if under_way.feed(channel, child) is None:
            channel.tell_spare_taken(child.pid, under_way.order.kill, child.name)
            return child
        spare = channel.take_spare()  # it was leaving, or dies: the next one
    return None


def wait_for_template(client: Client, channel: Channel, request: int, deadline: float) -> Answer | None:
    """Wait for the answer to a request. One that does not come for long may be of a template that hangs: the tracker,
    which can see that, ends it then (M18), and the answer is None, as for any dead template."""
    answers = channel.children.answers
    while not channel.wait_until(lambda: request in answers, min(deadline, monotonic() + SUSPICION)):
        if channel.dead or monotonic() >= deadline:
            break
        client.tell(messages.Hung(channel.pid))
    return channel.wait_answer(request, monotonic())


def make_timeout(channel: Channel) -> StartError:
    """Make the error for a template that lives, and does not answer."""
    stopped = " (it is stopped, or held by a debugger: SIGCONT has it go on)" if pids.is_stopped(channel.pid) else ""
    return StartError("template", f"it has not answered for {SPAWN_TIMEOUT} s{stopped}")


def make_refusal(failure: messages.SpawnFailed) -> StartError:
    """Make the error for a step that the template could not take."""
    return StartError(failure.step, os.strerror(failure.errno), failure.errno)


def start_fork(under_way: PendingStart, channel: Channel) -> Child | None:
    """Have the template fork. None where it died before it did."""
    request = channel.take_number()
    try:
        return ask_and_feed(under_way, channel, request)
    except BaseException:
        channel.give_up(request)
        raise


def ask_and_feed(under_way: PendingStart, channel: Channel, request: int) -> Child | None:
    """Ask for a child, and feed it."""
    if not channel.request(request, under_way.order.kill, under_way.order.name):
        return None
    error: BaseException | None = None
    try:
        under_way.prepare(channel)
    except BaseException as caught:
        error = caught
    answer = wait_for_template(under_way.client, channel, request, monotonic() + SPAWN_TIMEOUT)
    if error is not None:
        if answer is not None and answer.record is not None:
            send_away([Child._from_answer(channel, answer, under_way.order)])
        raise error
    return feed_answer(under_way, channel, answer)


def feed_answer(under_way: PendingStart, channel: Channel, answer: Answer | None) -> Child | None:
    """Feed the child that came for a request. None where the template died before it forked."""
    if answer is None:
        if channel.dead:
            return None
        raise make_timeout(channel)
    if answer.failure is not None:
        raise make_refusal(answer.failure)
    child = Child._from_answer(channel, answer, under_way.order)
    under_way.feed_only(channel, child)
    return child
