"""What an image value of CT means: LoDoPaB-CT's convention (Leuschner et al., 2021), used for every CT set here.

A value of 1 is the linear attenuation of 3071 HU, the largest that 12-bit scanners store.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from bench.data.resample import FloatImage

WATER = 20.0  # per metre
AIR = 0.02
MAX_ATTENUATION = 3071 * (WATER - AIR) / 1000 + WATER


def from_hounsfield(units: FloatImage) -> FloatImage:
    """Hounsfield units as attenuation over MAX_ATTENUATION, in [0, 1]: air is 0.0002, water 0.246."""
    return ((units * ((WATER - AIR) / 1000) + WATER) / MAX_ATTENUATION).clip(0, 1)
