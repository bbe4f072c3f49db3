"""What users hold: thin objects over the client."""
