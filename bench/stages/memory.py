"""The stage memory: the largest batch that fits on each card, and what it takes."""

from __future__ import annotations

import functools
from collections.abc import Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import torch

from bench.engines import EngineName, engine_that_runs
from bench.garbage import collector_paused
from bench.memory import Boundary, Card, SimulatedEngine, Trace, largest_batch, record
from bench.memory.allocator.caching import AllocatorConfig
from bench.memory.checked import check_at
from bench.memory.cudnn.backend import version_text
from bench.memory.cudnn.envelope import Envelope, with_most_cublas
from bench.memory.cudnn.heuristics import workspaces
from bench.memory.measuring.cuda import CudaEngine, Device
from bench.memory.recording.metadata import OutputCache, import_shape_inference
from bench.memory.recording.on_cuda import on_cuda
from bench.memory.recording.refusals import NotRecordableError
from bench.memory.search import LARGEST_BATCH
from bench.memory.simulated import installed_release
from bench.memory.supposed import prove, supposed
from bench.memory.trace import Workspace
from bench.plugins import WithPlugins
from bench.records import Bound, CardResult, Edge, Memory, OnVirtualCard, Parameters, Record
from bench.virtual import VirtualDevice, VirtualMeasurement
from bench.virtual.figures import kernels_of

if TYPE_CHECKING:
    from bench.cells.cell import Cell
    from bench.cells.workload import Workload

REFERENCE_BATCH = 16  # where the bytes that one more image adds are read off


@functools.cache
def _remembered(default_dtype: torch.dtype) -> OutputCache:
    """What operations do, of all cells that this process measures: shapes of small batches come again."""
    return OutputCache()


@collector_paused()
def prepare() -> None:
    """Import what recordings need, for all processes that are forked from this one afterwards."""
    import_shape_inference()


@collector_paused()
def measure(cell: Cell, earlier: Record | None, folder: Path) -> dict[str, object]:
    """The record's parts `parameters`, `memory` and `image_shape`, for the cards that an earlier record lacks."""
    workload = cell.workload.for_recording()
    model = workload.build(torch.device("meta"))
    cache = _remembered(torch.get_default_dtype())
    cards = [card for card in cell.cards if earlier is None or earlier.card(card.name) is None]
    if cell.memory.engine == "simulated":
        trace, results = _simulated(cell, cards, cache)
    else:  # these engines run the step itself at their answers
        on_card = {"cuda": _measured, "virtual": _virtual}[cell.memory.engine]
        trace = recorded(cell, cache)
        results = [on_card(cell, trace, card) for card in cards]
    memory = Memory(
        engine=cell.memory.engine,
        recorded_steps=cell.memory.steps,
        recorded_evaluations=workload.options.solver.max_evaluations,
        events=len(trace),
        operator_bytes=model.operator.constant_bytes,
        parameter_bytes=sum(p.numel() * p.element_size() for p in model.parameters()),
        peak_bytes_per_image=bytes_per_image(trace, workload),
        cards=results,
    )
    parameters = Parameters(trainable=model.trainable_parameters, paper=model.paper_parameters)
    return {"image_shape": model.operator.image_shape, "parameters": parameters, "memory": memory}


def recorded(cell: Cell, cache: OutputCache | None = None) -> Trace:
    """A recording of the cell's step; its batches are counted as `Workload.make_step` counts them."""
    workload = cell.workload.for_recording()
    with recording_of(workload):
        return record(workload.make_step, cell.memory.steps, cache)


def recording_of(workload: Workload) -> AbstractContextManager[object]:
    """What has to surround a recording: casts, memory of the host and values read are those of a program for a GPU."""
    training = workload.training
    is_plain = training.autocast == "none" and training.activations == "device" and training.optimizer != "adafactor"
    return nullcontext() if is_plain else on_cuda()


def bytes_per_image(trace: Trace, workload: Workload) -> dict[Bound, int]:
    """What one more image adds to the peak of a step, without what kernels take and with the most that they can."""
    images = workload.images(1)
    return {w.value: trace.peak_bytes_per_image(REFERENCE_BATCH, w) // images for w in Workspace}


def simulated_engine(cell: Cell, trace: Trace, card: Card, kernels_of: Card | None = None) -> SimulatedEngine:
    """The best prediction for a card: with cuDNN's own workspaces where they are asked, else with the chosen bound.

    `kernels_of` names the card whose kernels run, where it is not the one whose memory is meant.
    """
    config = AllocatorConfig.parse(cell.memory.alloc_conf, installed_release())
    source = workspaces(kernels_of or card, allow_tf32=cell.memory.allow_tf32, deterministic=cell.memory.deterministic)
    workspace = Workspace(cell.memory.workspace)
    if source is None:
        return bounded_engine(cell, trace, card, workspace)
    return SimulatedEngine(trace, card, workspace, config, source)


def bounded_engine(cell: Cell, trace: Trace, card: Card, workspace: Workspace) -> SimulatedEngine:
    """A bound for a card: with no workspaces, or with the most that cuDNN takes on any card that is meant."""
    config = AllocatorConfig.parse(cell.memory.alloc_conf, installed_release())
    if workspace is Workspace.LOW:
        return SimulatedEngine(trace, card, workspace, config)
    envelope = Envelope(card, allow_tf32=cell.memory.allow_tf32, deterministic=cell.memory.deterministic)
    return SimulatedEngine(trace, with_most_cublas(card), workspace, config, envelope)


def running_engine(
    name: EngineName, cell: Cell, card: Card, first_guess: int = 1, device: Device | None = None
) -> CudaEngine:
    """The GPU or the virtual card, or a stand-in `device`; it runs the step that is recorded."""
    workload = cell.workload.for_recording()
    make_step = (workload.without_values() if name == "virtual" else workload).make_step
    return engine_that_runs(
        name,
        WithPlugins(cell.config.plugins.modules, make_step),
        card,
        first_guess=first_guess,
        steps=cell.memory.steps,
        alloc_conf=cell.memory.alloc_conf,
        allow_tf32=cell.memory.allow_tf32,
        deterministic=cell.memory.deterministic,
        device=device,
    )


class _Answers(NamedTuple):
    """What a trace says of one card: the searches by their bounds, and whose workspaces the exact one has.

    `needs_one` tells whether the trace was asked about batch 1, which alone may take another path than all others.
    """

    card: Card
    boundaries: dict[Bound, Boundary]
    cudnn_version: str | None
    needs_one: bool


def _simulated(cell: Cell, cards: Sequence[Card], cache: OutputCache) -> tuple[Trace, list[CardResult]]:
    """All cards' answers without a GPU, and the trace they are of, which the step itself follows at the largest.

    From one recording where sizes are as `supposed`, else from a fit.
    """
    workload = cell.workload.for_recording()
    try:
        with recording_of(workload):
            trace = supposed(workload.make_step, cell.memory.steps, cache)
        answers = [_answers(cell, trace, card) for card in cards]
        with recording_of(workload):
            first = [1] if any(each.needs_one for each in answers) else []
            prove(workload.make_step, trace, [*first, *_around_the_largest(answers)], cache)
    except NotRecordableError:
        trace = recorded(cell, cache)
        answers = [_answers(cell, trace, card) for card in cards]
        with recording_of(workload):
            check_at(workload.make_step, trace, _around_the_largest(answers), cache)
    results = []
    for each in answers:
        edges: dict[Bound, Edge] = {bound: _edge(cell, boundary) for bound, boundary in each.boundaries.items()}
        results.append(_result(each.card, edges, each.cudnn_version))
    return trace, results


def _around_the_largest(answers: Sequence[_Answers]) -> list[int]:
    """The largest batch of any answer, and the next one."""
    largest = max((found.batch for each in answers for found in each.boundaries.values()), default=0)
    return [batch for batch in (largest, largest + 1) if 0 < batch < LARGEST_BATCH]


def _answers(cell: Cell, trace: Trace, card: Card) -> _Answers:
    """One card's answers: both bounds, and the exact one where all of cuDNN's workspaces are known."""
    boundaries: dict[Bound, Boundary] = {
        workspace.value: largest_batch(bounded_engine(cell, trace, card, workspace)) for workspace in Workspace
    }
    best = simulated_engine(cell, trace, card)
    exact, version = _exact_boundary(best), None
    if exact is not None and best.workspaces is not None:
        boundaries["exact"], version = exact, best.workspaces.cudnn_version
    probed = {probe.batch for found in boundaries.values() for probe in found.probes}
    asked_first = best.workspaces is not None and best.workspaces.is_exact  # by _exact_boundary
    return _Answers(card, boundaries, version, needs_one=asked_first or 1 in probed)


def shown(cell: Cell, trace: Trace, card: Card) -> tuple[Bound, SimulatedEngine, Boundary]:
    """What tables show of a card: the exact answer if there is one, else that of the chosen bound."""
    best = simulated_engine(cell, trace, card)
    exact = _exact_boundary(best)
    if exact is not None:
        return "exact", best, exact
    bounded = bounded_engine(cell, trace, card, Workspace(cell.memory.workspace))
    return cell.memory.workspace, bounded, largest_batch(bounded)


def _exact_boundary(engine: SimulatedEngine) -> Boundary | None:
    """The largest batch, where all of cuDNN's workspaces are known around it."""
    if not engine.knows_workspaces(1):
        return None
    boundary = largest_batch(engine)
    return boundary if all(engine.knows_workspaces(probe.batch) for probe in boundary.probes) else None


def _measured(cell: Cell, trace: Trace, card: Card) -> CardResult:
    """One card's answer from the GPU, whose context is measured first and takes its place in the card."""
    first = running_engine("cuda", cell, card)
    first.probe(1)
    context_bytes = first.measurements[1].context_bytes
    if context_bytes is not None:
        card = replace(card, context_bytes=context_bytes)
    guess = largest_batch(simulated_engine(cell, trace, card)).batch
    return _result(card, {"exact": _edge(cell, largest_batch(running_engine("cuda", cell, card, guess)))}, None)


def _virtual(cell: Cell, trace: Trace, card: Card) -> CardResult:
    """One card's answers from PyTorch's CUDA code, searched for from the recording's on.

    Both bounds of cuFFT's work areas, or the exact answer where there are none.
    """
    guess = largest_batch(simulated_engine(cell, trace, card, kernels_of(card))).batch
    engine = running_engine("virtual", cell, card, guess)
    boundary = largest_batch(engine, trusted=guess)
    seen = engine.measurements[boundary.batch or 1]
    assert isinstance(seen, VirtualMeasurement)
    edges: dict[Bound, Edge] = {"exact": _edge(cell, boundary)}
    if seen.upper_bounds:
        without = running_engine("virtual", cell, card, guess, VirtualDevice(card, work_areas=Workspace.LOW))
        low = _edge(cell, largest_batch(without, trusted=guess))
        edges = {"low": low, "high": _edge(cell, boundary)}
    done = OnVirtualCard(
        kernels_of=kernels_of(card).name,
        values_read=seen.values_read,
        selections=seen.selections,
        lower_bounds=list(seen.lower_bounds),
        upper_bounds=list(seen.upper_bounds),
    )
    result = _result(card, edges, version_text(seen.cudnn) if seen.cudnn else None)
    return result.model_copy(update={"virtual": done})


def _result(card: Card, edges: dict[Bound, Edge], cudnn_version: str | None) -> CardResult:
    return CardResult(
        card=card.name,
        total_bytes=card.total_bytes,
        context_bytes=card.context_bytes,
        usable_bytes=card.usable_bytes,
        cudnn=cudnn_version,
        edges=edges,
    )


def _edge(cell: Cell, boundary: Boundary) -> Edge:
    at_edge, images = boundary.at_edge, cell.workload.images
    return Edge(
        largest_batch=images(boundary.batch),
        peak_allocated_bytes=at_edge.peak_allocated_bytes if at_edge else None,
        peak_reserved_bytes=at_edge.peak_reserved_bytes if at_edge else None,
        retries=at_edge.retries if at_edge else None,
        fallbacks=at_edge.fallbacks if at_edge else None,
        not_fitting=[images(probe.batch) for probe in boundary.probes if not probe.fits],
        monotone=boundary.monotone,
    )
