"""A table of all sets of images."""

from __future__ import annotations

from pathlib import Path

import pandas as pd

from bench.data import get, names, option_names
from bench.data.base import SPLITS
from bench.errors import UsageError


def overview(folder: Path) -> tuple[pd.DataFrame, list[str]]:
    """One row per set, as text, and why sets whose folder is there cannot be opened.

    A row says what a set is, how many images (subjects) each split has if it is here, licence and origin.
    """
    rows, reasons = [], []
    for name in names():
        image_set = get(name)
        options = {"folder": folder / name} if "folder" in option_names(image_set) else {}
        counts = dict.fromkeys(SPLITS, "-")
        for split in SPLITS:
            try:
                images = image_set(split, (image_set.channels, 64, 64), **options)
            except UsageError as error:
                if (folder / name).is_dir():
                    reasons.append(str(error))
            else:
                counts[split] = f"{len(images):,} ({images.effective_sample_size:,})"
        here = [split for split in SPLITS if counts[split] != "-"]
        rows.append(
            {
                "set": name,
                "images": image_set.content,
                **{str(split): count for split, count in counts.items()},
                "licence": image_set.licence,
                "origin": image_set.origin,
                "here": "yes" if len(here) == len(SPLITS) else ", ".join(here) or "no",
            }
        )
    return pd.DataFrame(rows), reasons
