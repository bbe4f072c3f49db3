"""What the facts mean: findings with a severity and what to do, and a preload list. Pure values, no process is touched."""

from __future__ import annotations

import re
import sys

from warmfork._words.allowed import ALLOWED

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from typing import Any

WORTH_MS = 1.0
"""What takes less to import is not worth a place on a preload list that nobody has asked for."""

SAFE_THREADS = {f"{each.thread} (native)": each.reason for each in ALLOWED if each.thread}

SECRET = re.compile(r"(?i)(secret|token|passw|api_?key|private_?key|credential)")
SHOWN_VARIABLES = 40


def judge(facts: Mapping[str, Any], trouble: str) -> list[dict[str, Any]]:
    """Give the findings, the worst first."""
    found: list[dict[str, Any]] = []

    def add(severity: str, kind: str, module: str, what: str, in_child: bool | None, advice: str) -> None:
        found.append(
            {"severity": severity, "kind": kind, "module": module, "what": what, "in_child": in_child, "advice": advice}
        )

    if trouble:
        add("danger", "probe", "", trouble, None, "have it import by hand: python -c 'import ...'")
    for one in facts.get("items", ()):
        if one["error"]:
            add(
                "danger",
                "import",
                one["item"],
                f"it can't be imported: {one['error']}",
                None,
                "leave it out, or mend it",
            )
    canaries = facts.get("canaries", [])
    judge_threads(facts, add)
    judge_fds(facts, canaries, add)
    judge_rest(facts, add)
    judge_canaries(canaries, add)
    order = ("danger", "warning", "note")
    return sorted(found, key=lambda finding: order.index(finding["severity"]))


def judge_threads(facts: Mapping[str, Any], add: Any) -> None:
    """Threads: a fork does not take them along. Those that end at a fork are started again by their library."""
    for name, module, stays in facts.get("threads", ()):
        if not stays:
            text = f'the thread "{name}" ends at a fork, and its library starts it again where it is needed'
            add("note", "thread", module, text, False, "nothing to do")
        elif name in SAFE_THREADS:
            add("note", "thread", module, f'the thread "{name}" stays: {SAFE_THREADS[name]}', False, "nothing to do")
        else:
            text = f'it leaves the thread "{name}" running: no child has it, and what it had locked stays locked there'
            advice = "import it in the children, or start the thread at its first use and not at import"
            add("danger", "thread", module, text, False, advice)


def judge_fds(facts: Mapping[str, Any], canaries: Sequence[Mapping[str, Any]], add: Any) -> None:
    """Open files, sockets and GPUs: children share them with the template and with each other."""
    seen = {int(fd) for one in canaries for fd in one.get("fds", ())} if any("fds" in one for one in canaries) else None
    for fd, module, kind, target in facts.get("fds", ()):
        in_child = None if seen is None else fd in seen
        if "socket" in kind:
            severity = "warning" if kind == "socket" else "danger"
            text = f"it opens a {kind} ({target}), which all children would share"
            add(severity, "socket", module, text, in_child, "open connections in the children, at their first use")
        elif kind == "file":
            text = f"it keeps {target} open: children share its position"
            add("note", "fd", module, text, in_child, "open files where they are read")
    for device in facts.get("gpus", ()):
        text = f"it has the GPU {device} open: CUDA can't be used in a forked child"
        add("danger", "gpu", "", text, None, "touch the GPU in the children only; import alone does not open it")


def judge_rest(facts: Mapping[str, Any], add: Any) -> None:
    """Locks, signals, at-fork functions, and variables."""
    for module, name in facts.get("locks", ()):
        text = f'the lock "{name}" is held: it stays so in every child'
        add("danger", "lock", module, text, True, "release it before the import ends")
    if facts.get("sigchld_ignored"):
        add("danger", "signal", "", "SIGCHLD is ignored: the kernel forgets how children ended", True, "don't")
    by_module: dict[str, list[str]] = {}
    for module, when in facts.get("handlers", ()):
        by_module.setdefault(module, []).append(when)
    for module, when in by_module.items():
        if module.partition(".")[0] not in sys.stdlib_module_names:
            text = f"it has functions called at each fork: {', '.join(sorted(when))}"
            add("note", "at-fork", module, text, True, "each start pays for them")
    variables: dict[str, list[str]] = {}
    for name, module, is_set in facts.get("environment", ()):
        if module and module.partition(".")[0] not in sys.stdlib_module_names:
            variables.setdefault(module, []).append(name if is_set else f"{name} (not set)")
    for module, names in sorted(variables.items())[:SHOWN_VARIABLES]:
        text = f"it reads variables when it is imported: {', '.join(sorted(names)[:SHOWN_VARIABLES])}"
        advice = "what a child's env= says of these comes too late: give them to the template (env=)"
        add("note", "environment", module, text, True, advice)
    secrets = sorted({name for name, _, _ in facts.get("environment", ()) if SECRET.search(name)} | find_secrets(facts))
    if secrets:
        text = (
            f"variables that look like secrets: {', '.join(secrets)}. Children can read what a template is started with"
        )
        add("note", "secrets", "", text, True, 'for code that you don\'t trust: Template(env="minimal")')


def find_secrets(facts: Mapping[str, Any]) -> set[str]:
    """Give the variables that are set and look like secrets."""
    return {name for name in facts.get("variables", ()) if SECRET.search(name)}


def judge_canaries(canaries: Sequence[Mapping[str, Any]], add: Any) -> None:
    """What became of the two children, and whether they drew the same."""
    for one in canaries:
        if "hung" in one:
            text = f"a canary child hung.\n{one['hung']}".strip()
            add("danger", "canary", "", text, True, "something is locked that a fork leaves so: see the stack above")
            return
        if "died" in one:
            text = f"a canary child died ({one['died']})"
            add("danger", "canary", "", text, True, "preload less, until it lives")
            return
    if len(canaries) == 2:
        first, second = (one["drawn"] for one in canaries)
        for name in sorted(first.keys() & second.keys()):
            if first[name] == second[name]:
                counter = first[name].startswith("count(")
                text = f"{name} gives the same in two children: {first[name]}"
                advice = "make ids of os.urandom, or add the pid" if counter else "seed it in the child"
                add("note" if counter else "warning", "random", name.rpartition(".")[0], text, True, advice)
    call = canaries[0].get("call") if canaries else None
    if call is not None and (call["error"] or call["modules"]):
        text = f"it failed: {call['error']}" if call["error"] else f"it imports late: {', '.join(call['modules'][:40])}"
        add("warning" if call["error"] else "note", "call", "", f"the call took {call['ms']:.0f} ms; {text}", True,
            "preload what it imports")  # fmt: skip


def decide(facts: Mapping[str, Any], findings: Sequence[Mapping[str, Any]]) -> str:
    """Give the verdict."""
    if "end" not in facts or any(finding["kind"] in ("import", "probe") for finding in findings):
        return "unknown"
    return "findings" if any(finding["severity"] != "note" for finding in findings) else "safe"


def suggest(facts: Mapping[str, Any], findings: Sequence[Mapping[str, Any]], script: str) -> list[str]:
    """Give a preload list: what was asked for, or what a script imports, without what harms children."""
    if "end" not in facts:
        return []
    brought_by = {one["name"]: one["by"] for one in facts["modules"]}
    bad = set()
    for finding in findings:
        if finding["severity"] == "danger":
            name = finding["module"]
            while name and name not in bad:
                bad.add(name)
                name = brought_by.get(name, "")
    if not script:
        items = [one["item"] for one in facts["items"] if not one["error"]]
        return [item for item in items if item not in bad and item.partition(":")[0] not in bad]
    wanted = [one for one in facts["modules"] if not one["by"] and one["ms"] >= WORTH_MS]
    return [one["name"] for one in wanted if one["name"] not in bad]
