"""A table of all sets of images."""

from __future__ import annotations

from pathlib import Path

import pandas as pd

from bench.data import SETS, option_names
from bench.data.base import SPLITS, ImageSet, Split
from bench.errors import UsageError


def overview(folder: Path) -> pd.DataFrame:
    """One row per set, as text: what it is, images (subjects) per split if it is here, licence, and origin."""
    return pd.DataFrame([_row(image_set, folder) for image_set in SETS.values()])


def _row(image_set: type[ImageSet], folder: Path) -> dict[str, str]:
    counts: dict[str, str] = {split: _count(image_set, split, folder) for split in SPLITS}
    present = [split for split in SPLITS if counts[split] != "-"]
    here = "yes" if len(present) == len(SPLITS) else ", ".join(present) or "no"
    return {
        "set": image_set.name,
        "images": image_set.content,
        **counts,
        "licence": image_set.licence,
        "origin": image_set.origin,
        "here": here,
    }


def _count(image_set: type[ImageSet], split: Split, folder: Path) -> str:
    """Images (subjects), or "-" if the set cannot be opened."""
    options = {"folder": folder / image_set.name} if "folder" in option_names(image_set) else {}
    try:
        images = image_set(split, (image_set.channels, 64, 64), **options)
    except UsageError:
        return "-"
    return f"{len(images):,} ({images.effective_sample_size:,})"
