"""What /proc shows of other processes: their open files.

A process may end between two reads, and may be none of ours to look at: then there is nothing to see, and no error.
"""

from __future__ import annotations

import os


def list_files(pid: int) -> dict[int, str] | None:
    """Give what each fd of a process is open on, or None where it can't be seen."""
    try:
        numbers = os.listdir(f"/proc/{pid}/fd")
    except OSError:
        return None
    found = {}
    for number in numbers:
        try:
            found[int(number)] = os.readlink(f"/proc/{pid}/fd/{number}")
        except OSError:  # closed meanwhile
            continue
    return found
