"""Checkpoints: a training at one of its steps, on disk whole or not at all, read without executing code."""

from __future__ import annotations

import io
import pickle
import zipfile
import zlib
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from bench.cells.cell import Cell
from bench.errors import StorageError
from bench.files import leads_outside, read_regular, write_atomically
from bench.names import file_stem
from bench.units import GiB

LARGEST_CHECKPOINT_BYTES = 64 * GiB

# What reading a file raises that somebody else wrote: zipfile, pickle and torch check little.
_DAMAGE = (
    *(zipfile.BadZipFile, zlib.error, pickle.UnpicklingError, EOFError, ValueError, TypeError, LookupError),
    *(AttributeError, ArithmeticError, RuntimeError, AssertionError),
)


@dataclass(frozen=True)
class Checkpoint:
    """The place of one training's checkpoint, and what it has to be of.

    Attributes:
        path: of the file.
        identity: architecture, task, the cell's key and the seed.
    """

    path: Path
    identity: dict[str, str | int]

    @classmethod
    def of(cls, cell: Cell, seed: int, folder: Path) -> Checkpoint:
        """The checkpoint of a cell's training in the output folder."""
        identity: dict[str, str | int] = {
            "architecture": cell.architecture,
            "task": cell.task,
            "key": cell.key,
            "seed": seed,
        }
        return cls(folder / "checkpoints" / f"{_stem(cell)}--seed{seed}.pt", identity)

    def save(self, state: dict[str, Any]) -> None:
        """Replace what is there by `state`: tensors, numbers, texts, lists and dicts of them.

        Raises:
            StorageError: the disk is full or the folder not writable; the earlier checkpoint stands.
        """
        content = io.BytesIO()
        torch.save({"identity": self.identity, "state": state}, content)
        write_atomically(self.path, content.getvalue(), within=self.path.parent.parent)

    def load(self) -> dict[str, Any] | None:
        """The state that was saved last, on the CPU; None if there is none.

        Raises:
            StorageError: the file is damaged or of another training; it is left as it is.
        """
        try:
            stored = io.BytesIO(read_regular(self.path, LARGEST_CHECKPOINT_BYTES, within=self.path.parent.parent))
            with zipfile.ZipFile(stored) as archive:  # torch.load does not look at the checksums
                intact = archive.testzip() is None
            stored.seek(0)
            content = torch.load(stored, map_location="cpu", weights_only=True) if intact else None
        except FileNotFoundError:
            return None
        except OSError as error:
            raise StorageError(f"cannot read the checkpoint {self.path}: {error.strerror}") from error
        except _DAMAGE as error:
            raise self.unusable("damaged or no checkpoint") from error
        if not intact:
            raise self.unusable("damaged")
        if not isinstance(content, dict) or not isinstance(content.get("identity"), dict) or "state" not in content:
            raise self.unusable("no checkpoint of bench")
        if content["identity"] != self.identity:
            found, expected = (_described(identity) for identity in (content["identity"], self.identity))
            raise self.unusable(f"of {found}, expected {expected}")
        state: dict[str, Any] = content["state"]
        return state

    def unusable(self, what: str) -> StorageError:
        """What to raise where the file is this, and so of no use."""
        return StorageError(f"the checkpoint {self.path} is {what}: move it away, or train from the start with --fresh")


def forget(cell: Cell, folder: Path) -> None:
    """Remove a cell's checkpoints, so that its trainings start anew.

    Raises:
        StorageError: they cannot be removed, or a symbolic link leads out of the folder.
    """
    checkpoints = folder / "checkpoints"
    if leads_outside(checkpoints, folder):
        raise StorageError(f"cannot remove from {checkpoints}: a symbolic link leads out of {folder}")
    try:
        for path in checkpoints.glob(f"{_stem(cell)}--seed*.pt"):
            path.unlink(missing_ok=True)
    except OSError as error:
        raise StorageError(f"cannot remove the checkpoint {error.filename}: {error.strerror}") from error


def _stem(cell: Cell) -> str:
    return file_stem(cell.task, cell.architecture, cell.key)


def _described(identity: dict[str, str | int]) -> str:
    names = [str(identity.get(name, "?")) for name in ("architecture", "task", "seed", "key")]
    return "{} on {}, seed {}, settings {}".format(*names)
