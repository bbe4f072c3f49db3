"""The entry of an executor's worker: calls come down a socket, what they give goes up a pipe, one after the other.

The order in which the words of the page are written and read is what makes "never twice, never lost" true: see
_tasks/work.py. It is the same for a worker that makes the calls itself and for one that forks for each (forker.py).
"""

from __future__ import annotations

import _signal
import gc
import os

# pickle's own C functions, without the Python around them.
from _pickle import Pickler, PicklingError, dumps, loads
from mmap import mmap
from select import POLLIN, poll
from time import monotonic, monotonic_ns

from warmfork._child import birth as birth_
from warmfork._child import ending, stdio
from warmfork._machine import fds, pids, signals, sockets, spilled, state
from warmfork._tasks import barrier, end_what_is_left, work
from warmfork._tasks.work import (
    BUNDLE,
    CLAIMED,
    CONFIRMED,
    ENDED_FOR,
    FINISHED,
    INLINE,
    LEAVE,
    MEMORY,
    RAISED,
    REFUSED,
    RESULT,
    REVOKED,
    SHARED,
    SINCE,
    SKIPPED,
    SLICE,
    SPILLED,
    VALUE,
)  # fmt: skip
from warmfork._words import wire
from warmfork._words.buffers import run as run_pickler

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from typing import Any

    from warmfork._child.birth import Birth

SLICE_SECONDS = 0.01
"""How long a slice of a map() goes on before it lets others have their turn."""

SIGINT = 2


class Worker:
    """What a worker has: its socket, its pipe, its page."""

    def __init__(self, birth: Birth, settings: dict[str, Any]) -> None:
        tasks, results, page = birth.fds[:3]
        more = birth.fds[3:]
        birth.fds.clear()
        self.output = more.pop(0) if settings["captured"] else -1
        if settings["log_level"]:
            from warmfork._tasks import logs

            to = sockets.adopt_socket(state.move_high(more.pop(0)))
            logs.forward(to, settings["log_level"], birth.state["name"])
        self.arrived = more  # files of shared memory: the initializer's, and later those that came with a task
        self.socket = sockets.adopt_socket(state.move_high(tasks))
        self.pipe = state.move_high(results)
        self.page = memoryview(mmap(page, work.WORDS_SIZE)).cast("Q")
        os.close(page)
        self.parent = birth.parent
        self.own = 0  # in a process that runs one task: its pid
        self.settings = settings
        self.most_held = settings["most_held"]  # 0: as much as it likes
        self.begun_with = self.ended = 0  # bytes, which a fork has of its template; tasks
        self.look_at = 0.0
        self.room = bytearray(work.ROOM)
        self.poller = poll()
        self.poller.register(self.socket.fileno(), POLLIN)
        self.poller.register(self.parent, POLLIN)

    # -- what comes

    def receive(self) -> tuple[memoryview, list[int]]:
        """Wait for a message; what it brings besides. Empty: the program is gone, of which the end of the socket need be no
        sign, for a fork of the program may hold its other end."""
        while True:
            try:
                size, control, _, _ = self.socket.recvmsg_into((self.room,), sockets.ANCILLARY, sockets.RECEIVE)
            except BlockingIOError:
                if any(fd == self.parent for fd, _ in self.poller.poll()):
                    return memoryview(b""), []
                continue
            except ConnectionError:
                return memoryview(b""), []
            passed = sockets.unpack_received((b"", control, 0, None)).fds if control else []
            return memoryview(self.room)[:size], passed

    def serve(self, run: Callable[[int, Any, Any, int], None]) -> int:
        """Take messages until there are none any more, and `run` each task that was not taken back. Gives the exit code."""
        page = self.page
        while True:
            message, passed = self.receive()
            if not message:
                return 0
            first, count, kind, start = work.TASKS.unpack_from(message)
            if kind == LEAVE:
                return 0
            at = work.TASKS.size
            sizes: Any = (len(message) - at,)
            if kind & ~(SPILLED | SHARED) == BUNDLE:
                sizes = message[at : at + 4 * count].cast("I")
                at += 4 * count
            if not kind & SLICE:
                start = -1
            for index in range(count):
                number, size = first + index, sizes[index]
                page[CLAIMED] = number
                if page[REVOKED] >= number:
                    self.tell(number, SKIPPED, b"")
                    fds.close_all(passed)
                else:
                    page[SINCE] = monotonic_ns()
                    page[CONFIRMED] = number
                    content = message[at : at + size]
                    if kind & (SPILLED | SHARED):
                        memory = passed.pop(0) if kind & SPILLED else None
                        self.arrived = passed
                        run(number, content if memory is None else MEMORY.unpack(content), memory, start)
                    else:
                        run(number, content, None, start)
                    page[FINISHED] = number
                at += size

    # -- what is said

    def tell(self, number: int, kind: int, content: bytes) -> None:
        """Send a record up. A program that is gone hears nothing, and we leave."""
        data = RESULT.pack(number, len(content), kind | self.own << work.PID_AT) + content
        written = os.write(self.pipe, data)
        while written < len(data):
            written += os.write(self.pipe, data[written:])

    def tell_result(
        self, number: int, kind: int, parts: list[Any], buffers: Sequence[memoryview] = (), front: bytes = b""
    ) -> None:
        """Send what a task gave, through a memfd where it is large. `front` stays in the record."""
        if self.output >= 0:
            output = self.take_output()
            kind, front = kind | work.OUTPUT, work.SIZE.pack(len(output)) + output + front
        size = sum(map(len, parts))
        if not buffers and size <= INLINE:
            self.tell(number, kind, b"".join((front, *parts)))
            return
        with fds.Fd(spilled.spill(parts, buffers, "a result")) as memory:
            sockets.send_within(self.socket, RESULT.pack(number, 0, kind), (memory.fileno(),), timeout=1e6)
        self.tell(number, kind | SPILLED, front + MEMORY.pack(size, len(buffers)))

    def take_output(self) -> bytes:
        """Give what was written since the last time, its end if it is long, and forget it."""
        stdio.flush()
        size = os.fstat(self.output).st_size
        kept = os.pread(self.output, OUTPUT_KEPT, max(0, size - OUTPUT_KEPT))
        os.ftruncate(self.output, 0)
        return kept

    # -- a task

    def run_and_measure(self, number: int, content: Any, memory: int | None, start: int) -> None:
        """Make one call; then say, once, if more is held than may be. What garbage there is does not count."""
        self.run_task(number, content, memory, start)
        self.ended += 1
        if self.ended < FIRST_LOOK or monotonic() < self.look_at:
            return
        held = measure() - self.begun_with
        if held > self.most_held:
            gc.collect()
            held = measure() - self.begun_with
        self.look_at = monotonic() + BETWEEN_LOOKS
        if held > self.most_held:
            self.tell(0, work.WORN, work.HELD.pack(held))
            self.look_at = float("inf")

    def run_task(self, number: int, content: Any, memory: int | None, start: int) -> None:
        """Make one call, and send what it gives."""
        try:
            pickle: Any = content
            buffers: list[memoryview] = []
            if memory is not None:
                pickle, buffers = spilled.map_spilled(memory, *content)
                os.close(memory)
            called = self.unpickle(pickle, buffers) if self.arrived else loads(pickle, buffers=buffers)
            if start >= 0:
                function, columns = called
                self.run_slice(number, function, columns, start)
                return
            function, args, kwargs = called
            del called, pickle, buffers
            value = function(*args, **kwargs)
            del function, args, kwargs
        except BaseException as error:
            self.tell_error(number, RAISED, error)
            return
        self.tell_value(number, VALUE, value)

    def unpickle(self, pickle: Any, buffers: Sequence[memoryview] = ()) -> Any:
        """Unpickle what refers to shared memory, of which the files have arrived."""
        from warmfork._tasks.shared import Arriving

        arrived, self.arrived = self.arrived, []
        with Arriving(arrived):
            return loads(pickle, buffers=buffers)

    def run_slice(self, number: int, function: Callable[..., Any], columns: tuple[list[Any], ...], start: int) -> None:
        """Go through a part of a map(), for a while: how far it came is told with what it gave."""
        values: list[Any] = []
        errors: dict[int, bytes] = {}
        total = len(columns[0])
        until = monotonic() + SLICE_SECONDS
        at, step = start, 1
        while at < total:
            end = min(total, at + step)
            done = at - start
            try:
                values.extend(map(function, *[column[at:end] for column in columns]))
                at = end
            except BaseException as error:
                if self.page[ENDED_FOR] == number:
                    raise
                at += len(values) - done + 1
                errors[at - 1 - start] = work.pack_error(*describe(error))
                values.append(None)
            if monotonic() > until:
                break
            step = min(step * 2, MOST_STEPS)
        self.tell_value(number, work.PARTIAL if at < total else VALUE, (values, errors), work.PROGRESS.pack(at))

    def tell_value(self, number: int, kind: int, value: object, front: bytes = b"") -> None:
        """Send what a call gave."""
        try:
            data, buffers = pickle(value)
        except BaseException as error:
            text = f"what it gave can't be pickled: {type(error).__name__}: {error}\n{format_error(error)}"
            self.tell_result(number, REFUSED, [text.encode("utf-8", "backslashreplace")])
            return
        self.tell_result(number, kind, data, buffers, front)

    def tell_error(self, number: int, kind: int, error: BaseException) -> None:
        """Send what a call raised. Where we are being ended for that call, nobody wants it, and we leave."""
        if isinstance(error, KeyboardInterrupt) and kind == RAISED and self.page[ENDED_FOR] == number:
            raise error
        self.tell_result(number, kind, [work.pack_error(*describe(error))])

    def initialize(self, rest: memoryview) -> bool:
        """Call the initializer: it is part of our birth."""
        try:
            if rest:
                function, args = self.unpickle(rest) if self.arrived else loads(rest)
                function(*args)
        except BaseException as error:
            self.output = -1
            self.tell_error(0, work.FAILED, error)
            return False
        if self.output >= 0:
            self.take_output()
        self.tell(0, work.READY, b"")
        return True


FIRST_LOOK = 3
"""Tasks until a worker measures what it holds: what the first ones import and keep is no leak."""

BETWEEN_LOOKS = 0.005

MOST_STEPS = 4096
"""Items of a slice between two looks at the clock."""

OUTPUT_KEPT = 65_536
"""Bytes of a task's output that are kept: the last ones."""


def pickle(value: object, out_of_band: bool = True) -> tuple[list[Any], list[memoryview]]:
    """Pickle by reference, or by value (cloudpickle) where the program could not find it by name; large buffers aside."""
    buffers: list[Any] = []
    by_name = True
    try:
        data = dumps(value, 5, buffer_callback=buffers.append if out_of_band else None)
        by_name = b"__main__" not in data and b"__mp_main__" not in data
        if by_name and not buffers:
            return [data], []
    except (PicklingError, AttributeError, TypeError):
        by_name = False
    kind: Any = Pickler
    if not by_name:
        from warmfork._tasks.by_value import make_pickler

        kind = make_pickler(False)
    pickled = run_pickler(kind, value, out_of_band)
    return pickled.parts, pickled.buffers


def measure() -> int:
    """Give the bytes that this process holds and no file backs."""
    from warmfork._tasks import tree

    return tree.get_held(os.getpid())


def format_error(error: BaseException) -> str:
    """Give an exception's traceback as text, without our own frames."""
    from traceback import format_exception

    trace = error.__traceback__
    while trace is not None and trace.tb_frame.f_code.co_filename == __file__:
        trace = trace.tb_next
    return wire.keep_end("".join(format_exception(type(error), error, trace)))


def describe(error: BaseException) -> tuple[tuple[str, ...], str, bytes]:
    """Give an exception's classes, its text, and its pickle, if it has one."""
    text = format_error(error)
    names = work.name_classes(type(error))
    try:
        from tblib import pickling_support

        # Pickles the tracebacks too, and its causes, and what a constructor with arguments of its own would refuse.
        pickling_support.install(error)
        return names, text, b"".join(pickle(error, False)[0])
    except Exception as refusal:
        return names, f"{text}\n(the exception itself could not be sent: {type(refusal).__name__}: {refusal})", b""


def run(birth: Birth, kind: type[Worker] = Worker) -> int:
    """Be a worker of this kind. Gives the exit code."""
    ending.forget_exit_handlers()
    try:
        settings, rest = work.unpack_settings(birth.payload)
        pids.become_subreaper()
        os.setsid()
        worker = kind(birth, settings)
        barrier.register()
        # For a task that is cancelled, whatever the program does with it.
        signals.set_disposition(SIGINT, _signal.default_int_handler)
        if worker.output >= 0:
            capture(worker.output)
        if worker.most_held:
            worker.begun_with = measure()
    except BaseException as error:
        birth_.fail(birth, error)
        return 1
    birth.payload, birth.buffers = b"", []
    birth.finish_becoming()
    code = 1
    try:
        if worker.initialize(rest):
            code = worker.serve(worker.run_and_measure if worker.most_held else worker.run_task)
    except KeyboardInterrupt:
        code = 128 + SIGINT
    except BrokenPipeError:
        code = 0  # the program is gone
    ending.run_exit_handlers()
    stdio.flush()
    end_what_is_left()
    return code


def capture(output: int) -> None:
    """Have what is written to stdout and stderr go to this file, and at once."""
    end = os.open(f"/proc/self/fd/{output}", os.O_WRONLY | os.O_APPEND | os.O_CLOEXEC)
    os.dup2(end, 1)
    os.dup2(end, 2)
    os.close(end)
    stdio.write_through()
