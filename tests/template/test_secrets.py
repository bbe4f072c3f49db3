"""The template's memory holds nothing of a client's: its next child would have it too (M13, row 1)."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

import warmfork
from tests import targets
from tests.running import get_tracker


def find_in_memory(pid: int, secret: bytes) -> list[str]:
    """The mappings of a process that hold these bytes."""
    found = []
    with open(f"/proc/{pid}/mem", "rb", buffering=0) as memory:
        for line in Path(f"/proc/{pid}/maps").read_text().splitlines():
            bounds, permissions, *_, name = [*line.split(maxsplit=5), ""][:6]
            if "r" not in permissions or name.startswith("[v"):
                continue
            start, end = (int(bound, 16) for bound in bounds.split("-"))
            try:
                memory.seek(start)
                if secret in memory.read(end - start):
                    found.append(line)
            except (OSError, OverflowError):  # a mapping that nobody can read
                continue
    return found


@pytest.mark.parametrize("size", [0, 100_000], ids=["in_the_message", "in_memory_of_its_own"])
@pytest.mark.parametrize("spares", [0, 1])
def test_a_template_never_has_what_a_child_was_given(monkeypatch: pytest.MonkeyPatch, size: int, spares: int):
    secret = os.urandom(16).hex()
    with warmfork.Template(preload=["tests.targets"], spares=spares) as template:
        template.wait_ready()
        monkeypatch.setenv("TOKEN_OF_THIS_TEST", f"environment-{secret}")
        for _ in range(3):
            child = template.start(targets.give, (f"argument-{secret}{'x' * size}",))
            assert child.result(20).startswith("argument-")
            assert template.start(targets.get_c_variable, ("TOKEN_OF_THIS_TEST",)).result(20) is not None
        assert find_in_memory(os.getpid(), f"argument-{secret}".encode()), "the search finds what is there"
        assert find_in_memory(template.pid, secret.encode()) == []


def test_a_tracker_never_has_what_a_child_was_given_either():

    secret = os.urandom(16).hex()
    with warmfork.Template(spares=0) as template:
        assert template.start(targets.give, (f"argument-{secret}",)).result(20)
        assert find_in_memory(get_tracker(), secret.encode()) == []
