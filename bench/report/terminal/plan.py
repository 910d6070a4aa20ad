"""A plan as a table, a sentence, JSON and a picture."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING

import pandas as pd

from bench.files import write_atomically
from bench.report.terminal.fit import assumptions
from bench.units import GiB, format_bytes

if TYPE_CHECKING:
    from bench.planning import Plan


def parts(plan: Plan) -> list[pd.DataFrame | str]:
    """Everything, as tables and paragraphs."""
    found: list[pd.DataFrame | str] = [table(plan), sentence(plan)]
    if plan.remarks:
        found.append(_listed("", plan.remarks))
    if plan.assumed:
        found.append(_listed("Assumed:\n\n", assumptions(plan.assumed)))
    return found


def _listed(title: str, lines: Sequence[str]) -> str:
    return title + "\n".join(f"* {line}" for line in lines)


def table(plan: Plan) -> pd.DataFrame:
    """The front: a row per combination of which none is both cheaper and smaller."""
    rows = [
        {
            "strategy": choice.strategy,
            plan.measure[0]: "unknown" if choice.work is None else f"{choice.work:.2f}",
            "peak, GiB": f"{choice.peak_reserved_bytes / GiB:.2f}",
            "fits": "yes" if choice.fits else "no",
        }
        for choice in plan.front
    ]
    return pd.DataFrame(rows)


def sentence(plan: Plan) -> str:
    """Which to choose, or by how much the nearest misses the card."""
    what = f"{plan.name}, batch {plan.batch}, {plan.card.name}"
    measure, meaning = plan.measure
    how = "simulated" if plan.what.get("engine", "simulated") == "simulated" else "run"
    tried = f"{len(plan.choices)} combinations {how}; {measure}: {meaning}."
    if (best := plan.cheapest) is not None:
        times = "" if best.work is None else f", with {best.work:.2f} times the {measure} of plain"
        return f"{what}: {best.strategy} fits{times}. {tried}"
    nearest = min(plan.choices, key=lambda choice: choice.peak_reserved_bytes)
    return (
        f"{what}: nothing fits. {nearest.strategy} comes nearest, with {format_bytes(nearest.peak_reserved_bytes)}: "
        f"{format_bytes(max(plan.missing_bytes, 0))} are missing. {tried}"
    )


def as_json(plan: Plan) -> str:
    """All combinations, and the names of the front's and of the cheapest that fits."""
    best = plan.cheapest
    values = {
        **plan.what,
        "card": plan.card.name,
        "usable_bytes": plan.card.usable_bytes,
        "batch": plan.batch,
        "choices": [asdict(choice) for choice in plan.choices],
        "front": [choice.strategy for choice in plan.front],
        "cheapest": best and best.strategy,
        "missing_bytes": max(plan.missing_bytes, 0) if best is None else None,
        "measure": plan.measure[1],
        "remarks": plan.remarks,
        "assumed": [each._asdict() for each in plan.assumed],
    }
    return json.dumps(values, indent=1)


def draw(plan: Plan, path: Path) -> None:
    """Write a picture: each combination by its memory and work, the front as a line, and the card's memory.

    Those whose work is not known are left out.
    """
    from bench.report.plots.style import as_files, finish, new_figure, style

    with style():
        figure = new_figure(6.4, 4.2)
        axes = figure.add_subplot()
        for choices, marker, label in ((plan.choices, "o", "combinations"), (plan.front, "s", "front")):
            known = [choice for choice in choices if choice.work is not None]
            memory = [choice.peak_reserved_bytes / GiB for choice in known]
            axes.plot(memory, [choice.work or 0 for choice in known], marker if label != "front" else "s-", label=label)
        for choice in plan.front:
            if choice.work is None:
                continue
            place = (choice.peak_reserved_bytes / GiB, choice.work)
            axes.annotate(choice.strategy, place, (4, 4), textcoords="offset points", rotation=25, fontsize=6)
        axes.axvline(plan.card.usable_bytes / GiB, linestyle="--", color="#707070", label=f"{plan.card.name}, usable")
        axes.set_xlabel(f"peak at batch {plan.batch}, GiB reserved")
        axes.set_ylabel(f"{plan.measure[0]} relative to plain")
        axes.set_title(plan.name)
        finish(figure)
        suffix = path.suffix.removeprefix(".")
        write_atomically(path, as_files(figure, [suffix])[suffix])
