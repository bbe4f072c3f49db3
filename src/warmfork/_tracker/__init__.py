"""Runs in the tracker: the process that keeps what must outlive everybody else."""
