"""What all architectures share: options, the result of a forward pass, the gradient step, parameter counts."""

from __future__ import annotations

from dataclasses import MISSING, Field, asdict, dataclass, field, fields
from math import isfinite
from typing import TYPE_CHECKING, Any, ClassVar, cast

import torch
from torch import Tensor, nn

from ..anderson import SolverOptions, SolveStatistics
from ..implicit import gradient_called
from ..precision import full_precision
from ..spectral import NORMS

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from bench.operators.base import Operator

MOST_STAGES = 1000


def _later(default: Any) -> Any:
    """An option that was not there from the beginning: records name it where it is not the default."""
    return field(default=default, metadata={"later": True})


INITIALS = ("adjoint", "fbp")


@dataclass(frozen=True)
class NoOptions:
    """What an architecture without options of its own has."""


@dataclass(frozen=True)
class ModelOptions:
    """What the paper leaves open, and what this suite adds.

    Attributes:
        stages: K, iterations of the unrolled architectures.
        gradient: how the gradient passes a fixed point, one of `models.implicit.GRADIENTS`; LU-DnCNN has none.
        checkpoint: recompute each stage in backward, where there are stages: LU-DnCNN and HUMUS-Net.
        solver: of the fixed points.
        backward_solver: of the linear fixed points in backward; as `solver` if None.
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
        initial: where a reconstruction starts: at the "adjoint", A^T y unless the operator knows better, or at "fbp",
            its filtered backprojection.

    Options of one architecture alone stand in its file, as `Architecture.Own`, and in a table of its name:
    `models.Options` has them all.
    """

    stages: int = 8
    gradient: str = "one-graph"
    checkpoint: bool = False
    solver: SolverOptions = field(default_factory=SolverOptions)
    backward_solver: SolverOptions | None = None
    inplace: bool = True
    initial_step: float = 1.0
    initial_residual_scale: float = 0.01
    checkpoint_layers: int = _later(0)
    kept_share: float | None = _later(None)
    spectral: str = _later("matrix")
    initial: str = _later("adjoint")

    def __post_init__(self) -> None:
        gradient_called(self.gradient)
        if not 1 <= self.stages <= MOST_STAGES:
            raise ValueError(f"stages must be at least 1 and at most {MOST_STAGES:,}, got {self.stages}")
        if not 0 <= self.checkpoint_layers <= MOST_STAGES:
            raise ValueError(
                f"checkpoint_layers must be at least 0 and at most {MOST_STAGES:,}, got {self.checkpoint_layers}"
            )
        if self.kept_share is not None and not 0 < self.kept_share <= 1:
            raise ValueError(f"kept_share must be more than 0 and at most 1, got {self.kept_share}")
        if self.spectral not in NORMS:
            raise ValueError(f"unknown spectral {self.spectral!r}; known: {', '.join(NORMS)}")
        if self.initial not in INITIALS:
            raise ValueError(f"unknown initial {self.initial!r}; known: {', '.join(INITIALS)}")
        for name in ("initial_step", "initial_residual_scale"):
            if not isfinite(getattr(self, name)):
                raise ValueError(f"{name} must be finite, got {getattr(self, name)}")

    def told(self, architecture: type[Architecture] | None = None) -> dict[str, Any]:
        """The options as plain data, without later ones that say nothing new, and those of other architectures."""
        silent = {each.name for each in fields(self) if each.metadata.get("later") and self._is_default(each)}
        others = {each.name for each in fields(self) if each.metadata.get("own")}
        if architecture is not None:
            others -= {architecture.table()}
        return {name: value for name, value in asdict(self).items() if name not in silent | others}

    def _is_default(self, option: Field[Any]) -> bool:
        default = option.default if option.default_factory is MISSING else option.default_factory()
        return bool(getattr(self, option.name) == default)


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
        lean_already: why there is nothing that any strategy could make again, if so.
        trains_step: whether `step` is trained.
        has_fixed_points: whether ``options.gradient`` does.
        can_be_lean: whether ``options.kept_share`` does.
        Own: the dataclass of the options that are this architecture's alone, or its family's.
        own: their values.
        step: lambda, the one step size that all stages share, a scalar.
    """

    name: ClassVar[str] = ""
    table_column: ClassVar[int] = 1000
    counts_frozen_operator: ClassVar[bool] = True
    has_iterates: ClassVar[bool] = True
    can_checkpoint: ClassVar[bool] = False
    lean_already: ClassVar[str] = ""
    trains_step: ClassVar[bool] = True
    has_fixed_points: ClassVar[bool] = False
    can_be_lean: ClassVar[bool] = False
    Own: ClassVar[type[Any]] = NoOptions

    def __init__(self, operator: Operator, options: ModelOptions = DEFAULTS) -> None:
        super().__init__()
        refusal = self.refusal_of(options) or self.refusal_for(options, type(operator), lambda: operator.image_shape)
        if refusal is not None:
            raise ValueError(refusal)
        self.operator = operator
        self.options = options
        self.own = self.own_of(options)
        self.channels: int = operator.image_shape[0]
        self.step: Tensor
        step = torch.full((), options.initial_step)
        if self.trains_step:
            self.step = nn.Parameter(step)
        else:
            self.register_buffer("step", step, persistent=False)

    @classmethod
    def table(cls) -> str:
        """The name of the table that has its own options: [model.TABLE]."""
        return cls.name.lower().replace("-", "_")

    @classmethod
    def own_of(cls, options: ModelOptions) -> Any:
        """Its own options among all: an `Own`."""
        return getattr(options, cls.table(), None) or cls.Own()

    @classmethod
    def refusal_for(
        cls, options: ModelOptions, operator: type[Operator], image_shape: Callable[[], Sequence[int]]
    ) -> str | None:
        """Why it does not reconstruct images of this shape, (C, H, W), from such an operator; None if it does.

        The sentence says what to choose. The shape is asked for where it matters alone.
        """
        if options.initial == "fbp" and not hasattr(operator, "filtered_backprojection"):
            return f"{operator.__name__} has no filtered backprojection to start from; choose initial = 'adjoint'"
        return None

    @classmethod
    def refusal_of(cls, options: ModelOptions) -> str | None:
        """Why such options make no network, and what to choose; None if they do."""
        if options.checkpoint and not cls.can_checkpoint:
            instead = (
                f"{cls.lean_already}; leave it out" if cls.lean_already else "choose gradient='recomputed' instead"
            )
            return f"{cls.name} has no stages to checkpoint; {instead}"
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

    def initial_estimate(self, measurement: Tensor) -> Tensor:
        """The image from which the reconstruction starts, (B, *operator.measurement_shape) -> (B, C, H, W)."""
        if self.options.initial == "fbp":
            with full_precision(measurement):
                image: Tensor = cast("Any", self.operator).filtered_backprojection(measurement)
                return image
        return self.operator.initial_estimate(measurement)

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
