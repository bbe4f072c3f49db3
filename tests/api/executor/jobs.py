"""What tasks do in the tests of the executor. It stands alone, for the template imports it."""

from __future__ import annotations

import _thread
import operator
import os
import signal
import subprocess
import sys
import time


class Two(Exception):
    """Its constructor takes two arguments, so plain pickle can't rebuild it."""

    def __init__(self, left: str, right: str) -> None:
        super().__init__(f"{left} and {right}")
        self.left, self.right = left, right


class Explosive:
    """Can be pickled and not unpickled."""

    def __reduce__(self):
        return explode, ("on arrival",)


class OnlyThere:
    """Can be unpickled in the worker, and not in the program `pid`."""

    def __init__(self, pid: int) -> None:
        self.pid = pid

    def __reduce__(self):
        return refuse_in, (self.pid,)


class Deadly:
    """Ends whichever other process unpickles it."""

    def __init__(self) -> None:
        self.home = os.getpid()

    def __reduce__(self):
        return die_elsewhere, (self.home,)


def die_elsewhere(home: int) -> None:
    if os.getpid() != home:
        os._exit(66)


def refuse_in(pid: int) -> object:
    if os.getpid() == pid:
        raise ValueError("not here")
    return OnlyThere(pid)


def explode(text: str) -> None:
    raise ValueError(text)


def raise_two() -> None:
    raise Two("one", "two")


def give_unpicklable() -> object:
    return _thread.allocate_lock()


def pass_on(value: object) -> object:
    return value


def get_pid(_item: object = None) -> int:
    return os.getpid()


def crash() -> None:
    os.kill(os.getpid(), signal.SIGSEGV)


def leave(code: int) -> None:
    os._exit(code)


def write_and_leave(text: str) -> None:
    print(text, flush=True)
    os._exit(1)


def say(text: str) -> str:
    print(text)
    print(text.upper(), file=sys.stderr)
    return text


def wait_for(path: str) -> int:
    """Wait until somebody opens this FIFO for writing, and closes it."""
    with open(path) as fifo:
        fifo.read()
    return os.getpid()


def note(path: str, text: str) -> str:
    """Append a line to a file, in one write."""
    fd = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT)
    os.write(fd, f"{text}\n".encode())
    os.close(fd)
    return text


def note_and_wait(path: str, fifo: str) -> int:
    note(path, str(os.getpid()))
    return wait_for(fifo)


def note_when_ended(path: str) -> None:
    """Run for long, and say so at the end, however it comes."""
    try:
        note(path, "begun")
        time.sleep(600)
    finally:
        note(path, "ended")


def ignore_signals(path: str) -> None:
    """Run for long, and listen to nobody."""
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, signal.SIG_IGN)
    note(path, str(os.getpid()))
    while True:
        time.sleep(600)


def start_sleeper(path: str) -> None:
    """Start a process in a session of its own, write down its pid, and run for long."""
    sleeper = subprocess.Popen(["sleep", "600"], start_new_session=True)
    note(path, str(sleeper.pid))
    time.sleep(600)


def start_sleeper_and_leave(path: str) -> None:
    sleeper = subprocess.Popen(["sleep", "600"])
    note(path, str(sleeper.pid))
    os._exit(1)


def die_once(path: str) -> str:
    """End this process, but not the second time."""
    try:
        os.close(os.open(path, os.O_CREAT | os.O_EXCL))
    except FileExistsError:
        return "second"
    os._exit(9)


def raise_once(path: str) -> str:
    try:
        os.close(os.open(path, os.O_CREAT | os.O_EXCL))
    except FileExistsError:
        return "second"
    raise LookupError("the first time")


def hold(size: int, path: str) -> None:
    """Hold so much memory, and run for long."""
    kept = bytearray(size)
    note(path, str(len(kept)))
    time.sleep(600)


def list_fds() -> list[str]:
    """What a subprocess of a task has open, from 3 up."""
    code = (
        "import os\nfor fd in os.listdir('/proc/self/fd'):\n"
        "    if int(fd) > 2 and os.path.exists(f'/proc/self/fd/{fd}'): print(os.readlink(f'/proc/self/fd/{fd}'))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, close_fds=False)
    return done.stdout.splitlines()


state: list[object] = []


def begin(*values: object) -> None:
    """An initializer."""
    state.extend(values)


def read_state() -> list[object]:
    return state


def fail_to_begin(path: str) -> None:
    note(path, str(time.monotonic()))
    raise RuntimeError("no database")


def fail_at(item: int, bad: int) -> int:
    if item == bad:
        raise ValueError(f"item {item}")
    return item


def leave_at(item: int, bad: int) -> int:
    if item == bad:
        os._exit(4)
    return item


negate = operator.neg


def raise_this(error: BaseException) -> None:
    raise error


def nest(number: int) -> int:
    """An executor in a task of another."""
    import warmfork

    with warmfork.Executor(1) as executor:
        result = 1
        for factor in range(1, number + 1):
            result = executor.submit(operator.mul, result, factor).result(20)
        return result


def write_everywhere() -> None:
    """Write nonsense to each pipe that this process has open for writing."""
    for fd in map(int, os.listdir("/proc/self/fd")):
        try:
            if fd > 2 and os.readlink(f"/proc/self/fd/{fd}").startswith("pipe:"):
                os.write(fd, b"\xff" * 64)
        except OSError:
            continue
    time.sleep(600)


def open_and_wait(own: str, other: str, first: bool = True) -> str:
    """Meet another task: both have to run at the same time."""
    for path in (own, other) if first else (other, own):
        if path == own:
            os.close(os.open(path, os.O_WRONLY))
        else:
            with open(path) as fifo:
                fifo.read()
    return "met"


def wait_or_pass(text: str) -> str:
    if text.startswith("/"):
        wait_for(text)
    return text


def fail_unless(path: str) -> None:
    if not os.path.exists(path):
        raise RuntimeError("not yet")


def note_at_exit(path: str) -> None:
    import atexit

    atexit.register(note, path, "exit")


def count(path: str) -> None:
    """Write down that it was begun: a byte for each time."""
    fd = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT)
    os.write(fd, b"x")
    os.close(fd)


def count_and_wait(path: str, number: int, seconds: float) -> int:
    count(path)
    if seconds:
        time.sleep(seconds)
    return number


def count_and_die(path: str, how: int) -> None:
    count(path)
    if how:
        os.kill(os.getpid(), how)
    os._exit(7)


def count_and_raise(path: str, number: int) -> None:
    count(path)
    raise LookupError(number)


def count_and_give_lock(path: str) -> object:
    count(path)
    return _thread.allocate_lock()


def count_and_hold(path: str, size: int) -> None:
    count(path)
    kept = bytearray(size)
    time.sleep(60)
    del kept


def count_and_echo(path: str, data: bytes) -> bytes:
    count(path)
    return data


def begin_and_read(value: object) -> list[object]:
    begin(value)
    return state


def draw() -> float:
    import random

    return random.random()


def sleep_once(path: str) -> str:
    try:
        os.close(os.open(path, os.O_CREAT | os.O_EXCL))
    except FileExistsError:
        return "second"
    time.sleep(600)
    return "first"


def start_daemon(path: str) -> str:
    """Start a process that outlives its parent, in a session of its own."""
    code = "import subprocess as s\nprint(s.Popen(['sleep', '600'], start_new_session=True, stdout=s.DEVNULL).pid)"
    done = subprocess.run([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True, check=True)
    note(path, done.stdout.strip())
    return "done"


def claim(pid: int) -> None:
    """Say wherever that can be said that the process of this pid runs all tasks; then hang."""
    import ctypes

    with open("/proc/self/maps") as maps:
        (page,) = [int(line.partition("-")[0], 16) for line in maps if "warmfork-page" in line]
    for line in range(64):
        ctypes.c_uint64.from_address(page + line * 64 + 32).value = pid
    time.sleep(60)


def say_nonsense(kind: int) -> None:
    """Say to the program, for each task that there may be, what is well-formed and means nothing; then hang."""
    import marshal
    import struct

    data = marshal.dumps(kind)
    for name in os.listdir("/proc/self/fd"):
        try:
            if os.readlink(f"/proc/self/fd/{name}").startswith("pipe:"):
                for number in range(1, 20):
                    os.write(int(name), struct.pack("<QII", number, len(data), kind) + data)
        except OSError:
            continue
    time.sleep(60)


def keep(size: int) -> int:
    """Leak so much."""
    state.append(b"x" * size)
    return os.getpid()


def need(size: int) -> int:
    """Hold so much for as long as this runs."""
    return os.getpid() if b"x" * size else 0


def leave_garbage(size: int) -> int:
    """Leave a ring that only the collector finds."""
    ring: list[object] = [b"x" * size]
    ring.append(ring)
    return os.getpid()


def hold_much() -> None:
    """For a template: what its children are born with."""
    state.append(b"x" * (64 << 20))


def fail_the_first_time(path: str) -> None:
    raise_once(path)
