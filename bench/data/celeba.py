"""CelebA: 202,599 aligned photographs of faces (Liu et al., 2015), as the user has them."""

from __future__ import annotations

import re
from pathlib import Path
from typing import ClassVar

from PIL import Image
from torch import Tensor

from bench.data.base import ImageSet, Split, set_folder
from bench.data.files import photograph_tensor, read_photograph
from bench.errors import UsageError


class CelebA(ImageSet):
    """The aligned faces, 178 x 218, scaled to the size asked for: [3, H, W] in [-1, 1].

    The split is that of list_eval_partition.txt, which goes by the number in the name: 000001.jpg to 162770.jpg to
    train, to 182637.jpg to validate, the rest to test. A folder that lacks some of the images gives those it has.

    Args:
        split: see ``ImageSet``.
        image_shape: see ``ImageSet``.
        folder: img_align_celeba, or the folder that holds it.
    """

    name = "CelebA"
    place = 6
    content = "aligned faces, in [-1, 1]"
    licence = "non-commercial research"
    origin = "your copy"
    channels = 3
    data_range = 2.0
    numbers: ClassVar[dict[Split, range]] = {
        "train": range(1, 162_771),
        "validation": range(162_771, 182_638),
        "test": range(182_638, 202_600),
    }

    def __init__(self, split: Split, image_shape: tuple[int, int, int], folder: str | Path | None = None) -> None:
        super().__init__(split, image_shape)
        root = set_folder(self.name, folder)
        inner = root / "img_align_celeba"
        self.folder = inner if inner.is_dir() else root
        found = sorted(path.name for path in self.folder.iterdir() if re.fullmatch(r"\d{6}\.jpg", path.name))
        self.files = [name for name in found if int(name[:6]) in self.numbers[split]]
        if not self.files:
            wanted = self.numbers[split]
            raise UsageError(
                f"{self.name}/{split}: {self.folder} has {len(found)} images named like 000001.jpg, none of them from "
                f"{wanted[0]:06d}.jpg to {wanted[-1]:06d}.jpg: give the folder img_align_celeba"
            )
        self.subjects = [name[:6] for name in self.files]

    def _image(self, index: int) -> Tensor:
        _, height, width = self.image_shape
        photograph = read_photograph(self.folder / self.files[index])
        return photograph_tensor(photograph.resize((width, height), Image.Resampling.BILINEAR))
