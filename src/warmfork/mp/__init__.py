"""All that knows multiprocessing, by who runs it."""
