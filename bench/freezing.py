"""To be preloaded last, by a stdlib forkserver: the garbage collector then writes to nothing that was loaded before."""

from __future__ import annotations

import gc

gc.collect()
gc.freeze()
