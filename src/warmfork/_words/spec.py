"""What makes a template: everything that is fixed when it is born. Equal specs are one template."""

from __future__ import annotations

from warmfork._words.messages import Message


class Spec(Message, tag=60):
    """As it travels in a memfd, encoded by wire.py.

    `environment` is not part of what makes two specs equal unless the user gave it: a nested client has its own, and
    each start carries its complete environment anyway.
    """

    name: str
    executable: str
    flags: tuple[str, ...]  # interpreter options, as subprocess._args_from_interpreter_flags() gives them
    preload: tuple[str, ...]  # "module" or "module:function", in this order
    policies: tuple[str, ...]  # what to do when the item at the same place fails: see POLICIES
    audit: str  # "refuse", "warn" or "off"
    spares: int  # how many to have ready, or -1 to learn it from the traffic
    entry: str  # what its children will mostly be started with: rehearsed, so that they find it warm
    loader: str  # "module:function" called with `loader_arguments` before all else, or ""
    loader_arguments: tuple[str, ...]
    sys_path: tuple[str, ...]
    argv: tuple[str, ...]
    own_environment: int  # 1: `environment` was asked for by the user
    environment: tuple[str, ...]  # "NAME=value"
    epoch: int  # raised to ask for a fresh template of an otherwise equal spec


POLICIES = ("raise", "fail", "warn", "ignore")
"""raise: no template, PreloadError. fail: that, and the traceback on the template's stderr, as multiprocessing's
on_error="fail" promises. warn: an ImportWarning in the template, a line in the client's log. ignore: the line only."""


def identify(spec: Spec) -> tuple[object, ...]:
    """Give what two equal specs have in common: the fingerprint of a template."""
    return tuple(
        value for field, value in zip(spec.FIELDS, spec, strict=True) if field != "environment" or spec.own_environment
    )
