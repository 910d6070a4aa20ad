"""Packages that only a part of bench needs, and how each is installed."""

from __future__ import annotations

_PACKAGES = {
    "PIL": "pillow",
    "skimage": "scikit-image",
    "sklearn": "scikit-learn",
    "nrrd": "pynrrd",
}
"""Where the module has another name than the package."""


def how_to_install(*modules: str) -> str:
    """The command that installs what brings these modules."""
    return " ".join(["pip install", *(_PACKAGES.get(name, name) for name in modules)])
