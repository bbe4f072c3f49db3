"""What children take that are alive at once and have worked: "share COUNT".

Each does a group-by and a full garbage collection, as a worker does sooner or later. Gives the PSS of each in KiB, then
the USS of each.
"""

from __future__ import annotations

import gc
import os
import tempfile
import time

DEADLINE_SECONDS = 120


def work(path: str) -> None:
    """What each child does."""
    import pandas

    frame = pandas.DataFrame({"key": [n % 100 for n in range(10_000)], "value": range(10_000)})
    total = int(frame.groupby("key")["value"].sum().sum())
    gc.collect()
    with open(path + ".new", "w") as file:
        file.write(str(total))
    os.rename(path + ".new", path)
    time.sleep(DEADLINE_SECONDS)


def run(wakeup, count: int) -> list[int]:  # type: ignore[no-untyped-def]
    with tempfile.TemporaryDirectory() as folder:
        paths = [os.path.join(folder, str(number)) for number in range(count)]
        children = [wakeup.context.Process(target=work, args=(path,)) for path in paths]
        try:
            for child in children:
                child.start()
            wait_for(paths, children)
            found = [read_rollup(child.pid) for child in children]
        finally:
            for child in children:
                if child.pid:
                    child.kill()
                    child.join()
    return [pss for pss, _ in found] + [uss for _, uss in found]


def wait_for(paths: list[str], children) -> None:  # type: ignore[no-untyped-def]
    until = time.monotonic() + DEADLINE_SECONDS
    while not all(map(os.path.exists, paths)):
        if time.monotonic() > until or not all(child.is_alive() for child in children):
            raise TimeoutError("not all children have done their work")
        time.sleep(0.01)


def read_rollup(pid: int) -> tuple[int, int]:
    """PSS and USS in KiB."""
    with open(f"/proc/{pid}/smaps_rollup") as file:
        next(file)
        fields = {line.split()[0]: int(line.split()[1]) for line in file}
    return fields["Pss:"], fields["Private_Clean:"] + fields["Private_Dirty:"]
