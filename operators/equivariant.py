"""Sparse matrices that commute with a symmetry group, stored once per orbit.

Let a finite group G permute the inputs p and the outputs r of a matrix A, and let a(g r, g p) = a(r, p) for every
g in G: turning the input turns the output. Then one row per orbit of outputs determines all of A,

(A f)(g r) = sum_p a(r, p) f(g p),

and one sparse product with the |G| turned copies of f side by side gives the whole output. Each stored entry is
read once and meets |G| neighbouring numbers, which makes the product faster than the full matrix's, not slower.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional as F

Integers = NDArray[np.int64]


@dataclass(frozen=True)
class SparseRows:
    """Rows of a matrix in compressed form: row i has the entries ends[i] to ends[i + 1].

    Attributes:
        columns: [entries], int32.
        weights: [entries].
        ends: [rows + 1], int32.
    """

    columns: Tensor
    weights: Tensor
    ends: Tensor


class Orbits:
    """How a group permutes n things, and one representative per orbit.

    Args:
        table: [n, |G|], ``table[i, g]`` is where the g-th element of the group takes i.

    Attributes:
        table: the same.
        representatives: [m], the smallest member of each orbit, ascending.
        places: [n], ``places[table[representatives[k], g]] = k |G| + g``: where to find each thing once the things
            are sorted by orbit. A thing that several g reach has several places, of which this is one.
    """

    def __init__(self, table: Integers) -> None:
        things = np.arange(len(table))
        self.table = table
        self.representatives = np.flatnonzero(table.min(axis=1) == things)
        members = table[self.representatives].ravel()
        self.places = np.empty_like(things)
        self.places[members] = np.arange(len(members))


class EquivariantMatrix(torch.nn.Module):
    """x -> A x for batches of rows: [B, inputs] -> [B, outputs].

    The product is ``embedding_bag``, an ordinary operation of PyTorch without workspace. On a GPU it returns, besides
    the product, 4 bytes per stored entry and 4 per row for a backward pass that nobody runs; like every temporary
    here they are visible to a TorchDispatchMode, on meta tensors too. At its largest an application holds |G|
    copies of the input.

    Args:
        rows: the rows of A at ``outputs.representatives``.
        inputs: the group on the columns of A.
        outputs: the group on the rows of A.
    """

    def __init__(self, rows: SparseRows, inputs: Orbits, outputs: Orbits) -> None:
        super().__init__()
        self.inputs, self.order = inputs.table.shape
        self.columns: Tensor
        self.weights: Tensor
        self.ends: Tensor
        self.copies: Tensor
        self.places: Tensor
        self.register_buffer("columns", rows.columns, persistent=False)
        self.register_buffer("weights", rows.weights, persistent=False)
        self.register_buffer("ends", rows.ends, persistent=False)
        self.register_buffer("copies", _int32(inputs.table.ravel()), persistent=False)
        self.register_buffer("places", _int32(outputs.places), persistent=False)

    def forward(self, x: Tensor) -> Tensor:
        """A x for every row x: [B, inputs] -> [B, outputs]."""
        batch = x.shape[0]
        # f(g p) at [p, g, b]: what one entry of A meets lies side by side. The copy is made at batch 1 too, where it
        # could be spared: so that memory is affine in the batch.
        x = x.t().clone(memory_format=torch.contiguous_format).index_select(0, self.copies)
        x = x.view(self.inputs, self.order * batch)
        x = F.embedding_bag(
            self.columns, x, self.ends, mode="sum", per_sample_weights=self.weights, include_last_offset=True
        )
        # (A f)(g r) at [r, g, b], back to its place.
        return x.view(-1, batch).index_select(0, self.places).t().clone(memory_format=torch.contiguous_format)


def _int32(numbers: Integers) -> Tensor:
    return torch.from_numpy(numbers.astype(np.int32))
