"""What the workers of executors run now, as the pages say that they share with their programs."""

from __future__ import annotations

import os
import re
import time
from struct import unpack_from

from warmfork._tasks import work

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping
    from typing import Any

PAGE = re.compile(r"/memfd:warmfork-page \(deleted\)|/.*/warmfork-page-[0-9a-f]+ \(deleted\)")
"""What a page's fd is open on: a memfd, or a file in its place."""


def read_tasks(files: Mapping[int, Mapping[int, str] | None]) -> dict[int, dict[str, Any]]:
    """Give what each worker runs, by its pid. `files` are those that each process has open. Whoever holds a page may write
    what he likes to it: nothing else is believed of it than that this is what he says."""
    found: dict[int, dict[str, Any]] = {}
    seen: set[tuple[int, int]] = set()
    for pid, opened in files.items():
        for fd, target in (opened or {}).items():
            if PAGE.fullmatch(target):
                read_page(f"/proc/{pid}/fd/{fd}", seen, found)
    return found


def read_page(path: str, seen: set[tuple[int, int]], found: dict[int, dict[str, Any]]) -> None:
    """Read one page, unless it was read. It is not mapped: whoever holds it may cut it short."""
    try:
        fd = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_NOCTTY | os.O_CLOEXEC)
    except OSError:
        return
    try:
        info = os.fstat(fd)
        if (info.st_dev, info.st_ino) in seen:
            return
        seen.add((info.st_dev, info.st_ino))
        page = os.pread(fd, work.PAGE_SIZE, 0)
        if len(page) < work.PAGE_SIZE:
            return
        words = unpack_from(f"<{work.WORDS}Q", page)
        number = words[work.CONFIRMED]
        if not words[work.OWNER] or not number or words[work.CLAIMED] != number or words[work.FINISHED] == number:
            return
        at = work.find_name(number)
        name = page[at : at + work.NAME].rstrip(b"\0").decode("utf-8", "replace")
        age = time.monotonic() - words[work.SINCE] / 1e9
        found[words[work.OWNER]] = {"name": name or "task", "age_s": round(max(0.0, age), 3)}
    except OSError:
        return
    finally:
        os.close(fd)
