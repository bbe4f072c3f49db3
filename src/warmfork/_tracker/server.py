"""The tracker's loop: the door, the templates, orphans and their fates, the end of the tree.

It never forks for a client, never unpickles, and blocks on nobody.
"""

from __future__ import annotations

import os
from select import EPOLLHUP, EPOLLIN, epoll
from time import monotonic_ns

from warmfork._machine import evidence, fds, memory, pids, signals, titles
from warmfork._tracker import names, orphans
from warmfork._tracker.answers import say_on, say_to
from warmfork._tracker.main import Started
from warmfork._tracker.templates import Template, launch, read_spec, read_tail
from warmfork._words import ledger as ledger_
from warmfork._words import messages, protocol, wire
from warmfork._words.spec import identify

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from resource import struct_rusage

    from warmfork._words.spec import Spec

KEPT_BOARDS = 8
"""Boards of dead templates that are kept for `warmfork ps --all`."""

FATES = 4096
"""Statuses of orphans that are kept for whoever asks."""

DYING = 0.5
"""Seconds between a template's last words and its death, at most."""


class Server:
    """What the tracker of a tree knows."""

    def __init__(self, door: fds.socket, root: fds.Received, root_stack: int) -> None:
        said = wire.decode(root.data)
        protocol.step(protocol.DOOR, "new", protocol.UP, said)
        if not isinstance(said, messages.Root) or len(root.fds) != 1:
            raise RuntimeError(f"a tracker starts with a Root and its pidfd, not {said!r}")
        self.root = said
        self.root_pidfd = root.fds[0]
        self.root_stack = root_stack
        self.root_dead = False
        self.door = door
        self.door_open = True
        self.mixed = False
        self.ledger = ledger_.Ledger()
        self.titles = {said.pid: names.read_title(said.pid) or said.name}
        self.templates: dict[tuple[object, ...], Template] = {}
        self.by_pid: dict[int, Template] = {}
        self.fates: dict[int, messages.Fate] = {}
        self.asked: dict[int, list[fds.socket]] = {}
        self.witness = evidence.Witness()
        self.poller = epoll()
        self.handlers: dict[int, Callable[[int], None]] = {}
        self.watch(door.fileno(), self.read_door)
        self.watch(self.root_pidfd, self.bury_root)
        self.awake = self.listen_to_deaths()
        self.let_go_of_stdout()
        titles.load()
        titles.set_title(f"warmfork: tracker {said.name}")

    def let_go_of_stdout(self) -> None:
        """Hold the program's stderr only: a pipe behind its stdout is to end when it ends."""
        null = os.open(os.devnull, os.O_RDWR | os.O_CLOEXEC)
        os.dup2(null, 1)
        os.close(null)

    def watch(self, fd: int, handler: Callable[[int], None]) -> None:
        """Call this handler when something happens on this fd."""
        self.handlers[fd] = handler
        self.poller.register(fd, EPOLLIN)

    def forget(self, fd: int) -> None:
        """Stop watching; always before the fd is closed."""
        del self.handlers[fd]
        self.poller.unregister(fd)

    # -- the loop

    def serve(self) -> int:
        """Serve until the tree has ended. Gives the exit code: 1 where names were left, as the stdlib's tracker does."""
        while not (self.root_dead and not self.door_open and not self.has_children()):
            for fd, events in self.poller.poll():
                handler = self.handlers.get(fd)
                if handler is not None:
                    handler(events)
        left = names.sweep(self.ledger, self.mixed)
        names.sweep_prefix(self.root.prefix)
        return 1 if left else 0

    def has_children(self) -> bool:
        """Does any process live that is ours to wait for: a template, or an orphan?"""
        try:
            return os.waitid(os.P_ALL, 0, os.WEXITED | os.WNOHANG | os.WNOWAIT) is None
        except ChildProcessError:
            return False

    def bury_root(self, _events: int) -> None:
        """The program is dead. Templates see it themselves, unless they still preload."""
        self.root_dead = True
        self.forget(self.root_pidfd)
        for template in self.by_pid.values():
            if template.alive and not template.ready and template.askers <= {self.root.pid}:
                os.kill(template.pid, 9)
        for template in self.by_pid.values():
            if not template.alive:
                orphans.end(template, self.root.pid)

    # -- the door

    def serve_first(self, first: fds.Received, started: Started | None) -> None:
        """Serve the message that came before the loop; its template may have been forked already."""
        if started is None:
            self.serve_message(first)
            return
        spec_fd = first.fds[2]
        spec = read_spec(spec_fd)
        template = Template(identify(spec), spec.name, 1, started.pid, started.control, started.board, started.log)
        self.add_template(template)
        fds.close_all(first.fds)

    def read_door(self, events: int) -> None:
        """Read one message from the door."""
        try:
            got = fds.receive(self.door)
        except BlockingIOError:
            return
        if not got.data:
            if events & EPOLLHUP:
                # Nobody holds a sending end: every process of the tree is dead, or has closed all its fds.
                self.door_open = False
                self.forget(self.door.fileno())
                if not self.root_dead and self.root_stack and memory.read_start_stack(self.root.pid) != self.root_stack:
                    self.bury_root(0)  # it has become another program (M1)
            return
        try:
            self.serve_message(got)
        except fds.NoSocket:
            fds.close_all(got.fds)

    def serve_message(self, got: fds.Received) -> None:
        """Do what the message asks. Nonsense, or fds that did not all arrive, cost the sender its message."""
        try:
            message = wire.decode(got.data)
            protocol.step(protocol.DOOR, "open", protocol.UP, message)
        except ValueError:
            fds.close_all(got.fds)
            return
        if isinstance(message, messages.Hello):
            self.serve_hello(message, got)
        elif isinstance(message, messages.Register):
            self.ledger.register(message.kind, message.name, got.pid, self.get_title(got.pid))
        elif isinstance(message, messages.Unregister):
            self.ledger.unregister(message.kind, message.name)
        elif isinstance(message, messages.Mixed):
            self.mixed = True
        elif isinstance(message, messages.GiveUp):
            if len(got.fds) == 2:
                self.give_up(got.fds[0], fds.adopt_socket(got.fds.pop()))
        elif len(got.fds) == 1:
            answer = fds.adopt_socket(got.fds.pop())
            if isinstance(message, messages.Ask):
                self.serve_ask(message.pid, answer)
            else:
                say_to(answer, messages.Swept(names.sweep(self.ledger, self.mixed)))
        fds.close_all(got.fds)

    def get_title(self, pid: int) -> str:
        """Give the title of a process that registers, looked up once."""
        if pid not in self.titles:
            self.titles[pid] = names.read_title(pid)
        return self.titles[pid]

    def serve_hello(self, hello: messages.Hello, got: fds.Received) -> None:
        """Find or start the template that is asked for, and hand it the channel."""
        passed = got.fds
        if len(passed) != 4 + (hello.stdio & 3).bit_count():
            return  # MSG_CTRUNC: we are out of fds. The client reads the end of its channel
        channel, pidfd, spec_fd = passed[:3]
        if pids.read_pid(pidfd) != got.pid:
            self.refuse(channel, "the pidfd in the hello is not on its sender")
            return
        try:
            spec = read_spec(spec_fd)
        except (ValueError, OSError) as error:
            self.refuse(channel, f"no spec: {error}")
            return
        why = ""
        for _ in range(2):  # it may die between our look and our message
            template = self.find_template(identify(spec), spec, hello, got)
            if template is None:
                return
            try:
                fds.send(template.control, wire.encode(messages.Adopt(got.pid)), (channel, pidfd))
            except OSError as error:
                why = str(error)
            else:
                template.askers.add(got.pid)
                return
        self.refuse(channel, f"the template takes no client: {why}")

    def find_template(
        self, key: tuple[object, ...], spec: Spec, hello: messages.Hello, got: fds.Received
    ) -> Template | None:
        """Give the template of this spec, started if need be, or None where the client was told why there is none."""
        channel, _, spec_fd, door, *streams = got.fds
        template = self.templates.get(key)
        if template is not None and template.alive:
            self.see_end(template)
        if template is not None and (not template.alive or template.refusal):
            if hello.failed and not template.ready:
                del self.templates[key]
                say_on(channel, template.refusal or template.obituary())
                return None
            template = None
        elif template is not None and template.control.fileno() < 0:
            template = None  # a preload closed all its fds: it can take no client any longer
        if template is not None:
            return template
        try:
            return self.start_template(key, spec, spec_fd, door, hello.stdio, streams)
        except OSError as error:
            self.refuse(channel, f"{spec.executable}: {error.strerror}")
            return None

    def refuse(self, channel: int, why: str) -> None:
        """Say why there is no template."""
        say_on(channel, messages.Refused(why))

    def serve_ask(self, pid: int, answer: fds.socket) -> None:
        """Say what became of a process, now or when it is dead."""
        if pid not in self.fates and not orphans.is_child(pid):
            # Its template may be dying at this moment: its children become ours only when it is dead.
            for template in [template for template in self.by_pid.values() if template.alive]:
                self.see_end(template)
            self.reap_all()
        fate = self.fates.get(pid)
        if fate is not None:
            say_to(answer, fate)
        elif orphans.is_child(pid):
            self.asked.setdefault(pid, []).append(answer)
        else:
            say_to(answer, messages.Fate(pid, 0, 0, 0, 0, 0, 0, "", ""))

    # -- templates

    def start_template(
        self,
        key: tuple[object, ...],
        spec: Spec,
        spec_fd: int,
        door: int,
        stdio: int,
        streams: list[int],
    ) -> Template:
        """Start a template by exec. Raises OSError."""
        from warmfork._tracker.templates import exec_template

        old = self.templates.get(key)
        generation = old.generation + 1 if old is not None else 1
        template = exec_template(key, spec, generation, stdio, streams)
        self.add_template(template)
        launch(template, spec_fd, door)
        return template

    def add_template(self, template: Template) -> None:
        """Enter a template in the books."""
        self.templates[template.key] = template
        self.by_pid[template.pid] = template
        self.watch(template.control.fileno(), lambda events: self.read_control(template))

    def read_control(self, template: Template) -> None:
        """The template says that it is sealed, or why it never will be, or has closed its end."""
        try:
            got = fds.receive(template.control)
        except BlockingIOError:
            return
        except OSError:
            got = fds.Received(b"", [], 0, False)
        fds.close_all(got.fds)
        if got.data:
            try:
                said = wire.decode(got.data)
            except ValueError:  # a preload has written to a socket that is not its own
                return
            if isinstance(said, messages.Sealed):
                template.ready = True
            else:
                template.refusal = said
        else:
            self.forget(template.control.fileno())
            template.control.close()

    def give_up(self, spec_fd: int, answer: fds.socket) -> None:
        """End a template that hangs in its preload, and say in which item."""
        try:
            template = self.templates.get(identify(read_spec(spec_fd)))
        except (ValueError, OSError):
            template = None
        if template is not None and template.control.fileno() >= 0:
            self.read_control(template)  # a Sealed that is still unread
        if template is None or template.ready or not template.alive:
            answer.close()
            return
        say_to(answer, template.obituary())
        os.kill(template.pid, 9)

    def see_end(self, template: Template) -> None:
        """Look whether it is dead already, and nobody has told us yet. One of the last things that a dying process
        does is to close its end of the control socket: then its status comes within a moment."""
        if template.control.fileno() >= 0:
            self.read_control(template)
        if template.control.fileno() < 0:
            pidfd = os.pidfd_open(template.pid)  # ours to reap, so the pid is still its own
            fds.wait_readable(pidfd, DYING)
            os.close(pidfd)
            self.reap_all()

    # -- deaths

    def listen_to_deaths(self) -> int:
        """Have SIGCHLD wake the loop."""
        import _signal

        awake, wake = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)
        _signal.set_wakeup_fd(wake, warn_on_full_buffer=False)
        signals.set_disposition(signals.CHILD_DIED, lambda number, frame: None)
        self.watch(awake, self.reap)
        os.write(wake, b"!")  # what died before we listened
        return awake

    def reap(self, _events: int) -> None:
        """Children have died."""
        os.read(self.awake, 4096)
        self.reap_all()

    def reap_all(self) -> None:
        """Reap templates and orphans."""
        while True:
            try:
                pid, status, usage = os.wait4(-1, os.WNOHANG)
            except ChildProcessError:
                return
            if pid == 0:
                return
            template = self.by_pid.get(pid)
            if template is not None and template.alive:
                self.bury_template(template, status)
            else:
                self.keep_fate(pid, status, usage)

    def bury_template(self, template: Template, status: int) -> None:
        """A template is dead. Its children are ours now; its board says whose they were."""
        if template.control.fileno() >= 0:
            self.read_control(template)  # a Sealed that is still unread
        template.alive = False
        template.status = status
        template.tail = read_tail(template.log)
        os.close(template.log)
        template.log = -1
        if self.root_dead:
            orphans.end(template, self.root.pid)
        self.forget_dead_templates()

    def forget_dead_templates(self) -> None:
        """Let go of the boards of dead templates that have left no child, all but the last of them: a program may make
        a thousand templates, one after the other."""
        dead = [known for known in self.by_pid.values() if not known.alive and not orphans.any_live(known)]
        for template in dead[:-KEPT_BOARDS]:
            if template.ready or self.templates.get(template.key) is not template:
                del self.by_pid[template.pid]
                os.close(template.board)
                template.board = -1

    def keep_fate(self, pid: int, status: int, usage: struct_rusage) -> None:
        """An orphan is dead: tell who asked, keep it for who will."""
        stack = why = ""
        if status & 0x7F:
            for board in [template.board for template in self.by_pid.values()] or [-1]:
                stack, why = self.witness.ask(status, pid, board)
                if stack or why:
                    break
        user, system = int(usage.ru_utime * 1e6), int(usage.ru_stime * 1e6)
        now = monotonic_ns() // 1000
        fate = messages.Fate(pid, 1, status, user, system, usage.ru_maxrss, now, stack, why)
        for answer in self.asked.pop(pid, ()):
            say_to(answer, fate)
        self.fates[pid] = fate
        if len(self.fates) > FATES:
            del self.fates[next(iter(self.fates))]
