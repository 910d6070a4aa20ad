"""An operator made more expensive: its A and its adjoint computed several times over, with the result of one."""

from __future__ import annotations

from torch import Tensor

from .base import LinearOperator

MOST_TIMES = 1000


class Repeated(LinearOperator):
    """A linear operator of which each application takes `times` as long and gives the same.

    It stands for operators that cost more than the networks around them. ``calls`` counts an application once, however
    often it is computed. The initial estimate is the operator's own, at its own cost, and not counted.

    Args:
        operator: A.
        times: how often each application is computed, 1 to `MOST_TIMES`.

    Raises:
        ValueError: `times` out of range.
    """

    name = ""

    def __init__(self, operator: LinearOperator, times: int) -> None:
        if not 1 <= times <= MOST_TIMES:
            raise ValueError(f"Repeated got times {times}, expected 1 to {MOST_TIMES:,}")
        channels, height, width = operator.image_shape
        like = operator._like
        super().__init__((channels, height, width), operator.measurement_shape, like.device, like.dtype)
        self.operator = operator
        self.times = times

    def initial_estimate(self, measurement: Tensor) -> Tensor:
        """That of the operator: [B, *measurement_shape] -> [B, *image_shape]."""
        return self.operator.initial_estimate(measurement)

    @property
    def frozen_parameters(self) -> int:
        """The operator's."""
        return self.operator.frozen_parameters

    def _apply_forward(self, image: Tensor) -> Tensor:
        for _ in range(self.times - 1):
            self.operator._apply_forward(image)
        return self.operator._apply_forward(image)

    def _apply_adjoint(self, measurement: Tensor) -> Tensor:
        for _ in range(self.times - 1):
            self.operator._apply_adjoint(measurement)
        return self.operator._apply_adjoint(measurement)
