"""`ctx = warmfork.get_context(preload=[...])`: a multiprocessing context with a template of its own."""

from __future__ import annotations

from warmfork.api.options import DEFAULT, Default, read_options
from warmfork.mp.shared.process import Context

TYPE_CHECKING = False
if TYPE_CHECKING:
    from warmfork.api.options import Audit, HugePages, OnPreloadError, Orphans, Preload, Spares


def get_context(
    preload: Preload | Default = DEFAULT,
    *,
    name: str | None = None,
    on_preload_error: OnPreloadError | None = None,
    audit: Audit | None = None,
    spares: Spares | None = None,
    huge_pages: HugePages | None = None,
    start_timeout: float | Default | None = DEFAULT,
    orphans: Orphans | None = None,
) -> Context:
    """Give a multiprocessing context with a template of its own.

    It is what `multiprocessing.get_context("forkserver")` gives, and faster: `ctx.Process`, `ctx.Pool`, `ctx.Queue`,
    `ProcessPoolExecutor(mp_context=ctx)` ...

    Args:
        preload: modules to import ("numpy"), and functions to call ("app.models:load"), in this order, in the template;
            "auto", or "auto" among them: also what this program's children have imported before.
        name: what `ps` shows; the program's own name by default. What is longer than 200 bytes is cut.
        on_preload_error: "raise" (PreloadError at the first start) or "warn" (logged, and the children do without).
        audit: what to do about threads and other things that a fork does not survive, where the preload left some:
            "warn" logs them, "refuse" raises AuditError, "off" does not look.
        spares: children forked ahead, so that a start need not wait for a fork: "auto" (the default) learns from your
            traffic (none for a program that starts one process), a number, or 0.
        huge_pages: "auto" (the default) has the template's heaps collapsed to huge pages where that pays, so that large
            ones are forked faster; True: all of them before the first child; False.
        start_timeout: seconds that preloading may take (120 where nothing is said); None waits for ever.
        orphans: what becomes of children that still run when this process dies, however it does: "kill" (SIGTERM, after a
            second SIGKILL), "keep", or None: daemons are ended, others kept, as by multiprocessing.
            `ctx.Process(..., orphans=)` says it for one process.

    What is not given is taken from WARMFORK_PRELOAD (comma-separated), WARMFORK_NAME, WARMFORK_ON_PRELOAD_ERROR,
    WARMFORK_AUDIT, WARMFORK_SPARES, WARMFORK_HUGE_PAGES, WARMFORK_START_TIMEOUT ("none": for ever) and
    WARMFORK_ORPHANS. WARMFORK_WITHOUT names techniques to do without, to find out whether one is to blame.

    Where no template can be had, processes are started by spawn, with one warning that names the reason; a preload or an
    audit that fails raises.
    Raises TypeError and ValueError for an option that means nothing.
    """
    options = read_options(preload, name, on_preload_error, audit, spares, huge_pages, start_timeout, orphans)
    from warmfork._machine import platform
    from warmfork._words.errors import UnsupportedPlatform

    try:
        platform.check()
    except UnsupportedPlatform:
        return Context((options.describe(), False))  # the first start warns of it, and spawns
    from warmfork.mp.shared import names

    names.take_over()
    # The first part of what Prepared.describe() gives: it is made at the first start. A script that calls this is run
    # in its own template too, where nothing is started.
    return Context((options.describe(), False))
