"""What children do with a Manager's proxy. It stands alone, for the template imports it."""

from __future__ import annotations

from typing import Any


def put(queue: Any, value: object) -> None:
    queue.put(value)
