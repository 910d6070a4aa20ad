"""Files that may be missing, of another layout, or cut short: read, or refused in one sentence that names them."""

from __future__ import annotations

import importlib
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from bench.errors import UsageError
from bench.extras import how_to_install


def library(module: str) -> Any:
    """An optional library, imported when it is needed.

    Raises:
        UsageError: it is not installed.
    """
    try:
        return importlib.import_module(module)
    except ModuleNotFoundError as error:
        raise UsageError(f"this data set needs {module}, which is not installed: {how_to_install(module)}") from error


def files_in(folder: Path, suffix: str) -> list[Path]:
    """The files of a folder that end in `suffix`, sorted; what systems leave beside them, such as ._name, is no file.

    Raises:
        UsageError: the folder cannot be read.
    """
    try:
        names = sorted(os.listdir(folder)) if folder.is_dir() else []
    except OSError as error:
        raise UsageError(f"cannot read the folder {folder}: {error.strerror}") from error
    return [folder / name for name in names if name.endswith(suffix) and not name.startswith(".")]


@contextmanager
def hdf5(path: Path) -> Iterator[Any]:
    """An HDF5 file, open for reading.

    Raises:
        UsageError: on opening or in the body of the with statement: missing, cut short, no HDF5, or without a dataset
            that is asked for.
    """
    h5py = library("h5py")
    try:
        with h5py.File(path, "r") as file:
            yield file
    except FileNotFoundError:
        raise UsageError(f"there is no file {path}: the data set is incomplete") from None
    except KeyError as error:
        raise UsageError(f"{path} is not of the expected layout: {error.args[0]}") from error
    except (OSError, RuntimeError) as error:
        raise UsageError(f"cannot read {path}, which may be cut short: {error}") from error


def read_photograph(path: Path) -> Image.Image:
    """The photograph in a file, RGB.

    Raises:
        UsageError: missing, cut short, or no image.
    """
    try:
        with Image.open(path) as image:
            return image.convert("RGB")
    except FileNotFoundError:
        raise UsageError(f"there is no file {path}: the data set is incomplete") from None
    except (OSError, SyntaxError, ValueError, Image.DecompressionBombError) as error:
        raise UsageError(f"cannot read the photograph {path}, which may be cut short: {error}") from error


def photograph_tensor(photograph: Image.Image) -> Tensor:
    """An RGB photograph as [3, H, W] in [-1, 1]."""
    values = np.asarray(photograph, dtype=np.float32) / 127.5 - 1
    return torch.from_numpy(values).permute(2, 0, 1).contiguous()
