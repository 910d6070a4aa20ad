"""Where the numbers of a report come from."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import pandas as pd

from bench.records import Record
from bench.report.cells import one_line
from bench.report.formats import Provenance


def provenance(records: Sequence[Record]) -> Provenance:
    """What the records have in common, and a row for each of them."""
    settings = [_flat(record.settings) for record in records]
    shared: dict[str, dict[str, str]] = {}
    for record, of_record in zip(records, settings, strict=True):
        of_group = shared.setdefault(_group(record), of_record)
        shared[_group(record)] = {name: value for name, value in of_group.items() if of_record.get(name) == value}
    rows = [
        _row(record, of_record.items() - shared[_group(record)].items())
        for record, of_record in zip(records, settings, strict=True)
    ]
    failed = sum(record.status == "failed" for record in records)
    summary = {
        "Records": f"{len(records)}" + (f", {failed} failed" if failed else ""),
        "Methods": _names(record.architecture for record in records),
        "Tasks": _names(record.task for record in records),
        "Memory by": _names(record.memory.engine for record in records if record.memory),
        "Time on": _names(record.timing.device for record in records if record.timing),
        "torch": _names(record.provenance.torch for record in records),
        "bench": _names(record.provenance.bench for record in records),
        "Measured": _days(records),
        "Commit": _names(record.provenance.commit for record in records if record.provenance.commit),
    }
    return Provenance(
        heading=tuple(filter(None, (summary["Tasks"], summary["Measured"], summary["Commit"]))),
        credit=credit(records),
        summary={name: text for name, text in summary.items() if text},
        shared_settings={group: dict(sorted(shared[group].items())) for group in sorted(shared)},
        records=pd.DataFrame(rows).map(one_line),
    )


def credit(records: Sequence[Record]) -> str:
    """Where numbers come from, on one line: "bench 0.1.0, torch 2.13.0, commit 6e387df9bd25, 2026-11-28"."""
    made = [record.provenance for record in records]
    parts = [
        f"bench {_names(each.bench for each in made)}",
        f"torch {_names(each.torch for each in made)}",
        *(f"commit {one_line(commit)}" for commit in dict.fromkeys(each.commit for each in made) if commit),
        _days(records),
    ]
    return ", ".join(filter(None, parts))


def _days(records: Sequence[Record]) -> str:
    """From the first to the last day on which they were made."""
    days = sorted({record.provenance.made.date().isoformat() for record in records})
    return " to ".join(dict.fromkeys([days[0], days[-1]])) if days else ""


def _group(record: Record) -> str:
    """Records whose settings are compared."""
    return f"{record.stage}, preset {record.preset}" if record.preset else record.stage


def _row(record: Record, settings: Iterable[tuple[str, str]]) -> dict[str, str]:
    made = record.provenance
    device = record.accuracy.device if record.accuracy else ""
    return {
        "task": record.task,
        "architecture": record.architecture,
        "stage": record.stage,
        "status": record.status if record.reason is None else f"{record.status}: {record.reason}",
        "engine or device": record.memory.engine
        if record.memory
        else record.timing.device
        if record.timing
        else device,
        "preset": record.preset or "",
        "image": "x".join(map(str, record.image_shape or ())),
        "torch": made.torch,
        "bench": made.bench,
        "commit": made.commit or "",
        "source": made.source,
        "python": made.python,
        "platform": made.platform,
        "made": made.created,
        "seconds": f"{record.seconds:.1f}",
        "key": record.key,
        "settings that differ": ", ".join(f"{name} = {value}" for name, value in sorted(settings)),
    }


def _flat(settings: Mapping[str, Any], prefix: str = "") -> dict[str, str]:
    """Nested settings as one level, "model.solver.memory", with values as text."""
    flat: dict[str, str] = {}
    for name, value in settings.items():
        if isinstance(value, Mapping):
            flat |= _flat(value, f"{prefix}{name}.")
        else:
            flat[prefix + name] = one_line(value if isinstance(value, str) else json.dumps(value))
    return flat


def _names(names: Iterable[str]) -> str:
    return one_line(", ".join(dict.fromkeys(names)))
