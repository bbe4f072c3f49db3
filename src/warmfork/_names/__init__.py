"""Runs in the tracker, which is given it: the names of semaphores, shared memory and files, removed for the dead."""
