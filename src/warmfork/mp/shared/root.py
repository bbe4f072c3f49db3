"""Whether this process sees warmfork's files."""

from __future__ import annotations

import os

from warmfork._words.errors import Refused


def check_root() -> None:
    """Raise Refused where this process sees our own files no longer: it has another root directory than its template."""
    if not os.path.exists(__file__):
        raise Refused(f"root directory: this process's has no {os.path.dirname(__file__)}")
