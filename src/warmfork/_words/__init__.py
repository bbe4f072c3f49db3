"""What the processes say to each other: pure values, no system calls, no clock, no socket."""
