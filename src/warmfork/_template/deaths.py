"""Telling a client of a child's death: status, what it used, and what evidence there is of how it came to it."""

from __future__ import annotations

from time import monotonic_ns

from warmfork._machine import stacks
from warmfork._words import messages, wire

TYPE_CHECKING = False
if TYPE_CHECKING:
    from resource import struct_rusage

    from warmfork._machine.evidence import Witness
    from warmfork._template.clients import ClientRecord


class Deaths:
    """What it takes to tell of a death."""

    def __init__(self, stacks: int) -> None:
        self.stacks = stacks  # the file where the stacks of children are
        self.witness: Witness | None = None

    def prepare(self) -> Witness:
        """Remember what the kernel has counted so far. Not before there is time: it takes a bare template 0.5 ms."""
        if self.witness is None:
            from warmfork._machine.evidence import Witness

            self.witness = Witness()
        return self.witness

    def tell(self, client: ClientRecord, pid: int, status: int, usage: struct_rusage) -> None:
        """Tell."""
        if status & 0x7F:
            text, why = self.prepare().ask(status, pid, self.stacks)
            if text or why:
                client.tell(messages.Evidence(pid, wire.fit(text, 16_000), wire.fit(why, 2000)))
        stacks.free_excess(self.stacks)
        user, system = int(usage.ru_utime * 1e6), int(usage.ru_stime * 1e6)
        client.tell(messages.Exited(pid, status, user, system, usage.ru_maxrss, monotonic_ns() // 1000))
