"""What children do in the tests. It stands alone: every child imports it, and pytest would take each 0.1 s."""

from __future__ import annotations

import os
import resource
import signal
import sys

from tests import signs
from warmfork._machine import syscalls


class Two(Exception):
    """Its constructor takes two arguments, so plain pickle can't rebuild it."""

    def __init__(self, left: str, right: str) -> None:
        super().__init__(f"{left} and {right}")
        self.left, self.right = left, right


class Stubborn:
    """Can't be pickled, and says so."""

    def __reduce_ex__(self, protocol):
        raise TypeError("a Stubborn stays where it is")


class Holder:
    """Something with a part that may not be picklable."""

    def __init__(self, part: object) -> None:
        self.part = part


class Explosive:
    """Can be pickled and not unpickled."""

    def __reduce__(self):
        return explode, ("on arrival",)


class Late:
    """Can be unpickled only once somebody has written to the FIFO at `path`."""

    def __init__(self, path: str, value: object) -> None:
        self.path, self.value = path, value

    def __setstate__(self, state: dict[str, object]) -> None:
        with open(state["path"]) as fifo:
            fifo.readline()
        self.__dict__ = state

    def give(self) -> object:
        return self.value


def explode(text: str) -> None:
    raise ValueError(text)


def raise_error(error: BaseException) -> None:
    raise error


def raise_two() -> None:
    raise Two("salt", "pepper")


def raise_from_cause() -> None:
    try:
        raise KeyError("the cause")
    except KeyError as cause:
        raise Two("a", "b") from cause


def raise_stubborn() -> None:
    error = ValueError("with a part that can't be pickled")
    error.part = Stubborn()
    raise error


def give(value: object) -> object:
    return value


def give_stubborn() -> object:
    return Stubborn()


def give_bytes(size: int) -> bytes:
    return bytes(size)


def give_function() -> object:
    return lambda number: number + 1


def end_by(number: int) -> None:
    """Be ended by this signal."""
    if number != signal.SIGKILL:
        signal.signal(number, signal.SIG_DFL)
    os.kill(os.getpid(), number)


def wait() -> None:
    """Wait to be ended."""
    while True:
        signal.pause()


def sign_and_wait(path: str) -> None:
    """Say that we are here, and wait to be ended."""
    signs.give(path)
    wait()


def sign_and_ignore_sigterm(path: str) -> None:
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    sign_and_wait(path)


def print_text(text: str, number: int = 1) -> None:
    print(text, file=sys.stdout if number == 1 else sys.stderr)


def write_text(text: str, number: int = 1) -> None:
    os.write(number, text.encode())


def read_text(path: str) -> str:
    with open(path) as file:
        return file.read()


def see_state() -> dict[str, object]:
    """All of this process's state that a start transports."""
    mask = os.umask(0o77)
    os.umask(mask)
    return {
        "environ": dict(os.environ),
        "cwd": os.getcwd(),
        "umask": mask,
        "argv": list(sys.argv),
        "path": list(sys.path),
        "nice": os.getpriority(os.PRIO_PROCESS, 0),
        "affinity": sorted(os.sched_getaffinity(0)),
        "scheduler": syscalls.get_scheduler(),
        "limits": [resource.getrlimit(number) for number in range(16)],
        "mask": sorted(map(int, signal.pthread_sigmask(signal.SIG_BLOCK, []))),
        "ignored": [n for n in range(1, 65) if n not in (32, 33) and signal.getsignal(n) == signal.SIG_IGN],
        "oom": read_text("/proc/self/oom_score_adj"),
        "group": os.getpgrp(),
        "session": os.getsid(0),
    }


def see_kernel_signals() -> tuple[int, int]:
    """The masks of blocked and ignored signals, as the kernel has them and not as Python believes.

    32 and 33 are left out: they are the threads library's own, and posix_spawn() ignores them.
    """
    with open("/proc/self/status") as file:
        fields = dict(line.rstrip("\n").split(":\t", 1) for line in file if ":\t" in line)
    theirs = 3 << 31
    return int(fields["SigBlk"], 16) & ~theirs, int(fields["SigIgn"], 16) & ~theirs


def list_fds() -> dict[int, str]:
    """The fds of this process, and what they are open on."""
    found = {}
    for entry in os.listdir("/proc/self/fd"):
        try:
            found[int(entry)] = os.readlink(f"/proc/self/fd/{entry}")
        except FileNotFoundError:
            continue
    return found


def get_module_names() -> list[str]:
    return sorted(sys.modules)


def get_attribute(module: str, name: str) -> object:
    __import__(module)
    return getattr(sys.modules[module], name)


def get_pids() -> tuple[int, int]:
    return os.getpid(), os.getppid()


def use_memory(size: int) -> int:
    """Have so many bytes of memory resident for a moment, and burn some CPU."""
    held = bytearray(size)
    for start in range(0, size, 4096):
        held[start] = 1
    return sum(held) and sum(i * i for i in range(300_000)) and len(held)


def get_c_variable(name: str) -> bytes | None:
    """What C code sees of the environment."""
    import ctypes

    getenv = ctypes.CDLL(None).getenv
    getenv.restype = ctypes.c_char_p
    found: bytes | None = getenv(name.encode())
    return found


def draw_random() -> float:
    import random

    return random.random()


def draw_numpy() -> float:
    import numpy

    return float(numpy.random.random())


def seed_numpy() -> None:
    import numpy

    numpy.random.seed(7)


def see_collector() -> tuple[bool, int]:
    import gc

    return gc.isenabled(), gc.get_freeze_count()


def multiply_matrices() -> float:
    import numpy

    return float((numpy.ones((64, 64)) @ numpy.ones((64, 64)))[0, 0])


def end_by_fault() -> None:
    import ctypes

    ctypes.string_at(0)


def see_options() -> list[str]:
    return sorted(sys._xoptions)


def see_flags() -> tuple[str, list[str], list[str]]:
    return repr(sys.flags), sorted(sys._xoptions), list(sys.warnoptions)


def sign_wait_and_call(ready: str, go: str, module: str, name: str, arguments: tuple[object, ...]) -> object:
    """Say that we are here, wait for one word from the FIFO `go`, then call this function."""
    signs.give(ready)
    with open(go, "rb", buffering=0) as fifo:
        while fifo.read(1) not in (b"\n", b""):
            continue
    return get_attribute(module, name)(*arguments)


def append_line(path: str, text: str) -> None:
    with open(path, "a") as file:
        file.write(f"{text}\n")


def is_dead(pidfd: int) -> bool:
    import select

    return bool(select.select([pidfd], [], [], 0)[0])


def nest(context, queue, depth: int) -> None:
    """Start a process in a process, `depth` deep; each says which process forked it."""
    queue.put(os.getppid())
    if depth:
        process = context.Process(target=nest, args=(context, queue, depth - 1))
        process.start()
        process.join(30)
        sys.exit(process.exitcode)


def write_numbers(writers) -> None:
    """Write to each of these connections which one it is."""
    for number, writer in enumerate(writers):
        writer.send(number)
        writer.close()


def accept_one(server) -> None:
    connection, _ = server.accept()
    connection.sendall(b"from the child")
    connection.close()


def use_lock(*things) -> None:
    """Take and release the lock that comes last."""
    with things[-1]:
        return


def get_parent(_: object) -> int:
    return os.getppid()


def send_identity(writer) -> None:
    """Say what multiprocessing tells this process of itself."""
    import multiprocessing

    me, parent = multiprocessing.current_process(), multiprocessing.parent_process()
    writer.send(
        {
            "name": me.name,
            "daemon": me.daemon,
            "pid": me.pid,
            "parent": (parent.pid, parent.name),
            "authkey": bytes(me.authkey),
            "start_method": multiprocessing.get_start_method(),
            "children": multiprocessing.active_children(),
        }
    )


def start_in_daemon(context, writer) -> None:
    try:
        context.Process(target=give, args=(1,)).start()
    except AssertionError as error:
        writer.send(f"{type(error).__name__}: {error}")


def set_item(mapping, key: object, value: object) -> None:
    mapping[key] = value


def count_together(value, lock, event, semaphore, barrier, condition, array, index: int) -> None:
    """Use all of multiprocessing's primitives at once."""
    if not event.wait(30):
        sys.exit(3)
    barrier.wait(30)
    for _ in range(100):
        with lock, value.get_lock():
            value.value += 1
    with semaphore, condition:
        array[index] = index
        condition.notify_all()


def echo(forth, back) -> None:
    while (item := forth.get()) is not None:
        back.put(item)


def send_modules(writer) -> None:
    writer.send(sorted(sys.modules))


def make_subclass(context):
    """A Process class of the user's, found again in the child as tests.targets.Own."""
    if "Own" not in globals():

        class Own(context.Process):
            def __init__(self, code: int) -> None:
                super().__init__()
                self.code = code

            def run(self) -> None:
                sys.exit(self.code)

        globals()["Own"] = Own
    return globals()["Own"]


def print_at_exit() -> None:
    """Leave something to an exit handler, to a finalizer, and to the buffer of stdout."""
    import atexit
    from multiprocessing import util

    atexit.register(sys.stdout.write, "[handler]")
    util.Finalize(None, sys.stdout.write, args=("[finalizer]",), exitpriority=1)
    sys.stdout.write("[buffer]")


def is_faulthandler_on() -> bool:
    import faulthandler

    return faulthandler.is_enabled() and type(faulthandler.enable).__name__ == "builtin_function_or_method"


def crash() -> None:
    import ctypes

    ctypes.string_at(0)
