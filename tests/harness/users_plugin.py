"""A user's folder with a bench.toml, and an architecture, an operator and a card of their own in a file."""

BESIDE = "WIDTH = 16\n"
MODULE = """
import torch
from torch import nn
from bench.memory import Card
from bench.models.architectures.base import Architecture, Reconstruction
from bench.models.architectures.luser import LUSERSW  # one of bench's, which is no plugin
from bench.operators.base import LinearOperator
from beside_FILE import WIDTH

card = Card("Card of FILE", 5 * 2**30, 2**29, None, None, "by hand")


class Step(Architecture):
    name = "Step of FILE"

    def __init__(self, operator, options):
        super().__init__(operator, options)
        self.network = nn.Conv2d(self.channels, WIDTH, 3, padding=1)

    def forward(self, measurement, *, all_iterates=False):
        x = self.gradient_step(self.operator.initial_estimate(measurement), measurement, self.step)
        return Reconstruction(x + self.network(x).mean(1, keepdim=True))


class Half_FILE(LinearOperator):
    def __init__(self, image_shape: tuple[int, int, int], device: str | torch.device | None = None):
        super().__init__(tuple(image_shape), tuple(image_shape), device, torch.float32)

    def _apply_forward(self, image):
        return image / 2

    def _apply_adjoint(self, measurement):
        return measurement / 2
"""
SUITE = """
[plugins]
modules = ["sub/FILE.py"]

[suite]
stages = ["memory"]
architectures = ["step OF FILE"]
tasks = ["halved"]
gpu_caps = []
gpus = ["CARD of FILE"]

[task.halved]
operator = "half_FILE"
options = { image_shape = [1, 64, 64] }
"""


def write(folder, name):
    """The folder's bench.toml, which names the file sub/NAME.py, which imports the one beside it."""
    (folder / "sub").mkdir()
    (folder / "sub" / f"{name}.py").write_text(MODULE.replace("FILE", name))
    (folder / "sub" / f"beside_{name}.py").write_text(BESIDE)
    (folder / "bench.toml").write_text(SUITE.replace("FILE", name))
    return folder / "bench.toml"
