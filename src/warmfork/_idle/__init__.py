"""What a template does in idle time, so that births are faster: the kernel works without all of it."""
