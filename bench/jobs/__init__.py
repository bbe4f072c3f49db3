"""What a competitor's process can be told to do besides starting and joining: one file a job, `run(bed, *numbers)`."""
