"""install(): warmfork in the place of multiprocessing's "forkserver", for code that knows only that name."""

from __future__ import annotations

import os

from warmfork.api.options import DEFAULT, Default, read_options
from warmfork.mp.shared import installed, patching, watching

TYPE_CHECKING = False
if TYPE_CHECKING:
    from warmfork.api.options import Audit, HugePages, OnPreloadError, Orphans, Preload, Spares


def install(
    preload: Preload | Default = DEFAULT,
    *,
    name: str | None = None,
    on_preload_error: OnPreloadError | None = None,
    audit: Audit | None = None,
    spares: Spares | None = None,
    huge_pages: HugePages | None = None,
    start_timeout: float | Default | None = DEFAULT,
    orphans: Orphans | None = None,
) -> None:
    """Put warmfork in the place of multiprocessing's "forkserver".

    From then on `get_context("forkserver")`, `set_start_method("forkserver")`, the default of Python 3.14 and newer,
    `set_forkserver_preload()` and `multiprocessing.forkserver.ensure_running()` mean warmfork, in this program and in
    the processes that it starts with them. Calling it again changes the options.

    Args: as for get_context(), and taken from the same variables where they are not given. What libraries ask for by
        set_forkserver_preload() is logged where it fails, and stops nothing.

    Where no template can be had, processes are started by spawn, as for get_context(). Raises UnsupportedPlatform where
    warmfork can't work; the stdlib's forkserver stays then.
    """
    from warmfork._machine import platform, role

    options = read_options(preload, name, on_preload_error, audit, spares, huge_pages, start_timeout, orphans)
    if role.kind == role.TEMPLATE:
        # A script that installs is run in its own template: nothing is started there, so nothing need be loaded.
        patching.patch()
        return
    from warmfork.mp.client.config import Prepared
    from warmfork.mp.shared import names

    platform.check()
    names.take_over()
    made = Prepared(options, installed=True)
    current = installed.peek()
    if current is not None:
        made.asked, made.asked_policy, made.epoch = current.asked, current.asked_policy, current.epoch
        if made.describe() == current.describe():
            return
        current.renew()
    installed.put(made)
    patching.patch()
    if os.environ.get("WARMFORK_REPORT", "0") not in ("", "0"):
        from warmfork.report import begin

        begin(watching.watch)


def uninstall() -> None:
    """Give multiprocessing its own "forkserver" back. Processes that run run on; contexts of get_context() stay."""
    current = installed.peek()
    if current is None:
        return
    current.stop()
    installed.put(None)
    patching.undo()


def install_from_environment() -> None:
    """Install, once multiprocessing.context has run. Nothing more of ours is loaded before something is started or
    named."""
    patching.patch()
