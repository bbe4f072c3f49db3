"""The client: a process's side of its tree. Gets channels, starts children, survives forks and dead templates."""

from __future__ import annotations

import atexit
import os
import sys
from _thread import RLock
from select import POLLIN
from time import monotonic

from warmfork._client import launch
from warmfork._client.channel import Channel, log_note
from warmfork._client.spawn import get_flags
from warmfork._machine import fds, rights, role, state
from warmfork._words import messages
from warmfork._words.errors import AuditError, PreloadError, Refused, StartError, TemplateDied
from warmfork._words.outcome import read_status
from warmfork._words.spec import Spec, identify

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from warmfork._client.link import Link


TRIES = 3
"""Templates that may die before they serve until it is given up."""

GIVE_UP_TIMEOUT = 2.0

LOOK_AGAIN = 0.5
"""Seconds between two looks at whether there is a tracker, while we wait for a template and it is not our own."""


class Client:
    """This process as a client."""

    def __init__(self, door: fds.socket | None, identity: tuple[int, int] | None = None) -> None:
        self.pid = os.getpid()
        self.lock = RLock()
        self.tree: launch.Tree | None = None
        self.door = door
        self.door_identity = identity or (fds.identify(door.fileno()) if door is not None else (0, 0))
        self.channels: dict[tuple[object, ...], Channel] = {}
        self.recent: tuple[Spec | None, Channel | None] = None, None  # spares comparing specs at each start
        self.begun: dict[tuple[object, ...], tuple[fds.socket, tuple[Any, ...]]] = {}
        self.retired: list[Channel] = []
        self.in_birth: set[Link] = set()  # what was kept for them must live, whoever drops the handle

    # -- the tree

    def ensure_door(self, spec: Spec | None = None) -> fds.socket:
        """Give the door, starting a tracker where there is none. Raises StartError."""
        if role.kind == role.TEMPLATE and self.door is None:
            self.door = fds.adopt_socket(os.dup(role.get_door()))
            self.door_identity = fds.identify(self.door.fileno())
        with self.lock:
            if self.door is not None and not self.is_door_ours():
                # The program closed all its fds, or reused the number: forget it, and never close it (M9).
                self.door.detach()
                self.door = None
                self.tree = None
            if self.tree is not None and not self.tree.is_ours():
                self.drop_door()
            fds.fill_standard_streams()
            if self.door is None:
                executable, flags = (spec.executable, spec.flags) if spec else get_interpreter()
                environment = spec.environment if spec else state.join_environment(state.get_environment())
                atexit.register(log_last_reports)
                self.tree = launch.launch_tracker(executable, flags, environment, role.prefix)
                self.door = self.tree.door
                self.door_identity = fds.identify(self.door.fileno())
            elif self.tree is not None:
                self.ensure_tracker(self.tree)
            return self.door

    def ensure_tracker(self, tree: launch.Tree) -> None:
        """Log what the tracker has reported, and start a successor where it is dead and no template has (M21)."""
        self.log_reports()
        if not tree.has_tracker():
            try:
                tree.start_successor()
            except OSError as error:
                raise StartError(
                    "launch", f"the tracker is dead, and no successor could be started: {error}"
                ) from error

    def is_door_ours(self) -> bool:
        """Does the door's fd still mean the door?"""
        try:
            return self.door is not None and fds.identify(self.door.fileno()) == self.door_identity
        except OSError:
            return False

    def log_reports(self) -> None:
        """Log what the tracker has reported since the last time."""
        tree = self.tree
        if tree is None or self.pid != os.getpid() or not tree.is_ours():
            return
        with self.lock:
            reports = tree.take_reports()
        if reports:
            from logging import getLogger

            for report in reports:
                getLogger("warmfork.tracker").log(report.level, "%s", report.text)

    def drop_door(self) -> None:
        """Nobody can hear us at this door: the next call makes another tree."""
        with self.lock:
            if self.door is not None and self.is_door_ours():
                self.door.close()
            if self.tree is not None:
                self.tree.close()
            self.door, self.tree = None, None

    def tell(self, message: messages.Message, passed: tuple[int, ...] = ()) -> None:
        """Send the tracker a message: one lock-free send, safe from the garbage collector once the door exists."""
        from warmfork._words import wire

        data = wire.encode(message)
        door, tree = self.door, self.tree
        if door is None or not self.is_door_ours() or (tree is not None and not tree.has_tracker()):
            door = self.ensure_door()
        try:
            fds.send_within(door, data, passed)
        except (BrokenPipeError, ConnectionError):
            self.drop_door()
            fds.send_within(self.ensure_door(), data, passed)

    # -- channels

    def get_channel(self, spec: Spec, timeout: float | None) -> Channel:
        """Give a channel to the template of this spec, which is sealed then. Raises PreloadError, AuditError, StartError."""
        recent, channel = self.recent
        if recent is spec and channel is not None and not channel.dead:
            return channel
        key = identify(spec)
        channel = self.channels.get(key)
        if channel is not None and not channel.dead:
            self.recent = spec, channel
            return channel
        if role.kind == role.TEMPLATE:
            raise StartError("template", "a template starts no processes: its preload must not")
        with self.lock:
            channel = self.channels.get(key)
            if channel is not None and not channel.dead:
                return channel
            if channel is not None:
                self.retired.append(self.channels.pop(key))
            channel = self.open_channel(spec, timeout)
            self.channels[key] = channel
            return channel

    def begin(self, spec: Spec) -> None:
        """Say hello without waiting for the welcome. What goes wrong is said by get_channel()."""
        key = identify(spec)
        with self.lock:
            if role.kind != role.TEMPLATE and key not in self.channels and key not in self.begun:
                try:
                    self.begun[key] = launch.say_hello(self.ensure_door(spec), spec, False), rights.take()
                except (StartError, OSError):
                    self.begun.pop(key, None)

    def get_live_channel(self, spec: Spec, timeout: float | None) -> Channel:
        """Give a channel to a template that is not known to be dead at this moment; the other one costs no system call."""
        channel = self.get_channel(spec, timeout)
        channel.catch_up()
        return self.get_channel(spec, timeout) if channel.dead else channel

    def take_begun(self, spec: Spec) -> tuple[fds.socket, tuple[Any, ...]] | None:
        """Give the channel of a hello that begin() said, if there is one, and what this process might do then."""
        key = identify(spec)
        return self.begun.pop(key) if key in self.begun else None

    def open_channel(self, spec: Spec, timeout: float | None) -> Channel:
        """Say hello and wait for the welcome."""
        deadline = None if timeout is None else monotonic() + timeout
        failed = False
        for _ in range(TRIES):
            door = self.ensure_door(spec)
            try:
                # What it may do is asked for while the template comes up.
                said = self.take_begun(spec) or (launch.say_hello(door, spec, failed), rights.take())
                channel = Channel(*said)
            except (BrokenPipeError, ConnectionError):
                self.drop_door()
                continue
            try:
                self.wait_welcome(channel, deadline)
            finally:
                if not isinstance(channel.last, messages.Welcome):
                    channel.close()
            if isinstance(channel.last, messages.Welcome):
                channel.born.argv = list(spec.argv)
                channel.born.sys_path = list(spec.sys_path)
                log_notes(channel.last)
                self.log_reports()  # how the generation before it died
                return channel
            self.explain(spec, channel.last, timeout, deadline)
            failed = True
        raise StartError("template", "it died three times before it could serve")

    def wait_welcome(self, channel: Channel, deadline: float | None) -> None:
        """Wait until it is said, or why there is none. A tracker that dies meanwhile is succeeded, and reads our hello,
        or has handed it on; or has died over it, and then the channel ends."""
        while not is_answered(channel) and (deadline is None or monotonic() < deadline):
            tree = self.tree
            if tree is None:
                channel.wait_until(lambda: is_answered(channel), deadline)
                continue
            if fds.wait_readable(tree.pidfd, 0):
                # The one that we started is dead, maybe since a moment ago. Its successor may be nobody's but a
                # template's: we have no pidfd on that, so we look again after a while.
                self.ensure_tracker(tree)
                soon = monotonic() + LOOK_AGAIN
                channel.wait_until(lambda: is_answered(channel), soon if deadline is None else min(soon, deadline))
                continue
            pidfd = tree.pidfd
            channel.poller.register(pidfd, POLLIN)
            try:
                channel.wait_until(lambda: is_answered(channel) or fds.wait_readable(pidfd, 0), deadline)  # noqa: B023
            finally:
                channel.poller.unregister(pidfd)
            if not is_answered(channel):
                self.ensure_tracker(tree)

    def explain(self, spec: Spec, last: messages.Message | None, timeout: float | None, deadline: float | None) -> None:
        """Raise for what was answered in place of a welcome. Returns where it is worth asking again."""
        if isinstance(last, messages.PreloadFailed):
            raise PreloadError(last.module, last.cause, last.traceback)
        if isinstance(last, messages.Unsafe):
            raise AuditError(last.findings)
        if isinstance(last, messages.Refused) and last.rights:
            raise Refused(last.why)
        if isinstance(last, messages.Refused):
            raise StartError("template", last.why)
        if isinstance(last, messages.Broken):
            raise TemplateDied(last.deaths, last.seconds, read_status(last.status) if last.status >= 0 else None)
        if isinstance(last, messages.Died):
            how = f"the template ended while preloading: {read_status(last.status)}"
            if last.preloading:
                from warmfork._machine import stacks

                raise PreloadError(last.preloading, how, stacks.leave_out_own(last.stderr))
            raise StartError("template", f"{how} {last.stderr}".strip())
        if deadline is not None and monotonic() >= deadline:
            item = launch.give_up(self.ensure_door(spec), spec, GIVE_UP_TIMEOUT)
            step, at = ("preload", f', while it preloaded "{item}"') if item else ("start_timeout", "")
            raise StartError(step, f"not ready after {timeout} s (start_timeout){at}; it was ended")

    def retire(self, spec: Spec) -> Channel | None:
        """Let go of the template of this spec: the next start has a fresh one. Running children run on."""
        with self.lock:
            channel = self.channels.pop(identify(spec), None)
            if channel is not None:
                self.retired.append(channel)
                self.close_retired()
            return channel

    def close_retired(self) -> None:
        """Close the channels of former templates that owe us nothing any longer."""
        with self.lock:
            for channel in list(self.retired):
                channel.catch_up()
                if channel.dead or not channel.children.is_owed():
                    channel.close()
                    self.retired.remove(channel)

    def forget_retired(self) -> None:
        """Close the channels of former templates even where children live: the tracker tells about those."""
        with self.lock:
            for channel in self.retired:
                channel.catch_up()
                channel.close()
            self.retired.clear()

    # -- starting

    def get_door_fd(self) -> int:
        """Give the door's fd, or -1 where there is none to hand on."""
        return self.door.fileno() if self.door is not None and self.is_door_ours() else -1

    def tidy(self) -> None:
        """Let go of what was kept for children whose birth is over."""
        if self.in_birth:
            for link in tuple(self.in_birth):
                link.look()
        if self.retired:
            self.close_retired()
        if self.tree is not None:
            self.tree.reap()


def is_answered(channel: Channel) -> bool:
    """Was the hello answered, or will it never be?"""
    return channel.last is not None or channel.dead


def get_interpreter() -> tuple[str, tuple[str, ...]]:
    """Give this interpreter's executable and its options."""
    return sys.executable or "", get_flags()


def log_notes(welcome: messages.Welcome) -> None:
    """Log what the template's preload and audit found and policy let pass."""
    for note in welcome.notes:
        log_note(welcome.generation, note)


_client: Client | None = None


def get_client() -> Client:
    """Give this process's client. A forked copy of a client is a client of its own (M23)."""
    global _client
    if _client is None:
        door = role.get_door() if role.kind == role.CHILD else -1
        _client = Client(fds.adopt_socket(door) if door >= 0 else None)
    elif _client.pid != os.getpid():  # a C library's fork runs no handler of ours
        forget_after_fork()
    return _client


def log_last_reports() -> None:
    """Log what the tracker has reported, while there is somebody to read it."""
    atexit.unregister(
        log_last_reports
    )  # or it would keep this module's names alive, past those who warn of open sockets
    if _client is not None:
        _client.log_reports()


def forget_after_fork() -> None:
    """In a forked copy: drop the channels, keep the door, replace the locks."""
    global _client
    old = _client
    if old is None:
        return
    new = Client(old.door, old.door_identity)
    for begun, _ in old.begun.values():
        begun.close()
    for channel in (*old.channels.values(), *old.retired):
        channel.drop_after_fork()
    _client = new


os.register_at_fork(after_in_child=forget_after_fork)
