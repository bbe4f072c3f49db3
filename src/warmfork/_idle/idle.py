"""What a template does when nobody wants anything of it: make the next births faster, fork spares, show its title.

One thing at a time, and a little of it: a request or a death comes first, and waits for no more than that.
"""

from __future__ import annotations

import gc
from select import EPOLLPRI
from time import monotonic

from warmfork._child import ending
from warmfork._machine import memory
from warmfork._template import forking, spares
from warmfork._template.state import count_started, let_spares_go
from warmfork._words import messages, wire

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from warmfork._idle.collapse import Blocks
    from warmfork._idle.pretouch import Recording
    from warmfork._machine.loop import Loop
    from warmfork._template.children import Children
    from warmfork._template.clients import ClientRecord
    from warmfork._template.state import TemplateState

TITLE_DELAY = 0.01
"""Seconds until the title shows a new number of children. What a template does right after a fork costs the child: both
write to pages that they share, and wait for each other."""


WORTH_KIB = 40 << 10
"""Resident memory from which "auto" looks for heaps at all: a bare template has no block, and takes 10 to 14 MiB."""

TRAFFIC = 12
"""Starts after which a throw-away child finds out what a birth touches. Few programs make more, and while it lives it takes
a processor from those that they have just started."""


class Idle:
    """What there is to do, and how far it is."""

    def __init__(self, state: TemplateState, loop: Loop, children: Children, show_title: Callable[[], None]) -> None:
        self.state = state
        self.loop = loop
        self.children = children
        self.show_title = show_title
        self.rehearsed = False
        self.warmed = False
        self.rounds: Iterator[int] | None = None
        self.recording: Recording | None = None  # a throw-away child that finds out what a birth touches
        self.collapses = False  # are there blocks of the heaps, still to be collapsed to huge pages?
        self.blocks: Blocks | None = None  # found when there was time for it
        self.limits: list[tuple[str, str]] | None = None  # cgroups whose memory is limited
        self.trigger = -1

    def begin(self) -> list[str]:
        """The preload is over, and no child is there: have the heaps on huge pages now, where that is asked for, and else
        find out whether it will be worth it. Gives what is to be logged."""
        wanted = self.state.spec.huge_pages
        self.collapses = wanted == "auto" and memory.get_resident_kib() >= WORTH_KIB
        if wanted != "on":
            return []
        from warmfork._idle import collapse

        return collapse.collapse_all()

    def get_due(self) -> float | None:
        """Give the time, by monotonic(), from which there is something to do, or None."""
        state = self.state
        due = []
        if state.wanted or self.is_warming_due() or self.may_collapse() or self.find_lacking() is not None:
            due.append(self.get_start())
        if state.titled != len(state.children):
            due.append(state.busy + TITLE_DELAY)
        if self.recording is not None:
            due.append(self.recording.deadline)
        return min(due) if due else None

    def get_start(self) -> float:
        """Give the time from which we may do as we like. A template that forks neither answers nor reaps meanwhile, so
        not before the child that was started last is dead, unless it lives for longer than most; and then not at once,
        since a program that waited for it is about to start the next."""
        state = self.state
        if state.latest not in state.children:
            return state.busy + spares.REFILL_IDLE
        burst = any(client.traffic.is_in_burst() for client in state.clients)
        return state.busy + (spares.BURST_PATIENCE if burst else spares.PATIENCE)

    def is_warming_due(self) -> bool:
        """Once, when nobody wants anything, and a round at a time: a request or a death comes first. Not for the first
        child, which would have to share the processor with it; it may be the only one."""
        return not self.warmed and self.recording is None and self.state.starts > (TRAFFIC if self.rehearsed else 1)

    def may_collapse(self) -> bool:
        """Is there a heap to be put on huge pages, in a template that is used, and no child alive? One that lives keeps
        the pages that are replaced, and no longer shares them."""
        return self.collapses and self.state.starts > 1 and count_started(self.state) == 0

    def find_lacking(self) -> ClientRecord | None:
        """Give a client that is to have one more spare."""
        for client in self.state.clients:
            if client.channel is not None and client.traffic.lacks():
                return client
        return None

    def use(self) -> None:
        """Show how many children there are, load what clients have, fork a spare, warm up, or collapse a block: a little of
        one, the most useful first."""
        state = self.state
        if self.recording is not None and monotonic() >= self.recording.deadline:
            self.recording.give_up()
        if state.titled != len(state.children) and monotonic() >= state.busy + TITLE_DELAY:
            self.show_title()
            self.children.deaths.prepare()
        if monotonic() < self.get_start():
            return
        client = self.find_lacking()
        if state.wanted:
            self.children.load_wanted(1)
        elif client is not None:
            self.fork_spare(client)
        elif self.is_warming_due():
            self.warm()
        elif self.may_collapse():
            self.collapse()

    def fork_spare(self, client: ClientRecord) -> None:
        """Fork a child ahead for this client, or have all spares leave where memory is short."""
        if self.is_memory_scarce():
            let_spares_go(self.state)
            client.traffic.target = 0
            return
        self.children.fork_spare(client)

    def collapse(self) -> None:
        """Find the blocks of the heaps, or collapse one."""
        from warmfork._idle import collapse

        try:
            if self.blocks is None:
                self.blocks = collapse.find_blocks()
            else:
                self.blocks.collapse_one()
        except collapse.FAILURES as error:
            self.end_collapsing(str(error))
            return
        if not self.blocks:
            self.end_collapsing(collapse.REFUSED if self.blocks.is_in_vain() else "")

    def end_collapsing(self, trouble: str) -> None:
        """All that could be collapsed is."""
        self.collapses, self.blocks = False, None
        if trouble:
            self.tell(f"without huge pages: {trouble}")

    def is_memory_scarce(self) -> bool:
        """Is memory short? From the first time on, the kernel tells of that too, where it can."""
        from warmfork._idle import pressure

        if self.limits is None:
            self.limits = pressure.find_limits()
            self.trigger = pressure.open_trigger()
            if self.trigger >= 0:
                self.loop.watch(self.trigger, lambda events: let_spares_go(self.state), EPOLLPRI)
        return pressure.is_scarce(self.limits)

    def tell(self, note: str) -> None:
        """Have the clients log something."""
        for client in self.state.clients:
            client.tell(messages.Noted(wire.fit(note, 4000)))

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
            self.end_rehearsal()

    def end_rehearsal(self) -> None:
        """Births are rehearsed, as far as that goes."""
        if not self.rehearsed:
            self.rehearsed = True
            self.state.titled = -1  # rehearsal wrote another: the loop shows ours again before it waits
            ending.note_home()
            if "freeze" not in self.state.spec.without:
                gc.freeze()

    def begin_warming(self) -> Iterator[int]:
        """Warm up, a step for each item that is asked for."""
        state = self.state
        spec, without = state.spec, state.spec.without
        if not spec.preload and "helper" not in without:
            ending.prepare_helper()  # a bare template is sealed without this, to be there sooner
        from warmfork._idle import rehearsal

        if "rehearsal" not in without:
            yield from rehearsal.rehearse(spec, state.board, state.base)
        # A process that nobody has started must not run what user code has others run after a fork.
        if "pretouch" not in without and state.policy != spares.NONE and not forking.handlers:
            self.end_rehearsal()
            yield 0
            from warmfork._idle import pretouch

            self.recording = pretouch.begin(lambda: rehearsal.live(spec, state.board, state.base))
            self.loop.watch(self.recording.reader, self.hear_recording, drop=self.end_recording)

    def hear_recording(self, _events: int) -> None:
        """The throw-away child has said something, or is dead."""
        if self.recording is None or not self.recording.read():
            return
        learnt = self.recording.learn()
        self.end_recording()
        self.state.prefault_calls = learnt.prefault_calls
        if learnt.helper is False:
            ending.forget_helper()
        for note in learnt.notes:
            self.tell(note)

    def end_recording(self) -> None:
        """Let go of the throw-away child."""
        recording, self.recording = self.recording, None
        if recording is not None:
            self.loop.forget(recording.reader)
            recording.close()
