"""The values of a record: stages, bounds, counts, seconds, PSNR; and what all of its parts have in common."""

from __future__ import annotations

import math
from typing import Annotated, Literal

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field

Stage = Literal["memory", "profile", "timing", "accuracy"]
"""What a run measures of each cell, in this order."""

FULL_SIZE: tuple[Stage, ...] = ("memory", "profile")
"""Stages that are always at the configuration's own sizes; a preset may change those of the others."""

Metric = Literal["image", "real", "magnitude"]
Measurements = Literal["simulated", "own"]
"""What PSNR and SSIM are taken of: all channels; of a complex image its real channel alone, or its magnitude."""

Range = Literal["fixed", "image", "volume"]
"""The range of PSNR and SSIM: the set's, or what the true image, or its volume, has between its least and largest."""

Window = Literal["gaussian", "uniform"]
"""Of SSIM: Gaussian of sigma 1.5 as published, or scikit-image's default of 7 x 7, which fastMRI takes."""

Bound = Literal["exact", "high", "low"]
"""The temporaries inside kernels: as they are (measured, or told by cuDNN), the most they can take, or nothing."""

Count = Annotated[int, Field(ge=0, le=2**53)]
"""Bytes, images, parameters, events: no more than every reader of JSON and every table holds exactly."""

Positive = Annotated[int, Field(ge=1, le=2**53)]

Seconds = Annotated[float, Field(gt=0, le=1e9)]
"""What a step or an evaluation took: it never takes no time."""

Elapsed = Annotated[float, Field(ge=0, le=1e9)]
"""Seconds that may be too short to tell."""

Repeats = Annotated[list[Seconds], Field(min_length=1)]
"""Seconds of a run, one number per repeat."""


def _from_text(value: object) -> object:
    """JSON has no infinity: it stands there as text."""
    return float(value) if value in ("Infinity", "-Infinity", "NaN") else value


def _is_psnr(value: float) -> float:
    if not abs(value) < 10_000 and value != math.inf:
        raise ValueError("a PSNR is a number below 10,000, or Infinity of an image that is reconstructed exactly")
    return value


AnyFloat = Annotated[float, Field(allow_inf_nan=True), BeforeValidator(_from_text)]
"""A float that may be infinite or no number."""

PsnrDb = Annotated[AnyFloat, AfterValidator(_is_psnr)]
"""A PSNR in dB; infinite where the reconstruction is the image, to the last bit."""


class Part(BaseModel):
    """What is written can be read: every float is finite, or of a type that says otherwise and written as text."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True, allow_inf_nan=False, ser_json_inf_nan="strings")
