"""`python -m warmfork` is the `warmfork` command."""

from __future__ import annotations

from warmfork.cli import main

if __name__ == "__main__":
    raise SystemExit(main())
