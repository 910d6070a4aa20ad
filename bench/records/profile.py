"""What a cell's memory is taken by: at its peak, and over a step."""

from __future__ import annotations

from itertools import pairwise
from typing import Annotated

from pydantic import AfterValidator, Field, model_validator

from bench.names import Name
from bench.records.values import Bound, Count, Part, Positive

CATEGORIES = (
    "parameters",
    "buffers",
    "optimiser state",
    "gradients",
    "batch",
    "saved activations",
    "temporaries",
    "workspace",
    "rounding",
    "fragmentation",
)
"""What reserved memory is taken by, as bench.memory.explaining.explain has it."""


def _known(category: str) -> str:
    if category not in CATEGORIES:
        raise ValueError(f"{category!r} is no category of memory")
    return category


Category = Annotated[str, AfterValidator(_known)]


class Composition(Part):
    """What the peak of one batch is made of (where the batch does not fit: what is held when memory runs out).

    Attributes:
        batch: images.
        peak_allocated_bytes: the most in blocks at any time.
        peak_reserved_bytes: the most in segments at any time; the sum of `size_bytes`.
        size_bytes: by category (bench.memory.explaining.explain), and by module and operation.
        places: the same groups' lines in the sources, those of the most bytes first. A baseline does not store them:
            they move with every edit.
    """

    batch: Positive
    peak_allocated_bytes: Count
    peak_reserved_bytes: Count
    size_bytes: dict[Category, dict[str, Count]]
    places: dict[str, dict[str, list[str]]] = Field(default={})


class Span(Part):
    """A phase of a step, by its events [start, stop)."""

    phase: str
    start: Count
    stop: Count


class StepTimeline(Part):
    """Memory over one training step, whose allocations and frees are counted from 0.

    Attributes:
        step: which step, from 1; 0 is what comes before the first.
        events: allocations and frees of the step.
        at: some of them: of each of as many stretches the one with the most allocated, so that no peak is lost.
        size_bytes: by category, from the bottom up, after each event of `at`; together they are what is reserved.
        phases: of the step, in order.
        moment: the event with the most allocated, or at which memory runs out.
        operation: that made it.
        place: its line in the sources, after the one of another file that led there.
    """

    step: Count
    events: Positive
    at: list[Count] = Field(min_length=1)
    size_bytes: dict[Category, list[Count]] = Field(min_length=1)
    phases: list[Span]
    moment: Count
    operation: str
    place: str

    @model_validator(mode="after")
    def _is_drawable(self) -> StepTimeline:
        if any(len(sizes) != len(self.at) for sizes in self.size_bytes.values()):
            raise ValueError("size_bytes: expected as many of each category as events in at")
        if any(later <= sooner for sooner, later in pairwise([*self.at, self.events])):
            raise ValueError("at: expected events of the step in their order")
        if not self.at[0] <= self.moment < self.events:
            raise ValueError("moment: expected an event of the step, not before the first of at")
        return self


class Profile(Part):
    """What a cell's memory is taken by on one card, simulated: at the largest batch that fits, or at 1 if none does.

    `workspace` says which temporaries inside kernels are assumed. `reference` is the composition at the same batch for
    every cell and card, where memory is no limit: what two versions of a network are compared by.
    """

    card: Name
    total_bytes: Positive
    context_bytes: Count
    usable_bytes: Positive
    workspace: Bound
    fits: bool
    composition: Composition
    timeline: StepTimeline
    reference: Composition

    @model_validator(mode="after")
    def _has_something_in_it(self) -> Profile:
        for made_of in (self.composition, self.reference):
            if not made_of.peak_reserved_bytes or not any(made_of.size_bytes.values()):
                raise ValueError("expected compositions of something")
        return self
