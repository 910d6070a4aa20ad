"""Table 3: parameters, and the largest training batch under each card's memory."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

import pandas as pd

from bench.memory.gpus import CARDS
from bench.records import Bound, CardResult, Record
from bench.report.paper import even, paper_tables
from bench.units import GiB, MiB

NONE_FITS = "-"  # as in the paper: batch size 1 does not fit
UNKNOWN = ""  # the paper has no such number

PARTS = {"the paper's number": r" / [\d-]*$", "in even numbers, as the paper counts": r" / [\d-]+$"}
"""What a cell says after the largest batch, the last first."""


def tidy(records: Iterable[Record], cards: Sequence[str], workspace: Bound = "high") -> pd.DataFrame:
    """One row per cell and card: parameters, largest batch (both bounds, ours and the paper's way), bytes.

    `largest_batch` is exact where the record has it so, else the one of the bound `workspace`; the column of that name
    says which. A failed cell has its reason and no numbers.
    """
    rows = []
    for record in records:
        paper = paper_tables()
        common = {
            "task": record.task,
            "architecture": record.architecture,
            "status": record.status,
            "parameters_trainable": record.parameters and record.parameters.trainable,
            "parameters_paper_count": record.parameters and record.parameters.paper,
            "parameters_in_paper": paper["parameters"].get(record.paper_task, {}).get(record.architecture),
            "peak_bytes_per_image": record.memory and record.memory.peak_bytes_per_image[workspace],
        }
        for name in cards:
            result = record.card(name)
            bound, edge = result.edge(workspace) if result else (None, None)
            capacity = _capacity(result) if result else ""
            in_paper = paper["max_batch"].get(record.paper_task, {}).get(capacity, {}).get(record.architecture)
            rows.append(
                common
                | {
                    "card": name,
                    "usable_bytes": result and result.usable_bytes,
                    "largest_batch": edge and edge.largest_batch,
                    "largest_even_batch": edge and even(edge.largest_batch),
                    "workspace": bound,
                    **{f"largest_batch_{b}": _largest(result, b) for b in ("exact", "high", "low")},
                    "largest_batch_in_paper": in_paper,
                    "peak_reserved_bytes": edge and edge.peak_reserved_bytes,
                    "engine": record.memory and record.memory.engine,
                    "torch": record.provenance.torch,
                    "reason": record.reason,
                }
            )
    frame = pd.DataFrame(rows)
    integers = [
        column for column in frame.columns if column.startswith(("parameters_", "largest_", "peak_", "usable_"))
    ]
    return frame.astype(dict.fromkeys(integers, "Int64"))


def _capacity(result: CardResult) -> str:
    """As the paper's Table 3 names it: a known card's is what is printed on the box, 24 GB of which 22.17 are there."""
    card = CARDS.get(result.card)
    return f"{card.capacity_gib if card else round(result.total_bytes / GiB)}GB"


def _largest(result: CardResult | None, bound: Bound) -> int | None:
    return result.edges[bound].largest_batch if result and bound in result.edges else None


def arranged(frame: pd.DataFrame) -> pd.DataFrame:
    """The tidy table in the paper's arrangement, as text: tasks and cards down, architectures across.

    A cell of a card's row reads "largest batch / largest even batch / the paper's number".
    """
    rows = []
    for task, of_task in _grouped(frame.itertuples(), "task").items():
        rows.append({"task": task, "row": "parameters"} | {cell.architecture: _parameters(cell) for cell in of_task})
        for card, of_card in _grouped(of_task, "card").items():
            rows.append({"task": task, "row": card} | {cell.architecture: _batches(cell) for cell in of_card})
        rows.append({"task": task, "row": "MiB per image"} | {cell.architecture: _per_image(cell) for cell in of_task})
    table = pd.DataFrame(rows).fillna("")
    table["task"] = table["task"].where(~table["task"].duplicated(), "")
    return table.rename(columns={"row": ""})


def _grouped(cells: Iterable[Any], name: str) -> dict[str, list[Any]]:
    groups: dict[str, list[Any]] = {}
    for cell in cells:
        groups.setdefault(getattr(cell, name), []).append(cell)
    return groups


def _parameters(cell: Any) -> str:
    return "failed" if cell.status == "failed" else f"{cell.parameters_paper_count:,}"


def _batches(cell: Any) -> str:
    if cell.status == "failed":
        return "failed"
    numbers = (cell.largest_batch, cell.largest_even_batch, cell.largest_batch_in_paper)
    return " / ".join(_batch(number) for number in numbers)


def _batch(number: Any) -> str:
    if pd.isna(number):
        return UNKNOWN
    return str(number) if number else NONE_FITS


def _per_image(cell: Any) -> str:
    return "failed" if cell.status == "failed" else f"{cell.peak_bytes_per_image / MiB:,.1f}"


def caption(frame: pd.DataFrame) -> str:
    """What the numbers are, in words, for above or below the table."""
    meaning = {
        "exact": "kernels' temporaries as cuDNN takes them",
        "high": "the most that kernels' temporaries can take",
        "low": "no temporaries inside kernels",
    }
    return (
        "Largest training batch: ours / ours in the paper's even numbers / the paper's (-: batch 1 does not fit). "
        f"Engine: {', '.join(frame['engine'].dropna().unique())}, "
        f"with {' or '.join(meaning[bound] for bound in frame['workspace'].dropna().unique())}; "
        f"torch {', '.join(frame['torch'].unique())}."
    )
