"""PyTorch's DataLoader with 4 workers: to its first batch, and to the end of an epoch; two epochs."""

from __future__ import annotations

import torch
from contenders import make_context, now, report, to_ms
from torch.utils.data import DataLoader, Dataset

WORKERS, ITEMS, BATCH = 4, 64, 8


class Numbers(Dataset):  # type: ignore[type-arg]
    """A data set that is made up as it is read."""

    def __len__(self) -> int:
        return ITEMS

    def __getitem__(self, index: int) -> torch.Tensor:
        return torch.full((3, 32, 32), float(index))


def main() -> None:
    """Read all batches, twice."""
    context = make_context("torch", "torch.utils.data", "multiprocessing.queues", "multiprocessing.synchronize")
    loader = DataLoader(Numbers(), batch_size=BATCH, num_workers=WORKERS, multiprocessing_context=context)
    phases, workers = {}, []
    for epoch in ("first", "second"):
        begin = now()
        batches = iter(loader)
        workers[:] = batches._workers
        count = len(next(batches))
        first = now()
        count += sum(len(batch) for batch in batches)
        del batches
        end = now()
        assert count == ITEMS
        phases |= {f"{epoch} epoch, first batch": to_ms(begin, first), f"{epoch} epoch, whole": to_ms(begin, end)}
    report(phases, workers)


if __name__ == "__main__":
    main()
