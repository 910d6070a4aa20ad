"""LoDoPaB-CT: 42,895 slices of lungs and their observations (Leuschner et al., 2021), as the user has them."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, ClassVar

import numpy as np
import torch
from torch import Tensor

from bench.data.base import ImageSet, Split, set_folder
from bench.data.files import hdf5
from bench.data.resample import resample
from bench.errors import UsageError
from bench.operators.radon import Radon

if TYPE_CHECKING:
    import numpy.typing as npt

    from bench.operators.base import Operator

SIZE = 362
ANGLES = 1000
DETECTORS = 513
EXTENT = 0.26
"""Metres, the side of an image."""
IMAGES_PER_FILE = 128
GROUND_TRUTH, OBSERVATION = "ground_truth", "observation"


class LoDoPaB(ImageSet):
    """The ground truth, [1, N, N] in [0, 1]: attenuation over that of 3071 HU, patient upright.

    The files hold transposed slices, x first, which are turned back. A file is opened when one of its images is asked
    for; a folder that holds only the first files of a split gives their images.

    Its observations, of 4096 photons and simulated by its authors on a finer grid, are there for a Radon transform of
    its rays: 513 cells, and half angles (j + 1/2) pi / n whose number n divides 1000 by an odd number.

    Args:
        split: see ``ImageSet``.
        image_shape: see ``ImageSet``.
        folder: of the unpacked files, ground_truth_train_000.hdf5 and so on, with patient_ids_rand_train.csv and so
            on, one patient per line.
    """

    name = "LoDoPaB-CT"
    place = 7
    content = "slices of lungs, in [0, 1]"
    licence = "CC BY 4.0"
    origin = "your copy"
    channels = 1
    data_range = 1.0
    has_observations = True
    published_counts: ClassVar[dict[Split, int]] = {"train": 35_820, "validation": 3_522, "test": 3_553}

    def __init__(self, split: Split, image_shape: tuple[int, int, int], folder: str | Path | None = None) -> None:
        super().__init__(split, image_shape)
        self.folder = set_folder(self.name, folder)
        total = self.published_counts[split]
        paths = [self._file(GROUND_TRUTH, number) for number in range(-(-total // IMAGES_PER_FILE))]
        files = sum(path.exists() for path in paths)
        if missing := [path for path in paths[: max(files, 1)] if not path.exists()]:
            raise UsageError(f"{self.name}/{split}: there is no file {missing[0]}: unpack ground_truth_{split}.zip")
        self.subjects = self._patients()[: files * IMAGES_PER_FILE]

    def _file(self, what: str, number: int) -> Path:
        return self.folder / f"{what}_{self.split}_{number:03d}.hdf5"

    def _patients(self) -> list[str]:
        path = self.folder / f"patient_ids_rand_{self.split}.csv"
        try:
            patients = path.read_text(encoding="ascii").split()
        except (OSError, UnicodeDecodeError):
            raise UsageError(
                f"{self.name}/{self.split}: cannot read {path}, which comes with the data set and says whose slices "
                "these are"
            ) from None
        if len(patients) != (total := self.published_counts[self.split]):
            raise UsageError(f"{path} has {len(patients)} lines, expected {total:,}, one per image")
        return [f"patient {patient}" for patient in patients]

    def _image(self, index: int) -> Tensor:
        image = self._read(GROUND_TRUTH, index, (SIZE, SIZE)).T
        return torch.from_numpy(resample(np.ascontiguousarray(image), *self.image_shape[1:]).copy()).unsqueeze(0)

    def observation(self, index: int, operator: Operator) -> Tensor:
        """The sinogram of the image at `index`, [1, angles, 513], in the operator's units.

        In the files the angle turns from x to y as y grows with an image's second index, so downwards once it is
        upright: the ray (theta, s) there is our (pi - theta, -s), and the order of the angles and that of the cells are
        reversed.

        Raises:
            UsageError: the operator has other rays, or the file cannot be read.
        """
        if not isinstance(operator, Radon) or not _has_rays_of_files(operator):
            raise UsageError(
                f"{self.name} was measured by {DETECTORS} cells at {ANGLES:,} half angles over {EXTENT} m: give "
                f"operator Radon with detectors = {DETECTORS}, half_angles = true and angles = 200, 1000 or another "
                f'odd share, or measurements = "simulated"'
            )
        step = ANGLES // operator.geometry.angles
        sinogram = self._read(OBSERVATION, index, (ANGLES, DETECTORS))[step // 2 :: step]
        return torch.from_numpy(sinogram[::-1, ::-1].copy()).unsqueeze(0) * operator.scale

    def _read(self, what: str, index: int, shape: tuple[int, int]) -> npt.NDArray[np.float32]:
        """What the files of this name hold at `index`."""
        number, place = divmod(index, IMAGES_PER_FILE)
        path = self._file(what, number)
        with hdf5(path) as file:
            data = file["data"]
            if data.ndim != 3 or data.shape[0] <= place or data.shape[1:] != shape:
                raise UsageError(f"{path} holds {list(data.shape)} numbers, expected {[IMAGES_PER_FILE, *shape]}")
            return np.asarray(data[place], dtype=np.float32)


def _has_rays_of_files(operator: Radon) -> bool:
    """Whether its angles are every so many of the files', in the middle of each so many, and its cells all of them."""
    geometry = operator.geometry
    share, rest = divmod(ANGLES, geometry.angles)
    is_among = geometry.half_angles and rest == 0 and share % 2 == 1
    return is_among and geometry.detectors == DETECTORS and geometry.extent == EXTENT and operator.image_shape[0] == 1
