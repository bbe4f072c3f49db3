"""Runs in the program, and in any child that starts children of its own."""
