"""fastMRI: single-coil k-space of knees (Zbontar et al., 2018), as the user has it."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from bench.data.base import ImageSet, Split, set_folder
from bench.data.files import files_in, hdf5
from bench.data.resample import resample
from bench.errors import UsageError
from bench.operators.mri import MRI

if TYPE_CHECKING:
    from bench.operators.base import Operator

SIZE = 320
VALIDATION_SHARE = 10  # every tenth patient of singlecoil_train


@dataclass(frozen=True)
class _Volume:
    path: Path
    patient: str
    slices: int
    size: tuple[int, int]
    largest: float


class FastMri(ImageSet):
    """Complex images of the fully sampled k-space, [2, H, W]: real and imaginary part, magnitude in [0, 1].

    image = centre crop to 320 x 320 of the centred orthonormal inverse Fourier transform of "kspace",

    over the largest magnitude of its volume (the attribute "max"), scaled to H x W where that is not 320 x 320. The
    magnitude has to agree with the file's "reconstruction_esc". Images of a k-space's own size, such as [2, 640, 368],
    are those of the volumes of this size, not cropped; what was measured of them are the columns of their k-space.

    The released test volumes are undersampled and have no ground truth: our test split is singlecoil_val, and every
    tenth patient of singlecoil_train validates.

    Args:
        split: see ``ImageSet``.
        image_shape: see ``ImageSet``.
        folder: that holds singlecoil_train and singlecoil_val.
    """

    name = "fastMRI"
    place = 8
    content = "slices of knees, complex, magnitude in [0, 1]"
    licence = "fastMRI agreement"
    origin = "your copy"
    channels = 2
    data_range = 1.0
    has_observations = True
    folders: ClassVar[dict[Split, str]] = {
        "train": "singlecoil_train",
        "validation": "singlecoil_train",
        "test": "singlecoil_val",
    }

    def __init__(self, split: Split, image_shape: tuple[int, int, int], folder: str | Path | None = None) -> None:
        super().__init__(split, image_shape)
        inner = set_folder(self.name, folder) / self.folders[split]
        if not (files := files_in(inner, ".h5")):
            raise UsageError(f"{self.name}/{split} found no file {inner}/*.h5: give the folder that holds {inner.name}")
        volumes = [_describe(path) for path in files]
        size = (self.image_shape[1], self.image_shape[2])
        self.is_whole = any(volume.size == size for volume in volumes)
        if self.is_whole:
            volumes = [volume for volume in volumes if volume.size == size]
        if split != "test":
            patients = sorted({volume.patient for volume in volumes})
            held_out = set(patients[VALIDATION_SHARE - 1 :: VALIDATION_SHARE])
            volumes = [volume for volume in volumes if (volume.patient in held_out) == (split == "validation")]
            if not volumes:
                raise UsageError(
                    f"{self.name}/{split}: {inner} has volumes of {len(patients)} patients, expected at least "
                    f"{VALIDATION_SHARE}, of whom one validates"
                )
        self.slices = [(volume, number) for volume in volumes for number in range(volume.slices)]
        self.subjects = [volume.patient for volume, _ in self.slices]

    def _image(self, index: int) -> Tensor:
        volume, number = self.slices[index]
        with hdf5(volume.path) as file:
            whole = _inverse_fourier(file["kspace"][number])
            expected = np.asarray(file["reconstruction_esc"][number])
        cropped = _centre(whole, volume.path)
        magnitude = np.abs(cropped)
        if magnitude.shape != expected.shape or np.abs(magnitude - expected).max() > 1e-3 * volume.largest:
            raise UsageError(
                f"{volume.path}, slice {number}: |F^-1 kspace| is not reconstruction_esc; is it a single-coil file?"
            )
        parts = _parts((whole if self.is_whole else cropped) / volume.largest)
        return torch.from_numpy(np.stack([resample(part, *self.image_shape[1:]) for part in parts]))

    def observation(self, index: int, operator: Operator) -> Tensor:
        """The columns of the image's k-space that the operator measures, [2, H, W], zeros elsewhere.

        Raises:
            UsageError: images are not of their k-space's own size, the operator is not MRI, or the file cannot be read.
        """
        volume, number = self.slices[index]
        if not isinstance(operator, MRI) or not self.is_whole:
            raise UsageError(
                f"{self.name} was measured by MRI on the grid of its k-space: give an image_shape such as "
                f'{[2, *volume.size]}, or measurements = "simulated"'
            )
        with hdf5(volume.path) as file:
            kspace = np.asarray(file["kspace"][number]) / volume.largest
        return operator.where_measured(torch.from_numpy(np.stack(_parts(kspace))))


def _describe(path: Path) -> _Volume:
    with hdf5(path) as file:
        shape = file["kspace"].shape
        if len(shape) != 3 or file["reconstruction_esc"].shape != (shape[0], SIZE, SIZE):
            raise UsageError(
                f"{path} has kspace {list(shape)} and reconstruction_esc {list(file['reconstruction_esc'].shape)}, "
                f"expected [slices, rows, columns] and [slices, {SIZE}, {SIZE}]"
            )
        largest = float(file.attrs["max"])
        patient = file.attrs.get("patient_id", path.stem)
    if not 0 < largest < float("inf"):
        raise UsageError(f"{path} has attribute max {largest}, expected the largest magnitude of the volume")
    return _Volume(
        path, patient.decode() if isinstance(patient, bytes) else str(patient), shape[0], (shape[1], shape[2]), largest
    )


def _parts(image: npt.NDArray[Any]) -> list[npt.NDArray[np.float32]]:
    return [np.ascontiguousarray(part, dtype=np.float32) for part in (image.real, image.imag)]


def _inverse_fourier(kspace: Any) -> npt.NDArray[np.complexfloating]:
    """The unitary inverse transform over both axes, the origin of either domain at the pixel N // 2."""
    return np.fft.fftshift(np.fft.ifft2(np.fft.ifftshift(np.asarray(kspace)), norm="ortho"))


def _centre(image: npt.NDArray[np.complexfloating], path: Path) -> npt.NDArray[np.complexfloating]:
    rows, columns = image.shape
    if min(rows, columns) < SIZE:
        raise UsageError(f"{path} has k-space of {rows} x {columns}, expected at least {SIZE} x {SIZE}")
    top, left = (rows - SIZE) // 2, (columns - SIZE) // 2
    return image[top : top + SIZE, left : left + SIZE]
