"""The first test images beside their initialisation and reconstruction, kept for the figures."""

from __future__ import annotations

from pathlib import Path

import torch
from safetensors.torch import save

from bench.accuracy.evaluation import Reconstruct
from bench.accuracy.splits import Batch
from bench.cells.cell import Cell
from bench.files import write_atomically
from bench.names import file_stem
from bench.operators.base import Operator

SHOWN = 4


@torch.no_grad()
def keep(
    cell: Cell,
    operator: Operator,
    reconstruct: Reconstruct,
    test: list[Batch],
    device: torch.device,
    folder: Path,
) -> str:
    """Write the first test images; returns the file's name relative to the output folder.

    The file has the float32 tensors "truth", "initialisation" and "reconstruction", each [at most 4, C, H, W].

    Raises:
        StorageError: it cannot be written.
    """
    image, measurement = (torch.cat(part)[:SHOWN] for part in zip(*test, strict=True))
    measurement = measurement.to(device)
    tensors = {
        "truth": image,
        "initialisation": operator.initial_estimate(measurement),
        "reconstruction": reconstruct(measurement),
    }
    name = f"reconstructions/{file_stem(cell.task, cell.architecture, cell.key)}.safetensors"
    content = save({key: tensor.cpu().clone() for key, tensor in tensors.items()})
    write_atomically(folder / name, content, within=folder)
    return name
