"""The stage profile: what the peak of a training step is made of, and its memory over time. It needs no GPU."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from itertools import groupby, pairwise
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import torch

from bench.memory import Card, SimulatedEngine, Trace
from bench.memory.allocator.caching import AllocatorConfig
from bench.memory.explaining.explain import RESERVED, Category, Explanation, explain
from bench.memory.explaining.sources import Source, locate
from bench.memory.simulated import TypicalWorkspaces, installed_release
from bench.records import Composition, Profile, Record, Span, StepTimeline
from bench.stages.memory import REFERENCE_BATCH, recorded, recording_of, shown
from bench.units import TiB

if TYPE_CHECKING:
    from bench.cells.cell import Cell
    from bench.memory.trace import Ints

ENOUGH = Card("memory enough", 1024 * TiB, 0, None, None, "no real card: compositions are those of undisturbed steps")
EVENTS = 200  # of a step that a record keeps
PLACES = 3  # lines kept of each group

_OWNED = (Category.PARAMETERS, Category.BUFFERS, Category.GRADIENTS, Category.OPTIMIZER)  # named after a tensor


def measure(cell: Cell, earlier: Record | None, folder: Path) -> dict[str, object]:
    """The record's parts `profile` and `image_shape`, on the largest of the cell's cards."""
    card, trace = cell.largest_card, recorded(cell)
    bound, engine, boundary = shown(cell, trace, card)
    batch = boundary.batch or 1
    sources = located(cell, trace, batch)
    explanation = in_images(cell, explain(engine, batch, sources))
    is_same_step = trace.of(batch) is trace.of(REFERENCE_BATCH)
    profile = Profile(
        card=card.name,
        total_bytes=card.total_bytes,
        context_bytes=card.context_bytes,
        usable_bytes=card.usable_bytes,
        workspace=bound,
        fits=explanation.fits,
        composition=composition(explanation),
        timeline=timeline(explanation, EVENTS),
        reference=reference(cell, trace, REFERENCE_BATCH, sources if is_same_step else None),
    )
    return {"image_shape": cell.workload.build(torch.device("meta")).operator.image_shape, "profile": profile}


def reference(cell: Cell, trace: Trace, batch: int, sources: Sequence[Source] | None = None) -> Composition:
    """What the peak of a recorded cell is made of at a batch, where memory is no limit.

    Args:
        cell: the cell.
        trace: its recording.
        batch: as the recording counts them.
        sources: of the trace at this batch, if they are known already.

    Raises:
        NotRecordableError: the step allocates something else while it is watched.
    """
    config = AllocatorConfig.parse(cell.memory.alloc_conf, installed_release())
    engine = SimulatedEngine(trace, ENOUGH, config=config, workspaces=TypicalWorkspaces())
    explanation = explain(engine, batch, sources or located(cell, trace, batch))
    return composition(in_images(cell, explanation))


def located(cell: Cell, trace: Trace, batch: int) -> list[Source]:
    """Where each event of a cell's recording comes from, at a batch.

    Raises:
        NotRecordableError: the step allocates something else while it is watched.
    """
    workload = cell.workload.for_recording()
    with recording_of(workload):
        return locate(workload.make_step, trace, batch, cell.memory.steps)


def in_images(cell: Cell, explanation: Explanation) -> Explanation:
    """The explanation with its batch in images, of which a batch of micro-batches has more."""
    return replace(explanation, batch=cell.workload.images(explanation.batch))


def composition(explanation: Explanation) -> Composition:
    """An explanation as a record keeps it: categories, and in them modules with operations."""
    size_bytes: dict[str, dict[str, int]] = {}
    places: dict[str, dict[str, list[str]]] = {}
    for row in explanation.rows:  # largest first
        owner = row.module.rpartition(".")[0] or row.module if row.category in _OWNED else ""
        what = owner or ", ".join(filter(None, (row.module, row.op)))
        of_category = size_bytes.setdefault(row.category.value, {})
        of_category[what] = of_category.get(what, 0) + row.size_bytes
        lines = places.setdefault(row.category.value, {}).setdefault(what, [])
        if row.place and row.place not in lines and len(lines) < PLACES:
            lines.append(row.place)
    for category in (Category.ROUNDING, Category.FRAGMENTATION):
        size_bytes[category.value] = {"in all": explanation.categories[category]}
    return Composition(
        batch=explanation.batch,
        peak_allocated_bytes=explanation.peak_allocated_bytes,
        peak_reserved_bytes=explanation.card.usable_bytes - explanation.categories[Category.FREE],
        size_bytes={category: dict(sorted(size_bytes[category].items())) for category in sorted(size_bytes)},
        places=places,
    )


def timeline(explanation: Explanation, events: int) -> StepTimeline:
    """Memory over the step of the moment explained, after at most so many of its events."""
    located, source = explanation.located(), explanation.source
    inside = [place for place, at in enumerate(located) if at.step == source.step]
    start, stop = inside[0], inside[-1] + 1
    size_bytes = explanation.timeline[start:stop]
    at = _highest_of_each_stretch(size_bytes[:, :-1].sum(axis=1), events)
    return StepTimeline(
        step=source.step,
        events=stop - start,
        at=at.tolist(),
        size_bytes={category.value: size_bytes[at, place].tolist() for place, category in enumerate(RESERVED)},
        phases=_phases([at.phase.value for at in located[start:stop]]),
        moment=explanation.moment - start,
        operation=source.short_op,
        place=source.place,
    )


def _highest_of_each_stretch(allocated_bytes: Ints, stretches: int) -> Ints:
    """Of each of as many stretches the event with the most allocated."""
    events = len(allocated_bytes)
    edges = np.unique(np.linspace(0, events, min(stretches, events) + 1).astype(np.int64))
    return np.array([start + allocated_bytes[start:stop].argmax() for start, stop in pairwise(edges)], dtype=np.int64)


def _phases(names: list[str]) -> list[Span]:
    """Runs of equal phases."""
    spans, start = [], 0
    for name, run in groupby(names):
        stop = start + sum(1 for _ in run)
        spans.append(Span(phase=name, start=start, stop=stop))
        start = stop
    return spans
