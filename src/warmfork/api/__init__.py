"""What users hold: a warm process of their own, and names that are removed for the dead. Knows no multiprocessing."""
