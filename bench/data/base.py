"""What every set of images has in common."""

from __future__ import annotations

import hashlib
import os
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar, Literal, get_args

import numpy as np
from torch import Tensor
from torch.utils.data import Dataset

from bench.errors import UsageError

if TYPE_CHECKING:
    from bench.operators.base import Operator

Split = Literal["train", "validation", "test"]
SPLITS: tuple[Split, ...] = get_args(Split)


class ImageSet(Dataset[Tensor]):
    """Images of one split, by index: the same index gives the same image bit for bit, in any process.

    A subclass with a `name`, in a file of bench/data/, is an image set of the suite.

    Args:
        split: "train", "validation" or "test"; no subject is in two of them.
        image_shape: (C, H, W) of the images.

    Attributes:
        name: by which ``bench.data.load`` finds the set.
        place: in lists; others come after, by name.
        content: what the images are, in a few words.
        licence: of the images.
        origin: where the images come from.
        channels: C, the only one that the set has.
        data_range: largest minus smallest possible value: 2 for [-1, 1], 1 for magnitudes and images in [0, 1].
        has_observations: whether the images come with measurements of their own, `observation`.
        subjects: one per image: the patient, volume, photograph or phantom that it comes from.

    Raises:
        UsageError: an unknown split, another number of channels, or a size below 1.
    """

    name: ClassVar[str]
    place: ClassVar[int] = 1000
    content: ClassVar[str]
    licence: ClassVar[str]
    origin: ClassVar[str]
    channels: ClassVar[int]
    data_range: ClassVar[float]
    has_observations: ClassVar[bool] = False
    subjects: Sequence[str]

    def __init__(self, split: Split, image_shape: tuple[int, int, int]) -> None:
        if split not in SPLITS:
            raise UsageError(f"unknown split {split!r} of {self.name}: known are {', '.join(SPLITS)}")
        if len(image_shape) != 3 or image_shape[0] != self.channels or min(image_shape) < 1:
            raise UsageError(
                f"{self.name} got image shape {list(image_shape)}, expected [{self.channels}, H, W]: {self.content}"
            )
        self.split = split
        channels, height, width = image_shape
        self.image_shape = (channels, height, width)

    @property
    def effective_sample_size(self) -> int:
        """How many independent subjects the images come from; it belongs beside every number made from them."""
        return len(set(self.subjects))

    def __len__(self) -> int:
        return len(self.subjects)

    def __getitem__(self, index: int) -> Tensor:
        """The image at `index` (from the end, if negative), float32 [C, H, W].

        Raises:
            IndexError: no such image.
            UsageError: its file cannot be read.
        """
        if not -len(self) <= index < len(self):
            raise IndexError(f"{self.name}/{self.split} has {len(self)} images, got index {index}")
        return self._image(index % len(self))

    def _image(self, index: int) -> Tensor:
        raise NotImplementedError

    def observation(self, index: int, operator: Operator) -> Tensor:
        """What was measured of the image at `index`, of which A x is the model: float32 [*operator.measurement_shape].

        Raises:
            UsageError: the set has none, none by such an operator, or its file cannot be read.
        """
        raise UsageError(f'{self.name} has no measurements of its own: give measurements = "simulated"')


def seed_of(*identity: object) -> int:
    """A 64-bit seed that depends on all of `identity` and on nothing else."""
    return int.from_bytes(hashlib.sha256(repr(identity).encode()).digest()[:8], "little")


def random_stream(*identity: object) -> np.random.Generator:
    """A stream of random numbers that depends on all of `identity` and on nothing else."""
    return np.random.default_rng(seed_of(*identity))


def data_folder() -> Path:
    """The folder that holds one folder per set: BENCH_DATA, or "bench" in the user's cache folder.

    A user without a home, as in a container, has one among the temporary files.
    """
    if given := os.environ.get("BENCH_DATA"):
        return Path(given)
    if cache := os.environ.get("XDG_CACHE_HOME"):
        return Path(cache) / "bench"
    try:
        return Path.home() / ".cache" / "bench"
    except RuntimeError:  # no HOME, and no entry in the system's list of users
        return Path(tempfile.gettempdir()) / f"bench-{os.getuid()}"


def set_folder(name: str, folder: str | Path | None) -> Path:
    """`folder`, or the one that the set of this name has in the data folder.

    Raises:
        UsageError: there is no such folder.
    """
    path = Path(folder) if folder is not None else data_folder() / name
    if not path.is_dir():
        remedy = "run `bench data fetch`" if name.startswith("fetched-") else "put or link the data there"
        raise UsageError(f"{name} needs the folder {path}, which does not exist: {remedy}, or name another folder")
    return path
