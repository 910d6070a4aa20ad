"""bench: memory, time and accuracy of networks that solve imaging inverse problems.

In a checkout `models/`, `operators/` and `bench.toml` stand beside `bench/`, and symbolic links in it make them part of
this package, which is the one name that an installation adds to Python.
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from bench.asking import largest_batch, peak_memory

__version__ = "0.1.0"
__all__ = ["__version__", "largest_batch", "peak_memory"]

if not os.path.isdir(os.path.join(__path__[0], "models")):  # git made no links here, as on Windows by default
    __path__.append(os.path.dirname(__path__[0]))


def __getattr__(name: str) -> Any:
    """What is asked from Python, imported when it is: it needs torch, which takes over a second."""
    if name in ("largest_batch", "peak_memory"):
        from bench import asking

        return getattr(asking, name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
