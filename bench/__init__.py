"""bench: memory, time and accuracy of networks that solve imaging inverse problems.

In a checkout `models/`, `operators/` and `bench.toml` stand beside `bench/`, and symbolic links in it make them part of
this package, which is the one name that an installation adds to Python.
"""

import os

__version__ = "0.1.0"

if not os.path.isdir(os.path.join(__path__[0], "models")):  # git made no links here, as on Windows by default
    __path__.append(os.path.dirname(__path__[0]))
