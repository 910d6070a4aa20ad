"""Whether a step fits, laid out: the answer, then why, then what was assumed."""

from __future__ import annotations

from collections.abc import Sequence
from html import escape
from typing import Any

import pandas as pd

from bench.fitting import Answer, Assumption, OnCard
from bench.report.terminal import composition, markdown
from bench.units import format_bytes

ROWS = 5  # of what the peak is made of
VERSION = 1  # of the JSON


def text(answer: Answer) -> str:
    """Everything, as Markdown."""
    return "\n\n".join(part if isinstance(part, str) else markdown(part) for part in parts(answer))


def parts(answer: Answer) -> list[pd.DataFrame | str]:
    """Everything, as tables and paragraphs."""
    found: list[pd.DataFrame | str] = [table(answer), *sentences(answer)]
    if answer.made_of:
        found += [composition.breakdown(answer.made_of, ROWS), made_of_caption(answer)]
    if answer.assumed:
        found.append("Assumed:\n\n" + "\n".join(f"* {line}" for line in assumptions(answer.assumed)))
    return found


def html(answer: Answer) -> str:
    """Everything, as a fragment of HTML."""
    found = [_table_html(table(answer)), *map(_paragraph, sentences(answer))]
    if answer.made_of:
        found += [_table_html(composition.breakdown(answer.made_of, ROWS)), _paragraph(made_of_caption(answer))]
    if answer.assumed:
        lines = "".join(f"<li>{escape(line)}</li>" for line in assumptions(answer.assumed))
        found += [_paragraph("Assumed:"), f"<ul>{lines}</ul>"]
    return "\n".join(found)


def table(answer: Answer) -> pd.DataFrame:
    """One row per card: the largest batch, its peak, and what is left."""
    return pd.DataFrame(
        {
            "card": each.card.name,
            "largest batch": largest(each),
            "peak": _size(each.peak_bytes),
            "left": _size(each.left_bytes),
            "usable": format_bytes(each.card.usable_bytes),
        }
        for each in answer.cards
    )


def sentences(answer: Answer) -> list[str]:
    """About the batch that was asked for: yes or no, by how much, card by card; and where not even one sample fits."""
    if answer.batch is not None:
        return [_of_batch(each, answer.batch) for each in answer.cards]
    return [
        f"{each.card.name}: batch 1 does not fit; it takes {format_bytes(each.needed.peak_reserved_bytes)} of "
        f"{format_bytes(each.card.usable_bytes)}"
        for each in answer.cards
        if each.needed and not each.boundary.batch
    ]


def made_of_caption(answer: Answer) -> str:
    """Which peak it is."""
    explained = answer.made_of
    assert explained
    first = answer.cards[0]
    fits = first.asked.fits if first.asked else first.boundary.batch > 0
    title = f"{answer.step}, batch {explained.batch}, {explained.card.name}" + ("" if fits else " without a limit")
    by = "" if answer.engine == "simulated" else " As the recording sees it."
    shown = composition.breakdown_caption(explained, ROWS)
    return f"{composition.caption(explained, title)} {shown}{by}"


def assumptions(assumed: Sequence[Assumption]) -> list[str]:
    """What was taken to be so, with the line that it is about."""
    return [each.what + (f" ({each.where})" if each.where else "") for each in assumed]


def as_dict(answer: Answer, torch: str) -> dict[str, Any]:
    """The answer as plain data; `torch` is the release that it is about."""
    return {
        "format": VERSION,
        "step": answer.step,
        "engine": answer.engine,
        "torch": torch,
        "cards": [_card_as_dict(each) for each in answer.cards],
        "batch": answer.batch,
        "made_of": answer.made_of.as_dict() if answer.made_of else None,
        "assumed": [each._asdict() for each in answer.assumed],
    }


def _card_as_dict(each: OnCard) -> dict[str, Any]:
    edge = each.boundary.at_edge
    known: dict[str, Any] = {
        "card": each.card.name,
        "largest_batch": each.boundary.batch,
        "peak_allocated_bytes": edge and edge.peak_allocated_bytes,
        "peak_reserved_bytes": edge and edge.peak_reserved_bytes,
        "left_bytes": each.left_bytes,
        "usable_bytes": each.card.usable_bytes,
        "total_bytes": each.card.total_bytes,
    }
    if each.asked:
        known["asked"] = {
            "batch": each.asked.batch,
            "fits": each.asked.fits,
            "left_bytes": each.asked_left_bytes,
            "needed_bytes": each.needed and each.needed.peak_reserved_bytes,
        }
    return known


def _of_batch(each: OnCard, batch: int) -> str:
    name, left_bytes = each.card.name, each.asked_left_bytes
    assert left_bytes is not None
    usable = format_bytes(each.card.usable_bytes)
    if left_bytes >= 0:
        return f"{name}: yes, batch {batch} fits; {format_bytes(left_bytes)} of {usable} are left"
    missing = format_bytes(-left_bytes)
    return f"{name}: no, batch {batch} does not fit; it needs {missing} more than the {usable} there are"


def largest(each: OnCard) -> str:
    """The largest batch on a card, as people write it."""
    return f"{each.boundary.batch:,}" + (" or more" if each.has_no_edge else "")


def _size(size_bytes: int | None) -> str:
    return "" if size_bytes is None else format_bytes(size_bytes)


def _paragraph(sentence: str) -> str:
    return f"<p>{escape(sentence)}</p>"


def _table_html(shown: pd.DataFrame) -> str:
    return str(shown.to_html(index=False, border=0))
