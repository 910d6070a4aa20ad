"""LoDoPaB-CT: 42,895 slices of lungs (Leuschner et al., 2021), as the user has them."""

from __future__ import annotations

from pathlib import Path
from typing import ClassVar

import numpy as np
import torch
from torch import Tensor

from bench.data.base import ImageSet, Split, set_folder
from bench.data.files import hdf5
from bench.data.resample import resample
from bench.errors import UsageError

SIZE = 362
IMAGES_PER_FILE = 128


class LoDoPaB(ImageSet):
    """The ground truth, [1, N, N] in [0, 1]: attenuation over that of 3071 HU, patient upright.

    The files hold transposed slices, x first, which are turned back. Its observations are not read: measurements are
    simulated with this suite's operator. A file is opened when one of its images is asked for; a folder that holds
    only the first files of a split gives their images.

    Args:
        split: see ``ImageSet``.
        image_shape: see ``ImageSet``.
        folder: of the unpacked files, ground_truth_train_000.hdf5 and so on, with patient_ids_rand_train.csv and so
            on, one patient per line.
    """

    name = "LoDoPaB-CT"
    content = "slices of lungs, in [0, 1]"
    licence = "CC BY 4.0"
    origin = "your copy"
    channels = 1
    data_range = 1.0
    published_counts: ClassVar[dict[Split, int]] = {"train": 35_820, "validation": 3_522, "test": 3_553}

    def __init__(self, split: Split, image_shape: tuple[int, int, int], folder: str | Path | None = None) -> None:
        super().__init__(split, image_shape)
        self.folder = set_folder(self.name, folder)
        total = self.published_counts[split]
        files = sum(self._file(number).exists() for number in range(-(-total // IMAGES_PER_FILE)))
        if missing := [number for number in range(max(files, 1)) if not self._file(number).exists()]:
            raise UsageError(
                f"{self.name}/{split}: there is no file {self._file(missing[0])}: unpack ground_truth_{split}.zip"
            )
        self.subjects = self._patients()[: files * IMAGES_PER_FILE]

    def _file(self, number: int) -> Path:
        return self.folder / f"ground_truth_{self.split}_{number:03d}.hdf5"

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
        number, place = divmod(index, IMAGES_PER_FILE)
        path = self._file(number)
        with hdf5(path) as file:
            data = file["data"]
            if data.ndim != 3 or data.shape[0] <= place or data.shape[1:] != (SIZE, SIZE):
                raise UsageError(
                    f"{path} holds {list(data.shape)} numbers, expected [{IMAGES_PER_FILE}, {SIZE}, {SIZE}]"
                )
            image = np.asarray(data[place], dtype=np.float32).T
        return torch.from_numpy(resample(np.ascontiguousarray(image), *self.image_shape[1:]).copy()).unsqueeze(0)
