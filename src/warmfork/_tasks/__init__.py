"""What run(), sessions, the executor and Template.start() do in a child, and what is said to it."""
