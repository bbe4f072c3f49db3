"""What happens when something dies at the worst moment: the fault matrix, failing system calls, the soak.

`python -m tests.faults --help`; docs/reliability.md has the tables.
"""

from __future__ import annotations
