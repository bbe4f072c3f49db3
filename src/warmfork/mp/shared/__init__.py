"""What programs, templates and children of multiprocessing have in common."""
