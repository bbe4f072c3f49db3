"""Random number generators that a fork would share with its siblings. `random` reseeds itself (os.register_at_fork).

numpy's and torch's global generators are reseeded where the template imported them and nobody seeded them. A generator
that the program seeded (numpy.random.seed(7) at the top of its script) stays as seeded: under spawn, each child would run
that line again and have the same numbers. Which they are, and how to reseed them, is found out once, in the template.
"""

from __future__ import annotations

import sys

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

_reseeders: list[Callable[[], object]] = []


def prepare() -> None:
    """In the template, when it is sealed: find what its children have to reseed."""
    _reseeders.clear()
    mtrand = sys.modules.get("numpy.random.mtrand")
    generator = getattr(getattr(mtrand, "_rand", None), "_bit_generator", None)
    if mtrand is not None and getattr(generator, "_seed_seq", None) is not None:
        mtrand.seed(None)  # forgets the sequence that it was seeded from, which all children would share
        fill = prepare_twister(mtrand._rand, generator)
        _reseeders.append(lambda: (fill is not None and fill() == SIZE) or mtrand.seed(None))
    torch = sys.modules.get("torch")
    if torch is not None and hasattr(torch, "initial_seed") and torch.initial_seed() >= CHOSEN_BY_PEOPLE:
        _reseeders.append(torch.seed)


def reseed() -> None:
    """In a child: reseed them."""
    for each in _reseeders:
        each()


CHOSEN_BY_PEOPLE = 2**32
"""Torch does not say whether it was seeded. Unseeded, it draws 53 bits (ATen, getNonDeterministicRandom); below 32 bits,
somebody chose."""

SIZE = 624 * 4
"""Bytes of a Mersenne twister. In memory its position follows, an int (numpy/random/src/mt19937/mt19937.h)."""


def prepare_twister(state: Any, generator: Any) -> Callable[[], int] | None:
    """Give what has the kernel fill numpy's global twister with random bits (getrandom(2), glibc 2.25), and returns how
    many bytes it has; or None where it is not the twister that we know.

    numpy.random.seed() does as much with more: it goes through 180 pages that a child then has for itself, and takes
    0.4 ms.
    """
    try:
        from warmfork._machine import calls

        said = state.get_state(legacy=False)
        address = generator.ctypes.state_address
        known = said["state"]["key"].tobytes() + said["state"]["pos"].to_bytes(4, sys.byteorder)
        if said["bit_generator"] != "MT19937" or said["has_gauss"] or len(known) != SIZE + 4:
            return None
        if calls.read_memory(address, len(known)) != known:
            return None
        return calls.prepare("getrandom", calls.make_pointer(address), SIZE, 0)
    except (ImportError, AttributeError, KeyError, TypeError, OSError):  # another numpy; a Python without _ctypes
        return None
