"""What every operator has in common, and what every linear one has besides.

An operator A maps images [B, C, H, W] to measurements [B, ...] and, at each image x, takes a vector v of measurements
back to J(x)^T v, J(x) its Jacobian there: the gradient of |y - A(x)|^2 / 2 is -J(x)^T (y - A(x)). Those that are not
linear are in `operators.nonlinear`.

A linear operator is the case J(x) = A for every x: it comes with its adjoint A^T, defined by <A x, y> = <x, A^T y>.
The backward pass of A is A^T and that of A^T is A, whatever x: one ``torch.autograd.Function`` covers both, keeps no
tensor for the backward pass, and can be differentiated any number of times.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from torch import Tensor

MOST_NUMBERS = 2**25
"""Of one image, or of its measurement: 128 MiB in float32."""

_skips_values: ContextVar[bool] = ContextVar("skips_values", default=False)


@contextmanager
def without_values() -> Iterator[None]:
    """Operators that are built within have constants of the right sizes, and any values.

    For a device that computes nothing, on which those that take long to work out would be in vain.
    """
    before = _skips_values.set(True)
    try:
        yield
    finally:
        _skips_values.reset(before)


def skips_values() -> bool:
    """Whether constants are not worked out, because of `without_values`."""
    return _skips_values.get()


@dataclass
class Calls:
    """How often an operator was applied: one per batched application, backward passes included."""

    forward: int = 0
    adjoint: int = 0

    def reset(self) -> None:
        """Start counting anew."""
        self.forward = self.adjoint = 0


class Operator(torch.nn.Module):
    """A map A from images to measurements, which can be differentiated; subclasses write it as plain tensor code.

    A subclass holds its constants as non-persistent buffers (they follow from the constructor's arguments, so
    checkpoints do without them) and implements ``forward`` and ``vjp``.

    A subclass with a `name`, in a file of operators/, is an operator of the suite. If it gives none, its `name` is that
    of the class; a base, or what is made around another operator, gives "".

    Args:
        image_shape: (C, H, W), without the batch.
        measurement_shape: the shape of A(x), without the batch.
        device: where images and measurements live; "meta" builds an operator of the right sizes and no values.
        dtype: of images and measurements.

    Raises:
        ValueError: a size below 1, or images or measurements beyond `MOST_NUMBERS`.

    Attributes:
        name: by which bench.toml and ``operators.get`` know it.
    """

    name: ClassVar[str] = ""

    def __init_subclass__(cls, **arguments: Any) -> None:
        super().__init_subclass__(**arguments)
        if "name" not in cls.__dict__:
            cls.name = cls.__name__

    def __init__(
        self,
        image_shape: tuple[int, int, int],
        measurement_shape: tuple[int, ...],
        device: torch.device | str | None,
        dtype: torch.dtype,
    ) -> None:
        super().__init__()
        self._check_sizes(image_shape, measurement_shape)
        self.image_shape: tuple[int, ...] = tuple(image_shape)
        self.measurement_shape = tuple(measurement_shape)
        self.calls = Calls()
        # Follows .to(...) like any buffer and so tells device and dtype; holds no bytes.
        self._like: Tensor
        self._constant("_like", torch.empty(0, device=device, dtype=dtype))

    @classmethod
    def image_shape_of(cls, **options: Any) -> tuple[int, ...]:
        """The shape of the images that an operator with these options is for: it is built without values.

        One thread does it: OpenMP's threads do not survive a fork, and a worker that is forked after they were started
        waits for them for ever.

        Raises:
            ValueError: the constructor refuses the options.
        """
        threads = torch.get_num_threads()
        torch.set_num_threads(1)
        try:
            return cls(**options, device="meta").image_shape
        finally:
            torch.set_num_threads(threads)

    def forward(self, image: Tensor) -> Tensor:
        """A(x): [B, *image_shape] -> [B, *measurement_shape].

        Raises:
            ValueError: wrong shape, dtype or device.
        """
        raise NotImplementedError

    def vjp(self, image: Tensor, vector: Tensor) -> Tensor:
        """J(x)^T v of x [B, *image_shape] and v [B, *measurement_shape]: [B, *image_shape], differentiable in both.

        Raises:
            ValueError: wrong shape, dtype or device.
        """
        raise NotImplementedError

    def descent(self, image: Tensor, measurement: Tensor) -> Tensor:
        """J(x)^T (y - A(x)): [B, *image_shape], the direction in which |y - A(x)|^2 / 2 falls fastest.

        Raises:
            ValueError: wrong shape, dtype or device.
        """
        return self.vjp(image, measurement - self(image))

    def initial_estimate(self, measurement: Tensor) -> Tensor:
        """The image x_0 from which a reconstruction starts: [B, *measurement_shape] -> [B, *image_shape]."""
        raise NotImplementedError

    def drawn(self, number: int) -> Operator:
        """The operator with what is random in it drawn anew, from `number`; itself where one is for all images."""
        return self

    def seen_in(self, measurement: Tensor) -> Operator:
        """The operator that these measurements, [B, *measurement_shape], were made with; itself where there is one."""
        return self

    def where_measured(self, noise: Tensor) -> Tensor:
        """Noise of the measurement's shape, zero where nothing is measured."""
        return noise

    @property
    def acceleration(self) -> float | None:
        """How many times fewer columns of k-space are measured than there are; None where there is no k-space."""
        return None

    @property
    def attenuation_scale(self) -> float | None:
        """Measurement over line integral in metres; None where a measurement is not the attenuation of rays."""
        return None

    @property
    def constant_bytes(self) -> int:
        """Bytes of the buffers the operator holds, in both directions together."""
        return sum(buffer.numel() * buffer.element_size() for buffer in self.buffers())

    @property
    def frozen_parameters(self) -> int:
        """Constants that the paper counts among a network's parameters though they are never trained."""
        return 0

    def _constant(self, name: str, value: Tensor) -> None:
        """Hold a constant that ``.to`` moves and checkpoints leave out."""
        self.register_buffer(name, value, persistent=False)

    @classmethod
    def _check_sizes(cls, image_shape: tuple[int, ...], measurement_shape: tuple[int, ...]) -> None:
        for what, shape in (("image_shape", image_shape), ("measurements of shape", measurement_shape)):
            if min(shape) < 1 or math.prod(shape) > MOST_NUMBERS:
                raise ValueError(
                    f"{cls.__name__} got {what} {list(shape)}, expected sizes of at least 1 and "
                    f"at most {MOST_NUMBERS:,} numbers"
                )

    def _check(self, what: str, tensor: Tensor, shape: tuple[int, ...]) -> None:
        like = self._like
        if tensor.shape[1:] != shape or tensor.shape[0] < 1:
            expected = f"[B, {', '.join(map(str, shape))}] with B >= 1"
            raise ValueError(f"{self._name} got {what} of shape {list(tensor.shape)}, expected {expected}")
        if tensor.dtype != like.dtype:
            raise ValueError(f"{self._name} got {what} of dtype {tensor.dtype}, expected {like.dtype}")
        if tensor.device != like.device:
            raise ValueError(f"{self._name} got {what} on {tensor.device}, expected {like.device}")

    @property
    def _name(self) -> str:
        return type(self).__name__


class LinearOperator(Operator):
    """A linear map A with its adjoint A^T; a subclass implements ``_apply_forward`` and ``_apply_adjoint``.

    J(x) is A at every x, so that ``vjp`` ignores its x.
    """

    name = ""

    def forward(self, image: Tensor) -> Tensor:
        """A x: [B, *image_shape] -> [B, *measurement_shape].

        Raises:
            ValueError: wrong shape, dtype or device.
        """
        self._check("image", image, self.image_shape)
        return _apply(image, self, False)

    def adjoint(self, measurement: Tensor) -> Tensor:
        """A^T y: [B, *measurement_shape] -> [B, *image_shape].

        Raises:
            ValueError: wrong shape, dtype or device.
        """
        self._check("measurement", measurement, self.measurement_shape)
        return _apply(measurement, self, True)

    def vjp(self, image: Tensor, vector: Tensor) -> Tensor:
        """A^T v, whatever x: [B, *measurement_shape] -> [B, *image_shape].

        Raises:
            ValueError: wrong shape, dtype or device.
        """
        return self.adjoint(vector)

    def initial_estimate(self, measurement: Tensor) -> Tensor:
        """The image x_0 from which a reconstruction starts: A^T y unless the operator knows better."""
        return self.adjoint(measurement)

    def norm(self, iterations: int = 100, tolerance: float = 1e-6, seed: int = 0) -> float:
        """||A||, the largest singular value, by power iteration on A^T A.

        Starts from uniform noise in [0, 1): mostly a constant image, which is close to the answer for operators
        that average, with a part in every other direction. Does not touch ``calls``.

        Args:
            iterations: applications of A^T A at most.
            tolerance: stop once the estimate grows by a smaller fraction than this.
            seed: of the noise.

        Raises:
            ValueError: the operator lives on the meta device and has no values.
        """
        if self._like.is_meta:
            raise ValueError(f"{self._name} on the meta device has no values, so no norm")
        noise = torch.rand(self.image_shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
        image = noise.to(self._like).unsqueeze(0)
        norm = 0.0
        with torch.no_grad():
            for _ in range(iterations):
                image = self._apply_adjoint(self._apply_forward(image / image.norm()))
                previous, norm = norm, image.norm().item() ** 0.5
                if norm - previous <= tolerance * norm:
                    break
        return norm

    def _apply_forward(self, image: Tensor) -> Tensor:
        """A x without checks, counting or autograd."""
        raise NotImplementedError

    def _apply_adjoint(self, measurement: Tensor) -> Tensor:
        """A^T y without checks, counting or autograd."""
        raise NotImplementedError


class _LinearFunction(torch.autograd.Function):
    """A or A^T, each the other's backward; keeps the operator and the direction, no tensor."""

    @staticmethod
    def forward(argument: Tensor, operator: LinearOperator, transposed: bool) -> Tensor:
        if transposed:
            operator.calls.adjoint += 1
            return operator._apply_adjoint(argument)
        operator.calls.forward += 1
        return operator._apply_forward(argument)

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
        _, ctx.operator, ctx.transposed = inputs

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None, None]:
        return _apply(gradient, ctx.operator, not ctx.transposed), None, None

    @staticmethod
    def jvp(ctx: Any, tangent: Tensor, *_: None) -> Tensor:
        return _apply(tangent, ctx.operator, ctx.transposed)


def _apply(argument: Tensor, operator: LinearOperator, transposed: bool) -> Tensor:
    result: Tensor = _LinearFunction.apply(argument, operator, transposed)
    return result
