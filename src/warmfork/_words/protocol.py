"""Who may say what, when: THE table. Dispatch, error texts, the tests of what is illegal and the diagram read it.

House rules: all legality lives here, and this file does not know which side reads it. A conversation is a link in a
state; a message that the table does not list for it is illegal, whoever sent it.
"""

from __future__ import annotations

from warmfork._words import messages as m

DOOR, CONTROL, CHANNEL, FEED, ANSWER, LEDGER = "door", "control", "channel", "feed", "answer", "ledger"

UP, DOWN = "up", "down"
"""Up is towards the tracker (or the template, on a channel; the client, on a feed), down is away from it."""

TABLE: dict[tuple[str, str], dict[tuple[str, type[m.Message]], str]] = {
    (DOOR, "open"): {
        (UP, m.Hello): "open",
        (UP, m.Register): "open",
        (UP, m.Unregister): "open",
        (UP, m.Ask): "open",
        (UP, m.StdlibTrackerRuns): "open",
        (UP, m.Sweep): "open",
        (UP, m.GiveUp): "open",
        (UP, m.Track): "open",
        (UP, m.Untrack): "open",
        (UP, m.Hung): "open",
        (UP, m.Inherit): "open",
        (UP, m.Door): "open",
    },
    (ANSWER, "open"): {
        (DOWN, m.Fate): "ended",
        (DOWN, m.NamesSwept): "ended",
        (DOWN, m.Died): "ended",
    },
    (CONTROL, "open"): {
        (DOWN, m.Launch): "preloading",
    },
    (CONTROL, "preloading"): {
        (DOWN, m.Adopt): "preloading",
        (UP, m.Sealed): "sealed",
        (UP, m.PreloadFailed): "ended",
        (UP, m.Unsafe): "ended",
    },
    (CONTROL, "sealed"): {
        (DOWN, m.Adopt): "sealed",
    },
    (CHANNEL, "open"): {
        (DOWN, m.Welcome): "served",
        (DOWN, m.PreloadFailed): "ended",
        (DOWN, m.Unsafe): "ended",
        (DOWN, m.Refused): "ended",
        (DOWN, m.Broken): "ended",
        (DOWN, m.Died): "ended",
    },
    (CHANNEL, "served"): {
        (UP, m.Spawn): "served",
        (UP, m.SpareTaken): "served",
        (UP, m.Wanted): "served",
        (DOWN, m.Spawned): "served",
        (DOWN, m.SpawnFailed): "served",
        (DOWN, m.Exited): "served",
        (DOWN, m.Noted): "served",
        (DOWN, m.Evidence): "served",
        (DOWN, m.Stuck): "served",
    },
    (FEED, "open"): {
        (UP, m.BuffersAt): "waiting",  # once: who says it for ever has its client read for ever
        (UP, m.Became): "running",
        (UP, m.BirthFailed): "ended",
    },
    (FEED, "waiting"): {
        (DOWN, m.Filled): "waiting",
        (UP, m.Became): "running",
        (UP, m.BirthFailed): "ended",
    },
    (FEED, "running"): {
        (UP, m.Returned): "ended",
        (UP, m.Raised): "ended",
    },
    (LEDGER, "new"): {
        (DOWN, m.Root): "open",
    },
    (LEDGER, "open"): {
        (DOWN, m.Entered): "open",
        (DOWN, m.NameHeld): "open",
        (DOWN, m.Dropped): "open",
        (DOWN, m.StdlibTrackerRuns): "open",
        (DOWN, m.Reported): "open",
    },
}


class ProtocolError(ValueError):
    """A message that the table does not list: the sender is wrong, and only its own conversation suffers."""


def step(link: str, state: str, way: str, message: m.Message) -> str:
    """Give the state of the conversation after this message. Raises ProtocolError where the table has none."""
    try:
        return TABLE[link, state][way, type(message)]
    except KeyError:
        legal = ", ".join(kind.__name__ for direction, kind in TABLE.get((link, state), {}) if direction == way)
        raise ProtocolError(
            f"{type(message).__name__} is not said {way} a {link} that is {state} (legal: {legal or 'nothing'})"
        ) from None
