"""The generated parts of docs/protocol.md. `python -m tests.architecture.diagrams` writes them.

They are made from the protocol's table. A part lies between two comments that name it, and nothing of it is to be
edited by hand: a test compares.
"""

from __future__ import annotations

import re
from itertools import groupby

from tests.architecture.sources import ROOT
from warmfork._words.messages import BY_TAG, Message
from warmfork._words.protocol import ANSWER, CHANNEL, CONTROL, DOOR, FEED, LEDGER, TABLE, UP
from warmfork._words.spec import Spec

PAGE = ROOT / "docs" / "protocol.md"

ENDS = {
    DOOR: ("a process of the tree", "the tracker"),
    ANSWER: ("whoever asked", "the tracker"),
    CONTROL: ("the template", "the tracker"),
    CHANNEL: ("the client", "the template"),
    FEED: ("the child", "its client"),
    LEDGER: ("whoever reads it", "the tracker"),
}
"""A link, and who is at its lower and its upper end: what is said up is said to the second."""


def draw_link(link: str) -> str:
    """A state diagram of a conversation, as mermaid: one arrow for each step from state to state."""
    rows = {state: row for (other, state), row in TABLE.items() if other == link}
    lines = ["```mermaid", "stateDiagram-v2", f"    [*] --> {next(iter(rows))}"]
    for state, row in rows.items():
        steps = sorted(row.items(), key=lambda item: list(row.values()).index(item[1]))
        for after, said in groupby(steps, key=lambda item: item[1]):
            names = ", ".join(f"{'↑' if way == UP else '↓'} {kind.__name__}" for (way, kind), _ in said)
            lines.append(f"    {state} --> {'[*]' if after == 'ended' else after}: {names}")
    return "\n".join([*lines, "```"])


def list_links() -> str:
    """All links, each with its ends and its diagram."""
    parts = []
    for link, (lower, upper) in ENDS.items():
        parts.append(f"### {link.capitalize()}: from {lower} up to {upper}\n\n{draw_link(link)}")
    return "\n\n".join(parts)


def list_messages() -> str:
    """All messages by tag: fields, where they are said, and what they mean."""
    lines = ["| tag | message | fields | said | meaning |", "|---|---|---|---|---|"]
    for kind in sorted({*BY_TAG.values(), Spec}, key=lambda kind: kind.TAG):
        fields = ", ".join(f"{field}: {type_}" for field, type_ in zip(kind.FIELDS, kind.KINDS, strict=True))
        meaning = " ".join((kind.__doc__ or "").split())
        lines.append(f"| {kind.TAG} | `{kind.__name__}` | {fields or '-'} | {find_places(kind)} | {meaning} |")
    return "\n".join(lines)


def find_places(kind: type[Message]) -> str:
    """Where a message is said: each link once, with its direction."""
    places = dict.fromkeys(
        f"{link} {'↑' if way == UP else '↓'}" for (link, _), row in TABLE.items() for way, said in row if said is kind
    )
    return ", ".join(places) or "in a memfd"


PARTS = {"links": list_links, "messages": list_messages}


def fill(page: str) -> str:
    """The page with its generated parts made anew."""
    for name, make in PARTS.items():
        pattern = re.compile(rf"(<!-- begin {name}[^>]*-->\n).*?(<!-- end {name} -->)", re.DOTALL)
        page, count = pattern.subn(lambda found, make=make: f"{found[1]}\n{make()}\n\n{found[2]}", page)
        if count != 1:
            raise ValueError(f"{PAGE} has {count} parts {name}, not one")
    return page


def main() -> None:
    """Write the page."""
    PAGE.write_text(fill(PAGE.read_text()))


if __name__ == "__main__":
    main()
