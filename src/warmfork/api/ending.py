"""Ending several children: all are asked at once, one deadline holds for all, and one that can't be ended keeps nobody."""

from __future__ import annotations

from time import monotonic

TYPE_CHECKING = False
if TYPE_CHECKING:
    from warmfork._client.handle import Child

GRACE = 1.0
"""Seconds between SIGTERM and SIGKILL."""

KILL_TIMEOUT = 5.0
"""Seconds for what was sent SIGKILL to be dead: only a process that hangs in the kernel takes long."""


def end_children(children: list[Child]) -> None:
    """End children: SIGTERM, after a second SIGKILL, with one deadline for all. Waits until they are dead. One that may
    not be signaled does not keep the others: PermissionError comes at the end, TimeoutError for what does not die."""
    refused: list[Child] = []
    running = [child for child in children if child.is_running()]
    for child in running:
        try:
            child.terminate()
            child.send_signal(18)  # a stopped process takes SIGTERM only after SIGCONT
        except PermissionError:
            refused.append(child)
    running = wait_all([child for child in running if child not in refused], GRACE)
    for child in running:
        try:
            child.kill()
        except PermissionError:
            refused.append(child)
    stuck = wait_all([child for child in running if child not in refused], KILL_TIMEOUT)
    if refused:
        names = ", ".join(f"{child.name} (pid {child.pid})" for child in refused)
        raise PermissionError(
            1, f"not ended, since this process may not signal them (they became another user?): {names}"
        )
    if stuck:
        names = ", ".join(f"{child.name} (pid {child.pid})" for child in stuck)
        raise TimeoutError(f"still there {KILL_TIMEOUT} s after SIGKILL: {names}")


def wait_all(children: list[Child], seconds: float) -> list[Child]:
    """Wait until these are dead, for so many seconds at most for all. Gives those that live."""
    deadline = monotonic() + seconds
    living = []
    for child in children:
        try:
            child.wait(max(0.0, deadline - monotonic()))
        except TimeoutError:
            living.append(child)
        except ValueError:
            continue  # somebody has closed the handle meanwhile
    return living
