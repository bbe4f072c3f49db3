"""Looking with `warmfork ps` at the trees of one program."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import warmfork
from tests.support import make_environment


def run_ps(*words: str, code: int = 0, **env: str | None) -> subprocess.CompletedProcess[str]:
    done = subprocess.run(
        [sys.executable, "-m", "warmfork", "ps", *words],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
        env=make_environment({"COLUMNS": None, **env}),
    )
    assert done.returncode == code, done.stderr
    if code == 0:
        assert done.stderr == ""
    return done


def list_tree(program: int, *words: str) -> list[dict[str, Any]]:
    """The part of --json that belongs to this program: other programs of this user may run."""
    return pick(json.loads(run_ps("--json", *words).stdout), program)


def pick(found: list[dict[str, Any]], program: int) -> list[dict[str, Any]]:
    pids = {program}
    for entry in found:  # each comes after what it belongs to
        if entry["parent"] in pids or entry["template"] in pids:
            pids.add(entry["pid"])
    return [entry for entry in found if entry["pid"] in pids]


def select(found: list[dict[str, Any]], **wanted: object) -> list[dict[str, Any]]:
    return [entry for entry in found if all(entry[key] == value for key, value in wanted.items())]


def list_lines(*pids: int, **env: str | None) -> list[str]:
    """The lines of the first table that are about these processes, in its order."""
    wanted = re.compile(rf"\D*\b({'|'.join(map(str, pids))})\b")
    return [line for line in run_ps(**env).stdout.partition("\n\n")[0].splitlines() if wanted.match(line)]


@contextmanager
def run_template(**options: Any) -> Iterator[warmfork.Template]:
    with warmfork.Template(**{"spares": 0, **options}) as made:
        made.wait_ready()
        yield made
