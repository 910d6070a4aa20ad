"""bench: memory, time and accuracy of networks that solve imaging inverse problems."""

__version__ = "0.1.0"
