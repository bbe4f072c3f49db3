"""What a template does when nobody wants anything of it: make the next births faster, fork spares, show its title.

One thing at a time, and a little of it: a request or a death comes first, and waits for no more than that.
"""

from __future__ import annotations

import gc
import os
from select import EPOLLPRI
from time import monotonic

from warmfork._child import ending
from warmfork._template import spares
from warmfork._words import messages

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from warmfork._template.clients import ClientRecord
    from warmfork._template.collapse import Blocks
    from warmfork._template.server import Server

TITLE_DELAY = 0.01
"""Seconds until the title shows a new number of children. What a template does right after a fork costs the child: both
write to pages that they share, and wait for each other."""


class Idle:
    """What there is to do, and how far it is."""

    def __init__(self, server: Server) -> None:
        self.server = server
        self.without = server.spec.without
        self.warmed = False
        self.rounds: Iterator[int] | None = None
        self.blocks: Blocks | None = None  # of the heaps, still to be collapsed to huge pages
        self.prefault_calls: list[Callable[[], int]] = []  # give a spare the pages that a birth touches
        self.limits: list[tuple[str, str]] | None = None  # cgroups whose memory is limited
        self.trigger = -1
        self.leave = -1  # an eventfd: what tells spares to leave

    def get_due(self) -> float | None:
        """Give the time, by monotonic(), from which there is something to do, or None."""
        server = self.server
        due = None
        if self.is_warming_due() or self.may_collapse() or self.find_lacking() is not None:
            due = self.get_start()
        if server.titled != len(server.children):
            title = server.busy + TITLE_DELAY
            due = title if due is None else min(due, title)
        return due

    def get_start(self) -> float:
        """Give the time from which we may do as we like. A template that forks neither answers nor reaps meanwhile, so
        not before the child that was started last is dead, unless it lives for longer than most; and then not at once,
        since a program that waited for it is about to start the next."""
        server = self.server
        return server.busy + (spares.PATIENCE if server.latest in server.children else spares.REFILL_IDLE)

    def is_warming_due(self) -> bool:
        """Once, when nobody wants anything, and a round at a time: a request or a death comes first. Not for the first
        child, which would have to share the processor with it; it may be the only one."""
        return not self.warmed and self.server.starts > 1

    def may_collapse(self) -> bool:
        """Is there a heap to be put on huge pages, in a template that is used, and no child alive? One that lives keeps
        the pages that are replaced, and no longer shares them."""
        return bool(self.blocks) and self.server.starts > 1 and self.server.count_started() == 0

    def find_lacking(self) -> ClientRecord | None:
        """Give a client that is to have one more spare."""
        for client in self.server.clients:
            if client.channel is not None and client.traffic.lacks():
                return client
        return None

    def use(self) -> None:
        """Warm up, collapse a block, fork a spare, or show how many children there are."""
        server = self.server
        if server.titled != len(server.children) and monotonic() >= server.busy + TITLE_DELAY:
            server.show_title()
            server.deaths.prepare()
        if self.is_warming_due():
            self.warm()
            return
        if monotonic() < self.get_start():
            return
        if self.blocks and self.may_collapse():
            self.blocks.collapse_one()
            if not self.blocks:
                ending.note_home()  # what is in huge pages by now
            return  # before any spare, which would keep the old pages too
        client = self.find_lacking()
        if client is None:
            return
        if self.is_memory_scarce():
            self.let_spares_go()
            client.traffic.target = 0
            return
        server.fork_spare(client)

    def is_memory_scarce(self) -> bool:
        """Is memory short? From the first time on, the kernel tells of that too, where it can."""
        from warmfork._template import pressure

        if self.limits is None:
            self.limits = pressure.find_limits()
            self.trigger = pressure.open_trigger()
            if self.trigger >= 0:
                self.server.watch(self.trigger, lambda events: self.let_spares_go(), EPOLLPRI)
        return pressure.is_scarce(self.limits)

    def get_leave(self) -> int:
        """Give the fd by which spares are told to leave."""
        if self.leave < 0:
            self.leave = os.eventfd(0, os.EFD_CLOEXEC | os.EFD_NONBLOCK)
        return self.leave

    def let_spares_go(self) -> None:
        """Have the spares leave that nobody takes at this moment; no others before the next start."""
        if self.leave >= 0:
            os.eventfd_write(self.leave, 1)
            os.close(self.leave)
            self.leave = -1
        for client in self.server.clients:
            client.traffic.target = 0

    def tell(self, note: str) -> None:
        """Have the clients log something."""
        for client in self.server.clients:
            client.tell(messages.Noted(note))

    def warm(self) -> None:
        """Make the next births faster: a round of rehearsal, and after the last one what needs it. Whatever goes wrong
        with that must not cost the template."""
        if self.rounds is None:
            self.rounds = self.begin_warming()
        try:
            more = next(self.rounds, None) is not None
        except Exception as error:
            more = False
            self.tell(f"without warm-up: {type(error).__name__}: {error}")
        if not more:
            self.rounds = None
            self.warmed = True
            self.server.titled = -1  # rehearsal wrote another: the loop shows ours again before it waits

    def begin_warming(self) -> Iterator[int]:
        """Warm up, a step for each item that is asked for."""
        server = self.server
        if not server.spec.preload:
            # A bare template is sealed without this, to be there sooner.
            gc.unfreeze()
            gc.collect()
            if "helper" not in self.without:
                ending.prepare_helper()
        from warmfork._template import rehearsal

        yield from rehearsal.load_postponed(server.spec)
        if "rehearsal" not in self.without:
            yield from rehearsal.rehearse(server.spec, server.board, server.base)
        if "immortal" not in self.without:
            from warmfork._template import immortal

            yield from immortal.keep_for_ever()
        if "pretouch" not in self.without and server.policy != spares.NONE:
            from warmfork._template import pretouch

            learnt = pretouch.learn(lambda: rehearsal.live(server.spec, server.board, server.base))
            self.prefault_calls = learnt.prefault_calls
            if learnt.helper is False:
                ending.forget_helper()
            for note in learnt.notes:
                self.tell(note)
        ending.note_home()
        if "freeze" not in self.without:
            gc.freeze()
