"""Small maps and instruments that several tests of the models share."""

import weakref
from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from bench.models.spectral import SpectralConv2d


def contraction(channels: int = 2, width: int = 6, seed: int = 0) -> tuple[Callable, list[Tensor]]:
    """A family of contractions (d, W1, W2) -> (r -> 0.5 W2 tanh(W1 r + d)) and fitting float64 inputs."""
    torch.manual_seed(seed)
    first = SpectralConv2d(channels, width, 3, bias=False).double()
    second = SpectralConv2d(width, channels, 3, bias=False).double()
    weights = [conv.normalised_weight().detach() for conv in (first, second)]
    inputs = [torch.randn(3, width, 5, 5, dtype=torch.float64), *weights]

    def family(d: Tensor, w1: Tensor, w2: Tensor) -> Callable[[Tensor], Tensor]:
        injected = torch.sin(d)
        return lambda r: 0.5 * F.conv2d(torch.tanh(F.conv2d(r, w1, padding=1) + injected), w2, padding=1)

    return family, [x.requires_grad_() for x in inputs]


def difference(a: list[Tensor], b: list[Tensor]) -> float:
    """Largest relative difference |a - b| / |b| over pairs of tensors."""
    return max(((x - y).norm() / y.norm()).item() for x, y in zip(a, b, strict=True))


class Ops(TorchDispatchMode):
    """Records the name of every operation below autograd."""

    def __init__(self) -> None:
        super().__init__()
        self.names: list[str] = []

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        self.names.append(str(func))
        return func(*args, **(kwargs or {}))


class LiveBytes(TorchDispatchMode):
    """Counts the bytes of the storages made within it: those alive now, and the most there ever were."""

    def __init__(self) -> None:
        super().__init__()
        self.now = self.peak = 0
        self.known: set[int] = set()

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        for storage in storages((args, kwargs)):
            self._meet(storage, 0)  # made before
        result = func(*args, **(kwargs or {}))
        for storage in storages(result):
            self._meet(storage, storage.nbytes())
        return result

    def _meet(self, storage: torch.UntypedStorage, size: int) -> None:
        key = storage._cdata
        if key in self.known:
            return
        self.known.add(key)
        self.now += size
        self.peak = max(self.peak, self.now)

        def freed() -> None:
            self.known.discard(key)
            self.now -= size

        weakref.finalize(storage, freed)


def storages(tree: object) -> list[torch.UntypedStorage]:
    """The storages of all tensors in a nested structure."""
    return [leaf.untyped_storage() for leaf in tree_leaves(tree) if isinstance(leaf, Tensor)]
