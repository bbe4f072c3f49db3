"""The preload item of preload="auto": in a template, import what this program's children have needed before."""

from __future__ import annotations

import _frozen_importlib
import os
import sys

from warmfork._machine import fds
from warmfork._template import preload
from warmfork.learning import watch
from warmfork.learning.record import BLAS, MOST_KIB, THREADS, Module, Record
from warmfork.learning.store import REPORTS, Store, name_program

QUIET = 2
"""Templates in a row that nothing new was learnt after: then their children are not asked any more."""

AGAIN = 20
"""Every so many templates children are asked again, for programs change."""

TRIAL = 60.0
"""Seconds that a module may take to import when it is tried."""


def load() -> list[str]:
    """Import what was learnt, and have this template's children say what they miss. Gives notes for the log. Never
    raises: without it, children import for themselves, as ever."""
    script = sys.argv[0] if sys.argv else ""
    if not os.path.isfile(script):
        return ["nothing is learnt for preload: this program is in no file"]
    try:
        store = Store(name_program(script))
        record = store.read()
        record.merge(store.take_reports())
        record.forget_changed({name: stamp(name) for name in record.modules})
        store.write(record)  # now: one of the modules may be the end of this template
    except (OSError, ImportError) as error:
        return [f"nothing is learnt for preload: {error}"]
    notes = load_all(record, store)
    try:
        store.write(record)
    except OSError as error:
        notes.append(f"what was learnt for preload can't be kept: {error}")
    if record.quiet < QUIET or record.runs % AGAIN == 0:
        known = {name for name, module in record.modules.items() if module.listed or module.reason}
        watch.begin(store.base + REPORTS, known)
    return notes


def stamp(name: str) -> str:
    """Give what tells one version of a module from another: its package's file's time and size. "" where it is not
    there."""
    top = name.partition(".")[0]
    if name in sys.builtin_module_names or top in sys.stdlib_module_names:
        return "stdlib"
    try:
        spec = _frozen_importlib._find_spec(top, None)  # type: ignore[attr-defined]
    except Exception:
        return ""
    if spec is None:
        return ""
    try:
        info = os.stat(spec.origin or next(iter(spec.submodule_search_locations)))
    except (OSError, TypeError, StopIteration):
        return "no file"
    return f"{info.st_mtime_ns}-{info.st_size}"


def load_all(record: Record, store: Store) -> list[str]:
    """Import the list. What fails, or leaves something behind, is left out from then on. Gives notes."""
    notes = []
    tried = store.read_trial()
    room = read_available_kib() // 4
    for module in record.list_preload():
        if module.kib > min(room, MOST_KIB):
            continue
        room -= module.kib
        if tried or (THREADS in module.flags and not is_blas(module)):  # `tried`: one of them has killed a template
            module.reason = try_out(module.name)
        if not module.reason:
            module.reason = load_one(module, store)
        if module.reason:
            notes.append(f'"{module.name}" is not preloaded, children import it themselves: {module.reason}')
    return notes


def load_one(module: Module, store: Store) -> str:
    """Import a module here. Gives why the next template leaves it out, or ""."""
    before = preload.list_sockets()
    try:
        store.note_trial(module.name)
        __import__(module.name)
        store.note_trial("")
    except BaseException as error:  # SystemExit too
        return f"it can't be imported: {preload.describe(error)}"
    if preload.list_sockets() - before:
        return "it opens a socket"
    found = preload.Notes()
    preload.note_threads(module.name, found)
    if THREADS not in module.flags and not found.threads:
        return ""
    staying = preload.find_staying(found)
    if not staying:
        return ""
    return f"it leaves threads running: {', '.join(name for name, _ in staying)}"


def is_blas(module: Module) -> bool:
    """Are a module's threads OpenBLAS's, which ends them at a fork, and starts them again?"""
    if BLAS not in module.flags:
        return False
    for name in ("numpy", "scipy"):
        spec = _frozen_importlib._find_spec(name, None)  # type: ignore[attr-defined]
        if spec is not None and spec.origin:
            folder = f"{os.path.dirname(os.path.dirname(spec.origin))}/{name}.libs"
            if os.path.isdir(folder) and any("openblas" in file for file in os.listdir(folder)):
                return True
    return False


def try_out(name: str) -> str:
    """Import a module in a fork that is thrown away. Gives why it is to be left out, or ""."""
    ours, theirs = os.pipe()
    pid = os.fork()
    if pid == 0:
        said = "it ended the process that imported it"
        try:
            os.close(ours)
            said = look_at(name)
        finally:
            os.write(theirs, f"={said}".encode(errors="replace")[:4000])
            os._exit(0)
    os.close(theirs)
    try:
        if not fds.wait_readable(ours, TRIAL):
            os.kill(pid, 9)
            return f"it took more than {TRIAL:.0f} s to import"
        data = os.read(ours, 4096).decode(errors="replace")
    finally:
        os.close(ours)
        try:
            os.waitpid(pid, 0)
        except ChildProcessError:  # a preload has SIGCHLD ignored: the kernel has reaped it
            pid = 0
    return data[1:] if data.startswith("=") else "the process that imported it died"


def look_at(name: str) -> str:
    """In the fork: import it, and give what speaks against it."""
    before = preload.list_sockets()
    try:
        __import__(name)
    except BaseException as error:
        return f"it can't be imported: {preload.describe(error)}"
    if preload.list_sockets() - before:
        return "it opens a socket"
    found = preload.Notes()
    preload.note_threads(name, found)
    staying = preload.find_staying(found)
    return f"it leaves threads running: {', '.join(each for each, _ in staying)}" if staying else ""


def read_available_kib() -> int:
    """Give the memory that programs may still take."""
    try:
        with open("/proc/meminfo") as file:
            for line in file:
                if line.startswith("MemAvailable:"):
                    return int(line.split()[1])
    except OSError:
        return 0
    return 0
