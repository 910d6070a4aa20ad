"""LUSER: loop unrolling with a shallow equilibrium regulariser (paper, section 3, eq. (7))."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import TYPE_CHECKING, ClassVar, cast

import torch
from torch import Tensor, nn

from ..anderson import SolveStatistics
from ..implicit import fixed_point
from ..luser_block import LuserBlock
from .base import DEFAULTS, Architecture, ModelOptions, Reconstruction

if TYPE_CHECKING:
    from bench.operators.base import Operator


class _LUSER(Architecture):
    """d_k = x_k + lambda A^T (y - A x_k), x_{k+1} = d_k + r* with r* = Mix(Data(r*) (+) Inject(d_k)), r(0) = 0."""

    different_weights: ClassVar[bool]
    has_fixed_points = True
    can_be_lean = True

    def __init__(self, operator: Operator, options: ModelOptions = DEFAULTS) -> None:
        super().__init__(operator, options)
        block = partial(
            LuserBlock,
            self.channels,
            groups=options.group_norm_groups,
            slope=options.leaky_slope,
            inplace=options.inplace,
            residual_scale=options.initial_residual_scale,
            kept_share=options.kept_share,
            spectral=options.spectral,
        )
        blocks = nn.ModuleList(block() for _ in range(options.stages if self.different_weights else 1))
        self.blocks = cast("Sequence[LuserBlock]", blocks)

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
