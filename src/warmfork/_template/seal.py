"""The seal: the moment after preload. What it left is audited, undone or frozen; no user code runs from then on."""

from __future__ import annotations

import _signal
import gc
import os
import sys

from warmfork._child import ending, reseeding
from warmfork._machine import fds, signals, state
from warmfork._template import forking, preload

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from warmfork._words.spec import Spec


class Unsafe(Exception):
    """The audit refuses: what it found."""

    def __init__(self, findings: tuple[str, ...]) -> None:
        super().__init__(findings)
        self.findings = findings


def seal(spec: Spec, notes: preload.Notes, folder: int, log: int) -> None:
    """Seal the template. Raises Unsafe."""
    force_lazy_imports()
    findings = take_census(spec, notes)
    undo(spec, folder, notes)
    reseeding.prepare()
    silence_fork()
    # The program's stdout and stderr are let go here: from now on its pipes end when it ends (row 47b).
    os.dup2(log, 1)
    os.dup2(log, 2)
    if spec.preload and "helper" not in spec.without:
        ending.prepare_helper()
        ending.note_home()
    if "freeze" not in spec.without:
        gc.freeze()
    if spec.audit == "refuse" and findings:
        raise Unsafe(tuple(findings))


def take_census(spec: Spec, notes: preload.Notes) -> list[str]:
    """Look for what a fork does not survive. Raises Unsafe for what no child survives, whatever the policy."""
    fatal = count_interpreters() - 1
    if fatal > 0:
        # Seen on 3.11 to 3.15: the forked child hangs, aborts or segfaults in PyOS_AfterFork_Child.
        raise Unsafe((f"{fatal} live subinterpreter(s): no child of such a process survives its fork",))
    if spec.audit == "off":
        return []
    if preload.list_left(notes) and forking.handlers:
        modules = ", ".join(sorted(set(forking.handlers)))
        notes.notes.append(
            f"one child was forked to see which threads stay, and ran the at-fork functions of {modules}"
        )
    left: dict[str, list[str]] = {}
    # OpenBLAS starts its threads at import and stops them at fork: a throw-away fork shows which ones stay.
    for name, item in preload.find_staying(notes):
        left.setdefault(item, []).append(name)
    findings = [f'"{item}" left {len(names)} thread(s) running: {", ".join(names)}' for item, names in left.items()]
    if _signal.getsignal(signals.CHILD_DIED) == signals.SIG_IGN:
        findings.append(
            "SIGCHLD is ignored, by which the kernel forgets how children ended: the template listens to it"
        )
    devices = fds.list_gpus()
    if devices:
        findings.append(f"open GPU devices: {', '.join(devices)}: CUDA can't be used in a forked child")
    if notes.sockets or spec.audit == "refuse":
        from warmfork._template import audit

        findings += audit.find_sockets(notes.sockets)
        if spec.audit == "refuse" and spec.preload:  # 60 ms for a million objects
            findings += audit.find_locks()
    notes.notes.extend(findings)
    return findings


_filters: Any = None


def silence_fork() -> None:
    """Have os.fork() not warn of the threads that policy lets pass: under -W error, 3.15 raises that warning in the
    parent although the child exists."""
    global _filters
    if preload.count_threads() > 1:
        import warnings

        _filters = warnings.catch_warnings()
        _filters.__enter__()
        warnings.simplefilter("ignore", DeprecationWarning)


def restore_warnings() -> None:
    """In a child: have the program's warning filters again."""
    if _filters is not None:
        _filters.__exit__(None, None, None)


def count_interpreters() -> int:
    """Count the live interpreters of this process."""
    module = sys.modules.get("_interpreters") or sys.modules.get("_xxsubinterpreters")
    # Nobody can have made one without the module being loaded: don't load it to ask.
    return len(module.list_all()) if module is not None else 1


def undo(spec: Spec, folder: int, notes: preload.Notes) -> None:
    """Undo what the preload changed of what clients believe their template to have: each start says its state only
    where it differs from that. Variables that are new stay: they belong to a module that stays, too."""
    wanted = state.split_environment(spec.environment)
    state.keep_new(wanted)
    state.set_environment(wanted)
    for timer in (_signal.ITIMER_REAL, _signal.ITIMER_VIRTUAL, _signal.ITIMER_PROF):
        if _signal.setitimer(timer, 0)[0]:
            notes.notes.append("a timer that the preload set (signal.setitimer) was stopped: no child would have it")
    sys.argv = list(spec.argv)
    sys.path = list(spec.sys_path)
    os.fchdir(folder)
    signals.set_mask(signals.HELPERS_BLOCK)


def give_back(born: tuple[Any, ...], notes: preload.Notes) -> tuple[Any, ...]:
    """Have the niceness, limits and such that the template was born with, and give what children start from."""
    base, refused = state.give_back(born)
    if refused:
        notes.notes.append(f"the preload has changed for good: {', '.join(refused)}; children have it as it left it")
    return base


def force_lazy_imports() -> None:
    """Resolve pending lazy imports (PEP 810, Python 3.15): in each child they would cost 12 to 14 ms.

    Two places hold them: LazyImportType values in module namespaces, and sys.lazy_modules. Only what the preload
    brought is forced: the whole standard library would cost 24 ms and 3 MB. What fails stays pending, harmlessly.
    """
    lazy = getattr(sys, "lazy_modules", None)
    if lazy is None:
        return
    from types import LazyImportType  # type: ignore[attr-defined]

    changed = True
    while changed:
        changed = False
        for name, module in list(sys.modules.items()):
            if name.partition(".")[0] in sys.stdlib_module_names or not hasattr(module, "__dict__"):
                continue
            for attribute, value in list(vars(module).items()):
                if type(value) is LazyImportType:
                    changed |= resolve(module, attribute, value)


def resolve(module: object, attribute: str, value: object) -> bool:
    """Resolve one lazy import in place. Tells whether something changed."""
    try:
        setattr(module, attribute, value.resolve())  # type: ignore[attr-defined]
    except Exception:
        return False  # an optional module that is not installed: whoever uses the name gets the error, as ever
    return True
