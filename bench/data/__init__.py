"""Images to reconstruct, and their measurements: embedded, fetched, or the user's own copies of the benchmarks' sets.

``load(name, split, image_shape)`` gives an ``ImageSet``; ``MeasuredSet`` adds what an operator measures of it.
"""

from __future__ import annotations

import inspect
import sys
from functools import cache
from typing import Any

from bench.data.base import SPLITS, ImageSet, Split
from bench.data.measurements import MeasuredSet, Noise
from bench.errors import UsageError
from bench.operators.discovery import named_classes

__all__ = ["SPLITS", "ImageSet", "MeasuredSet", "Noise", "Split", "get", "load", "names"]


def names() -> list[str]:
    """The sets there are: embedded ones, those of the user's own copies, those to fetch."""
    return list(_discovered())


def get(name: str) -> type[ImageSet]:
    """The set called `name`, in any case.

    Raises:
        UsageError: there is none; the message lists those there are.
    """
    for known, image_set in _discovered().items():
        if known.lower() == name.lower():
            return image_set
    raise UsageError(f"unknown data set {name!r}: known are {', '.join(names())}")


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
    image_set = get(name)
    allowed = option_names(image_set)
    if unknown := [option for option in options if option not in allowed]:
        raise UsageError(f"{image_set.name} has no option {unknown[0]!r}: it has {', '.join(allowed) or 'none'}")
    return image_set(split, image_shape, **options)


def option_names(image_set: type[ImageSet]) -> list[str]:
    """What a set takes besides split and shape."""
    return list(inspect.signature(image_set).parameters)[2:]


@cache
def _discovered() -> dict[str, type[ImageSet]]:
    found = named_classes(sys.modules[__name__], ImageSet)
    return dict(sorted(found.items(), key=lambda item: (item[1].place, item[0])))
