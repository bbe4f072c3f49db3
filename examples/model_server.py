"""A model server: the model is loaded once, in the template, and every request runs in a process that shares it.

python examples/model_server.py [megabytes]

Shows what each process has in memory of its own (USS), and its part of what they share (PSS).
"""

from __future__ import annotations

import os
import sys
import time

import warmfork

model: bytearray = bytearray()


def load() -> None:
    """Called in the template, once: "model_server:load" in its preload list."""
    global model
    model = bytearray(int(os.environ.get("MODEL_MB", "200")) << 20)
    for at in range(0, len(model), 4096):
        model[at] = at >> 12 & 0xFF


def predict(at: int) -> tuple[int, int]:
    """One request. It may crash, leak or hang: the model is not touched."""
    return model[at << 12], os.getpid()


def wait() -> None:
    """A request that takes long."""
    predict(1)
    sys.stdin.read()


def read_memory(pid: int) -> tuple[float, float]:
    """Give a process's own memory, and that with its part of what is shared, in MiB."""
    found = {"Private_Dirty": 0, "Private_Clean": 0, "Pss": 0}
    with open(f"/proc/{pid}/smaps_rollup") as file:
        for line in file:
            name, _, value = line.partition(":")
            if name in found:
                found[name] = int(value.split()[0])
    return (found["Private_Dirty"] + found["Private_Clean"]) / 1024, found["Pss"] / 1024


if __name__ == "__main__":
    os.environ["MODEL_MB"] = sys.argv[1] if len(sys.argv) > 1 else "200"
    sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
    with warmfork.Template(preload=["model_server:load"], name="model") as template:
        began = time.perf_counter()
        template.wait_ready()
        print(f"loaded in {time.perf_counter() - began:.2f} s")
        import model_server

        began = time.perf_counter()
        for at in range(5):
            value, pid = template.run(model_server.predict, (at,), timeout=5).result
            print(f"request {at}: {value}, by process {pid}")
        print(f"{(time.perf_counter() - began) / 5 * 1000:.1f} ms a request")

        waiting = [template.start(model_server.wait, stdin=warmfork.PIPE) for _ in range(4)]
        for child in (template, *waiting):
            uss, pss = read_memory(child.pid)
            print(f"{child.name:10} uss {uss:6.1f} MiB   pss {pss:6.1f} MiB")
        for child in waiting:
            child.stdin.close()
            child.wait(10)
