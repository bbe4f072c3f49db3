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

_reseeders: list[Callable[[], object]] = []


def prepare() -> None:
    """In the template, when it is sealed: find what its children have to reseed."""
    _reseeders.clear()
    mtrand = sys.modules.get("numpy.random.mtrand")
    generator = getattr(getattr(mtrand, "_rand", None), "_bit_generator", None)
    if mtrand is not None and getattr(generator, "_seed_seq", None) is not None:
        mtrand.seed(None)  # forgets the sequence that it was seeded from, which all children would share
        _reseeders.append(lambda: mtrand.seed(None))
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
