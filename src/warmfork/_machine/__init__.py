"""Thin verbs over system calls: no policy, no loop."""
