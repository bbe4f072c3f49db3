"""A parallel DataFrame."""

from __future__ import annotations

import numpy as np
import pandas as pd

import warmfork


def summarize(part):
    return part.groupby("key")["value"].sum()


if __name__ == "__main__":
    frame = pd.DataFrame({"key": np.arange(200_000) % 3, "value": 1})
    ctx = warmfork.get_context(preload=["pandas"])
    with ctx.Pool(2) as pool:
        parts = [frame.iloc[at : at + 50_000] for at in range(0, len(frame), 50_000)]
        total = pd.concat(pool.map(summarize, parts)).groupby(level=0).sum()
    print(total.tolist())
