"""Photographs for deblurring: random crops of a few large ones, [3, H, W] in [-1, 1]."""

from __future__ import annotations

import importlib.util
import math
from collections.abc import Sequence
from pathlib import Path
from typing import ClassVar

from PIL import Image
from torch import Tensor

from bench.data.base import ImageSet, Split, random_stream, set_folder
from bench.data.files import files_in, photograph_tensor, read_photograph
from bench.errors import UsageError

REDUCTION = (1.0, 4.0)
"""The smallest and the largest factor by which a crop is scaled down."""


class _Crops(ImageSet):
    """Crops of photographs, whose place and scale follow from the split and the index; to train, half are mirrored.

    A crop is scaled down by a factor within `reduction`, as far as the photograph allows (up only where it is smaller
    than the size asked for), with an antialiasing filter: the larger the factor, the more a crop shows. JPEG files
    are halved beforehand, since their blocks and coarse colours are no image content. The photographs take turns: index
    i is of photograph i modulo their number.

    Args:
        split: see ``ImageSet``.
        image_shape: see ``ImageSet``.
        files: the photographs.
        reduction: the smallest and the largest factor.

    Raises:
        UsageError: `reduction` is not two such factors.
    """

    channels = 3
    data_range = 2.0
    crops_per_photograph: ClassVar[dict[Split, int]]

    def __init__(
        self,
        split: Split,
        image_shape: tuple[int, int, int],
        files: list[Path],
        reduction: Sequence[float] = REDUCTION,
    ) -> None:
        super().__init__(split, image_shape)
        if len(reduction) != 2 or not 0 < reduction[0] <= reduction[1] < math.inf:
            raise UsageError(
                f"{self.name} got reduction {list(reduction)}, expected the smallest and the largest factor, such as "
                f"{list(REDUCTION)}"
            )
        self.files = files
        self.reduction = reduction
        self.subjects = [path.stem for path in files] * self.crops_per_photograph[split]
        self._photographs: dict[Path, Image.Image] = {}

    def _photograph(self, path: Path) -> Image.Image:
        if path not in self._photographs:
            photograph = read_photograph(path)
            self._photographs[path] = photograph.reduce(2) if path.suffix == ".jpg" else photograph
        return self._photographs[path]

    def _image(self, index: int) -> Tensor:
        _, height, width = self.image_shape
        photograph = self._photograph(self.files[index % len(self.files)])
        random = random_stream(self.name, self.split, index)
        largest = min(photograph.width / width, photograph.height / height)
        smallest, largest = (min(each, largest) for each in self.reduction)
        factor = smallest * (largest / smallest) ** random.random()
        # Rounding must not push the crop over the photograph's edge.
        crop_width, crop_height = min(factor * width, photograph.width), min(factor * height, photograph.height)
        left = (photograph.width - crop_width) * random.random()
        top = (photograph.height - crop_height) * random.random()
        box = (left, top, min(left + crop_width, photograph.width), min(top + crop_height, photograph.height))
        crop = photograph.resize((width, height), Image.Resampling.LANCZOS, box)
        if self.split == "train" and random.random() < 0.5:
            crop = crop.transpose(Image.Transpose.FLIP_LEFT_RIGHT)
        return photograph_tensor(crop)


class Photographs(_Crops):
    """The photographs that scikit-image and scikit-learn bring with them: 4 to train, 1 to validate, 1 to test."""

    name = "photographs"
    place = 1
    content = "crops of 6 photographs, in [-1, 1]"
    licence = "CC0, public domain, CC BY"
    origin = "scikit-image, scikit-learn"
    crops_per_photograph: ClassVar[dict[Split, int]] = {"train": 256, "validation": 16, "test": 16}
    members: ClassVar[dict[Split, list[str]]] = {
        "train": [
            "skimage/data/astronaut.png",
            "skimage/data/chelsea.png",
            "skimage/data/rocket.jpg",
            "sklearn/datasets/images/china.jpg",
        ],
        "validation": ["sklearn/datasets/images/flower.jpg"],
        "test": ["skimage/data/coffee.png"],
    }

    def __init__(self, split: Split, image_shape: tuple[int, int, int], reduction: Sequence[float] = REDUCTION) -> None:
        files = [_in_package(member) for member in self.members.get(split, [])]
        super().__init__(split, image_shape, files, reduction)


def _in_package(member: str) -> Path:
    """The path of a file inside an installed package, which is not imported."""
    package, _, rest = member.partition("/")
    spec = importlib.util.find_spec(package)
    if spec is None or spec.origin is None:
        distribution = {"skimage": "scikit-image", "sklearn": "scikit-learn"}[package]
        raise UsageError(f"the photographs need {distribution}, which is not installed: pip install {distribution}")
    return Path(spec.origin).parent / rest


class FetchedPhotographs(_Crops):
    """Fifty photographs: every fifth is for the test, of the others every eighth to validate."""

    name = "fetched-photographs"
    place = 9
    content = "crops of 50 photographs, in [-1, 1]"
    licence = "MIT"
    origin = "npm's tabler-ui"
    crops_per_photograph: ClassVar[dict[Split, int]] = {"train": 32, "validation": 4, "test": 4}

    def __init__(
        self,
        split: Split,
        image_shape: tuple[int, int, int],
        folder: str | Path | None = None,
        reduction: Sequence[float] = REDUCTION,
    ) -> None:
        place = set_folder(self.name, folder) / "tabler-ui"
        files = files_in(place, ".jpg")
        if len(files) != 50:
            raise UsageError(f"{place} has {len(files)} photographs, expected 50: run `bench data fetch`")
        rest = [path for number, path in enumerate(files) if number % 5 != 4]
        chosen: dict[Split, list[Path]] = {
            "train": [path for number, path in enumerate(rest) if number % 8 != 7],
            "validation": rest[7::8],
            "test": files[4::5],
        }
        super().__init__(split, image_shape, chosen.get(split, []), reduction)
