"""Radon beside the plain way to store it: A and A^T over all rays as a pair of sparse CSR matrices.

Run with ``pytest benchmarks/test_radon_speed.py --benchmark-only``. Within each group the stored
matrix runs first; ``extra_info["ratio"]`` of the operator is its median time over the stored matrix's.
"""

from __future__ import annotations

import warnings

import numpy as np
import pytest
import torch
from side_by_side import side_by_side
from torch import Tensor

from bench.operators.equivariant import SparseRows
from bench.operators.parallel_beam import hat_rows
from bench.operators.radon import Radon


@pytest.fixture(scope="module")
def radon() -> Radon:
    return Radon(normalize=False)


def stored(rows: SparseRows, width: int) -> Tensor:
    """As CSR with 32-bit indices, with which the product is faster than with the usual 64-bit ones."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # CSR is in beta
        return torch.sparse_csr_tensor(rows.ends, rows.columns, rows.weights, (len(rows.ends) - 1, width))


@pytest.fixture(scope="module")
def matrices(radon: Radon) -> dict[str, Tensor]:
    geometry = radon.geometry
    pixels, rays = geometry.image_size**2, geometry.angles * geometry.detectors
    return {
        "forward": stored(hat_rows(geometry.rays, np.arange(rays), torch.float32), pixels),
        "adjoint": stored(hat_rows(geometry.pixels, np.arange(pixels), torch.float32), rays),
    }


@pytest.fixture(scope="module")
def medians() -> dict[tuple[str, int], float]:
    """Seconds of the stored matrices by direction and batch."""
    return {}


@pytest.mark.parametrize("implementation", ["csr", "radon"])
@pytest.mark.parametrize("batch", [1, 8])
@pytest.mark.parametrize("direction", ["forward", "adjoint"])
def test_speed(benchmark, radon, matrices, medians, direction, batch, implementation):
    benchmark.group = f"{direction}, batch {batch}"
    matrix = matrices[direction]
    shape = radon.image_shape if direction == "forward" else radon.measurement_shape
    argument = torch.rand(batch, *shape)
    columns = argument.flatten(1).t().contiguous()

    def multiply() -> Tensor:
        # Faster than the product with a matrix of one column.
        return matrix.mv(columns[:, 0]).unsqueeze(1) if batch == 1 else matrix @ columns

    def apply() -> Tensor:
        return radon(argument) if direction == "forward" else radon.adjoint(argument)

    benchmark.pedantic(multiply if implementation == "csr" else apply, rounds=20, warmup_rounds=3)
    torch.testing.assert_close(apply().flatten(1).t(), multiply(), rtol=1e-4, atol=1e-5)

    matrix_bytes = sum(part.nbytes for part in (matrix.values(), matrix.col_indices(), matrix.crow_indices()))
    benchmark.extra_info["constant_bytes"] = matrix_bytes if implementation == "csr" else radon.constant_bytes
    if benchmark.stats:  # None when benchmarks are disabled
        median = benchmark.stats.stats.median
        if implementation == "csr":
            medians[direction, batch] = median
        elif (direction, batch) in medians:
            benchmark.extra_info["ratio"] = median / medians[direction, batch]


@pytest.mark.parametrize("direction", ["forward", "adjoint"])
def test_scales_with_the_batch(benchmark, radon, direction):
    """A batch of 8 beside 8 batches of 1: the ratio is 1 where time is linear in the batch, less where it is better."""
    apply = radon if direction == "forward" else radon.adjoint
    shape = radon.image_shape if direction == "forward" else radon.measurement_shape
    batch = torch.rand(8, *shape)
    ratio = side_by_side(benchmark, lambda: apply(batch), lambda: [apply(one) for one in batch.split(1)], rounds=20)
    print(f"{direction}: batch of 8 / 8 batches of 1 = {ratio}")
