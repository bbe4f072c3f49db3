"""The registry: what a client knows of the children it asked one template for. Pure bookkeeping.

Messages are entered in the order in which they came, so a pid that the kernel gives out again is never mistaken: its
first owner's Exited comes before the second's Spawned.
"""

from __future__ import annotations

from warmfork._words.messages import Evidence, Exited, Spawned, SpawnFailed, Stuck

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from warmfork._words.messages import Message


SPAWNED_FDS = 2
"""A pidfd and a feed come with Spawned. Fewer arrive where this process has too many files open."""


class Record:
    """One child: its pid, and its Exited once that came, with the evidence that came before it."""

    __slots__ = ("evidence", "exited", "pid", "stuck")

    def __init__(self, pid: int) -> None:
        self.pid = pid
        self.exited: Exited | None = None
        self.evidence: Evidence | None = None
        self.stuck = ""  # the step of its birth in which it hung


class Answer:
    """The answer to one Spawn: a record with the fds that came along, or the refusal."""

    __slots__ = ("failure", "fds", "record")

    def __init__(self, record: Record | None, failure: SpawnFailed | None, fds: list[int]) -> None:
        self.record, self.failure, self.fds = record, failure, fds


class Children:
    """Requests that wait for an answer, children that live.

    `holder` makes the list that owns the fds of an answer: the client's closes them when the answer is dropped.
    """

    def __init__(self, holder: type[list[int]] = list) -> None:
        self.holder = holder
        self.waiting: set[int] = set()
        self.answers: dict[int, Answer] = {}
        self.living: dict[int, Record] = {}
        self.spares: list[Answer] = []  # the oldest first

    def is_owed(self) -> bool:
        """Is there a child whose end is still to be told? Spares, which nobody has used, are none."""
        spares = {spare.record.pid for spare in self.spares if spare.record is not None}
        return bool(self.living.keys() - spares)

    def expect(self, request: int) -> None:
        """A Spawn was sent."""
        self.waiting.add(request)

    def take(self, message: Message, fds: list[int], unread: list[Any], item: object) -> list[int]:
        """Enter a message. Gives back the fds that nobody waits for, to be closed.

        `item` is this message as it came, the first of `unread`. It is taken off in the same moment in which the message
        is entered: what follows "at once" calls nothing, and Python looks for signals at calls and jumps back only. So
        a handler that raises leaves the message either unread or entered, its fds never nobody's; and one that reads on
        has entered it for us.
        """
        held = self.holder()
        exited = isinstance(message, Exited)
        if not isinstance(message, (Spawned, SpawnFailed)):
            pid = message.pid if isinstance(message, (Exited, Evidence, Stuck)) else 0
            hung_in = message.step if isinstance(message, Stuck) else ""
            # At once:
            if not unread or unread[0] is not item:
                return held
            del unread[0]
            held[:] = fds
            if pid in self.living:
                if exited:
                    self.living[pid].exited = message  # type: ignore[assignment]
                    del self.living[pid]
                elif hung_in:
                    self.living[pid].stuck = hung_in
                else:
                    self.living[pid].evidence = message  # type: ignore[assignment]
            return held
        record = Record(message.pid) if isinstance(message, Spawned) else None
        answer = Answer(record, message if isinstance(message, SpawnFailed) else None, held)
        request = message.request
        is_whole = len(fds) == SPAWNED_FDS
        # At once:
        if not unread or unread[0] is not item:
            return held
        del unread[0]
        held[:] = fds
        if request == 0 and not is_whole:
            return held  # a spare whose fds did not all arrive leaves when its feed ends
        if record is not None:
            self.living[record.pid] = record
        if request in self.waiting:
            self.answers[request] = answer
            self.waiting -= {request}
        elif request == 0 and record is not None:
            self.spares += [answer]
        else:
            return held  # given up on: closing the feed sends the child away
        return self.holder()

    def take_spare(self) -> Answer | None:
        """Give a spare, or None. Those that died meanwhile are dropped."""
        while self.spares:
            spare = self.spares.pop(0)
            if spare.record is not None and spare.record.exited is None:
                return spare
        return None
