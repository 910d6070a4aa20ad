"""The suite: which cells there are, which are done, and the record that each becomes.

A cell is one architecture on one task with its options: the unit of work, of failure and of storage.
"""

from __future__ import annotations

import hashlib
import json
import time
import traceback
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import as_completed
from dataclasses import asdict, dataclass, replace

import torch

import models
import operators
from bench.config import Config, MemorySection
from bench.errors import UsageError
from bench.memory import (
    Boundary,
    Card,
    NotRecordableError,
    SimulatedEngine,
    Trace,
    largest_batch,
    record,
)
from bench.memory.allocator import AllocatorConfig
from bench.memory.cuda import CudaEngine, Device, ProbeFailedError
from bench.memory.cudnn import workspaces
from bench.memory.simulated import installed_release
from bench.memory.trace import Workspace
from bench.pool import pool
from bench.provenance import provenance, source_fingerprint
from bench.records import Bound, CardResult, Edge, Memory, Parameters, Record, RecordStore
from bench.units import format_bytes
from bench.workload import Workload

REFERENCE_BATCH = 16  # where the bytes that one more image adds are read off


@dataclass(frozen=True)
class Cell:
    """One architecture on one task, and how its memory is measured."""

    architecture: str
    task: str
    workload: Workload
    memory: MemorySection

    @property
    def settings(self) -> dict[str, object]:
        """Everything that decides the result, as plain data."""
        return {
            "model": asdict(self.workload.options),
            "task": self.workload.task.model_dump(),
            "training": self.workload.training.model_dump(),
            "memory": self.memory.model_dump(exclude={"workspace"}),
        }

    @property
    def key(self) -> str:
        """A name for exactly this cell: its settings, the sources and torch's version."""
        identity = [self.architecture, self.task, self.settings, source_fingerprint(), torch.__version__]
        return hashlib.sha256(json.dumps(identity, sort_keys=True).encode()).hexdigest()[:10]


def cells(config: Config, architectures: Iterable[str] = (), tasks: Iterable[str] = ()) -> list[Cell]:
    """The cells of a suite, task by task; `architectures` and `tasks` replace the configuration's own.

    Raises:
        UsageError: an unknown architecture, task or operator; the message lists the known ones.
    """
    chosen_architectures = [
        _known("architecture", name, models.names()) for name in architectures or config.suite.architectures
    ]
    chosen_tasks = [_known("task", name, list(config.task)) for name in tasks or config.suite.tasks]
    for name in chosen_tasks:
        _known(f"operator of task {name}:", config.task[name].operator, operators.names())
    return [
        Cell(
            architecture, task, Workload(architecture, config.model, config.task[task], config.training), config.memory
        )
        for task in dict.fromkeys(chosen_tasks)
        for architecture in dict.fromkeys(chosen_architectures)
    ]


def _known(what: str, name: str, names: list[str]) -> str:
    for known in names:
        if known.lower() == name.lower():
            return known
    raise UsageError(f"unknown {what} {name!r}: known are {', '.join(names)}")


def run(
    cells: Sequence[Cell], cards: Sequence[Card], store: RecordStore, *, fresh: bool = False, jobs: int = 1
) -> Iterator[tuple[int, Record, bool]]:
    """Each cell's place in `cells`, its record, and whether it was made now; in the order in which they are done.

    A stored record that has all cards is taken as it is; one that lacks some, or tells of a failure, is made again.
    Each record is on disk before its process takes up the next cell.
    """
    todo: dict[int, Sequence[CardResult]] = {}
    for place, cell in enumerate(cells):
        stored = None if fresh else store.load(cell.task, cell.architecture, cell.key)
        if stored and stored.status == "ok" and all(stored.card(card.name) for card in cards):
            yield place, stored, False
        else:
            todo[place] = stored.memory.cards if stored and stored.memory else ()
    if len(todo) < 2 or jobs < 2:
        for place, earlier in todo.items():
            yield place, _measure_and_store(cells[place], cards, earlier, store), True
        return
    with pool(min(jobs, len(todo))) as workers:
        futures = {
            workers.submit(_measure_and_store, cells[place], cards, earlier, store): place
            for place, earlier in todo.items()
        }
        for future in as_completed(futures):
            yield futures[future], future.result(), True


def _measure_and_store(cell: Cell, cards: Sequence[Card], earlier: Sequence[CardResult], store: RecordStore) -> Record:
    result = measure(cell, cards, earlier)
    if result.status == "ok" or not earlier:  # a failure on a new card must not cost what the others gave
        store.save(result)
    return result


def measure(cell: Cell, cards: Sequence[Card], earlier: Iterable[CardResult] = ()) -> Record:
    """Measure one cell on all cards. Whatever fails inside the cell becomes its record, so that the other cells go on.

    Results of `earlier` for other cards are kept.
    """
    start = time.perf_counter()
    parameters = memory = reason = None
    try:
        parameters, memory = _measure_memory(cell, cards, earlier)
    except (NotRecordableError, ProbeFailedError) as error:
        reason = str(error)
    except Exception as error:  # noqa: BLE001 - a cell may run anybody's architecture: this is where its failure ends
        place = traceback.extract_tb(error.__traceback__)[-1]
        reason = f"{type(error).__name__}: {error} ({place.filename.rsplit('/', 1)[-1]}:{place.lineno})"
    return Record(
        key=cell.key,
        architecture=cell.architecture,
        task=cell.task,
        paper_task=cell.workload.task.paper,
        settings=cell.settings,
        status="ok" if reason is None else "failed",
        reason=reason,
        seconds=round(time.perf_counter() - start, 3),
        parameters=parameters,
        memory=memory,
        provenance=provenance(),
    )


def _measure_memory(cell: Cell, cards: Sequence[Card], earlier: Iterable[CardResult]) -> tuple[Parameters, Memory]:
    workload = cell.workload.for_recording()
    model = workload.build(torch.device("meta"))
    trace = record(workload.make_step, cell.memory.steps)
    on_card = _simulated if cell.memory.engine == "simulated" else _measured
    results = {result.card: result for result in earlier}
    results |= {card.name: on_card(cell, trace, card) for card in cards}
    memory = Memory(
        engine=cell.memory.engine,
        recorded_steps=cell.memory.steps,
        recorded_evaluations=workload.options.solver.max_evaluations,
        events=len(trace),
        operator_bytes=model.operator.constant_bytes,
        parameter_bytes=sum(p.numel() * p.element_size() for p in model.parameters()),
        peak_bytes_per_image={w.value: trace.peak_bytes_per_image(REFERENCE_BATCH, w) for w in Workspace},
        cards=list(results.values()),
    )
    return Parameters(trainable=model.trainable_parameters, paper=model.paper_parameters), memory


def simulated_engine(cell: Cell, trace: Trace, card: Card, kernels_of: str | None = None) -> SimulatedEngine:
    """The best prediction for a card: with cuDNN's own workspaces where they are known, else with the chosen bound.

    `kernels_of` names the card whose kernels run, where it is not the one whose memory is meant.
    """
    config = AllocatorConfig.parse(cell.memory.alloc_conf, installed_release())
    source = workspaces(
        kernels_of or card.name, allow_tf32=cell.memory.allow_tf32, deterministic=cell.memory.deterministic
    )
    return SimulatedEngine(trace, card, Workspace(cell.memory.workspace), config, source)


def cuda_engine(cell: Cell, card: Card, first_guess: int = 1, device: Device | None = None) -> CudaEngine:
    """The GPU, or a stand-in `device`, under a card's memory; it runs the step that is recorded."""
    return CudaEngine(
        cell.workload.for_recording().make_step,
        card,
        first_guess=first_guess,
        steps=cell.memory.steps,
        alloc_conf=cell.memory.alloc_conf,
        allow_tf32=cell.memory.allow_tf32,
        deterministic=cell.memory.deterministic,
        device=device,
    )


def _simulated(cell: Cell, trace: Trace, card: Card) -> CardResult:
    """One card's answers without a GPU: both bounds, and the exact one where all of cuDNN's workspaces are known."""
    best = simulated_engine(cell, trace, card)
    edges: dict[Bound, Edge] = {}
    for workspace in Workspace:
        edges[workspace.value] = _edge(largest_batch(SimulatedEngine(trace, card, workspace, best.config)))
    if best.workspaces is not None and best.knows_workspaces(1):
        boundary = largest_batch(best)
        if all(best.knows_workspaces(probe.batch) for probe in boundary.probes):
            edges["exact"] = _edge(boundary)
            return _result(card, edges, best.workspaces.cudnn_version)
    return _result(card, edges, None)


def _measured(cell: Cell, trace: Trace, card: Card) -> CardResult:
    """One card's answer from the GPU, whose context is measured first and takes its place in the card."""
    first = cuda_engine(cell, card)
    first.probe(1)
    context_bytes = first.measurements[1].context_bytes
    if context_bytes is not None:
        card = replace(card, context_bytes=context_bytes)
    guess = largest_batch(simulated_engine(cell, trace, card)).batch
    return _result(card, {"exact": _edge(largest_batch(cuda_engine(cell, card, guess)))}, None)


def _result(card: Card, edges: dict[Bound, Edge], cudnn_version: str | None) -> CardResult:
    return CardResult(
        card=card.name,
        total_bytes=card.total_bytes,
        context_bytes=card.context_bytes,
        usable_bytes=card.usable_bytes,
        cudnn=cudnn_version,
        edges=edges,
    )


def _edge(boundary: Boundary) -> Edge:
    at_edge = boundary.at_edge
    return Edge(
        largest_batch=boundary.batch,
        peak_allocated_bytes=at_edge.peak_allocated_bytes if at_edge else None,
        peak_reserved_bytes=at_edge.peak_reserved_bytes if at_edge else None,
        retries=at_edge.retries if at_edge else None,
        fallbacks=at_edge.fallbacks if at_edge else None,
        not_fitting=[probe.batch for probe in boundary.probes if not probe.fits],
        monotone=boundary.monotone,
    )


def check_cards_hold_parameters(records: Iterable[Record], cards: Iterable[Card]) -> None:
    """Refuse a card that could not even hold the parameters of a cell.

    Raises:
        UsageError: usable memory is smaller than the parameters.
    """
    for record_ in records:
        for card in cards:
            if record_.memory and card.usable_bytes < record_.memory.parameter_bytes:
                raise UsageError(
                    f"a cap of {card.name} leaves {format_bytes(card.usable_bytes)} beside the CUDA context, less than "
                    f"the parameters of {record_.architecture} ({format_bytes(record_.memory.parameter_bytes)}): "
                    "give a larger one"
                )
