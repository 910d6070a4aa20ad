"""The command, in a folder with a small suite."""

import pytest

from bench.operators.radon import Radon

SMALL = """
[suite]
stages = ["memory"]
architectures = ["LU-DnCNN", "LUSER-SW"]
tasks = ["blur", "knee"]
gpu_caps = ["8GB"]

[model]
stages = 2

[task.blur]
operator = "GaussianBlur"
options = { image_shape = [3, 32, 32] }
paper = "deblurring"

[task.knee]
operator = "MRI"
options = { image_shape = [2, 32, 32] }

[preset.tiny.timing]
batch = 2
warmup = 1
repeats = 3

[preset.tiny.task.blur.options]
image_shape = [3, 8, 8]

[task.broken]
operator = "Radon"
options = { image_size = 8, detectors = 11, angles = 8 }
"""


@pytest.fixture
def bench(bench, tmp_path):
    """Run `bench ...` in a folder that holds nothing but a small suite as bench.toml."""
    (tmp_path / "bench.toml").write_text(SMALL)
    return bench


@pytest.fixture
def radon_fails(monkeypatch):
    """What only shows when a cell is measured: the operator of [task.broken] raises, here and in forked workers."""

    def fail(self, image):
        raise RuntimeError("out of order")

    monkeypatch.setattr(Radon, "_apply_forward", fail)
