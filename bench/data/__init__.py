"""Images to reconstruct, and their measurements: embedded, fetched, or the user's own copies of the benchmarks' sets.

``load(name, split, image_shape)`` gives an ``ImageSet``; ``MeasuredSet`` adds what an operator measures of it.
"""

from __future__ import annotations

import inspect
from typing import Any

from bench.data.base import SPLITS, ImageSet, Split
from bench.data.celeba import CelebA
from bench.data.fastmri import FastMri
from bench.data.lodopab import LoDoPaB
from bench.data.measurements import MeasuredSet, Noise
from bench.data.phantoms import CtPhantoms, MriPhantoms
from bench.data.photographs import FetchedPhotographs, Photographs
from bench.data.volumes import FetchedCt, FetchedMri
from bench.errors import UsageError

__all__ = ["SETS", "SPLITS", "ImageSet", "MeasuredSet", "Noise", "Split", "load", "names"]

_EMBEDDED = (Photographs, CtPhantoms, MriPhantoms)
_USERS = (CelebA, LoDoPaB, FastMri)
_FETCHED = (FetchedPhotographs, FetchedCt, FetchedMri)
SETS: dict[str, type[ImageSet]] = {each.name: each for each in (*_EMBEDDED, *_USERS, *_FETCHED)}


def names() -> list[str]:
    """The sets there are."""
    return list(SETS)


def load(name: str, split: Split, image_shape: tuple[int, int, int], **options: Any) -> ImageSet:
    """The images of one split of a set.

    Args:
        name: one of ``names()``, in any case.
        split: "train", "validation" or "test".
        image_shape: (C, H, W) that the images shall have; C is the set's own.
        options: of the set: `folder` of those read from files, `seed` and `count` of phantoms.

    Raises:
        UsageError: unknown set, split, shape or option, or data that are missing or of the wrong layout.
    """
    known = {known.lower(): image_set for known, image_set in SETS.items()}
    if name.lower() not in known:
        raise UsageError(f"unknown data set {name!r}: known are {', '.join(SETS)}")
    image_set = known[name.lower()]
    allowed = option_names(image_set)
    if unknown := [option for option in options if option not in allowed]:
        raise UsageError(f"{image_set.name} has no option {unknown[0]!r}: it has {', '.join(allowed) or 'none'}")
    return image_set(split, image_shape, **options)


def option_names(image_set: type[ImageSet]) -> list[str]:
    """What a set takes besides split and shape."""
    return list(inspect.signature(image_set).parameters)[2:]
