"""Runs in programs: contexts, processes, and warmfork in the place of the stdlib's forkserver."""
