"""CPython's own multiprocessing tests, run with "forkserver" meaning warmfork, and every start counted.

`python -m tests.conformance --help`; docs/conformance.md says how to read the table.
"""

from __future__ import annotations
