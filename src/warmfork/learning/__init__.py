"""preload="auto": children say what they import, and the next template of the program has it."""
