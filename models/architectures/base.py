"""What all architectures share: options, the result of a forward pass, the gradient step, parameter counts."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field, fields
from math import inf, isfinite
from typing import TYPE_CHECKING, Any, ClassVar

import torch
from torch import Tensor, nn

from ..anderson import SolverOptions, SolveStatistics
from ..implicit import gradient_called
from ..layers import WIDTH
from ..precision import full_precision
from ..spectral import NORMS

if TYPE_CHECKING:
    from bench.operators.base import Operator

MOST_STAGES = 1000


def _later(default: Any) -> Any:
    """An option that was not there from the beginning: records name it where it is not the default."""
    return field(default=default, metadata={"later": True})


@dataclass(frozen=True)
class EquilibriumOptions:
    """How DEQ4IP is made to have a fixed point; the defaults are the paper's text, whose map often has none.

    Attributes:
        normalises: BatchNorm normalises, or else scales and shifts alone, with the same parameters.
        anchor: a; the iterate becomes a x_0 + (1 - a) f. With a = 0.2 a map f whose differences grow by less than
            1 / 0.8 has a fixed point, and the gradient through it is finite, in the operator's null space too.
        clamp: iterates stay within [-clamp, clamp]; 0: they are free. The authors have 1.
        trains_step: the gradient step's size is trained. The authors keep theirs, 0.2 for deblurring, 0.4 for MRI.
        initial_residual_scale: as that of `ModelOptions`, which it replaces for DEQ4IP.
    """

    normalises: bool = True
    anchor: float = 0.0
    clamp: float = 0.0
    trains_step: bool = True
    initial_residual_scale: float | None = None

    def __post_init__(self) -> None:
        if not 0 <= self.anchor < 1:
            raise ValueError(f"anchor must be at least 0 and less than 1, got {self.anchor}")
        if not 0 <= self.clamp < inf:
            raise ValueError(f"clamp must be finite and not negative, got {self.clamp}")
        if self.initial_residual_scale is not None and not isfinite(self.initial_residual_scale):
            raise ValueError(f"initial_residual_scale must be finite, got {self.initial_residual_scale}")


@dataclass(frozen=True)
class ModelOptions:
    """What the paper leaves open, and what this suite adds.

    Attributes:
        stages: K, iterations of the unrolled architectures.
        gradient: how the gradient passes a fixed point, one of `models.implicit.GRADIENTS`; LU-DnCNN has none.
        checkpoint: LU-DnCNN only: recompute each stage's network in backward.
        solver: of the fixed points.
        backward_solver: of the linear fixed points in backward; as `solver` if None.
        group_norm_groups: of LUSER's GroupNorm.
        leaky_slope: of LUSER's LeakyReLU.
        inplace: let activations overwrite their input.
        initial_step: initial value of the trained step size; 1 suits operators of norm at most 1.
        initial_residual_scale: initial scale of the norm before the last convolution (PyTorch's own is 1). At 1
            the normalisations undo what spectral normalisation is there for: neither DEQ4IP's nor LUSER's map is a
            contraction at the start of training, and their solvers find no fixed point.
        checkpoint_layers: with `checkpoint`, so many layers at a time are checkpointed again inside a stage; 0: none.
        kept_share: of the convolutions, those whose outputs are kept for backward, and nothing else is
            (`models.lean`); None: what autograd keeps.
        spectral: what spectral normalisation divides by: the norm of a kernel as a matrix, as usual, or that of the
            "convolution" itself.
        deq4ip: DEQ4IP only: see `EquilibriumOptions`.
    """

    stages: int = 8
    gradient: str = "one-graph"
    checkpoint: bool = False
    solver: SolverOptions = field(default_factory=SolverOptions)
    backward_solver: SolverOptions | None = None
    group_norm_groups: int = 4
    leaky_slope: float = 0.2
    inplace: bool = True
    initial_step: float = 1.0
    initial_residual_scale: float = 0.01
    checkpoint_layers: int = _later(0)
    kept_share: float | None = _later(None)
    spectral: str = _later("matrix")
    deq4ip: EquilibriumOptions = field(default_factory=EquilibriumOptions, metadata={"later": True})

    def __post_init__(self) -> None:
        gradient_called(self.gradient)
        if not 1 <= self.stages <= MOST_STAGES:
            raise ValueError(f"stages must be at least 1 and at most {MOST_STAGES:,}, got {self.stages}")
        if self.group_norm_groups < 1 or WIDTH % self.group_norm_groups:
            raise ValueError(f"group_norm_groups must divide {WIDTH}, got {self.group_norm_groups}")
        if not 0 <= self.checkpoint_layers <= MOST_STAGES:
            raise ValueError(
                f"checkpoint_layers must be at least 0 and at most {MOST_STAGES:,}, got {self.checkpoint_layers}"
            )
        if self.kept_share is not None and not 0 < self.kept_share <= 1:
            raise ValueError(f"kept_share must be more than 0 and at most 1, got {self.kept_share}")
        if not 0 < self.leaky_slope < 1:
            raise ValueError(f"leaky_slope must lie between 0 and 1, got {self.leaky_slope}")
        if self.spectral not in NORMS:
            raise ValueError(f"unknown spectral {self.spectral!r}; known: {', '.join(NORMS)}")
        for name in ("initial_step", "initial_residual_scale"):
            if not isfinite(getattr(self, name)):
                raise ValueError(f"{name} must be finite, got {getattr(self, name)}")

    @property
    def told(self) -> dict[str, Any]:
        """The options as plain data, without later ones that say nothing new."""
        later = [option.name for option in fields(self) if option.metadata.get("later")]
        silent = [name for name in later if getattr(self, name) == getattr(DEFAULTS, name)]
        return {name: value for name, value in asdict(self).items() if name not in silent}


DEFAULTS = ModelOptions()


@dataclass
class Reconstruction:
    """What a forward pass gives.

    Attributes:
        image: the last iterate, shape (B, C, H, W).
        iterates: x_1 ... x_K, each (B, C, H, W), if all iterates were asked for, else empty.
        solves: one per fixed point, in order.
    """

    image: Tensor
    iterates: list[Tensor] = field(default_factory=list)
    solves: list[SolveStatistics] = field(default_factory=list)


class Architecture(nn.Module):
    """A network that reconstructs an image x from its measurement y = A x + noise.

    A subclass with a `name`, in a file of models/architectures, is an architecture of the suite.

    Args:
        operator: A; held, with its buffers, but none of it is trained or counted as trainable.
        options: see `ModelOptions`.

    Attributes:
        name: as in the paper's tables.
        table_column: place in the paper's tables; other architectures come after.
        counts_frozen_operator: whether table 3 counts the operator's fixed kernel in #Params.
        has_iterates: whether there are iterates before the last, which an auxiliary loss can be of.
        can_checkpoint: whether ``options.checkpoint`` means anything here.
        has_fixed_points: whether ``options.gradient`` does.
        can_be_lean: whether ``options.kept_share`` does.
        step: lambda, the one step size that all stages share, a scalar.
    """

    name: ClassVar[str] = ""
    table_column: ClassVar[int] = 1000
    counts_frozen_operator: ClassVar[bool] = True
    has_iterates: ClassVar[bool] = True
    can_checkpoint: ClassVar[bool] = False
    has_fixed_points: ClassVar[bool] = False
    can_be_lean: ClassVar[bool] = False

    def __init__(self, operator: Operator, options: ModelOptions = DEFAULTS) -> None:
        super().__init__()
        refusal = self.refusal_of(options)
        if refusal is not None:
            raise ValueError(refusal)
        self.operator = operator
        self.options = options
        self.channels: int = operator.image_shape[0]
        self.step = nn.Parameter(torch.full((), options.initial_step))

    @classmethod
    def refusal_of(cls, options: ModelOptions) -> str | None:
        """Why such options make no network, and what to choose; None if they do."""
        if options.checkpoint and not cls.can_checkpoint:
            return f"{cls.name} has no stages to checkpoint; choose gradient='recomputed' instead"
        if options.kept_share is not None and not cls.can_be_lean:
            return f"{cls.name} has no layers whose outputs can be made again; leave kept_share out"
        if options.kept_share is not None and cls.has_fixed_points and options.gradient in ("one-graph", "two-graph"):
            return (
                f"{cls.name} cannot solve for its gradient through layers that are made again with gradient="
                f"{options.gradient!r}, which would make those of the weights each time; choose 'recomputed' (as a "
                "strategy: recomputed+lean)"
            )
        return None

    def forward(self, measurement: Tensor, *, all_iterates: bool = False) -> Reconstruction:
        """Reconstruct from `measurement`, shape (B, *operator.measurement_shape)."""
        raise NotImplementedError

    def denoise(self, noisy: Tensor) -> Tensor | None:
        """What the proximal network makes of a noisy image, (B, C, H, W), if it may be trained for that beforehand."""
        return None

    def gradient_step(self, x: Tensor, y: Tensor, step: Tensor) -> Tensor:
        """The step d = x + lambda A^T (y - A x) of section 3: x and d of shape (B, C, H, W), `step` a scalar.

        Where A is not linear, A^T is that of its Jacobian at x.
        """
        with full_precision(x):
            return torch.addcmul(x, step, self.operator.descent(x, y))

    @property
    def trainable_parameters(self) -> int:
        """Numbers that training changes."""
        fixed = {id(p) for p in self.operator.parameters()}
        return sum(p.numel() for p in self.parameters() if p.requires_grad and id(p) not in fixed)

    @property
    def paper_parameters(self) -> int:
        """#Params as table 3 counts: with the operator's fixed kernel, but not for LUSER-DW."""
        return self.trainable_parameters + self.counts_frozen_operator * self.operator.frozen_parameters
