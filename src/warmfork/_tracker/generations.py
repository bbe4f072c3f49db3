"""The templates of a tree: found or started for whoever says hello, watched, buried; broken off where they keep dying."""

from __future__ import annotations

import os
from time import monotonic, monotonic_ns

from warmfork._machine import fds, pids, rights
from warmfork._tracker.answers import answer_channel, send_answer
from warmfork._tracker.templates import TemplateRecord, launch, read_spec, read_tail
from warmfork._words import board as board_
from warmfork._words import messages, outcome, wire
from warmfork._words.spec import identify

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

    from warmfork._tracker.book import Book
    from warmfork._tracker.loop import Loop
    from warmfork._words.spec import Spec

KEPT_BOARDS = 8
"""Boards of dead templates that are kept for `warmfork ps --all`."""

DYING = 0.5
"""Seconds between a template's last words and its death, at most."""

HANGS = 5.0
"""Seconds in one fork after which a template hangs in it. The slowest that was seen, of 500 MB, takes 0.03."""

BREAKS, BREAK_WINDOW, BREAK_TIME = 5, 60.0, 30.0
"""So many generations of one template in a row that die within so many seconds, none of which served a start, break
it: for the third number of seconds there is no next one. Each has cost its clients a preload, and so would that."""

WARNING, ERROR = 30, 40


class Generations:
    """What the tracker knows of its templates."""

    def __init__(
        self, loop: Loop, book: Book, tell_door: tuple[int, int], inherit: Callable[[board_.Board], None]
    ) -> None:
        self.loop = loop
        self.book = book
        self.receiver, self.ledger_fd = tell_door
        self.inherit = inherit
        self.templates: dict[tuple[object, ...], TemplateRecord] = {}
        self.by_pid: dict[int, TemplateRecord] = {}
        self.deaths: dict[tuple[object, ...], list[float]] = {}

    def any_alive(self) -> bool:
        """Does a template live? One that returned to us is no child of ours to wait for."""
        return any(template.alive for template in self.by_pid.values())

    def list_stacks(self) -> list[int]:
        """List the files that we hold in which stacks may be."""
        return [template.stacks for template in self.by_pid.values() if template.stacks >= 0]

    def count_broken(self) -> int:
        """Count the templates that are broken off at this moment."""
        return sum(self.is_broken(key) for key in self.deaths)

    # -- hellos

    def serve_hello(self, hello: messages.Hello, got: fds.Received) -> None:
        """Find or start the template that is asked for, and hand it the channel."""
        passed = got.fds
        if len(passed) != 4 + (hello.stdio & 3).bit_count():
            return  # MSG_CTRUNC: we are out of fds. The client reads the end of its channel
        channel, pidfd, spec_fd = passed[:3]
        if pids.read_pid(pidfd) != got.pid:
            refuse(channel, "the pidfd in the hello is not on its sender")
            return
        try:
            spec = read_spec(spec_fd)
        except (ValueError, OSError) as error:
            refuse(channel, f"no spec: {error}")
            return
        difference = self.compare_rights(got.pid, self.templates.get(identify(spec)))
        if difference:
            answer_channel(channel, messages.Refused(wire.fit(difference, 4000), 1))
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
                template.note_asker(got.pid)
                return
        refuse(channel, f"the template takes no client: {why}")

    def compare_rights(self, asker: int, template: TemplateRecord | None) -> str:
        """Say what a process may not do that this template's children might, "" where there is nothing: its door does
        not lift a confinement (M6). Asked of the kernel, for what it says itself is no proof."""
        tree = rights.read("self")
        return rights.compare(rights.read(asker), rights.read(template.pid) if template is not None else tree, tree)

    def find_template(
        self, key: tuple[object, ...], spec: Spec, hello: messages.Hello, got: fds.Received
    ) -> TemplateRecord | None:
        """Give the template of this spec, started if need be, or None where the client was told why there is none."""
        channel, _, spec_fd, door, *streams = got.fds
        template = self.templates.get(key)
        if template is not None and template.alive:
            self.check_death(template)
        if template is not None and (not template.alive or template.refusal):
            if hello.failed and not template.ready:
                del self.templates[key]
                answer_channel(channel, template.refusal or template.make_died())
                return None
            if not template.alive and self.is_broken(key):
                answer_channel(channel, messages.Broken(len(self.deaths[key]), int(BREAK_WINDOW), template.status))
                return None
            template = None
        elif template is not None and template.control.fileno() < 0:
            template = None  # a preload closed all its fds: it can take no client any longer
        if template is not None:
            return template
        try:
            return self.start_template(key, spec, spec_fd, door, hello.stdio, streams)
        except OSError as error:
            refuse(channel, f"{spec.executable}: {error.strerror}")
            return None

    def start_template(
        self,
        key: tuple[object, ...],
        spec: Spec,
        spec_fd: int,
        door: int,
        stdio: int,
        streams: list[int],
    ) -> TemplateRecord:
        """Start a template by exec. Raises OSError."""
        from warmfork._tracker.templates import exec_template

        old = self.templates.get(key)
        generation = old.generation + 1 if old is not None else 1
        template = exec_template(key, spec, generation, stdio, streams, self.ledger_fd)
        try:
            passed = spec_fd, template.board, template.log, door, template.stacks, self.receiver, self.ledger_fd, 2
            launch(template, passed)
        except OSError:
            # It knows nothing yet, and whatever came first would be taken for its launch: none is better.
            os.kill(template.pid, 9)
            template.control.close()
            fds.close_all((template.board, template.log, template.stacks))
            raise
        self.add_template(template)
        return template

    def add_template(self, template: TemplateRecord) -> None:
        """Enter a template in the books."""
        self.templates[template.key] = template
        self.by_pid[template.pid] = template
        self.loop.watch(template.control.fileno(), lambda events: self.read_control(template))

    def take_back(self, said: messages.Return, got: fds.Received) -> None:
        """Enter a template that the tracker before us has started. It is not our child: its pidfd tells its death."""
        if len(got.fds) != 6:
            return
        control, pidfd, spec_fd, board, log, stacks = got.fds
        try:
            spec = read_spec(spec_fd)
        except (ValueError, OSError):
            return
        got.fds[:] = [spec_fd]
        template = TemplateRecord(
            identify(spec), spec.name, said.generation, got.pid, fds.adopt_socket(control), board, log, stacks
        )
        template.ready = said.phase == board_.SERVING
        template.pidfd = pidfd
        for row in template.get_board().rows():
            template.note_asker(row.client)
        known = self.by_pid.get(template.pid)
        if known is not None and known.alive:
            self.let_go(known)
            # It said so twice: a successor in between died before it had heard it.
            fds.close_all((known.board, known.stacks))
        newer = self.templates.get(template.key)
        self.add_template(template)
        if newer is not None and newer.alive and newer.pid != template.pid:
            self.templates[template.key] = newer  # somebody said hello before this one came back
        self.loop.watch(pidfd, lambda events: self.bury_template(template, read_status(pidfd)))

    def let_go(self, template: TemplateRecord) -> None:
        """Close what we hold of this template, but its board."""
        if template.control.fileno() >= 0:
            self.loop.forget(template.control.fileno())
            template.control.close()
        if template.pidfd >= 0:
            self.loop.forget(template.pidfd)
            os.close(template.pidfd)
            template.pidfd = -1
        if template.log >= 0:
            os.close(template.log)
            template.log = -1

    # -- what templates say

    def read_control(self, template: TemplateRecord) -> None:
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
            self.loop.forget(template.control.fileno())
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
        send_answer(answer, template.make_died())
        template.wanted_dead = True
        template.kill()

    def end_if_hung(self, pid: int) -> None:
        """A client has waited long for this template's answer. End it where it hangs in a fork, and only then: it may be
        busy with others, or stopped, and both will pass (M18)."""
        template = self.by_pid.get(pid)
        if template is None or not template.alive:
            return
        phase, since = template.get_board().read_phase()
        stuck = (monotonic_ns() - since) / 1e9
        if phase == board_.FORKING and stuck > HANGS and not pids.is_stopped(pid):
            self.book.report(
                ERROR,
                f"template {template.name} gen={template.generation} (pid {pid}) hung in a fork for {stuck:.1f} s "
                "(in an at-fork handler of what it preloaded?) and was killed; the next start has a fresh one",
            )
            template.wanted_dead = True
            template.kill()

    def check_death(self, template: TemplateRecord) -> None:
        """Look whether it is dead already, and nobody has told us yet. One of the last things that a dying process
        does is to close its end of the control socket: then its status comes within a moment."""
        if template.control.fileno() >= 0:
            self.read_control(template)
        if template.control.fileno() < 0:
            pidfd = os.dup(template.pidfd) if template.pidfd >= 0 else pids.open_pidfd(template.pid)
            dead = fds.wait_readable(pidfd, DYING)
            os.close(pidfd)
            if dead and template.pidfd >= 0:
                self.bury_template(template, read_status(template.pidfd))
            elif dead:
                self.reap()

    reap: Callable[[], None]
    """Reaps all that is dead; the server's."""

    # -- deaths

    def end_preloading(self, client: int) -> None:
        """This client is dead, and a template that still preloads for it alone would not see that before it is done."""
        for template in self.by_pid.values():
            if template.alive and not template.ready and template.askers.keys() <= {client}:
                template.wanted_dead = True
                template.kill()

    def bury_template(self, template: TemplateRecord, status: int) -> None:
        """A template is dead. Its children are ours now; its board says whose they were."""
        if not template.alive:
            return
        if template.control.fileno() >= 0:
            self.read_control(template)  # a Sealed that is still unread
        template.alive = False
        template.status = status
        template.tail = read_tail(template.log)
        self.let_go(template)
        if status != 0 and template.refusal is None:
            self.note_death(template)
        self.inherit(template.get_board())
        self.forget_dead_templates()

    def note_death(self, template: TemplateRecord) -> None:
        """Count a death that nobody wanted, and have the program log it."""
        now = monotonic()
        served = template.get_board().read_starts()
        recent = [at for at in self.deaths.get(template.key, ()) if now - at < BREAK_WINDOW and not served]
        if not template.wanted_dead:
            how = "nobody knows how" if template.status < 0 else repr(outcome.read_status(template.status))
            tail = f"\nIt wrote:\n{template.tail[-2000:].rstrip()}" if template.tail else ""
            self.book.report(
                WARNING,
                f"template {template.name} gen={template.generation} (pid {template.pid}) died: {how}; "
                f"its children run on, and the next start has a fresh one{tail}",
            )
        self.deaths[template.key] = [] if served else [*recent, now]
        if len(self.deaths) > KEPT_BOARDS * 4:
            del self.deaths[next(iter(self.deaths))]

    def is_broken(self, key: tuple[object, ...]) -> bool:
        """Has this template died so often of late that there is no next one for now?"""
        deaths = self.deaths.get(key, [])
        return len(deaths) >= BREAKS and monotonic() - deaths[-1] < BREAK_TIME

    def forget_dead_templates(self) -> None:
        """Let go of the boards of dead templates that have left no child, all but the last of them: a program may make
        a thousand templates, one after the other."""
        from warmfork._tracker.orphans import list_live

        dead = [
            known
            for known in self.by_pid.values()
            if not known.alive and (known.board < 0 or next(list_live(known.get_board()), None) is None)
        ]
        for template in dead[:-KEPT_BOARDS]:
            if template.ready or self.templates.get(template.key) is not template:
                del self.by_pid[template.pid]
                fds.close_all((template.board, template.stacks))
                template.board = template.stacks = -1


def refuse(channel: int, why: str) -> None:
    """Say why there is no template."""
    answer_channel(channel, messages.Refused(wire.fit(why, 4000), 0))


UNKNOWN = -1
"""The status of a template that was not our child, on a kernel that keeps none (before 6.15)."""


def read_status(pidfd: int) -> int:
    """Give the status of a dead process that is not our child, as of waitpid(), or UNKNOWN."""
    status = pids.ask_status(pidfd)
    if status is None:
        status = pids.read_zombie_status(pidfd)
    return UNKNOWN if status is None else status
