"""The executor: one file for each thing that it is made of, and none that another door needs."""
