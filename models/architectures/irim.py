"""i-RIM: an invertible recurrent inference machine (Putzky and Welling, 2019).

arXiv:1911.10914; https://github.com/pputzky/invertible_rim, irim/core.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import chain
from typing import TYPE_CHECKING, Any, cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from bench.operators.base import LinearOperator

from ..invertible import Coupling, Invertible, Undone, run_chain
from ..precision import full_precision
from .base import DEFAULTS, Architecture, ModelOptions, Reconstruction

if TYPE_CHECKING:
    from collections.abc import Callable

    from bench.operators.base import Operator


@dataclass(frozen=True)
class IRIMOptions:
    """The network of i-RIM; the defaults make one beside LUSER-DW's size.

    The authors' for fastMRI has `hidden` 64, 64, 128, 128, 256, 1024, 1024, 256, 128, 128, 64, 64 and `strides`
    1, 1, 2, 2, 4, 8, 8, 4, 2, 2, 1, 1.

    Attributes:
        channels: of the state, an even number; the first are the image, the next ones take the gradient.
        hidden: channels inside each layer of a step.
        strides: pixels that each layer steps over.
        invertible: backward makes each layer's input again from its output; else autograd keeps everything.
    """

    channels: int = 64
    hidden: tuple[int, ...] = (24, 24, 24, 24, 24)
    strides: tuple[int, ...] = (1, 2, 4, 2, 1)
    invertible: bool = True

    def __post_init__(self) -> None:
        if self.channels < 2 or self.channels % 2 or self.channels > 4096:
            raise ValueError(f"channels must be even, at least 2 and at most 4,096, got {self.channels}")
        if not self.hidden or len(self.hidden) != len(self.strides):
            raise ValueError(f"hidden and strides need an entry for each layer, got {self.hidden} and {self.strides}")
        if min(self.hidden) < 1 or max(self.hidden) > 65536:
            raise ValueError(f"hidden must be at least 1 and at most 65,536, got {self.hidden}")
        if min(self.strides) < 1:
            raise ValueError(f"strides must be at least 1, got {self.strides}")


class _DataStep(nn.Module):
    """The gradient of |A x - y|^2 / 2 at the image, times lambda, is added to the channels after the image's.

    Args:
        model: whose operator and step these are; not registered here.
    """

    def __init__(self, model: IRIM) -> None:
        super().__init__()
        self._model = (model,)

    def forward(self, state: Tensor, y: Tensor) -> Tensor:
        """The state after it, (B, C, H, W)."""
        return self._around(state, y, 1)

    def inverse(self, state: Tensor, y: Tensor) -> Tensor:
        """The state before it, (B, C, H, W): the image is the same, and so is its gradient."""
        return self._around(state, y, -1)

    def _around(self, state: Tensor, y: Tensor, sign: int) -> Tensor:
        (model,) = self._model
        image, below, rest = self._parts(state)
        with full_precision(state):
            gradient = self._linear.adjoint(self._linear(image.contiguous()) - y)
            return torch.cat((image, torch.addcmul(below, model.step, gradient, value=sign), rest), 1)

    def undo(self, state: Tensor, y: Tensor, g: Tensor) -> Undone:
        """As for every `Invertible`: linear, so that the gradient needs no graph but A^T A g."""
        (model,) = self._model
        before = self.inverse(state, y)
        g_image, g_below, g_rest = self._parts(g)
        with full_precision(state):
            of_residual = self._linear(g_below.contiguous()) * model.step
            g_image = g_image + self._linear.adjoint(of_residual)
        return before, torch.cat((g_image, g_below, g_rest), 1), [], -of_residual

    @property
    def _linear(self) -> LinearOperator:
        return cast("LinearOperator", self._model[0].operator)

    def _parts(self, state: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        c = self._model[0].channels
        return state[:, :c], state[:, c : 2 * c], state[:, 2 * c :]


class IRIM(Architecture):
    """s_{k+1} = L_k(s_k + lambda A^T (A x_k - y)), x_k the first channels of the state s_k, K steps of own weights.

    The gradient is added to the channels after the image's, so that it can be taken away again. L_k are a few layers
    x -> W^T c(W x), W orthogonal and c a coupling (`models.invertible`). The state starts with x_0 and zeros. The
    authors add one gradient more at the end, which no image sees.

    lambda is not trained, and nothing is scaled at first, as with the authors.
    """

    name = "i-RIM"
    table_column = 5
    trains_step = False
    lean_already = "its layers are made again from what they give in any case"
    Own = IRIMOptions
    own: IRIMOptions

    def __init__(self, operator: Operator, options: ModelOptions = DEFAULTS) -> None:
        super().__init__(operator, options)
        own = self.own
        steps = nn.ModuleList(
            nn.ModuleList(
                Coupling(own.channels, hidden, stride) for hidden, stride in zip(own.hidden, own.strides, strict=True)
            )
            for _ in range(options.stages)
        )
        self.steps = cast("Sequence[Sequence[Coupling]]", steps)

    @classmethod
    def refusal_for(
        cls, options: ModelOptions, operator: type[Operator], image_shape: Callable[[], Sequence[int]]
    ) -> str | None:
        """As everywhere; the operator is linear, the state has room for image and gradient, the image for a stride."""
        if not issubclass(operator, LinearOperator):
            return (
                f"its backward pass needs a linear operator, and {operator.__name__} is none; choose LUSER-SW, "
                "LUSER-DW, DEQ4IP, LU-DnCNN or MDEQ"
            )
        own, (channels, *sides) = cls.own_of(options), image_shape()
        if own.channels < 2 * channels:
            return f"images of {channels} channels need channels of at least {2 * channels}, got {own.channels}"
        if max(own.strides) > min(sides):
            return f"strides of {max(own.strides)} pixels step over images of {min(sides)}; choose smaller strides"
        return super().refusal_for(options, operator, image_shape)

    def forward(self, measurement: Tensor, *, all_iterates: bool = False) -> Reconstruction:
        """Reconstruct from `measurement`, shape (B, *operator.measurement_shape)."""
        x = self.initial_estimate(measurement)
        state = F.pad(x, (0, 0, 0, 0, 0, self.own.channels - self.channels))
        data = _DataStep(self)
        layers: list[Invertible] = list(chain.from_iterable((data, *step) for step in self.steps))
        length = 1 + len(self.own.hidden)
        looks = [length * (k + 1) for k in range(len(self.steps))] if all_iterates else [len(layers)]
        if self.own.invertible:
            images = list(run_chain(layers, state, measurement, self.channels, looks))
        else:
            images = []
            for number, layer in enumerate(layers, start=1):
                state = layer(state, measurement)
                if number in looks:
                    images.append(state[:, : self.channels])
        return Reconstruction(images[-1], images if all_iterates else [])

    def reverse(self, state: Tensor, measurement: Tensor) -> Tensor:
        """The state before the first step, of that after the last, both (B, channels, H, W)."""
        data: Any = _DataStep(self)
        for step in reversed(self.steps):
            for layer in reversed(list(step)):
                state = layer.inverse(state, measurement)
            state = data.inverse(state, measurement)
        return state
