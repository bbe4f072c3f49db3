"""Runs in templates and children of multiprocessing: what becomes a process there."""
