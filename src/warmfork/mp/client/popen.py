"""What a multiprocessing.Process starts itself with: a thin adapter on the client and its handle."""

from __future__ import annotations

import os
import sys
from marshal import dumps as write_values
from multiprocessing import context, process, reduction, util

from warmfork._client import feeding, starting
from warmfork._client.client import get_client
from warmfork._client.handle import Child
from warmfork._machine import fds
from warmfork._words.buffers import Pickled
from warmfork._words.outcome import Exited, Lost, Signaled
from warmfork.api import payload
from warmfork.api.main_module import describe_main, is_main_typed
from warmfork.api.options import fit_name
from warmfork.mp.child.main_module import check_not_importing_main
from warmfork.mp.client import config as prepared
from warmfork.mp.shared import installed, pickling
from warmfork.mp.shared import names as resources
from warmfork.mp.shared.carried import InheritedFd
from warmfork.mp.shared.stdlib import is_stdlib

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from multiprocessing.process import BaseProcess
    from typing import Any

LOST = 255
"""What exitcode reads where the outcome is lost: multiprocessing has no other word, and its programs know this one."""


class Popen:
    """One started process, as multiprocessing.process expects it."""

    method = "forkserver"
    DupFd = InheritedFd

    child: Child

    def __init__(
        self, process_obj: BaseProcess, chosen: prepared.Prepared | None = None, launches: bool = True
    ) -> None:
        self.returncode: int | None = None
        self.finalizer = None
        self._fds: list[int] = []
        if launches:
            self._launch(process_obj, chosen or installed.get())

    def duplicate_for_child(self, fd: int) -> int:
        """Have this fd sent along. Gives its place."""
        self._fds.append(fd)
        return len(self._fds) - 1

    def _launch(self, process_obj: BaseProcess, chosen: prepared.Prepared) -> None:
        make_ready(chosen)
        order, make_payload = self.make_order(process_obj, chosen)
        self.adopt(starting.start(get_client(), chosen.get_spec(), order, make_payload, chosen.options.start_timeout))

    def make_order(
        self, process_obj: BaseProcess, chosen: prepared.Prepared
    ) -> tuple[feeding.StartRequest, Callable[[], feeding.Payload]]:
        """Give what is to be started, and what makes its payload."""
        here = process.ORIGINAL_DIR or ""  # type: ignore[attr-defined]
        orphans = getattr(process_obj, "_orphans", None) or chosen.options.orphans
        kill = bool(process_obj.daemon) if orphans is None else orphans == "kill"
        order = feeding.StartRequest(prepared.ENTRY, fit_name(str(process_obj.name)), kill, here=here)
        return order, lambda: self._make_payload(process_obj, chosen)

    def adopt(self, child: Child) -> None:
        """Have this child."""
        self.child = child
        self.pid = child.pid
        self.sentinel = child.fileno()

    def _make_payload(self, process_obj: BaseProcess, chosen: prepared.Prepared) -> feeding.Payload:
        main = describe_main()
        # What was typed at a prompt is in no file that a child could import.
        main_is_known = bool(main[0]) and not hasattr(sys, "ps1")
        out_of_band = chosen.options.out_of_band
        above = context.get_spawning_popen()  # of a start in which a signal handler has come, and starts a process too
        context.set_spawning_popen(self)  # type: ignore[arg-type]
        try:
            pickled = payload.dump(
                process_obj,
                lambda value: self._pickle(value, out_of_band),
                lambda value: self._pickle_by_value(value, out_of_band, main_is_known),
                main_is_known,
            )
            said = describe_parent(process_obj, chosen, main)
            said["added"] = pickle_additions(process_obj.name, said)
        finally:
            context.set_spawning_popen(above)
        # The main module of a package, a folder or a zip is not imported by a child either, though it is in a file: what
        # it defines goes by value. What multiprocessing refuses of other modules stays refused there.
        said["by_value"], said["main_alone"] = not main_is_known, not is_main_typed()
        if said["by_value"]:
            pickling.take_over(said["main_alone"])
        tracker = resources.get_stdlib_fd()
        said["tracker_fd"] = self.duplicate_for_child(tracker) if tracker is not None else -1
        values = write_values(said)
        # Its attributes and not itself: start() deletes target and arguments, and a Lock among them would be gone before
        # the child has found it (row 68).
        keep = dict(vars(process_obj))
        parts = [len(values).to_bytes(4, "little"), values, *pickled.parts]
        return feeding.Payload(parts, self._fds, keep, pickled.buffers, out_of_band)

    def _pickle(self, value: object, out_of_band: bool) -> Pickled:
        self._fds.clear()
        current: Any = vars(context)["reduction"]
        if current is not reduction:  # the program has a reducer of its own
            return pickling.dump_with(current, value)
        return pickling.pickle(value, out_of_band)

    def _pickle_by_value(self, value: object, out_of_band: bool, main_is_known: bool) -> Pickled:
        self._fds.clear()
        return pickling.pickle_by_value(value, out_of_band, main_is_known)

    # -- its end

    def poll(self, flag: int = os.WNOHANG) -> int | None:
        """Give the exit code, or None while it runs (with flag 0: wait)."""
        if self.returncode is None:
            outcome = self.child.outcome if flag == os.WNOHANG else self.child.wait()
            if outcome is not None:
                self.returncode = read_returncode(outcome)
        return self.returncode

    def wait(self, timeout: float | None = None) -> int | None:
        """Wait for the end up to `timeout` seconds (None: for ever; less than 0: not at all, as multiprocessing has it),
        and give the exit code, or None."""
        if self.returncode is None:
            try:
                self.returncode = read_returncode(self.child.wait(None if timeout is None else max(0.0, timeout)))
            except TimeoutError:
                return None
        return self.returncode

    def _send_signal(self, number: int) -> None:
        if self.returncode is None:
            self.child.send_signal(number)

    def interrupt(self) -> None:
        """Send SIGINT."""
        self._send_signal(2)

    def terminate(self) -> None:
        """Send SIGTERM."""
        self._send_signal(15)

    def kill(self) -> None:
        """Send SIGKILL."""
        self._send_signal(9)

    def close(self) -> None:
        """Close the sentinel."""
        self.child.close()


def get_child(process_obj: BaseProcess) -> Child:
    """Give warmfork's handle of a multiprocessing.Process: its `outcome`, with the Python stack of a crash and the
    reason of a SIGKILL, and its `usage`, which exitcode has no room for. Handle and process share one sentinel.

    Raises ValueError where the process was not started or is closed, TypeError where it was not started by warmfork.
    """
    process_obj._check_closed()  # type: ignore[attr-defined]
    started = getattr(process_obj, "_popen", None)
    if started is None:
        raise ValueError(f"{process_obj!r} was not started by this process")
    if not isinstance(started, Popen):
        raise TypeError(f"{process_obj!r} was started by multiprocessing's {started.method!r}, not by warmfork")
    return started.child


def make_ready(chosen: prepared.Prepared) -> None:
    """Do what comes before every start."""
    util._flush_std_streams()  # type: ignore[attr-defined]
    check_not_importing_main()
    fds.fill_standard_streams()
    resources.take_over()
    chosen.get_channel()


def start_many(processes: list[BaseProcess], chosen: prepared.Prepared) -> list[Popen]:
    """Start these, all or none."""
    from warmfork.api.many import start_many

    make_ready(chosen)
    client = get_client()
    made = [Popen(process_obj, chosen, launches=False) for process_obj in processes]
    starts = [
        starting.PendingStart(client, *one.make_order(process_obj, chosen))
        for one, process_obj in zip(made, processes, strict=True)
    ]
    children = start_many(client, chosen.get_spec(), starts, chosen.options.start_timeout)
    for one, child in zip(made, children, strict=True):
        one.adopt(child)
    return made


def read_returncode(outcome: Exited | Signaled | Lost) -> int:
    """Give multiprocessing's number for an outcome."""
    return LOST if outcome.returncode is None else outcome.returncode


def pickle_additions(name: str, said: dict[str, Any]) -> bytes:
    """Give what tools (coverage, tracers) add to multiprocessing.spawn.get_preparation_data(), pickled, or b"" where
    nobody has put anything round that: keys of their own, and values of the stdlib's keys that they have changed. May
    change what is said of the main module."""
    spawn: Any = sys.modules.get("multiprocessing.spawn")
    if spawn is None or is_stdlib(spawn.get_preparation_data, spawn):
        return b""
    found: dict[str, Any] = spawn.get_preparation_data(name)
    usual = {"sys_path": prepared.get_sys_path(), "sys_argv": sys.argv}
    for key in ("name", "authkey", "log_to_stderr", "log_level", "orig_dir", "start_method", "dir"):
        found.pop(key, None)
    for key in ("sys_path", "sys_argv"):
        if found.get(key) == usual[key]:
            del found[key]
    main = found.pop("init_main_from_name", None), found.pop("init_main_from_path", None)
    if main == (None, None):
        said["main"] = "", ""
    if not found:
        return b""
    return bytes(reduction.ForkingPickler.dumps(found))


def describe_parent(process_obj: BaseProcess, chosen: prepared.Prepared, main: tuple[str, str]) -> dict[str, Any]:
    """Say what the child has to know of this process: multiprocessing.spawn.get_preparation_data(), less the state
    that every child of ours gets."""
    current = installed.peek()
    own_context = getattr(type(process_obj), "_context", None)
    return {
        "name": process_obj.name,
        "authkey": bytes(process.current_process().authkey),
        "log_to_stderr": bool(util._log_to_stderr),  # type: ignore[attr-defined]
        "log_level": util._logger.getEffectiveLevel() if util._logger is not None else None,  # type: ignore[attr-defined]
        "orig_dir": process.ORIGINAL_DIR,  # type: ignore[attr-defined]
        "start_method": context._default_context.get_start_method(allow_none=True),
        "context": own_context._get_prepared().describe() if own_context is not None else None,
        "installed": current.describe() if current is not None else None,
        "main": main,
        "added": b"",
    }
