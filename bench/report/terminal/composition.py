"""What a peak is made of, in words and tables: `bench explain`, and a failed test of memory."""

from __future__ import annotations

import pandas as pd

from bench.memory.explaining.explain import Category, Explanation, Row
from bench.module_names import merged
from bench.report.terminal import markdown
from bench.units import MiB, format_bytes

TOP = 10  # rows of the breakdown


def text(explanation: Explanation, title: str) -> str:
    """Everything below, as Markdown: why the batch does not fit, the categories and the largest groups of blocks."""
    parts = [markdown(categories(explanation)), caption(explanation, title)]
    if explanation.rows:
        parts += [markdown(breakdown(explanation, TOP)), breakdown_caption(explanation, TOP)]
    sentence = why_it_does_not_fit(explanation)
    return "\n\n".join([sentence, *parts] if sentence else parts)


def categories(explanation: Explanation) -> pd.DataFrame:
    """One row per category, then what is usable and the card itself."""
    card = explanation.card
    sizes = {category.value: size for category, size in explanation.categories.items()}
    sizes |= {"usable": card.usable_bytes, "card": card.total_bytes}
    return pd.DataFrame(
        {"": name, "bytes": f"{size:,}", "MiB": _mib(size), "of the card": f"{size / card.total_bytes:.1%}"}
        for name, size in sizes.items()
    )


def caption(explanation: Explanation, title: str) -> str:
    """Which moment the categories describe, and the peaks."""
    source = explanation.source
    what = "At its peak" if explanation.fits else "Where memory runs out"
    return (
        f"{title}. {what}: step {source.step}, {source.phase.value}, {source.short_op} at {source.place}. "
        f"Most at any time: {format_bytes(explanation.peak_allocated_bytes)} allocated, "
        f"{format_bytes(explanation.peak_reserved_bytes)} reserved."
    )


def breakdown(explanation: Explanation, top: int) -> pd.DataFrame:
    """The `top` largest groups of blocks, by category, module, line and operation."""
    return pd.DataFrame(
        {
            "category": row.category.value,
            "module": row.module,
            "line": row.place,
            "operation": row.op,
            "blocks": str(row.blocks),
            "MiB": _mib(row.size_bytes),
            "of the card": f"{row.size_bytes / explanation.card.total_bytes:.1%}",
        }
        for row in _groups(explanation)[:top]
    )


def _groups(explanation: Explanation) -> list[Row]:
    """The explanation's rows, largest first; those of modules that differ in their numbers alone are one."""
    shown = merged(row.module for row in explanation.rows)
    groups: dict[tuple[str, ...], Row] = {}
    for row in explanation.rows:
        what = row.category, shown[row.module], row.place, row.op
        before = groups.get(what)
        blocks, size_bytes = (before.blocks, before.size_bytes) if before else (0, 0)
        groups[what] = Row(*what, blocks + row.blocks, size_bytes + row.size_bytes)
    return sorted(groups.values(), key=lambda row: -row.size_bytes)


def breakdown_caption(explanation: Explanation, top: int) -> str:
    """How much of it the breakdown shows."""
    groups = len(_groups(explanation))
    return f"The {min(top, groups)} largest of {groups} groups of blocks (*: several modules)."


def why_it_does_not_fit(explanation: Explanation) -> str | None:
    """One sentence: what asks for how much, and how much is left; None where the batch fits."""
    request_bytes = explanation.failed_request_bytes
    if request_bytes is None:
        return None
    source, category = explanation.source, explanation.category_of[explanation.history[explanation.moment].key]
    return (
        f"batch {explanation.batch} does not fit: {source.short_op} at {source.place} (step {source.step}, "
        f"{source.phase.value}) asks for {format_bytes(request_bytes)} of {category.value}, and "
        f"{format_bytes(explanation.categories[Category.FREE])} are not reserved yet"
    )


def _mib(size_bytes: int) -> str:
    return f"{size_bytes / MiB:,.2f}"
