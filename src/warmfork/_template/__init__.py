"""Runs in the template: the warm process that forks."""
