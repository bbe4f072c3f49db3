"""What makes a template: everything that is fixed when it is born. Equal specs are one template."""

from __future__ import annotations

from warmfork._words.messages import Message


class Spec(Message, tag=60):
    """As it travels in a memfd, encoded by wire.py.

    `environment` is not part of what makes two specs equal unless the user gave it: a nested client has its own, and
    each start carries its complete environment anyway. `wanted` is not either: it only makes children faster.
    """

    name: str
    executable: str
    flags: tuple[str, ...]  # interpreter options, as subprocess._args_from_interpreter_flags() gives them
    preload: tuple[str, ...]  # "module" or "module:function", in this order
    policies: tuple[str, ...]
    # What to do when the item at the same place fails. "raise": no template, PreloadError. "fail": that, and the traceback
    # on the template's stderr, as multiprocessing's on_error="fail" promises. "warn": an ImportWarning in the template, a
    # line in the client's log. "ignore": the line only.
    audit: str  # "refuse", "warn" or "off"
    spares: int  # how many to have ready, or -1 to learn it from the traffic
    # "auto": heaps are collapsed where it pays, in idle time what would take long. "on": all, at the seal. "off": none.
    huge_pages: str
    without: tuple[str, ...]  # techniques that are switched off: of TECHNIQUES
    entry: str  # what its children will mostly be started with: rehearsed, so that they find it warm
    loader: str  # "module:function" called with `loader_arguments` before all else, or ""
    loader_arguments: tuple[str, ...]
    sys_path: tuple[str, ...]
    argv: tuple[str, ...]
    own_environment: int  # 1: `environment` was asked for by the user
    environment: tuple[str, ...]  # "NAME=value"
    epoch: int  # raised to ask for a fresh template of an otherwise equal spec
    wanted: tuple[str, ...]  # modules of Python's own that its client has loaded, and its children will want


LEARNT = "warmfork.learning.preload:load"
"""The preload item that stands for what was learnt of a program. It gives notes for the log; and where a template has died
in it, the next one first tries in a fork what it imports."""

TECHNIQUES = ("spares", "helper", "pretouch", "rehearsal", "huge_pages", "freeze", "out_of_band")
"""What makes starts fast and memory shared, and can be switched off: children forked ahead; the helper that takes over a
dead child's memory; the pages of a birth given to spares; births rehearsed in the template; heaps collapsed to huge
pages; objects of the template kept from the garbage collector; large arguments and results copied past the pickle."""


def identify(spec: Spec) -> tuple[object, ...]:
    """Give what two equal specs have in common: the fingerprint of a template."""
    return tuple(
        value
        for field, value in zip(spec.FIELDS, spec, strict=True)
        if field != "wanted" and (field != "environment" or spec.own_environment)
    )
