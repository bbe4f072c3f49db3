"""The client: a process's side of its tree. Gets channels, starts children, survives forks and dead templates."""

from __future__ import annotations

import atexit
import os
from _thread import RLock
from posix import getpid  # the function itself: tests of programs put theirs into os
from time import monotonic

from warmfork._client import launch, waiting, welcome
from warmfork._client.channel import Channel, log_note
from warmfork._machine import fds, pids, rights, role, sockets, state
from warmfork._words import messages, wire
from warmfork._words.errors import StartError
from warmfork._words.spec import Spec, identify

TYPE_CHECKING = False
if TYPE_CHECKING:
    from warmfork._client.link import Link


TRIES = 3
"""Templates that may die before they serve until it is given up."""

STARTS_PROCESSES = "a process was started while the preload list was loaded: a template starts none"
"""The cause where a preload, or a script without a main guard, starts processes."""

LOOK_AGAIN = 0.1
"""Seconds between two looks at whether our tracker lives, while we wait for a template."""

SUCCESSION = 3.0
"""Seconds that a process that is not the root waits for the root to have a successor of the dead tracker: it does as soon
as it waits for anybody, or starts anything."""


class Client:
    """This process as a client."""

    def __init__(self, door: sockets.socket | None, identity: tuple[int, int] | None = None) -> None:
        self.pid = getpid()
        self.lock = RLock()  # never held while we wait for somebody
        self.tree: launch.Tree | None = None
        self.door = door
        self.door_identity = identity or (fds.identify(door.fileno()) if door is not None else (0, 0))
        self.ids = rights.get_ids()
        self.channels: dict[tuple[object, ...], Channel] = {}
        self.recent: tuple[Spec | None, Channel | None] = None, None  # spares comparing specs at each start
        self.opening: dict[tuple[object, ...], Channel] = {}  # hellos that are not answered yet
        self.retired: list[Channel] = []
        self.in_birth: set[Link] = set()  # what was kept for them must live, whoever drops the handle

    # -- the tree

    def ensure_door(self, spec: Spec | None = None) -> sockets.socket:
        """Give the door, starting a tracker where there is none. Raises StartError."""
        if role.kind == role.TEMPLATE and self.door is None:
            self.door = sockets.adopt_socket(os.dup(role.get_door()))
            self.door_identity = fds.identify(self.door.fileno())
        with self.lock:
            if not self.is_door_ours() and self.door is not None:
                # The program closed all its fds, or reused the number: forget it, and never close it.
                self.door.detach()
                self.door = None
            if self.tree is not None and (self.door is None or not self.tree.is_ours()):
                self.drop_door()
            fds.fill_standard_streams()
            if self.door is None:
                executable, flags = (spec.executable, spec.flags) if spec else launch.get_own_interpreter()
                environment = spec.environment if spec else state.join_environment(state.get_environment())
                atexit.register(log_last_reports)
                self.tree = launch.launch_tracker(executable, flags, environment, role.prefix)
                self.door = self.tree.door
                self.door_identity = fds.identify(self.door.fileno())
            elif self.tree is not None:
                self.ensure_tracker(self.tree)
                self.ensure_open(self.tree)
            return self.door

    def ensure_open(self, tree: launch.Tree) -> None:
        """Have another door where somebody has shut ours: his siblings lose theirs, and we do not. Raises StartError."""
        with self.lock:
            if tree.is_door_shut():
                door = self.door = tree.renew_door()
                self.door_identity = fds.identify(door.fileno())

    def ensure_tracker(self, tree: launch.Tree) -> None:
        """Log what the tracker has reported, and start a successor where it is dead: nobody else does. Raises
        StartError."""
        self.log_reports()
        if tree.has_tracker() or self.pid != getpid():
            return
        with self.lock:
            if tree is not self.tree or tree.has_tracker():
                return  # another thread was as quick
            tree.start_successor()
            for channel in (*self.channels.values(), *self.retired):
                welcome.hand_over(tree, channel)

    def look_after_tracker(self) -> None:
        """Have a successor where our tracker is dead. Where there can be none, the next call that needs it says so."""
        tree = self.tree
        if tree and self.watch_tracker_fd() >= 0 and not (tree.has_tracker() or tree.is_hopeless()) and tree.is_ours():
            try:
                self.ensure_tracker(tree)
            except StartError:
                return

    def watch_tracker_fd(self) -> int:
        """Give an fd that becomes readable when our tracker dies, or -1: there is none, or it is not for us to start
        another."""
        tree = self.tree
        return tree.pidfd.fileno() if tree is not None and self.pid == getpid() and tree.is_watched() else -1

    def is_door_ours(self) -> bool:
        """Does the door's fd still mean the door, and are we still who was given it? Whoever has become another user is not
        heard at it any longer: what he tracked before stays with the old tree."""
        if self.ids != rights.get_ids():
            self.become_another()
        return self.door is not None and fds.is_still(self.door.fileno(), self.door_identity)

    def become_another(self) -> None:
        """This process has become another user, or of another group: it roots a tree of its own at its next call."""
        with self.lock:
            self.ids = rights.get_ids()
            old = [*self.channels.values(), *self.opening.values(), *self.retired]
            self.channels, self.opening, self.retired = {}, {}, []
            self.recent = None, None
            self.drop_door()
        for channel in old:
            channel.close()

    def log_reports(self) -> None:
        """Log what the tracker has reported since the last time."""
        tree = self.tree
        if tree is None or self.pid != getpid() or not tree.is_ours():
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
            door, tree = self.door, self.tree
            self.door, self.tree = None, None
            if door is not None and fds.is_still(door.fileno(), self.door_identity):
                door.close()
            elif door is not None:
                door.detach()
            if tree is not None:
                tree.close()

    def forget_shut_door(self) -> None:
        """Nothing can be sent through the door. Of our own tree we make another one at the next call."""
        if self.tree is None or not self.tree.is_door_shut():
            self.drop_door()

    def tell(self, message: messages.Message, passed: tuple[int, ...] = ()) -> None:
        """Send the tracker a message: one lock-free send, safe from the garbage collector once the door exists."""
        data = wire.encode(message)
        door, tree = self.door, self.tree
        if door is None or not self.is_door_ours() or (tree is not None and not tree.has_tracker()):
            door = self.ensure_door()
        try:
            sockets.send_within(door, data, passed)
        except ConnectionError:
            self.forget_shut_door()
            sockets.send_within(self.ensure_door(), data, passed)

    def register(self, kind: str, name: str) -> None:
        """Have a name removed with the tree. Raises OSError where the folder that it is in is not there, StartError."""
        launch.tell_of_name(self, messages.Register(kind, name), [])

    def hold(self, kind: str, name: str) -> None:
        """Have a name removed with this process. Raises as register() does."""
        launch.tell_of_name(self, messages.Track(kind, name), [fds.Fd(pids.open_pidfd(getpid()))])

    # -- channels

    def get_channel(self, spec: Spec, timeout: float | None) -> Channel:
        """Give a channel to the template of this spec, which is sealed then. Raises PreloadError, AuditError, StartError."""
        if self.ids != rights.get_ids():
            self.become_another()
        recent, channel = self.recent
        if recent is spec and channel is not None and not channel.dead:
            return channel
        key = identify(spec)
        channel = self.channels.get(key)
        if channel is not None and not channel.dead:
            self.recent = spec, channel
            return channel
        if role.kind == role.TEMPLATE:
            raise StartError("template", STARTS_PROCESSES)
        return self.open_channel(key, spec, timeout)

    def begin(self, spec: Spec) -> None:
        """Say hello without waiting for the welcome. What goes wrong is said by get_channel()."""
        key = identify(spec)
        if role.kind != role.TEMPLATE and key not in self.channels:
            try:
                self.say_hello(key, spec, False)
            except (StartError, OSError):
                return

    def say_hello(self, key: tuple[object, ...], spec: Spec, failed: bool) -> Channel:
        """Give the channel to this template, or the one that is being opened; where there is none, say hello. Raises
        StartError, OSError."""
        with self.lock:
            channel = self.channels.get(key)
            if channel is not None and channel.dead:
                self.retired.append(self.channels.pop(key))
                channel = None
            channel = channel or self.opening.get(key)
            if channel is None:
                door = self.ensure_door(spec)
                tree = self.tree
                # What it may do is asked for while the template comes up.
                channel = Channel(launch.say_hello(door, spec, failed), rights.take())
                channel.name = spec.name
                channel.succession = tree.successions if tree is not None else 0
                self.opening[key] = channel
            return channel

    def get_live_channel(self, spec: Spec, timeout: float | None) -> Channel:
        """Give a channel to a template that is not known to be dead at this moment; the other one costs no system call."""
        channel = self.get_channel(spec, timeout)
        channel.catch_up()
        return self.get_channel(spec, timeout) if channel.dead else channel

    def open_channel(self, key: tuple[object, ...], spec: Spec, timeout: float | None) -> Channel:
        """Say hello and wait for the welcome. Threads that want the same template wait for the same answer; those that
        want another wait beside them."""
        deadline = None if timeout is None else monotonic() + timeout
        failed = False
        for _ in range(TRIES):
            try:
                channel = self.say_hello(key, spec, failed)
            except ConnectionError:
                self.forget_shut_door()
                continue
            except OSError as error:
                raise welcome.make_unaskable(error) from error.__cause__ or error
            last = self.wait_welcome(key, spec, channel, deadline)
            if isinstance(last, messages.Welcome):
                return channel
            welcome.explain(last)
            if deadline is not None and monotonic() >= deadline:
                raise welcome.make_late(self, spec, channel, timeout)
            failed = True
        raise welcome.make_unstartable()

    def wait_welcome(
        self, key: tuple[object, ...], spec: Spec, channel: Channel, deadline: float | None
    ) -> messages.Message | None:
        """Wait until it is said, or why there is none, and enter the channel. A tracker that dies meanwhile is succeeded,
        and its successor reads our hello, or it has handed that on; or has died over it, and then the channel ends."""
        with self.lock:
            channel.waiting += 1
        patience = None if self.tree is not None or role.is_tracker_alive() else monotonic() + SUCCESSION
        alone = False
        try:
            while not welcome.is_answered(channel) and (deadline is None or monotonic() < deadline):
                if patience is not None and monotonic() >= patience:
                    # Nobody has a successor: neither waits the program for anybody, nor does it start anything.
                    self.drop_door()
                    channel.end()
                    break
                soon = monotonic() + LOOK_AGAIN
                channel.wait_until(
                    lambda: welcome.is_answered(channel), soon if deadline is None else min(soon, deadline)
                )
                if self.tree is not None and not self.tree.has_tracker():
                    self.ensure_tracker(self.tree)
        finally:
            with self.lock:
                channel.waiting -= 1
                alone = not channel.waiting
                if self.opening.get(key) is channel and (welcome.is_answered(channel) or alone):
                    del self.opening[key]
                    if isinstance(channel.last, messages.Welcome):
                        self.enter(key, spec, channel)
            if alone and not isinstance(channel.last, messages.Welcome):
                channel.close()
        return channel.last

    def enter(self, key: tuple[object, ...], spec: Spec, channel: Channel) -> None:
        """A channel is open: the next starts have it."""
        self.channels[key] = channel
        channel.born.argv = list(spec.argv)
        channel.born.sys_path = list(spec.sys_path)
        tree = self.tree
        if tree is not None and tree.successions != channel.succession:
            welcome.hand_over(tree, channel)  # the tracker that started it died meanwhile
        if isinstance(channel.last, messages.Welcome):
            for note in channel.last.notes:  # what preload and audit found, and policy let pass
                log_note(channel.generation, note)
        self.log_reports()  # how the generation before it died

    def retire(self, spec: Spec) -> Channel | None:
        """Let go of the template of this spec: the next start has a fresh one. Running children run on."""
        with self.lock:
            channel = self.channels.pop(identify(spec), None)
            if channel is not None:
                self.retired.append(channel)
        if channel is not None:
            self.close_retired()
        return channel

    def close_retired(self, owed: bool = False) -> None:
        """Close the channels of former templates that owe us nothing any longer; or those, too, that do (`owed`): the
        tracker tells about their children."""
        for channel in list(self.retired):
            channel.catch_up()
            if owed or channel.dead or not channel.children.is_owed():
                self.close_channel(channel)

    def close_channel(self, channel: Channel) -> None:
        """Close the channel of a former template, and keep what tells of the children that it has left, if any."""
        with self.lock:
            if channel not in self.retired:
                return  # another thread was as quick
            self.retired.remove(channel)
            if self.tree is not None and channel.children.is_owed():
                welcome.keep(self.tree, channel)
            channel.close()

    # -- starting

    def get_door_fd(self) -> int:
        """Give the door's fd, or -1 where there is none to hand on."""
        if self.door is None or not self.is_door_ours():
            return -1
        if self.tree is not None and self.tree.is_ours() and self.tree.has_tracker():
            self.ensure_open(self.tree)
        return self.door.fileno()

    def tidy(self) -> None:
        """Let go of what was kept for children whose birth is over."""
        if self.in_birth:
            for link in tuple(self.in_birth):
                link.look()
        if self.retired:
            self.close_retired()
        if self.tree is not None:
            self.look_after_tracker()


_client: Client | None = None


def get_client() -> Client:
    """Give this process's client. A forked copy of a client is a client of its own (M23)."""
    global _client
    if _client is None:
        door = role.get_door() if role.kind == role.CHILD else -1
        _client = Client(sockets.adopt_socket(door) if door >= 0 else None)
        if door >= 0:
            _client.ids = role.ids  # where we are somebody else by now, it is not our door
        waiting.client = _client
    elif _client.pid != getpid():  # a C library's fork runs no handler of ours
        forget_after_fork()
    return _client


def log_last_reports() -> None:
    """Log what the tracker has reported, while there is somebody to read it."""
    # Or it would keep this module's names alive, past those who warn of open sockets.
    atexit.unregister(log_last_reports)
    if _client is not None:
        _client.look_after_tracker()
        _client.log_reports()


def forget_after_fork() -> None:
    """In a forked copy: drop the channels, keep the door, replace the locks."""
    global _client
    if (old := _client) is None:
        return
    new = Client(old.door, old.door_identity)
    if old.tree is not None:
        role.tracker = old.tree.tracker, pids.read_since(old.tree.tracker) or -1  # where it is dead: never equal
        old.tree.close()  # or its fds would be closed with it, whoever has their numbers by now
    for channel in (*old.channels.values(), *old.opening.values(), *old.retired):
        channel.drop_after_fork()
    _client = waiting.client = new


os.register_at_fork(after_in_child=forget_after_fork)
