"""The default suite's own training steps, recorded once, and what a PyTorch release answers to them.

One file per step, json.gz:

    step      "<architecture> <task>"
    sizes     [[base, slope], ...]: the distinct sizes, base + slope * batch bytes
    events    one number per event: n >= 0 allocates sizes[n]; n < 0 frees the allocation made -n allocations ago
    cases     batch, release, configuration, bytes of the device, and the answers (`Outcome`)

so the events of all batches, cards, releases and configurations are stored once.
"""

from __future__ import annotations

import gzip
import hashlib
import json
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from bench import config
from bench.cells import suite
from bench.memory import SimulatedEngine, Trace, card_of_capacity, largest_batch, record
from bench.memory.allocator.caching import FREE, Act, AllocatorConfig
from bench.memory.trace import Workspace
from tools.allocator_oracle.oracle import Answer, Event, Oracle

CAPS = ("8GB", "10GB", "24GB")
ALLOC_CONFS = (None, "expandable_segments:True")


@dataclass(frozen=True)
class Outcome:
    """What an allocator answered to a step, up to and without its first out of memory.

    `digest` is the SHA-256 of the answers [allocated, reserved, segments, retries] as little-endian 64-bit integers.
    """

    failed_event: int | None
    peak_allocated_bytes: int
    peak_reserved_bytes: int
    digest: str


def digest(answers: Sequence[Answer]) -> str:
    """The digest of an `Outcome`."""
    return hashlib.sha256(np.array(answers, dtype="<i8").tobytes()).hexdigest()


def encode(trace: Trace) -> dict[str, Any]:
    """The sizes and events of a file."""
    if trace.exceptions:
        raise ValueError(f"batches {list(trace.exceptions)} have a sequence of their own: not foreseen in the format")
    if trace.curve.any():
        raise ValueError("some sizes are quadratic in the batch: not foreseen in the format")
    numbers: dict[tuple[int, int], int] = {}
    number_of_key: dict[int, int] = {}
    events = []
    columns = (trace.key.tolist(), trace.base.tolist(), trace.slope.tolist(), trace.is_free.tolist())
    for key, base, slope, is_free in zip(*columns, strict=True):
        if is_free:
            events.append(number_of_key[key] - len(number_of_key))
        else:
            number_of_key[key] = len(number_of_key)
            events.append(numbers.setdefault((base, slope), len(numbers)))
    return {"sizes": [list(size) for size in numbers], "events": events}


def decode(step: dict[str, Any], batch: int) -> list[tuple[int, int | Act]]:
    """The (key, bytes or act) events of a file at one batch size, as bench.memory.allocator.caching.replay takes."""
    sizes = [base + slope * batch for base, slope in step["sizes"]]
    made = 0
    events: list[tuple[int, int | Act]] = []
    for number in step["events"]:
        if number < 0:
            events.append((made + number, FREE))
        else:
            events.append((made, sizes[number]))
            made += 1
    return events


def ask(oracle: Oracle, events: Iterable[tuple[int, int | Act]], total_bytes: int, alloc_conf: str | None) -> Outcome:
    """The oracle's outcome of a step."""
    lines = [_line(key, size) for key, size in events]
    answers = oracle.run(lines, total_bytes, alloc_conf=alloc_conf, stop_at_out_of_memory=True)
    served = [answer for answer in answers.after if answer is not None]
    failed_event = len(served) if len(served) < len(lines) else None
    return Outcome(failed_event, answers.peak_allocated_bytes, answers.peak_reserved_bytes, digest(served))


def _line(key: int, size: int | Act) -> Event:
    """One event, as the oracle reads it."""
    if size is Act.EMPTY_CACHE:
        return ("e",)
    return ("f", key) if size is FREE else ("a", key, size)


def write(oracles: Sequence[Oracle], folder: Path) -> None:
    """Write the files of every step of the default suite, at the edge of each card and one image beyond it."""
    folder.mkdir(parents=True, exist_ok=True)
    for cell in suite.cells(config.load(config.default_path())):
        trace = record(cell.workload.for_recording().make_step, cell.memory.steps)
        step = {"step": f"{cell.architecture} {cell.task}", **encode(trace), "cases": _cases(oracles, trace)}
        content = gzip.compress(json.dumps(step, separators=(",", ":")).encode(), mtime=0)
        (folder / f"{cell.architecture}_{cell.task}.json.gz").write_bytes(content)


def _cases(oracles: Sequence[Oracle], trace: Trace) -> list[dict[str, Any]]:
    cases = []
    for cap in CAPS:
        card = card_of_capacity(cap)
        for alloc_conf in ALLOC_CONFS:
            engine = SimulatedEngine(trace, card, Workspace.HIGH, AllocatorConfig.parse(alloc_conf))
            edge = largest_batch(engine).batch
            for batch in range(max(edge, 1), edge + 2):
                events = trace.at(batch, Workspace.HIGH)
                for oracle in oracles:
                    case = {"cap": cap, "batch": batch, "torch": oracle.release, "alloc_conf": alloc_conf}
                    outcome = ask(oracle, events, card.usable_bytes, alloc_conf)
                    cases.append({**case, "total_bytes": card.usable_bytes, **asdict(outcome)})
    return cases
