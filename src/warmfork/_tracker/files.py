"""The files in memory that a template is launched with: its board, and the place for the stacks of its children.

Made by the tracker, which has them when the template is dead. Their size is fixed from the start: nobody can cut off what
others have mapped, and whoever dies right after its fork has a board that can be read.
"""

from __future__ import annotations

import os

from warmfork._machine import memfds, memory
from warmfork._words import board as board_

STACKS_SIZE = board_.MOST_PIDS << 24
"""As _machine/stacks.py lays them out. A sparse file: it takes memory where a stack was written, and nowhere else."""


def make_board(ledger: int) -> int:
    """Make the board of a template of the tree that has this ledger. Raises OSError."""
    return make(board_.make_name(os.fstat(ledger).st_ino), board_.SIZE)


def make_stacks() -> int:
    """Make the file for stacks. Raises OSError."""
    try:
        fd = make("warmfork-stacks", 0 if memfds.no_memfds else STACKS_SIZE)
    except OSError:
        fd = make("warmfork-stacks", 0)  # RLIMIT_FSIZE: then it grows with what is written
    # Every child may write to it, and so could forbid that to all others.
    memory.seal(fd, memory.SEAL_SEAL)
    return fd


def make(name: str, size: int) -> int:
    """Make a file that is its owner's alone, and of this size for ever where the kernel can promise that; of any size
    where it is 0. Raises OSError."""
    fd = memfds.make_memory(name, size=size, sealable=True)
    os.fchmod(fd, 0o600)  # a memfd has 0777, and other users could open it through /proc
    if size:
        memory.seal(fd, memory.SEAL_SHRINK | memory.SEAL_GROW)
    return fd


LOG_SIZE = 65_536


def make_log() -> int:
    """Make what a template's stdout and stderr are after the seal: bounded, for nobody reads it in time. Raises OSError."""
    return make("warmfork-log", LOG_SIZE)
