"""The entry of Template.start(): unpickle a call, make it, and send back what it returned or raised."""

from __future__ import annotations

import sys

# pickle's own C functions, without the Python around them (3 to 7 ms).
from _pickle import PickleBuffer, Pickler, PicklingError, dumps, loads

from warmfork._child import birth as birth_
from warmfork._child import ending
from warmfork._words import feed, messages, wire
from warmfork._words.buffers import Pickled, run

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from warmfork._child.birth import Birth


def run_call(birth: Birth) -> int:
    """Run the call that this child was started for. Gives the exit code: 0, 1 where it raised, or SystemExit's."""
    ending.forget_exit_handlers()
    try:
        if birth.fds:
            from warmfork._tasks.shared import Arriving

            with Arriving(birth.fds):
                function, args, kwargs = loads(birth.payload, buffers=birth.buffers)
        else:
            function, args, kwargs = loads(birth.payload, buffers=birth.buffers)
    except BaseException as error:
        birth_.fail(birth, error)
        return 1
    birth.payload, birth.buffers = b"", []
    birth.finish_becoming()
    code = 0
    try:
        value = function(*args, **kwargs)
        send_result(birth, function, value)
    except SystemExit as error:
        code = ending.read_code(error.code)
        if error.code is not None and not isinstance(error.code, int):  # sys.exit("why")
            birth.announce(messages.Raised(0, 0, b"", wire.keep_end(f"sys.exit({describe(error.code)})")))
    except BaseException as error:
        code = 1
        if not birth.state["fds"] & feed.HAS_IN and ending.wanted_stdin(error):
            error.add_note(ending.NO_STDIN)
        report(birth, error)
    ending.run_exit_handlers()
    return code


def describe(value: object) -> str:
    """Give a value's text, quoted. Its type may be one whose methods fail."""
    try:
        return repr(str(value))
    except Exception as refusal:
        return f"a {type(value).__name__} without a text: {type(refusal).__name__}"


UNSENDABLE = {
    "generator": "it runs in its process only; return list(...) of it",
    "coroutine": "it runs in its process only; return asyncio.run(...) of it",
    "async_generator": "it runs in its process only; return what it gives in a list",
}
"""What functions return that runs on, and what to do about it."""


def send_result(birth: Birth, function: Any, value: object) -> None:
    """Send what the function returned. Raises TypeError where it can't be sent."""
    kind = type(value).__name__
    name = getattr(function, "__qualname__", "the function")
    if kind in UNSENDABLE:
        raise TypeError(f"{name} returned a {kind}, which can't be sent: {UNSENDABLE[kind]}")
    try:
        reply(birth, messages.Returned, value, "")
    except (PicklingError, AttributeError, TypeError) as error:
        error.add_note(f"{name} returned {kind}, which can't be sent")
        raise


def rehearse(birth: Birth | None) -> bytes:
    """Called in the template, to have the code above warm: give a payload, then (with the birth that got it) take it."""
    if birth is None:
        from warmfork._machine import spilled as spilled  # loaded for those who return much

        return dumps((tuple, (), {}), 5)
    function, args, kwargs = loads(birth.payload, buffers=birth.buffers)
    reply(birth, messages.Returned, function(*args, **kwargs), "")
    return b""


def reply(birth: Birth, kind: type[messages.Returned | messages.Raised], value: object, text: str) -> None:
    """Send a value to the client, in the message or in a memfd. Raises where it can't be pickled."""
    pickled = pickle(value, "out_of_band" not in birth.spec.without)
    size = sum(map(len, pickled.parts))
    is_large = bool(pickled.buffers) or size > feed.INLINE
    fields = size, len(pickled.buffers), b"" if is_large else b"".join(pickled.parts)
    message = kind(*fields) if kind is messages.Returned else messages.Raised(*fields, text)
    if not is_large:
        birth.announce(message)
        return
    from warmfork._machine import fds, spilled

    # In a file: this process may leave while the client is busy with something else.
    with fds.Fd(spilled.spill(pickled.parts, pickled.buffers, "a result")) as memory:
        birth.announce(message, (memory.fileno(),))


def report(birth: Birth, error: BaseException) -> None:
    """Send an exception with its traceback; where it can't be pickled, its text alone."""
    from traceback import format_exception

    frame = error.__traceback__
    while frame is not None and frame.tb_frame.f_code.co_filename == __file__:
        frame = frame.tb_next  # the way to the user's function
    error.__traceback__ = frame
    text = wire.keep_end("".join(format_exception(error)))
    try:
        from tblib import pickling_support

        # Pickles the tracebacks too, and its causes, and what a constructor with arguments of its own would refuse.
        pickling_support.install(error)
        reply(birth, messages.Raised, error, text)
    except Exception as refusal:
        note = f"{text}\n(the exception itself could not be sent: {type(refusal).__name__}: {wire.fit(str(refusal), 4000)})"
        birth.announce(messages.Raised(0, 0, b"", note))


def pickle(value: object, out_of_band: bool) -> Pickled:
    """Pickle by reference, or by value (cloudpickle) where the client could not find it by name."""
    main_is_known = sys.modules["__main__"].__name__ == "__mp_main__"  # the template has run the client's script
    try:
        pickled = run(Pickler, value, out_of_band)
        if main_is_known or not any(
            b"__main__" in part or b"__mp_main__" in part for part in map(bytes, pickled.parts)
        ):
            return pickled
    except (PicklingError, AttributeError, TypeError):
        if isinstance(value, PickleBuffer):
            raise
    from warmfork._tasks.by_value import make_pickler

    return run(make_pickler(main_is_known), value, out_of_band)
