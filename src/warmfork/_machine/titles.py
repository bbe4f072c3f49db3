"""Process titles: what `ps` shows, through setproctitle's extension module alone.

`import setproctitle` costs 17 to 24 ms cold on 3.14 and 3.15, since its package brings logging and typing; the
extension inside costs 0.5. Where it is not installed, titles stay what they are.
"""

from __future__ import annotations

import os
import sys

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

_set: Callable[[str], None] | None = None


def load() -> None:
    """Find and load the extension, once: in the tracker and in the template, so that children have it."""
    global _set
    if _set is None:
        _set = find()


def find() -> Callable[[str], None] | None:
    """Give setproctitle's own function, or None."""
    loaded = sys.modules.get("setproctitle._setproctitle")
    if loaded is not None:
        return loaded.setproctitle  # type: ignore[no-any-return]
    from _frozen_importlib import ModuleSpec, _load  # type: ignore[attr-defined]
    from _frozen_importlib_external import EXTENSION_SUFFIXES, ExtensionFileLoader

    for folder in sys.path:
        for suffix in EXTENSION_SUFFIXES:
            path = f"{folder}/setproctitle/_setproctitle{suffix}"
            if os.path.exists(path):
                name = "setproctitle._setproctitle"
                loader = ExtensionFileLoader(name, path)
                return _load(ModuleSpec(name, loader, origin=path)).setproctitle  # type: ignore[no-any-return]
    return None


def set_title(title: str) -> None:
    """Set the title of this process: "warmfork: ROLE NAME ...". A name may be any, as of a file that is no UTF-8."""
    if _set is not None:
        _set(title.replace("\0", "?").encode("utf-8", "replace").decode())
