"""A template of your own: what a child returns or raises comes back, and it ends when the block does.

python examples/template.py
"""

from __future__ import annotations

import json
import os

import warmfork


def parse(text: str) -> dict[str, object]:
    return {**json.loads(text), "mood": os.environ.get("MOOD")}


if __name__ == "__main__":
    with warmfork.Template(preload=["json"], name="parser") as template:
        child = template.start(parse, ('{"answer": 42}',), env={**os.environ, "MOOD": "calm"})
        print(f"process {child.pid} returned {child.result(timeout=30)}")

        child = template.start(parse, ("{not json",), name="clumsy")
        try:
            child.result(timeout=30)
        except json.JSONDecodeError as error:
            print(f"its exception came back: {type(error).__name__}: {error}")
