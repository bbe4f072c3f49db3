"""What `warmfork doctor` does: starts the bare process, judges what that saw, and measures what a preload list brings."""

from __future__ import annotations

import marshal
import os
import subprocess
import sys
from statistics import median
from tempfile import TemporaryFile
from time import monotonic, perf_counter

from warmfork.cli import canary, diagnosis

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence
    from typing import Any

    from warmfork.cli.doctor import Progress

PROBE = os.path.join(os.path.dirname(__file__), "probe.py")
LATER = 5
"""Starts of which the median is told."""


def examine(items: Sequence[str], call: str, deadline: float, patience: float, progress: Progress) -> dict[str, Any]:
    """Import the items in a bare process. Gives what --json shows, but for the effect."""
    script = items[0] if items[0].endswith(".py") or "/" in items[0] else ""
    folder = os.path.dirname(os.path.abspath(script)) if script else os.getcwd()
    names = [os.path.abspath(script)] if script else list(items)
    own = [name.partition(":")[0].partition(".")[0] for name in names if not script]
    settings = {"items": names, "folder": folder, "own": own, "call": call, "deadline": patience}
    facts, trouble = run_probe(settings, deadline + 3 * patience, progress)
    findings = diagnosis.judge(facts, trouble)
    if folder not in sys.path:
        sys.path.insert(0, folder)  # the templates that measure have it too
    return {
        "verdict": diagnosis.decide(facts, findings),
        "items": [
            {"item": one["item"], "ms": round(one["ms"], 2), "mib": show_mib(one["kib"]), "error": one["error"]}
            for one in facts.get("items", ())
        ],
        "modules": [
            {
                "name": one["name"],
                "by": one["by"],
                "ms": round(one["ms"], 2),
                "own_ms": round(one["own_ms"], 2),
                "mib": show_mib(one["kib"]),
                "own_mib": show_mib(one["own_kib"]),
            }
            for one in facts.get("modules", ())
        ],
        "findings": findings,
        "preload": diagnosis.suggest(facts, findings, script),
        "effect": None,
    }


def show_mib(kib: int) -> float:
    """Give KiB as MiB."""
    return round(kib / 1024, 2)


def run_probe(settings: dict[str, Any], seconds: float, progress: Progress) -> tuple[dict[str, Any], str]:
    """Run the bare process. Gives what it said, and what is wrong where it did not come to its end."""
    ours, theirs = os.pipe()
    environment = {name: value for name, value in os.environ.items() if not name.startswith("WARMFORK_")}
    with TemporaryFile() as output:
        try:
            process = subprocess.Popen(
                [sys.executable, "-P", PROBE],
                stdin=subprocess.PIPE,
                stdout=output,
                stderr=output,
                pass_fds=(theirs,),
                env=environment,
                start_new_session=True,
            )
            os.close(theirs)
            with process.stdin as words:  # type: ignore[union-attr]
                words.write(marshal.dumps({**settings, "out": theirs}))
            facts, doing = listen(ours, seconds, progress)
            if "end" in facts:
                return facts, ""
        finally:
            os.close(ours)
            end(process)
        output.seek(0)
        said = output.read()[-2000:].decode(errors="replace").strip()
    code = process.returncode
    if code == -9:
        return facts, f"it took more than {seconds:.0f} s: {doing}"
    return facts, f"the process that imports ended ({code}): {doing}" + (f"\n{said}" if said else "")


def end(process: subprocess.Popen[bytes]) -> None:
    """End the bare process, and what it started in its session."""
    try:
        process.wait(0.5)
    except subprocess.TimeoutExpired:
        os.killpg(process.pid, 9)
        process.wait()


def listen(fd: int, seconds: float, progress: Progress) -> tuple[dict[str, Any], str]:
    """Take what the bare process says, until its end or the deadline. Gives that, and what it was doing at the end."""
    from select import select

    until = monotonic() + seconds
    data, facts, doing = b"", {}, "it had not begun"
    while "end" not in facts:
        ready, _, _ = select([fd], [], [], max(0.0, until - monotonic()))
        part = os.read(fd, 1 << 16) if ready else b""
        if not part:
            break
        data += part
        while len(data) >= 4 and len(data) >= 4 + int.from_bytes(data[:4], "little"):
            size = 4 + int.from_bytes(data[:4], "little")
            kind, value = marshal.loads(data[4:size])
            data = data[size:]
            if kind == "progress":
                doing = f"{value[1]}"
                progress.say(f"{value[1]} ({value[0] + 1})")
            else:
                facts[kind] = value
    return facts, doing


def measure(preload: Sequence[str], seconds: float, progress: Progress) -> dict[str, Any] | None:
    """Measure what a preload list brings: starts and memory with it and without it. None where a template can't be had."""
    import warmfork

    found: dict[str, Any] = {}
    for key, wanted in (("without", ()), ("with", tuple(preload))):
        progress.say(f"measuring {key} preloading")
        with warmfork.Template(
            preload=wanted, name="doctor", audit="off", spares=0, start_timeout=seconds, on_preload_error="raise"
        ) as template:
            try:
                found[key] = time_starts(template, preload, seconds)
            except (warmfork.WarmforkError, ImportError, TimeoutError):
                return None
    return found


def time_starts(template: Any, preload: Sequence[str], seconds: float) -> dict[str, float]:
    """Start children that need the modules, one after the other: the first, with its template, and later ones."""
    took, own, shared = [], [], []
    for _ in range(1 + LATER):
        began = perf_counter()
        private, resident = template.start(canary.use, (list(preload),)).result(seconds)
        took.append((perf_counter() - began) * 1000)
        own.append(private / 1024)
        shared.append(resident / 1024)
    return {
        "first_ms": round(took[0], 2),
        "later_ms": round(median(took[1:]), 2),
        "child_own_mib": round(median(own), 2),
        "child_shared_mib": round(median(shared), 2),
    }
