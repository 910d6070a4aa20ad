"""LUSER: loop unrolling with a shallow equilibrium regulariser (paper, section 3, eq. (7))."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, ClassVar, cast

import torch
from torch import Tensor, nn

from ..anderson import SolveStatistics
from ..implicit import fixed_point
from ..layers import WIDTH
from ..luser_block import LuserBlock
from .base import DEFAULTS, Architecture, ModelOptions, Reconstruction

if TYPE_CHECKING:
    from bench.operators.base import Operator


@dataclass(frozen=True)
class LuserOptions:
    """What LUSER-SW and LUSER-DW have besides `ModelOptions`: [model.luser].

    Attributes:
        group_norm_groups: of GroupNorm; they divide the width, 32.
        leaky_slope: of LeakyReLU, between 0 and 1.
    """

    group_norm_groups: int = 4
    leaky_slope: float = 0.2

    def __post_init__(self) -> None:
        if self.group_norm_groups < 1 or WIDTH % self.group_norm_groups:
            raise ValueError(f"group_norm_groups must divide {WIDTH}, got {self.group_norm_groups}")
        if not 0 < self.leaky_slope < 1:
            raise ValueError(f"leaky_slope must lie between 0 and 1, got {self.leaky_slope}")


class _LUSER(Architecture):
    """d_k = x_k + lambda A^T (y - A x_k), x_{k+1} = d_k + r* with r* = Mix(Data(r*) (+) Inject(d_k)), r(0) = 0."""

    different_weights: ClassVar[bool]
    has_fixed_points = True
    can_be_lean = True
    Own = LuserOptions

    def __init__(self, operator: Operator, options: ModelOptions = DEFAULTS) -> None:
        super().__init__(operator, options)
        block = partial(
            LuserBlock,
            self.channels,
            groups=self.own.group_norm_groups,
            slope=self.own.leaky_slope,
            inplace=options.inplace,
            residual_scale=options.initial_residual_scale,
            kept_share=options.kept_share,
            spectral=options.spectral,
        )
        blocks = nn.ModuleList(block() for _ in range(options.stages if self.different_weights else 1))
        self.blocks = cast("Sequence[LuserBlock]", blocks)

    @classmethod
    def table(cls) -> str:
        """[model.luser], which both share."""
        return "luser"

    def forward(self, measurement: Tensor, *, all_iterates: bool = False) -> Reconstruction:
        """Reconstruct from `measurement`, shape (B, *operator.measurement_shape)."""
        blocks = [(block, block.weights()) for block in self.blocks]
        x = self.initial_estimate(measurement)
        iterates: list[Tensor] = []
        solves: list[SolveStatistics] = []
        for k in range(self.options.stages):
            block, weights = blocks[k % len(blocks)]
            d = self.gradient_step(x, measurement, self.step)
            r, statistics = fixed_point(
                block.equilibrium,
                (d, *weights),
                torch.zeros_like(d),
                gradient=self.options.gradient,
                solver=self.options.solver,
                backward_solver=self.options.backward_solver,
            )
            x = d + r
            solves.append(statistics)
            if all_iterates:
                iterates.append(x)
        return Reconstruction(x, iterates, solves)


class LUSERSW(_LUSER):
    """All stages share the weights of one block."""

    name = "LUSER-SW"
    table_column = 3
    different_weights = False


class LUSERDW(_LUSER):
    """Each stage has a block with weights of its own. Table 3 leaves the operator's kernel out of its #Params."""

    name = "LUSER-DW"
    table_column = 4
    counts_frozen_operator = False
    different_weights = True
