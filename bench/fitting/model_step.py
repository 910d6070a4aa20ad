"""A training step around a plain network: timm:resnet50, torchvision:resnet50, FILE.py:CLASS or MODULE:CLASS.

Random samples of one shape, a loss, an optimiser; with mixed precision if asked for.
"""

from __future__ import annotations

import contextlib
import importlib
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any
from unittest.mock import patch

import torch
from torch import Tensor, nn
from torch.nn import functional

from bench.choices import refusal
from bench.errors import UsageError
from bench.fitting.user_step import load_step

_MOST_NUMBERS = 2**40  # of a sample

LOSSES: dict[str, Callable[[Tensor], Tensor]] = {
    "cross_entropy": lambda output: functional.cross_entropy(output, _classes(output)),
    "mse": lambda output: functional.mse_loss(output, torch.rand_like(output)),
    "l1": lambda output: functional.l1_loss(output, torch.rand_like(output)),
    "bce": lambda output: functional.binary_cross_entropy_with_logits(output, torch.rand_like(output)),
}
OPTIMIZERS: dict[str, Callable[[Any], torch.optim.Optimizer]] = {
    "adamw": torch.optim.AdamW,
    "adam": torch.optim.Adam,
    "sgd": lambda parameters: torch.optim.SGD(parameters, lr=0.01, momentum=0.9),
    "rmsprop": torch.optim.RMSprop,
    "adagrad": torch.optim.Adagrad,
}
AMP = {"none": None, "bf16": torch.bfloat16, "fp16": torch.float16}


@dataclass(frozen=True)
class ModelStep:
    """make_step(batch, device) for a network by its name; plain data, so that it travels to another process.

    Attributes:
        model: timm:NAME, torchvision:NAME, FILE.py:CLASS or MODULE:CLASS; what is called without arguments.
        shape: Of one sample.
        loss: One of LOSSES.
        optimizer: One of OPTIMIZERS.
        amp: One of AMP; "fp16" scales the loss.
    """

    model: str
    shape: tuple[int, ...]
    loss: str = "cross_entropy"
    optimizer: str = "adamw"
    amp: str = "none"

    def __post_init__(self) -> None:
        """Refuse names that are not known.

        Raises:
            UsageError: of a loss, an optimiser or a precision.
        """
        for option, name, known in (
            ("--loss", self.loss, LOSSES),
            ("--optimizer", self.optimizer, OPTIMIZERS),
            ("--amp", self.amp, AMP),
        ):
            if name not in known:
                raise UsageError(f"{option}: {refusal(option.strip('-'), name, known)}")

    def __str__(self) -> str:
        """What was asked about: "timm:resnet50, 3x224x224, cross_entropy, adamw, bf16"."""
        shape = "x".join(map(str, self.shape))
        return ", ".join([self.model, shape, self.loss, self.optimizer, *([self.amp] if AMP[self.amp] else [])])

    def __call__(self, batch: int, device: torch.device) -> Callable[[], object]:
        """Build the network and its optimiser."""
        with _without_initial_values():
            model = build(self.model)
        model.to(device).train()
        optimizer = OPTIMIZERS[self.optimizer](model.parameters())
        dtype = AMP[self.amp]
        scaler = torch.amp.GradScaler("cuda", enabled=dtype is torch.float16)

        def step() -> None:
            samples = torch.rand(batch, *self.shape, device=device)
            optimizer.zero_grad(set_to_none=True)
            with torch.autocast("cuda", dtype=dtype) if dtype else contextlib.nullcontext():
                output = model(samples)
                loss = LOSSES[self.loss](output if isinstance(output, Tensor) else next(iter(_values(output))))
            scaler.scale(loss).backward()
            scaler.step(optimizer)
            scaler.update()

        return step


def parse_shape(text: str) -> tuple[int, ...]:
    """The shape of a sample, such as "3x224x224".

    Raises:
        UsageError: something else.
    """
    if not re.fullmatch(r"[1-9][0-9]{0,8}(x[1-9][0-9]{0,8})*", text):
        raise UsageError(f"--input: got {text[:60]!r}, expected the shape of one sample, such as 3x224x224")
    shape = tuple(map(int, text.split("x")))
    if torch.Size(shape).numel() > _MOST_NUMBERS:
        raise UsageError(f"--input: {text} is more than {_MOST_NUMBERS:,} numbers")
    return shape


def build(name: str) -> nn.Module:
    """The network that a name stands for, on the host.

    Raises:
        UsageError: its package is not installed, or it is no network.
    """
    package, _, rest = name.partition(":")
    if package == "timm":
        made = _installed("timm").create_model(rest)
    elif package == "torchvision":
        made = _installed("torchvision.models").get_model(rest, weights=None)
    else:
        made = load_step(name)()
    if not isinstance(made, nn.Module):
        raise UsageError(f"--model: {name} is no network: it gives {type(made).__name__}")
    return made


def _installed(name: str) -> Any:
    try:
        return importlib.import_module(name)
    except ModuleNotFoundError as error:
        package = name.split(".")[0]
        if error.name not in (package, name):
            raise
        raise UsageError(f"--model: {package} is not installed: pip install {package}") from error


def _classes(output: Tensor) -> Tensor:
    """Random classes, for outputs of shape [batch, classes, ...]."""
    return torch.randint(0, output.shape[1], (output.shape[0], *output.shape[2:]), device=output.device)


def _values(output: Any) -> Any:
    """What a network gives that gives several: a dictionary's values, or a sequence."""
    return output.values() if hasattr(output, "values") else output


@contextlib.contextmanager
def _without_initial_values() -> Iterator[None]:
    """Networks are built as ever, and their weights are what memory holds."""
    with contextlib.ExitStack() as patches:
        for name, value in vars(nn.init).items():
            if name.endswith("_") and not name.startswith("_") and callable(value):
                patches.enter_context(patch.object(nn.init, name, lambda tensor, *_, **__: tensor))
        yield
