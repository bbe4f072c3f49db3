"""warmfork in other libraries: one module for each, loaded by whoever uses it and by nobody else."""
