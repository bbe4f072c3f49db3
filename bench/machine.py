"""What a result has to say about where it was measured."""

from __future__ import annotations

import os
import platform
import sys
from collections.abc import Iterable
from datetime import UTC, datetime
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

THP = Path("/sys/kernel/mm/transparent_hugepage/enabled")
CPUINFO = Path("/proc/cpuinfo")
DISTRIBUTIONS = {"numpy": "numpy", "pandas": "pandas", "sklearn": "scikit-learn"}
OWN = "warmfork"


def describe_machine(modules: Iterable[str]) -> dict[str, Any]:
    """Hardware, kernel and versions, and how busy the machine was when the run began."""
    facts = dict(line.split(":", 1) for line in CPUINFO.read_text().splitlines() if ":" in line)
    facts = {key.strip(): value.strip() for key, value in facts.items()}
    return {
        "date": datetime.now(UTC).date().isoformat(),
        "python": platform.python_version(),
        "python_build": f"{platform.python_implementation()}, {platform.python_compiler()}",
        "cpu": facts.get("model name", platform.machine()),
        "cores": len(os.sched_getaffinity(0)),
        "virtual": "hypervisor" in facts.get("flags", "").split(),
        "kernel": platform.release(),
        "huge_pages": THP.read_text().split("[")[1].split("]")[0] if THP.exists() else "none",
        "load_at_start": round(os.getloadavg()[0], 2),
        "versions": find_versions([*modules, OWN]),
        "unset": "PYTHONDONTWRITEBYTECODE" if sys.dont_write_bytecode else "",
    }


def find_versions(modules: Iterable[str]) -> dict[str, str]:
    found = {}
    for module in modules:
        try:
            found[module] = version(DISTRIBUTIONS.get(module, module))
        except PackageNotFoundError:
            found[module] = "not installed"
    return found


def tell_machine(machine: dict[str, Any]) -> str:
    """The same as text."""
    kind = " (virtual)" if machine["virtual"] else ""
    versions = ", ".join(f"{name} {number}" for name, number in machine["versions"].items())
    unset = f"; {machine['unset']} is set here and was unset for what is timed" if machine["unset"] else ""
    return (
        f"Python {machine['python']} ({machine['python_build']}), {versions}.\n"
        f"{machine['cpu']}{kind}, {machine['cores']} cores, Linux {machine['kernel']}, "
        f"transparent huge pages: {machine['huge_pages']}, load {machine['load_at_start']} at the start.\n"
        f"Measured on {machine['date']}{unset}."
    )
