"""Cells: an architecture on a task; what is run, under which name, and whether its result is still valid."""
