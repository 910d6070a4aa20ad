"""Predictions against a real GPU or the virtual card, cell by cell and cap by cap.

For each cell and cap: the predicted largest batch B and B + 1 run on the GPU under the cap; where they disagree with
the prediction, the edge is searched for. The simulated and the measured peaks stand side by side. On the virtual card
the recording is also held against it event for event, at the measured edge.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from dataclasses import asdict
from pathlib import Path

from pydantic import ValidationError

from bench.cells import code
from bench.cells.cell import Cell
from bench.cells.provenance import provenance
from bench.engines import EngineName
from bench.errors import UsageError
from bench.files import locked, read_json, write_atomically
from bench.memory import Card, Probe, Trace, largest_batch
from bench.memory.gpus import card_of_device
from bench.memory.measuring.cuda import Device, ProbeFailedError
from bench.records import Peak, Row, Validation
from bench.stages.memory import recorded, running_engine, simulated_engine
from bench.units import MiB
from bench.virtual import VirtualEngine
from bench.virtual.comparison import TooDifferentError, compare
from bench.virtual.explained import recorded_events
from bench.virtual.figures import kernels_of

LARGEST_BYTES = 256 * MiB

Identity = tuple[str, str, str, str]
"""Architecture, task, cap and key of a row."""


def load(path: Path) -> Validation | None:
    """A stored validation, or None.

    Raises:
        UsageError: the file is there but cannot be read, or is damaged.
    """
    try:
        return Validation.model_validate_json(read_json(path, LARGEST_BYTES))
    except FileNotFoundError:
        return None
    except OSError as error:
        raise UsageError(f"cannot read {path}: {error.strerror}") from error
    except ValidationError as error:
        raise UsageError(f"{path} is no validation ({error.errors()[0]['msg']}): move it away to start anew") from error


def run(
    cells: Sequence[Cell],
    cards: Sequence[Card],
    path: Path,
    device_name: str,
    *,
    engine: EngineName = "cuda",
    device: Device | None = None,
    time_limit_seconds: float = float("inf"),
) -> Iterator[tuple[Row, bool]]:
    """Validate every cell under every card's memory; yields each row and whether it was made now.

    Rows already in `path` are taken from there; each new one is in it before the next begins. No row is begun after
    `time_limit_seconds`: the same call goes on from there.
    """
    start = time.monotonic()
    done = {name: row for name, row in _rows(path).items() if row.status == "ok"}
    for cell in cells:
        trace = None
        for card in cards:
            stored = done.get((cell.architecture, cell.task, card.name, cell.key))
            if stored is not None:
                yield stored, False
                continue
            if time.monotonic() - start > time_limit_seconds:
                return
            trace = trace or recorded(cell)
            row = validate(cell, card, trace, device_name, engine, device)
            _store(path, row, device_name)
            yield row, True


def _rows(path: Path) -> dict[Identity, Row]:
    """What a file has, by what it is about."""
    stored = load(path)
    return {_identity(row): row for row in stored.rows} if stored else {}


def _identity(row: Row) -> Identity:
    return row.architecture, row.task, row.cap, row.key


def _store(path: Path, row: Row, device_name: str) -> None:
    """Add a row to a file, beside those that others put there meanwhile; a failure replaces no result."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with locked(path.parent):
        rows = _rows(path)
        before = rows.get(_identity(row))
        if row.status != "ok" and before is not None and before.status == "ok":
            return
        rows[_identity(row)] = row
        source = code.HERE.fingerprint(["bench.stages.memory", "bench.cells.workload"])
        result = Validation(device=device_name, rows=list(rows.values()), provenance=provenance(source))
        write_atomically(path, result.model_dump_json(indent=1) + "\n")


def validate(
    cell: Cell,
    card: Card,
    trace: Trace,
    device_name: str,
    engine: EngineName = "cuda",
    device: Device | None = None,
) -> Row:
    """Hold the prediction for one cell under one card's memory against the GPU, or against the virtual card.

    Both run the step that is recorded: solves of as many evaluations as have the memory of all of them. The kernels are
    the GPU's own, whatever card its memory is capped to; on the virtual card they are the card's.
    """
    start = time.perf_counter()
    kernels = kernels_of(card) if engine == "virtual" else card_of_device(device_name)
    simulated = simulated_engine(cell, trace, card, kernels_of=kernels)
    prediction = largest_batch(simulated)
    predicted_batch = prediction.batch
    is_known = all(simulated.knows_workspaces(probe.batch) for probe in prediction.probes)
    running = running_engine(engine, cell, card, max(predicted_batch, 1), device)
    measured_batch, reason = None, None
    events: dict[str, int] = {}
    try:
        trusted = predicted_batch if engine == "virtual" else None
        measured_batch = largest_batch(running, trusted=trusted).batch
        if isinstance(running, VirtualEngine) and measured_batch:
            of_recording = recorded_events(simulated, measured_batch, fits=True)
            events = compare(of_recording, running.watch(measured_batch).events).summary()
    except (ProbeFailedError, TooDifferentError) as error:
        reason = str(error)
    tried, images = sorted(running.measurements.items()), cell.workload.images
    return Row(
        architecture=cell.architecture,
        task=cell.task,
        cap=card.name,
        key=cell.key,
        status="ok" if reason is None else "failed",
        reason=reason,
        usable_bytes=card.usable_bytes,
        workspaces="cudnn" if is_known else "bound",
        predicted_batch=images(predicted_batch),
        measured_batch=None if measured_batch is None else images(measured_batch),
        predicted=[_peak(simulated.probe(batch), images(batch)) for batch, _ in tried],
        measured=[_peak(running.probes[batch], images(batch)) for batch, _ in tried],
        measurements=[{"batch": images(batch)} | asdict(seen) for batch, seen in tried],
        events=events,
        seconds=round(time.perf_counter() - start, 1),
    )


def _peak(probe: Probe, images: int) -> Peak:
    return Peak(
        batch=images,
        fits=probe.fits,
        allocated_bytes=probe.peak_allocated_bytes,
        reserved_bytes=probe.peak_reserved_bytes,
        retries=probe.retries,
        fallbacks=probe.fallbacks,
    )
