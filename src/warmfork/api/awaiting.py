"""A start that does not block: the template forks while an event loop goes on, and the answer is waited for by the loop.

No thread is used. Each loop has one reader for each channel, which enters what comes for everybody, as any waiter does.
"""

from __future__ import annotations

import os
from asyncio import CancelledError, get_running_loop
from time import monotonic

from warmfork._client import client as client_
from warmfork._client import welcome
from warmfork._client.channel import GIVE_UP_TIMEOUT
from warmfork._client.starting import SPAWN_TIMEOUT, SUSPICION, TRIES, PendingStart, feed_answer, start_spare
from warmfork._machine import rights, role
from warmfork._words import messages
from warmfork._words.errors import StartError
from warmfork._words.spec import identify

TYPE_CHECKING = False
if TYPE_CHECKING:
    from asyncio import AbstractEventLoop, Future, TimerHandle
    from collections.abc import Callable

    from warmfork._client.channel import Channel
    from warmfork._client.client import Client
    from warmfork._client.feeding import Payload, StartRequest
    from warmfork._client.handle import Child
    from warmfork._words.spec import Spec

RECHECK = 0.02
"""Seconds after which a loop looks again: a thread that waits at the same channel may have read what is for us."""

LOOK_AGAIN = 0.1
"""Seconds between two looks at whether a template that preloads, and its tracker, are still there."""


class ChannelReader:
    """What one event loop waits for at one channel."""

    def __init__(self, loop: AbstractEventLoop, channel: Channel) -> None:
        self.loop = loop
        self.channel = channel
        self.waiting: dict[Future[None], Callable[[], bool]] = {}
        self.timer: TimerHandle | None = None
        self.numbers: list[int] = []

    async def wait_until(self, ready: Callable[[], bool], deadline: float | None = None) -> bool:
        """Wait until that is so. False where the channel ended, or the deadline passed, first."""
        self.channel.catch_up()
        if ready():
            return True
        future: Future[None] = self.loop.create_future()
        self.waiting[future] = ready
        self.listen()
        handle = None
        if deadline is not None:
            handle = self.loop.call_later(max(0.0, deadline - monotonic()), finish, future)
        try:
            await future
        finally:
            if handle is not None:
                handle.cancel()
            self.waiting.pop(future, None)
            if not self.waiting:
                self.stop()
        return ready()

    def listen(self) -> None:
        """Have the loop call us. Our fds are copies: the channel may be closed, and its numbers be another's, while the
        loop still has them."""
        if self.timer is None and not self.channel.dead:
            self.numbers = [os.dup(fd) for fd in (self.channel.socket.fileno(), self.channel.template) if fd >= 0]
            for number in self.numbers:
                self.loop.add_reader(number, self.look)
            self.timer = self.loop.call_later(RECHECK, self.look_again)
        elif self.channel.dead:
            self.loop.call_soon(self.look)

    def stop(self) -> None:
        """Have it call us no longer. First that, then the close: a loop that watches a closed fd never hears of it."""
        if self.timer is not None:
            self.timer.cancel()
            self.timer = None
        numbers, self.numbers = self.numbers, []
        for number in numbers:
            if not self.loop.is_closed():
                self.loop.remove_reader(number)
            os.close(number)

    def look_again(self) -> None:
        """Look, and once more after a while."""
        self.timer = self.loop.call_later(RECHECK, self.look_again)
        self.look()

    def look(self) -> None:
        """Read what has come, and wake whom it is for."""
        self.channel.catch_up()
        over = self.channel.dead
        for future, ready in list(self.waiting.items()):
            if over or ready():
                finish(future)
        if over:
            self.stop()


def finish(future: Future[None]) -> None:
    """Set a future, unless somebody has."""
    if not future.done():
        future.set_result(None)


_readers: dict[tuple[int, int], ChannelReader] = {}


def get_reader(loop: AbstractEventLoop, channel: Channel) -> ChannelReader:
    """Give what this loop waits with at this channel."""
    key = id(loop), id(channel)
    reader = _readers.get(key)
    if reader is None or reader.loop is not loop or reader.channel is not channel:
        for old in [name for name, one in _readers.items() if one.loop.is_closed() or one.channel.dead]:
            if not _readers[old].waiting:
                _readers.pop(old).stop()
        reader = _readers[key] = ChannelReader(loop, channel)
    return reader


async def get_channel(loop: AbstractEventLoop, client: Client, spec: Spec, timeout: float | None) -> Channel:
    """Give a channel to the template of this spec, waiting until it has preloaded. Raises what Client.get_channel() does."""
    if role.kind == role.TEMPLATE or client.ids != rights.get_ids():
        return client.get_channel(spec, timeout)
    key = identify(spec)
    deadline = None if timeout is None else monotonic() + timeout
    failed = False
    for _ in range(client_.TRIES):
        known = client.channels.get(key)
        if known is not None:
            if not known.is_ours():
                known.forget()
            known.catch_up()
            if not known.dead:
                return known
        try:
            channel = client.say_hello(key, spec, failed)
        except (StartError, OSError):
            return client.get_channel(spec, timeout)  # which says why
        await wait_answered(loop, client, channel, deadline)
        last = client.wait_welcome(key, spec, channel, monotonic())  # waits no longer
        if isinstance(last, messages.Welcome):
            return channel
        welcome.explain(last)
        if deadline is not None and monotonic() >= deadline:
            raise welcome.make_late(client, spec, channel, timeout)
        failed = True
    raise welcome.make_unstartable()


async def wait_answered(loop: AbstractEventLoop, client: Client, channel: Channel, deadline: float | None) -> None:
    """Wait until a hello is answered, or never will be, or the deadline has passed; as Client.wait_welcome() does."""
    reader = get_reader(loop, channel)
    patience = None if client.tree is not None or role.is_tracker_alive() else monotonic() + client_.SUCCESSION
    with client.lock:
        channel.waiting += 1  # nobody else gives it up meanwhile
    try:
        while not welcome.is_answered(channel) and (deadline is None or monotonic() < deadline):
            if patience is not None and monotonic() >= patience:
                client.drop_door()
                channel.end()
                return
            soon = monotonic() + LOOK_AGAIN
            await reader.wait_until(
                lambda: welcome.is_answered(channel), soon if deadline is None else min(soon, deadline)
            )
            if client.tree is not None and not client.tree.has_tracker():
                client.ensure_tracker(client.tree)  # has a successor
    finally:
        with client.lock:
            channel.waiting -= 1


async def start(
    client: Client,
    spec: Spec,
    order: StartRequest,
    make_payload: Callable[[], Payload],
    timeout: float | None,
) -> tuple[Child, ChannelReader]:
    """Start a child as starting.start() does, and give it with what its end can be waited for with. The payload must not
    have buffers: those would be waited for."""
    loop = get_running_loop()
    under_way = PendingStart(client, order, make_payload)
    for _ in range(TRIES):
        channel = await get_channel(loop, client, spec, timeout)
        channel.check_rights()
        client.tidy()
        child = start_spare(under_way, channel)
        reader = get_reader(loop, channel)
        if child is None:
            child = await start_fork(under_way, channel, reader)
        if child is not None:
            return child, reader
    raise StartError("template", "it died three times under this start")


async def wait_anyhow(reader: ChannelReader, ready: Callable[[], bool]) -> None:
    """Wait until that is so, for a moment, whoever cancels that too."""
    deadline = monotonic() + GIVE_UP_TIMEOUT
    while not ready() and not reader.channel.dead and monotonic() < deadline:
        try:
            await reader.wait_until(ready, deadline)
        except CancelledError:
            continue


async def start_fork(under_way: PendingStart, channel: Channel, reader: ChannelReader) -> Child | None:
    """Have the template fork. None where it died before it did."""
    under_way.prepare(channel)
    request = channel.take_number()
    answers = channel.children.answers
    try:
        if not channel.request(request, under_way.order.kill, under_way.order.name):
            return None
        deadline = monotonic() + SPAWN_TIMEOUT
        while not await reader.wait_until(lambda: request in answers, min(deadline, monotonic() + SUSPICION)):
            if channel.dead or monotonic() >= deadline:
                break
            under_way.client.tell(messages.Hung(channel.pid))
    except CancelledError:
        # Its child may be on its way: it is sent away as soon as it is here, for it leaves when we close its feed.
        await wait_anyhow(reader, lambda: request not in channel.children.waiting)
        channel.forget_request(request)
        raise
    except BaseException:
        channel.forget_request(request)
        raise
    answer = channel.wait_answer(request, monotonic())
    if answer is None:
        channel.forget_request(request)
    return feed_answer(under_way, channel, answer)
