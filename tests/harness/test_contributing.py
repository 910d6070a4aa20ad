"""CONTRIBUTING.md's promises: an architecture, an operator and a card are one file each, and tests stay green."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
COPIED = ("bench", "models", "operators", "tests", "benchmarks", "tools", "schemas", "bench.toml", "pyproject.toml")

ARCHITECTURE = '''
"""Twice: DnCNN, applied two times in each stage."""

from ..dncnn import DnCNN
from .base import DEFAULTS, Architecture, Reconstruction


class Twice(Architecture):
    """x_{k+1} = D(D(x_k + lambda A^T (y - A x_k)))."""

    name = "Twice"

    def __init__(self, operator, options=DEFAULTS):
        super().__init__(operator, options)
        self.denoiser = DnCNN(self.channels, inplace=options.inplace, residual_scale=options.initial_residual_scale)

    def forward(self, measurement, *, all_iterates=False):
        """Reconstruct."""
        weights = self.denoiser.weights()
        x = self.operator.initial_estimate(measurement)
        iterates = []
        for _ in range(self.options.stages):
            d = self.gradient_step(x, measurement, self.step)
            x = self.denoiser(self.denoiser(d, weights), weights)
            if all_iterates:
                iterates.append(x)
        return Reconstruction(x, iterates)
'''

OPERATOR = '''
"""Halving: every other row of the image."""

import torch

from .base import LinearOperator


class Halving(LinearOperator):
    """(A x)[h] = x[2 h]."""

    def __init__(self, image_shape=(1, 8, 6), *, device=None, dtype=torch.float32):
        channels, height, width = image_shape
        super().__init__(image_shape, (channels, (height + 1) // 2, width), device, dtype)

    def _apply_forward(self, image):
        return image[..., ::2, :].clone(memory_format=torch.contiguous_format)

    def _apply_adjoint(self, measurement):
        image = measurement.new_zeros(*measurement.shape[:-3], *self.image_shape)
        image[..., ::2, :] = measurement
        return image
'''

CARD = "Example 32,NVIDIA Example 32,34000000000B,8.9,100,2520,10501,384,72MiB,made up for a test\n"

TASK = """
[task.halved]
operator = "Halving"
options = { image_shape = [1, 64, 64] }
"""


@pytest.fixture(scope="module")
def checkout(tmp_path_factory):
    """A copy of the sources with one file more for each, and one row."""
    folder = tmp_path_factory.mktemp("checkout")
    for name in COPIED:
        source = ROOT / name
        if source.is_dir():
            without = shutil.ignore_patterns("__pycache__", ".pytest_cache")
            shutil.copytree(source, folder / name, symlinks=True, ignore=without)
        else:
            shutil.copy(source, folder / name)
    (folder / "results").mkdir()
    shutil.copy(ROOT / "results/baseline.json", folder / "results")
    (folder / "models/architectures/twice.py").write_text(ARCHITECTURE)
    (folder / "operators/halving.py").write_text(OPERATOR)
    with (folder / "bench/memory/cards.csv").open("a") as cards:
        cards.write(CARD)
    return folder


def ran(checkout, folder, *arguments):
    environment = os.environ | {"PYTHONPATH": str(checkout), "PYTHONDONTWRITEBYTECODE": "1"}
    command = [sys.executable, "-m", *arguments]
    return subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True)


def test_the_command_knows_all_three(checkout, tmp_path):
    (tmp_path / "bench.toml").write_text(TASK)
    choice = ("--stages", "memory", "--architecture", "Twice,LU-DnCNN", "--task", "halved", "--gpu", "Example 32")
    done = ran(checkout, tmp_path, "bench", "run", *choice)
    assert done.returncode == 0, done.stderr
    head, _, parameters, batches, _ = done.stdout.splitlines()[:5]
    assert [cell.strip() for cell in head.split("|")[3:5]] == ["Twice", "LU-DnCNN"]
    assert "Example 32" in batches
    twice, ours = (int(cell.split("/")[0]) for cell in batches.split("|")[3:5])
    assert 1.8 < ours / twice < 2.2  # twice the activations
    one, other = (cell.strip() for cell in parameters.split("|")[3:5])
    assert one == other  # and the same weights


@pytest.mark.slow
@pytest.mark.parametrize(
    "tests",
    ["tests/operators", "tests/models", "tests/memory/test_cards.py tests/harness/test_workload.py"],
)
def test_the_tests_stay_green(checkout, tests):
    done = ran(checkout, checkout, "pytest", "-q", "-p", "no:cacheprovider", *tests.split())
    assert done.returncode == 0, done.stdout[-3000:]
