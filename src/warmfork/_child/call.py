"""The entry of Template.start(): unpickle a call, make it, and send back what it returned or raised."""

from __future__ import annotations

import atexit
import sys

from warmfork._child import birth as birth_
from warmfork._child import ending
from warmfork._child.pickles import PickleBuffer, PicklingError, dumps, loads
from warmfork._machine import fds
from warmfork._words import feed, messages, wire

TYPE_CHECKING = False
if TYPE_CHECKING:
    from warmfork._child.birth import Birth


def run_call(birth: Birth) -> int:
    """Run the call that this child was started for. Gives the exit code: 0, 1 where it raised, or SystemExit's."""
    # What the template registered at exit is the template's: a child that ran it would delete its temporary files.
    atexit._clear()
    util = sys.modules.get("multiprocessing.util")
    if util is not None:
        atexit.register(util._exit_function)
    try:
        function, args, kwargs = loads(birth.payload)
    except BaseException as error:
        birth_.fail(birth, error)
        return 1
    birth.finish_becoming()
    code = 0
    try:
        value = function(*args, **kwargs)
        reply(birth, messages.Returned, value, "")
    except SystemExit as error:
        code = ending.read_code(error.code)
    except BaseException as error:
        code = 1
        report(birth, error)
    ending.run_exit_handlers()
    ending.flush()
    return code


def reply(birth: Birth, kind: type[messages.Returned | messages.Raised], value: object, text: str) -> None:
    """Send a value to the client, in the message or in a memfd. Raises where it can't be pickled."""
    data = pickle(value)
    spilled = len(data) > feed.INLINE
    inline = b"" if spilled else data
    message = kind(len(data), inline) if kind is messages.Returned else messages.Raised(len(data), inline, text)
    if spilled:
        memory = fds.make_memory("warmfork-result", data)
        birth.announce(message, (memory,))
    else:
        birth.announce(message)


def report(birth: Birth, error: BaseException) -> None:
    """Send an exception with its traceback; where it can't be pickled, its text alone."""
    from traceback import format_exception

    text = wire.keep_end("".join(format_exception(error)))
    try:
        from tblib import pickling_support

        # Pickles the tracebacks too, and its causes, and what a constructor with arguments of its own would refuse.
        pickling_support.install(error)
        reply(birth, messages.Raised, error, text)
    except Exception as refusal:
        note = f"{text}\n(the exception itself could not be sent: {type(refusal).__name__}: {refusal})"
        birth.announce(messages.Raised(0, b"", note))


def pickle(value: object) -> bytes:
    """Pickle by reference, or by value (cloudpickle) where the client could not find it by name."""
    try:
        data = dumps(value, 5)
        if b"__main__" not in data and b"__mp_main__" not in data:
            return data
    except (PicklingError, AttributeError, TypeError):
        if isinstance(value, PickleBuffer):
            raise
    import cloudpickle

    pickled: bytes = cloudpickle.dumps(value, 5)
    return pickled
