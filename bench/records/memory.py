"""The memory of a cell: the largest batch on each card, and what it takes."""

from __future__ import annotations

from typing import Literal

from pydantic import Field, model_validator

from bench.names import Name
from bench.records.values import Bound, Count, Part, Positive


class Parameters(Part):
    """Parameters of the architecture: those that train, and as the paper's Table 3 counts them."""

    trainable: Count
    paper: Count


class Edge(Part):
    """The largest batch that fits (0: none) under one bound of the kernels' temporaries, and what it takes.

    `fallbacks` counts convolutions that ran with another configuration than cuDNN's first choice, for want of memory.
    """

    largest_batch: Count
    peak_allocated_bytes: Count | None
    peak_reserved_bytes: Count | None
    retries: Count | None
    fallbacks: Count | None
    not_fitting: list[Count]
    monotone: bool


class OnVirtualCard(Part):
    """What a step did on the virtual card that a real card would answer otherwise.

    Attributes:
        kernels_of: the card whose kernels ran: another one where the card is no more than a capacity.
        values_read: copies to the host in a step (`.item()`), which are zeros.
        selections: kernels of a step that select by value (`nonzero`, `x[mask]`), whose outputs are empty.
        lower_bounds: functions whose buffers were taken as 0 bytes.
        upper_bounds: functions whose buffers are between nothing and a bound: the low edge, and the high one.
    """

    kernels_of: Name
    values_read: Count
    selections: Count
    lower_bounds: list[str]
    upper_bounds: list[str] = Field(default_factory=list)


class CardResult(Part):
    """One card's answers: under each bound of the kernels' temporaries that the engine could compute.

    There is the exact answer, or both others. `cudnn` is the version whose workspaces the exact one is computed with.
    `virtual` is what the virtual card did otherwise than a real one, where that answered.
    """

    card: Name
    total_bytes: Positive
    context_bytes: Count
    usable_bytes: Positive
    cudnn: str | None
    edges: dict[Bound, Edge]
    virtual: OnVirtualCard | None = None

    @model_validator(mode="after")
    def _is_an_answer(self) -> CardResult:
        if "exact" not in self.edges and not {"high", "low"} <= self.edges.keys():
            raise ValueError("edges: expected exact, or high and low")
        return self

    def edge(self, otherwise: Bound) -> tuple[Bound, Edge]:
        """The exact answer if there is one, else the one of a bound; and which it is."""
        bound: Bound = "exact" if "exact" in self.edges else otherwise
        return bound, self.edges[bound]


class Memory(Part):
    """The memory of a cell: per card, and what is common to all cards."""

    engine: Literal["simulated", "cuda", "virtual"]
    recorded_steps: Count
    recorded_evaluations: Count | None
    events: Count
    operator_bytes: Count
    parameter_bytes: Count
    peak_bytes_per_image: dict[Bound, Count]
    cards: list[CardResult] = Field(min_length=1)

    @model_validator(mode="after")
    def _has_each_card_once_and_both_bounds(self) -> Memory:
        if len({card.card for card in self.cards}) < len(self.cards):
            raise ValueError("cards: expected each once")
        if not {"high", "low"} <= self.peak_bytes_per_image.keys():
            raise ValueError("peak_bytes_per_image: expected high and low")
        return self
