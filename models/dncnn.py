"""DnCNN-17 (Zhang et al., 2017), the proximal network of LU-DnCNN and DEQ4IP (paper, section 4.1)."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from functools import partial
from itertools import islice

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from .layers import BatchNorm, Layer, conv3x3, count_weights, keep_size, run, scale_residual, stack, weights_of
from .lean import run_lean


class DnCNN(nn.Module):
    """The map d -> d + R(d).

    R is a 3x3 convolution C -> 64 with ReLU, then 15 of (convolution 64 -> 64, BatchNorm, ReLU), then a
    convolution 64 -> C; no convolution has a bias.

    Args:
        channels: C, of the image.
        features: channels inside.
        depth: number of convolutions.
        spectral: normalise every convolution spectrally, by one of `spectral.NORMS`.
        normalises: let BatchNorm normalise. Else it scales and shifts alone, and its scales start such that noise keeps
            its size from layer to layer: the net of 15 normalisations multiplies small differences by some 20 at the
            start of training, this one keeps them.
        inplace: let each ReLU overwrite its input.
        momentum: of BatchNorm's running averages; None leaves them alone.
        residual_scale: initial scale of the last BatchNorm, and so of R.
    """

    def __init__(
        self,
        channels: int,
        *,
        features: int = 64,
        depth: int = 17,
        spectral: str | None = None,
        normalises: bool = True,
        inplace: bool = True,
        momentum: float | None = 0.1,
        residual_scale: float = 1.0,
    ) -> None:
        super().__init__()
        conv = partial(conv3x3, spectral=spectral, bias=False)
        relu = partial(F.relu, inplace=inplace)
        self.layers = stack(
            Layer(conv(channels, features), None, relu),
            *(
                Layer(conv(features, features), BatchNorm(features, momentum, normalises=normalises), relu)
                for _ in range(depth - 2)
            ),
            Layer(conv(features, channels)),
        )
        if not normalises:
            keep_size(self.layers)
        scale_residual(self.layers, residual_scale)

    def weights(self) -> tuple[Tensor, ...]:
        """The tensors that `forward` depends on; call it once per forward pass of the whole model."""
        return tuple(weights_of(self.layers))

    def forward(self, d: Tensor, weights: Sequence[Tensor], kept_share: float | None = None) -> Tensor:
        """Return d + R(d): (B, C, H, W) -> (B, C, H, W); `kept_share` as for `run_lean`, None: autograd's way."""
        if kept_share is None or not self.training or not torch.is_grad_enabled():
            return d + run(self.layers, d, iter(weights))
        return d + run_lean(self.layers, d, weights, kept_share)

    def forward_again(
        self, d: Tensor, weights: Sequence[Tensor], kept_share: float | None = None, layers: int = 0
    ) -> Tensor:
        """The same, of which d alone is kept: backward runs the layers again, without moving any average.

        Args:
            d: shape (B, C, H, W).
            weights: as `weights` gives them.
            kept_share: of what is made again, the share that is kept meanwhile, as for `run_lean`.
            layers: where not 0, so many at a time are checkpointed once more inside.
        """
        if kept_share is not None and self.training and torch.is_grad_enabled():
            return d + run_lean(self.layers, d, weights, kept_share, again=True)
        run_once = partial(self._in_parts, layers=layers) if layers else self.forward
        x: Tensor = checkpoint(
            run_once, d, weights, use_reentrant=False, preserve_rng_state=False, context_fn=self._still_when_again
        )
        return x

    def _in_parts(self, d: Tensor, weights: Sequence[Tensor], layers: int) -> Tensor:
        supply, x = iter(weights), d
        for start in range(0, len(self.layers), layers):
            part = self.layers[start : start + layers]
            own = list(islice(supply, count_weights(part)))
            x = checkpoint(
                lambda x, own, part=part: run(part, x, iter(own)),
                x,
                own,
                use_reentrant=False,
                preserve_rng_state=False,
                context_fn=self._still_when_again,
            )
        return d + x

    def _still_when_again(self) -> tuple[AbstractContextManager[None], AbstractContextManager[None]]:
        """What surrounds a checkpointed part the first time, and when it is run again."""
        return nullcontext(), self.momentum(0.0)

    @contextmanager
    def momentum(self, momentum: float | None) -> Iterator[None]:
        """Within this context BatchNorm's running averages move by `momentum`, or not at all if None."""
        norms = [module for module in self.modules() if isinstance(module, BatchNorm)]
        before = [norm.momentum for norm in norms]
        for norm in norms:
            norm.momentum = momentum
        try:
            yield
        finally:
            for norm, previous in zip(norms, before, strict=True):
                norm.momentum = previous
