"""A real GPU: the step runs on it, each probe in a process of its own."""
