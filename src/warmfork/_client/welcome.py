"""What comes of a hello: a welcome, or why there is none; and what is told of its template to a successor of the tracker."""

from __future__ import annotations

import os

from warmfork._client import launch
from warmfork._machine import fds
from warmfork._words import messages
from warmfork._words.errors import AuditError, PreloadError, Refused, StartError, TemplateDied
from warmfork._words.outcome import read_status
from warmfork._words.spec import LEARNT

TYPE_CHECKING = False
if TYPE_CHECKING:
    from warmfork._client.channel import Channel
    from warmfork._client.client import Client
    from warmfork._client.launch import Tree
    from warmfork._words.spec import Spec


def is_answered(channel: Channel) -> bool:
    """Was the hello answered, or will it never be?"""
    return channel.last is not None or channel.dead


def explain(last: messages.Message | None) -> None:
    """Raise for what was answered in place of a welcome. Returns where nothing was."""
    if isinstance(last, messages.PreloadFailed):
        raise PreloadError(last.module, last.cause, last.traceback)
    if isinstance(last, messages.Unsafe):
        raise AuditError(last.findings)
    if isinstance(last, messages.Refused) and last.rights:
        raise Refused(last.why)
    if isinstance(last, messages.Refused):
        raise StartError("template", last.why)
    if isinstance(last, messages.Broken):
        raise TemplateDied(last.deaths, last.seconds, read_status(last.status) if last.status >= 0 else None)
    if isinstance(last, messages.Died) and last.preloading != LEARNT:
        how = f"the template ended while preloading: {read_status(last.status)}"
        if last.preloading:
            from warmfork._machine import stacks

            raise PreloadError(last.preloading, how, stacks.leave_out_own(last.stderr))
        raise StartError("template", f"{how} {last.stderr}".strip())


GIVE_UP_TIMEOUT = 2.0


def make_late(client: Client, spec: Spec, channel: Channel, timeout: float | None) -> StartError:
    """Make the error for a template that is not ready in time. It is ended, unless another thread has more patience."""
    item = ended = ""
    if not channel.waiting:
        item, ended = launch.give_up(client.ensure_door(spec), spec, GIVE_UP_TIMEOUT), "; it was ended"
    step, at = ("preload", f', while it preloaded "{item}"') if item else ("start_timeout", "")
    return StartError(step, f"not ready after {timeout} s (start_timeout){at}{ended}")


def make_unaskable(error: OSError) -> StartError:
    """Make the error for a hello that could not be sent; where it is said already why not, that."""
    if isinstance(error, StartError):
        return error
    return launch.make_error("a template can't be asked for", error)


def make_unstartable() -> StartError:
    """Make the error for a template that died at each try."""
    return StartError("template", "it died three times before it could serve (the log of warmfork.tracker tells how)")


def hand_over(tree: Tree, channel: Channel) -> None:
    """Tell a successor of the template of a channel."""
    if channel.template >= 0 and channel.board and channel.is_ours():
        tree.hand_over(make_inherit(channel), channel.template, channel.board.fileno())


def keep(tree: Tree, channel: Channel) -> None:
    """Keep what tells of the children that the template of a channel has left. Without an fd for that, a successor of the
    tracker does not know of them."""
    if channel.template >= 0 and channel.board and channel.is_ours():
        try:
            tree.keep(make_inherit(channel), fds.Fd(os.dup(channel.template)), fds.Fd(os.dup(channel.board.fileno())))
        except OSError:
            return


def make_inherit(channel: Channel) -> messages.Inherit:
    """Say to a successor which template this channel leads to."""
    return messages.Inherit(channel.generation, channel.pid, channel.name)
