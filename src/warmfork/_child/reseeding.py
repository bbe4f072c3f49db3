"""Random number generators that a fork would share with its siblings. `random` reseeds itself (os.register_at_fork)."""

from __future__ import annotations

import sys


def reseed() -> None:
    """Reseed numpy's and torch's global generators, where the template imported them and nobody seeded them.

    A generator that the program seeded (numpy.random.seed(7) at the top of its script) stays as seeded: under spawn,
    each child would run that line again and have the same numbers.
    """
    numpy_random = sys.modules.get("numpy.random.mtrand")
    if numpy_random is not None:
        generator = numpy_random._rand._bit_generator
        if getattr(generator, "_seed_seq", None) is not None:
            numpy_random.seed(None)
    torch = sys.modules.get("torch")
    if torch is not None and hasattr(torch, "initial_seed") and torch.initial_seed() >= CHOSEN_BY_PEOPLE:
        torch.seed()


CHOSEN_BY_PEOPLE = 2**32
"""Torch does not say whether it was seeded. Unseeded, it draws 53 bits (ATen, getNonDeterministicRandom); below 32 bits,
somebody chose."""
