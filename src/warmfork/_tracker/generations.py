"""The templates of a tree: found or started for whoever says hello, watched, buried; broken off where they keep dying."""

from __future__ import annotations

import os
from time import monotonic, monotonic_ns

from warmfork._machine import fds, pids, rights, sockets
from warmfork._tracker.answers import answer_channel, refuse, send_answer
from warmfork._tracker.templates import TemplateRecord, exec_template, launch, read_spec
from warmfork._words import board as board_
from warmfork._words import messages, outcome, wire
from warmfork._words.spec import identify

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

    from warmfork._machine.loop import Loop
    from warmfork._tracker.book import Book
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

EFBIG = 27
FILE_LIMIT = "the limit on the size of files (ulimit -f) is too low: a template needs 5 MB, in memory"


class Generations:
    """What the tracker knows of its templates."""

    def __init__(
        self, loop: Loop, book: Book, inherit: Callable[[board_.Board], None], reap: Callable[[], None]
    ) -> None:
        self.loop = loop
        self.book = book
        self.inherit = inherit
        self.reap = reap  # buries what is dead
        self.templates: dict[tuple[object, ...], TemplateRecord] = {}
        self.by_pid: dict[int, TemplateRecord] = {}
        self.deaths: dict[tuple[object, ...], list[float]] = {}
        self.deferred: list[tuple[float, messages.Hello, sockets.Received]] = []

    def any_alive(self) -> bool:
        """Does a template live?"""
        return any(template.alive for template in self.by_pid.values())

    def list_stacks(self) -> list[int]:
        """List the files that we hold in which stacks may be."""
        return [template.stacks.fileno() for template in self.by_pid.values() if template.stacks]

    def count_broken(self) -> int:
        """Count the templates that are broken off at this moment."""
        return sum(self.is_broken(key) for key in self.deaths)

    # -- hellos

    def serve_hello(self, hello: messages.Hello, got: sockets.Received, late: bool = False) -> None:
        """Find or start the template that is asked for, and hand it the channel. `late`: it was deferred for as long as a
        template takes to die."""
        passed = got.fds
        if got.cut and passed:
            refuse(passed[0], "the tracker is out of files: raise the limit of open files (ulimit -n)")
            return
        if len(passed) != 4 + (hello.stdio & 3).bit_count():
            return
        try:
            self.serve_whole_hello(hello, got, late)
        except OSError as error:
            if passed:
                refuse(passed[0], f"the tracker could not: {error}")

    def serve_whole_hello(self, hello: messages.Hello, got: sockets.Received, late: bool) -> None:
        """Serve one of which all has arrived. Raises OSError where the tracker is out of files, or of memory."""
        channel, pidfd, spec_fd = got.fds[:3]
        if pids.read_pid(pidfd) != got.pid:
            refuse(channel, "the pidfd in the request is not on its sender")
            return
        try:
            spec = read_spec(spec_fd)
        except (ValueError, OSError) as error:
            refuse(channel, f"no spec: {error}")
            return
        key = identify(spec)
        self.reap()  # what is dead already, and what that means to say
        template = self.templates.get(key)
        difference = self.compare_rights(got.pid, template)
        if difference:
            answer_channel(channel, messages.Refused(wire.fit(difference, 4000), 1))
        elif template is not None and template.alive and not late and self.is_dying(template):
            self.deferred.append((monotonic() + DYING, hello, sockets.Received(got.data, got.fds, got.pid, False)))
            got.fds = []
        else:
            self.hand_over(key, spec, hello, got)

    def hand_over(self, key: tuple[object, ...], spec: Spec, hello: messages.Hello, got: sockets.Received) -> None:
        """Hand a channel to the template of this spec. Where there is none that takes it, its client is told."""
        channel, pidfd = got.fds[:2]
        why = ""
        for _ in range(2):  # it may die between our look and our message
            template = self.find_template(key, spec, hello, got)
            if template is None:
                return
            try:
                if template.control is not None:
                    sockets.send(template.control, wire.encode(messages.Adopt(got.pid)), (channel, pidfd))
            except OSError as error:
                why = str(error)
                self.read_control(template)
                if not template.askers and template.alive:
                    template.kill()  # a server whose life would hang on a client that it never had
            else:
                template.note_asker(got.pid)
                return
        refuse(channel, f"the template takes no client: {why}")

    def is_dying(self, template: TemplateRecord) -> bool:
        """Has it closed its end of the control socket? That is one of the last things that a dying process does: then its
        status comes within a moment. A preload may have closed it, too."""
        self.read_control(template)
        return template.control is None

    def get_due(self) -> float | None:
        """Give when a deferred hello is to be served at the latest, by monotonic(), or None."""
        return min([due for due, *_ in self.deferred], default=None)

    def serve_deferred(self, late: bool) -> None:
        """Serve the hellos that were deferred, or those whose time is over."""
        now = monotonic()
        waiting = [item for item in self.deferred if not late or item[0] <= now]
        self.deferred = [item for item in self.deferred if item not in waiting]
        for _, hello, got in waiting:
            with got:
                self.loop.guard(self.serve_hello, hello, got, late, None)

    def compare_rights(self, asker: int, template: TemplateRecord | None) -> str:
        """Say what a process may not do that this template's children might, "" where there is nothing: its door does
        not lift a confinement. Asked of the kernel, for what it says itself is no proof."""
        tree = rights.read("self")
        return rights.compare(rights.read(asker), rights.read(template.pid) if template is not None else tree, tree)

    def find_template(
        self, key: tuple[object, ...], spec: Spec, hello: messages.Hello, got: sockets.Received
    ) -> TemplateRecord | None:
        """Give the template of this spec, started if need be, or None where the client was told why there is none."""
        channel, _, spec_fd, door, *streams = got.fds
        template = self.templates.get(key)
        if template is not None and (not template.alive or template.refusal):
            if hello.failed and not template.ready:
                del self.templates[key]
                answer_channel(channel, template.refusal or template.make_died())
                return None
            if not template.alive and self.is_broken(key):
                answer_channel(channel, messages.Broken(len(self.deaths[key]), int(BREAK_WINDOW), template.status))
                return None
        elif template is not None and template.control is not None:
            return template
        try:
            return self.start_template(key, spec, spec_fd, door, hello.stdio, streams)
        except (OSError, ValueError) as error:
            refuse(channel, f"{spec.executable[:1000]}: {FILE_LIMIT if error.args[:1] == (EFBIG,) else error}")
            return None

    def start_template(
        self, key: tuple[object, ...], spec: Spec, spec_fd: int, door: int, stdio: int, streams: list[int]
    ) -> TemplateRecord:
        """Start a template by exec. Raises OSError, ValueError."""
        old = self.templates.get(key)
        generation = old.generation + 1 if old is not None else 1
        template = exec_template(key, spec, generation, stdio, streams, self.book.fd)
        try:
            launch(template, (spec_fd, template.board.fileno(), template.log.fileno(), door, template.stacks.fileno()))
            self.add_template(template)
        except OSError:
            # It knows nothing yet, and whatever came first would be taken for its launch: none is better.
            template.kill()
            if template.control is not None:
                template.control.close()
            raise
        return template

    def add_template(self, template: TemplateRecord) -> None:
        """Enter one of our own templates in the books. Raises OSError, with nothing entered."""
        if template.control is not None:
            self.loop.watch(template.control.fileno(), lambda _events: self.read_control(template))
        self.templates[template.key] = template
        self.by_pid[template.pid] = template

    def take_over(self, said: messages.Inherit, got: sockets.Received) -> None:
        """Enter a template that the tracker before us has started: its pidfd tells its death, its board whom it leaves."""
        if len(got.fds) != 2 or os.fstat(got.fds[1]).st_size < board_.SIZE:
            return
        known = self.by_pid.get(said.pid)
        if (known is not None and known.alive) or pids.read_pid(got.fds[0]) not in (said.pid, -1):
            return
        pidfd, board = got.take(), got.take()
        template = TemplateRecord((), said.name, said.generation, said.pid, board, fds.Fd(-1), None, pidfd)
        template.state = "sealed"
        self.loop.watch(pidfd.fileno(), lambda _events: self.bury_template(template, read_status(pidfd.fileno())))
        self.by_pid[template.pid] = template

    def look_at_inherited(self) -> None:
        """Bury those of the templates that are no children of ours that are dead at this moment."""
        for template in list(self.by_pid.values()):
            if template.alive and template.pidfd is not None and fds.wait_readable(template.pidfd.fileno(), 0):
                self.bury_template(template, read_status(template.pidfd.fileno()))

    # -- what templates say

    def read_control(self, template: TemplateRecord) -> None:
        """Read all that the template has said: that it is sealed, or why it never will be; or that it has closed its end."""
        while template.control is not None:
            got = sockets.receive_waiting(template.control)
            if got is None:
                return
            with got:
                if not got.data:
                    self.let_go_of_control(template)
                    return
                try:
                    template.take(got.data)
                except ValueError:
                    continue

    def let_go_of_control(self, template: TemplateRecord) -> None:
        """Close our end of the control socket. A template that has no client then, and can get none, ends."""
        if template.control is not None:
            self.loop.forget(template.control.fileno())
            template.control.close()
            template.control = None

    def give_up(self, pid: int, spec_fd: int, answer: sockets.socket) -> None:
        """This process waits no longer for a template to preload. Say what that is preloading, and end it where nobody else
        waits for it."""
        try:
            template = self.templates.get(identify(read_spec(spec_fd)))
        except (ValueError, OSError):
            template = None
        if template is not None:
            self.read_control(template)  # a Sealed that is still unread
        if template is None or template.ready or not template.alive or pid not in template.askers:
            answer.close()
            return
        send_answer(answer, template.make_died())
        del template.askers[pid]
        template.drop_dead_askers()
        if not template.askers:
            template.kill()

    def end_if_hung(self, pid: int) -> None:
        """A client has waited long for this template's answer. End it where it hangs in a fork, and only then: it may be
        busy with others, or stopped, and both will pass."""
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
            template.kill()

    # -- deaths

    def bury_root(self, root: int) -> None:
        """The program is dead. A template that still preloads for it alone would not see that before it is done; and one
        that has never had a client that lives waits for none any longer."""
        for template in list(self.by_pid.values()):
            if not template.alive:
                continue
            if not template.ready and template.askers.keys() <= {root}:
                self.loop.guard(template.kill, None)
                continue
            template.drop_dead_askers()
            if not template.askers.keys() - {root}:
                self.loop.guard(self.let_go_of_control, template, None)

    def bury_template(self, template: TemplateRecord, status: int) -> None:
        """A template is dead. Its children are ours now; its board says whose they were."""
        if not template.alive:
            return
        self.read_control(template)  # a Sealed that is still unread
        template.alive = False
        template.status = status
        template.tail = template.read_tail()
        self.let_go_of_control(template)
        if template.pidfd is not None:
            self.loop.forget(template.pidfd.fileno())
            template.pidfd.close()
        template.log.close()
        self.loop.guard(self.inherit_from, template, None)
        if status != 0 and template.refusal is None:
            self.loop.guard(self.note_death, template, None)
        self.loop.guard(self.forget_dead_templates, None)
        self.serve_deferred(late=False)

    def inherit_from(self, template: TemplateRecord) -> None:
        """Its children are ours."""
        self.inherit(template.get_board())

    def note_death(self, template: TemplateRecord) -> None:
        """Count a death that nobody wanted, and have the program log it."""
        now = monotonic()
        served = template.get_board().read_starts()
        recent = [at for at in self.deaths.get(template.key, ()) if now - at < BREAK_WINDOW and not served]
        if not template.wanted_dead:
            how = "it is not known how" if template.status < 0 else str(outcome.read_status(template.status))
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
        """Let go of dead templates that have left no child, all but the last of them: a program may make a thousand
        templates, one after the other, and each may fail to preload."""
        from warmfork._tracker.orphans import list_live

        dead = [
            known for known in self.by_pid.values() if not known.alive and not next(list_live(known.get_board()), None)
        ]
        for template in dead[:-KEPT_BOARDS]:
            del self.by_pid[template.pid]
            if self.templates.get(template.key) is template:
                del self.templates[template.key]
            template.board.close()
            template.stacks.close()


UNKNOWN = -1
"""The status of a template that was not our child, on a kernel that keeps none (before 6.15)."""


def read_status(pidfd: int) -> int:
    """Give the status of a dead process that is not our child, as of waitpid(), or UNKNOWN."""
    status = pids.find_status(pidfd)
    return UNKNOWN if status is None else status
