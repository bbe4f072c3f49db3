"""The registry: what a client knows of the children it asked one template for. Pure bookkeeping.

Messages are entered in the order in which they came, so a pid that the kernel gives out again is never mistaken: its
first owner's Exited comes before the second's Spawned.
"""

from __future__ import annotations

from warmfork._words.messages import Evidence, Exited, Spawned, SpawnFailed, Stuck

TYPE_CHECKING = False
if TYPE_CHECKING:
    from warmfork._words.messages import Message


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
    """Requests that wait for an answer, children that live."""

    def __init__(self) -> None:
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

    def take(self, message: Message, fds: list[int]) -> list[int]:
        """Enter a message. Gives back the fds that nobody waits for, to be closed."""
        if isinstance(message, Exited):
            record = self.living.pop(message.pid, None)
            if record is not None:
                record.exited = message
            return fds
        if isinstance(message, Stuck):
            if message.pid in self.living:
                self.living[message.pid].stuck = message.step
            return fds
        if isinstance(message, Evidence):
            if message.pid in self.living:
                self.living[message.pid].evidence = message
            return fds
        if isinstance(message, Spawned):
            record = Record(message.pid)
            self.living[message.pid] = record
            if message.request == 0:
                self.spares.append(Answer(record, None, fds))
                return []
            return self.answer(message.request, Answer(record, None, fds))
        if isinstance(message, SpawnFailed):
            return self.answer(message.request, Answer(None, message, fds))
        return fds

    def take_spare(self) -> tuple[Answer | None, list[int]]:
        """Give a spare, or None, and the fds of those that died meanwhile, to be closed."""
        stale: list[int] = []
        while self.spares:
            spare = self.spares.pop(0)
            if spare.record is not None and spare.record.exited is None:
                return spare, stale
            stale += spare.fds
        return None, stale

    def answer(self, request: int, answer: Answer) -> list[int]:
        """Keep an answer for whoever waits for it."""
        if request not in self.waiting:
            return answer.fds  # given up on: closing the feed sends the child away
        self.waiting.remove(request)
        self.answers[request] = answer
        return []
