"""A pool whose workers are forks of a template that has numpy: they start at once and share its memory.

python examples/pool_numpy.py
"""

from __future__ import annotations

import numpy as np

import warmfork


def estimate_pi(seed: int, points: int = 1_000_000) -> float:
    x, y = np.random.default_rng(seed).random((2, points))
    return float(4 * np.mean(x * x + y * y <= 1))


if __name__ == "__main__":
    ctx = warmfork.get_context(preload=["numpy"])
    with ctx.Pool(2) as pool:
        estimates = pool.map(estimate_pi, range(20))
    print(f"pi is about {np.mean(estimates):.4f} (± {np.std(estimates) / len(estimates) ** 0.5:.4f})")
