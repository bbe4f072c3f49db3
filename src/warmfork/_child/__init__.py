"""Runs in the child, from fork to the user's function and out."""
