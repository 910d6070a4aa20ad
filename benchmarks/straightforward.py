"""The paper's networks written plainly from its equations: a yardstick for speed and memory, an oracle for values.

Nothing of models or operators is used, and nothing is clever: automatic differentiation through the unrolled
stages; Anderson acceleration as commonly published, with the weights from the bordered system

    [0  1^T] [nu   ]   [1]
    [1   H ] [alpha] = [0],   H = G^T G with its diagonal times 1 + lambda,   G = F - X;

gradients through a fixed point by a hook on f(z*) and a second graph, as in the code of DEQ4IP (Gilton et al., 2021);
PyTorch's own spectral normalisation; the Radon transform as a stored sparse matrix with its transpose. What is not
said in the paper (groups, slopes, the ridge) is as in `models`.

`twin` makes the plain network with the weights of one of ours.
"""

from __future__ import annotations

import math
import warnings
from collections.abc import Callable, Iterator

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.utils import parametrize
from torch.nn.utils.parametrizations import spectral_norm

Map = Callable[[Tensor], Tensor]


class Blur(nn.Module):
    """Convolution with a Gaussian, zeros outside; symmetric, so its own adjoint."""

    def __init__(self, channels: int, size: int, variance: float) -> None:
        super().__init__()
        offsets = torch.arange(size, dtype=torch.float64) - size // 2
        profile = torch.exp(-(offsets**2) / (2 * variance))
        kernel = torch.outer(profile, profile)
        self.register_buffer("kernel", (kernel / kernel.sum()).repeat(channels, 1, 1, 1))

    def forward(self, x: Tensor) -> Tensor:
        return F.conv2d(x, self.kernel, padding=self.kernel.shape[-1] // 2, groups=self.kernel.shape[0])

    adjoint = forward

    def initial(self, y: Tensor) -> Tensor:
        return y


class MaskedFourier(nn.Module):
    """Centred orthonormal Fourier transform of real and imaginary part, times the mask of the measured columns."""

    def __init__(self, mask: Tensor) -> None:
        super().__init__()
        self.register_buffer("mask", mask.clone())

    def forward(self, x: Tensor) -> Tensor:
        return self._centred(torch.fft.fft2, x) * self.mask

    def adjoint(self, y: Tensor) -> Tensor:
        return self._centred(torch.fft.ifft2, y * self.mask)

    initial = adjoint

    @staticmethod
    def _centred(transform: Callable[..., Tensor], x: Tensor) -> Tensor:
        z = torch.fft.ifftshift(torch.complex(x[:, 0], x[:, 1]), dim=(-2, -1))
        z = torch.fft.fftshift(transform(z, norm="ortho"), dim=(-2, -1))
        return torch.stack((z.real, z.imag), dim=1)


class Projection(nn.Module):
    """Joseph's line integrals (`operators.radon` has the formula), one sparse matrix for A and one for A^T.

    The other plain way, to rotate the image and sum its columns, is another discretisation of the integrals.
    """

    def __init__(self, size: int, detectors: int, angles: int, extent: float, scale: float) -> None:
        super().__init__()
        middle = (size - 1) / 2
        row, column = np.divmod(np.arange(size**2), size)
        rays, pixels, lengths = [], [], []
        for angle in range(angles):
            theta = angle * math.pi / angles
            c = max(abs(math.cos(theta)), abs(math.sin(theta)))
            s = (column - middle) * math.cos(theta) - (row - middle) * math.sin(theta)
            cell = math.sqrt(2) * size / detectors
            nearest = np.rint(s / cell + (detectors - 1) / 2).astype(int)
            reach = math.ceil(c / cell)
            for detector in (nearest + offset for offset in range(-reach, reach + 1)):
                hat = 1 - np.abs(s - (detector - (detectors - 1) / 2) * cell) / c
                hit = (hat > 0) & (detector >= 0) & (detector < detectors)
                rays.append(angle * detectors + detector[hit])
                pixels.append(np.flatnonzero(hit))
                lengths.append(scale * extent / size / c * hat[hit])
        entries = [np.concatenate(numbers) for numbers in (rays, pixels, lengths)]
        self.shape = (angles, detectors), (size, size)
        for name, (i, j, values) in {"matrix": entries, "transposed": (entries[1], entries[0], entries[2])}.items():
            order = np.lexsort((j, i))
            ends = np.searchsorted(i[order], np.arange(math.prod(self.shape[name == "transposed"]) + 1))
            self.register_buffer(f"{name}_ends", torch.from_numpy(ends.astype(np.int32)))
            self.register_buffer(f"{name}_columns", torch.from_numpy(j[order].astype(np.int32)))
            self.register_buffer(f"{name}_values", torch.from_numpy(values[order]))

    def forward(self, x: Tensor) -> Tensor:
        y: Tensor = _Multiply.apply(x.flatten(1).t(), self, "matrix")
        return y.t().reshape(-1, 1, *self.shape[0])

    def adjoint(self, y: Tensor) -> Tensor:
        x: Tensor = _Multiply.apply(y.flatten(1).t(), self, "transposed")
        return x.t().reshape(-1, 1, *self.shape[1])

    initial = adjoint

    def multiply(self, columns: Tensor, name: str) -> Tensor:
        ends, indices, values = (getattr(self, f"{name}_{part}") for part in ("ends", "columns", "values"))
        if columns.is_meta:  # no sparse matrices there
            return columns.new_empty(len(ends) - 1, columns.shape[1])
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # CSR is in beta
            return torch.sparse_csr_tensor(ends, indices, values, (len(ends) - 1, len(columns))) @ columns


class _Multiply(torch.autograd.Function):
    """columns -> matrix @ columns; the transpose is stored, which is faster than transposing in backward."""

    @staticmethod
    def forward(ctx, columns: Tensor, projection: Projection, name: str) -> Tensor:
        ctx.projection, ctx.other = projection, "matrix" if name == "transposed" else "transposed"
        return projection.multiply(columns, name)

    @staticmethod
    def backward(ctx, gradient: Tensor) -> tuple[Tensor, None, None]:
        return _Multiply.apply(gradient, ctx.projection, ctx.other), None, None


def anderson(f: Map, start: Tensor, evaluations: int, memory: int = 5, ridge: float = 1e-4) -> Tensor:
    """Of so many iterates of z = f(z), each sample's with the smallest |f(z) - z| / |f(z)|."""
    batch, size = start.shape[0], start[0].numel()
    X, F = start.new_zeros(batch, memory, size), start.new_zeros(batch, memory, size)
    H = start.new_zeros(batch, memory + 1, memory + 1)
    H[:, 0, 1:] = H[:, 1:, 0] = 1
    right = start.new_zeros(batch, memory + 1, 1)
    right[:, 0] = 1
    z = best = start.flatten(1)
    smallest = start.new_full((batch,), math.inf)
    for k in range(evaluations):
        slot, n = k % memory, min(k + 1, memory)
        X[:, slot], F[:, slot] = z, f(z.reshape(start.shape)).flatten(1)
        residual = (F[:, slot] - X[:, slot]).norm(dim=1) / F[:, slot].norm(dim=1)
        best = torch.where((residual < smallest).unsqueeze(1), X[:, slot], best)
        smallest = torch.minimum(residual, smallest)
        if k + 1 == evaluations:
            break
        G = F[:, :n] - X[:, :n]
        gram = torch.bmm(G, G.mT)
        gram /= gram.diagonal(dim1=1, dim2=2).amax(dim=1)[:, None, None]  # the weights do not depend on its scale
        H[:, 1 : n + 1, 1 : n + 1] = gram + ridge * torch.diag_embed(gram.diagonal(dim1=1, dim2=2))
        alpha = torch.linalg.solve(H[:, : n + 1, : n + 1], right[:, : n + 1])[:, 1 : n + 1]
        z = torch.bmm(alpha.mT, F[:, :n]).squeeze(1)
    return best.reshape(start.shape)


def equilibrium(f: Map, start: Tensor, evaluations: int) -> Tensor:
    """f(z*) for z* = f(z*), with the gradient (I - J^T)^-1 g solved for in a hook, through a second graph."""
    with torch.no_grad():
        z = anderson(f, start, evaluations)
    z = f(z)
    again = z.detach().clone().requires_grad_()
    image = f(again)

    def hook(g: Tensor) -> Tensor:
        return anderson(lambda v: torch.autograd.grad(image, again, v, retain_graph=True)[0] + g, g, evaluations)

    z.register_hook(hook)
    return z


def dncnn(channels: int, normalise: Callable[[nn.Module], nn.Module]) -> nn.Sequential:
    """R of DnCNN-17, x -> x + R(x)."""

    def conv(inputs: int, outputs: int) -> nn.Module:
        return normalise(nn.Conv2d(inputs, outputs, 3, padding=1, bias=False))

    hidden = [layer for _ in range(15) for layer in (conv(64, 64), nn.BatchNorm2d(64), nn.ReLU(inplace=True))]
    return nn.Sequential(conv(channels, 64), nn.ReLU(inplace=True), *hidden, conv(64, channels))


class Network(nn.Module):
    """What they share: d = x + lambda A^T (y - A x)."""

    def __init__(self, operator: nn.Module) -> None:
        super().__init__()
        self.operator = operator
        self.step = nn.Parameter(torch.ones(()))

    def gradient_step(self, x: Tensor, y: Tensor) -> Tensor:
        return x + self.step * self.operator.adjoint(y - self.operator(x))

    def normalise_weights(self) -> None:
        """Fill the cache of parametrised weights, with their graphs: the solvers run without."""
        for module in self.modules():
            if parametrize.is_parametrized(module):
                _ = module.weight


class LUDnCNN(Network):
    """x <- DnCNN(x + lambda A^T (y - A x)), K times."""

    def __init__(self, operator: nn.Module, channels: int, stages: int) -> None:
        super().__init__(operator)
        self.stages = stages
        self.residual = dncnn(channels, lambda conv: conv)

    def forward(self, y: Tensor) -> Tensor:
        x = self.operator.initial(y)
        for _ in range(self.stages):
            d = self.gradient_step(x, y)
            x = d + self.residual(d)
        return x


class DEQ4IP(Network):
    """x = z* with z* = DnCNN(z* + lambda A^T (y - A z*))."""

    def __init__(self, operator: nn.Module, channels: int, evaluations: int) -> None:
        super().__init__(operator)
        self.evaluations = evaluations
        self.residual = dncnn(channels, spectral_norm)

    def forward(self, y: Tensor) -> Tensor:
        def f(z: Tensor) -> Tensor:
            d = self.gradient_step(z, y)
            return d + self.residual(d)

        with parametrize.cached():
            self.normalise_weights()
            return equilibrium(f, self.operator.initial(y), self.evaluations)


class Block(nn.Module):
    """Table 1: the layers of one regulariser."""

    def __init__(self, channels: int) -> None:
        super().__init__()

        def conv(inputs: int, outputs: int, *after: nn.Module) -> nn.Sequential:
            return nn.Sequential(spectral_norm(nn.Conv2d(inputs, outputs, 3, padding=1)), *after)

        def group_norm(features: int) -> tuple[nn.Module, nn.Module]:
            return nn.GroupNorm(4, features), activation

        activation = nn.LeakyReLU(0.2, inplace=True)
        self.inject = nn.Sequential(conv(channels, 32, activation), conv(32, 32, activation))
        self.data = nn.Sequential(conv(channels, 32, *group_norm(32)), conv(32, 32, *group_norm(32)))
        self.mix = nn.Sequential(conv(64, 64, *group_norm(64)), conv(64, 64, *group_norm(64)), conv(64, channels))


class LUSER(Network):
    """d = x + lambda A^T (y - A x), x <- d + r* with r* = Mix(Data(r*) (+) Inject(d)), K times."""

    def __init__(self, operator: nn.Module, channels: int, stages: int, blocks: int, evaluations: int) -> None:
        super().__init__(operator)
        self.stages, self.evaluations = stages, evaluations
        self.blocks = nn.ModuleList(Block(channels) for _ in range(blocks))

    def forward(self, y: Tensor) -> Tensor:
        x = self.operator.initial(y)
        with parametrize.cached():
            self.normalise_weights()
            for k in range(self.stages):
                d = self.gradient_step(x, y)
                x = d + self._proximal(self.blocks[k % len(self.blocks)], d)
        return x

    def _proximal(self, block: Block, d: Tensor) -> Tensor:
        injected = block.inject(d)

        def f(r: Tensor) -> Tensor:
            return block.mix(torch.cat((block.data(r), injected), dim=1))

        return equilibrium(f, torch.zeros_like(d), self.evaluations)


def twin(model: nn.Module) -> Network:
    """The plain network of `model`, an architecture of `models`: same sizes, weights, mask and scaling of A.

    `model` has to make a fixed number of evaluations (tolerance 0).
    """
    device, dtype = model.step.device, model.step.dtype
    with torch.device("cpu"):
        operator = _operator_like(model.operator)
        stages, evaluations = model.options.stages, model.options.solver.max_evaluations
        plain: Network
        if model.name == "LU-DnCNN":
            plain = LUDnCNN(operator, model.channels, stages)
        elif model.name == "DEQ4IP":
            plain = DEQ4IP(operator, model.channels, evaluations)
        else:
            plain = LUSER(operator, model.channels, stages, len(model.blocks), evaluations)
    plain.to(device=device, dtype=dtype)
    with torch.no_grad():
        for theirs, ours in parameter_pairs(plain, model):
            theirs.copy_(ours)
        for theirs, ours in zip(_layers(plain), _layers(model), strict=True):
            if parametrize.is_parametrized(theirs):
                theirs.parametrizations.weight[0]._u.copy_(ours.u)
                theirs.parametrizations.weight[0]._v.copy_(ours.v)
    return plain


def _operator_like(operator: nn.Module) -> nn.Module:
    if type(operator).__name__ == "GaussianBlur":
        # The variance is read off the kernel: h(0, 1) / h(0, 0) = exp(-1 / (2 v)).
        middle = operator.kernel[0, 0, operator.kernel.shape[-1] // 2].double()
        centre = len(middle) // 2
        return Blur(operator.image_shape[0], len(middle), 0.5 / math.log(middle[centre] / middle[centre + 1]))
    if type(operator).__name__ == "MRI":
        return MaskedFourier(operator.mask)
    geometry = operator.geometry
    return Projection(geometry.image_size, geometry.detectors, geometry.angles, geometry.extent, operator.scale)


def parameter_pairs(plain: Network, model: nn.Module) -> Iterator[tuple[Tensor, Tensor]]:
    """Each parameter of the plain network with the same one of `model`."""
    yield plain.step, model.step
    for theirs, ours in zip(_layers(plain), _layers(model), strict=True):
        parametrized = parametrize.is_parametrized(theirs)
        yield theirs.parametrizations.weight.original if parametrized else theirs.weight, ours.weight
        if ours.bias is not None:
            yield theirs.bias, ours.bias


def _layers(network: nn.Module) -> list[nn.Module]:
    """Convolutions and norms in the order in which the network applies them."""
    return [m for m in network.modules() if isinstance(m, nn.Conv2d) or type(m).__name__.startswith(("Batch", "Group"))]
