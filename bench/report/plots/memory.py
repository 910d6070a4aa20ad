"""Pictures of the stage memory: the largest batch by card, memory over the batch."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from matplotlib.figure import Figure

from bench.records import Bound, CardResult, Edge, Memory, Record
from bench.report.methods import by_task, label, newest
from bench.report.plots.labels import Named, name_ends
from bench.report.plots.palette import NOTE
from bench.report.plots.style import Look, finish, log_scale, looks, task_grid, tip
from bench.units import GiB, MiB

_ROW_INCHES = 0.2
_LEFT = 0.7  # of the logarithmic axis of batches, on which none has no place


def largest_batch(records: Sequence[Record]) -> Figure | None:
    """Points: the largest batch, card by card and method by method; a line reaches to the other bound, if there is one.

    A row says its own name and number; "none" stands where batch 1 does not fit.
    """
    records = newest(records, "memory")
    if not records:
        return None
    tasks = by_task(records)
    rows = max(len(_cards(of_task)) * (len(of_task) + 1) for of_task in tasks.values())
    figure, axes_of = task_grid(list(tasks), 3.9, 1.0 + _ROW_INCHES * rows)
    look = looks(label(record, records) for record in records)
    for task, of_task in tasks.items():
        axes, names, height = axes_of[task], {}, 0
        for card in _cards(of_task):
            names[height] = card.card
            for record in of_task:
                name = label(record, records)
                result = record.card(card.card)
                if result is not None:
                    height += 1
                    names[height] = name
                    _draw_answer(axes, height, result, look[name], f"{name} on {task}, {card.card}")
            height += 1
        axes.set_yticks(list(names), list(names.values()))
        for words in axes.get_yticklabels():
            words.set_weight("bold" if words.get_text() in {card.card for card in _cards(of_task)} else "normal")
        axes.tick_params(axis="y", length=0)
        axes.grid(axis="y", visible=False)
        axes.set_xlim(_LEFT, 4 * max(_LEFT, axes.dataLim.x1))
        axes.set_ylim(height - 0.3, -0.7)
        log_scale(axes, "x")
        bounded = any(_reach(card) for record in of_task if record.memory for card in record.memory.cards)
        line = "\n(line: up to nothing taken inside kernels)" if bounded else ""
        axes.set_xlabel(f"largest training batch, images{line}")
    finish(figure)
    return figure


def _draw_answer(axes: Any, height: float, result: CardResult, look: Look, name: str) -> None:
    batch, reach = result.edge("high")[1].largest_batch, _reach(result)
    interval = f"{batch} to {batch + reach}" if reach else str(batch)
    if reach:
        interval_look = {"color": NOTE[0], "linewidth": 1.5, "linestyle": "-", "marker": "|", "zorder": 1}
        axes.plot([max(batch, _LEFT), batch + reach], [height, height], **interval_look)
    if batch:
        (point,) = axes.plot([batch], [height], **look.point)
        tip(point, f"{name}: {interval} images")
    text = interval if batch or reach else "none"
    at = max(batch + reach, _LEFT)
    axes.annotate(text, (at, height), (7, 0), textcoords="offset points", va="center", fontsize=8)


def _cards(records: Sequence[Record]) -> list[CardResult]:
    """One result of each card, the smallest card first."""
    cards = {card.card: card for record in records if record.memory for card in record.memory.cards}
    return sorted(cards.values(), key=lambda card: (card.total_bytes, card.card))


def _reach(result: CardResult) -> int:
    """How many images more the bound without temporaries inside kernels promises; none of an exact answer."""
    if "exact" in result.edges:
        return 0
    return max(result.edges["low"].largest_batch - result.edges["high"].largest_batch, 0)


def memory_by_batch(records: Sequence[Record]) -> Figure | None:
    """Peaks over the batch, and the cards' usable memory; a line's slope is what an image adds.

    Points are the peaks reserved at the cards' largest batches: full ones exact, empty ones with the most that kernels
    can take inside. Lines are the peak allocated with that most: through the largest batch's, by an image's bytes.
    """
    records = newest(records, "memory")
    if not records:
        return None
    tasks = by_task(records)
    figure, axes_of = task_grid(list(tasks), 4.2, 3.8)
    look = looks(label(record, records) for record in records)
    for task, of_task in tasks.items():
        axes, cards = axes_of[task], _cards(of_task)
        top = max(card.usable_bytes for card in cards) / GiB
        axes.set(ylim=(0, 1.02 * top), xlim=(0, 1.05 * max(1, *map(_furthest, of_task))))
        ends = []
        for record in of_task:
            name = label(record, records)
            end = _draw_method(axes, record, look[name], f"{name} on {task}")
            if end is not None and record.memory is not None:
                slope = record.memory.peak_bytes_per_image["high"] / MiB
                ends.append(Named(end, top, f"{name}: {slope:,.0f} MiB per image", look[name].color))
        _draw_caps(axes, cards)
        name_ends(axes, ends)
        axes.set(xlabel="batch, images", ylabel="peak, GiB (line: allocated, points:\nreserved, full if exact)")
    finish(figure)
    return figure


def _furthest(record: Record) -> int:
    edges = [edge for card in record.memory.cards for edge in card.edges.values()] if record.memory else []
    return max((edge.largest_batch for edge in edges), default=0)


def _draw_method(axes: Any, record: Record, look: Look, name: str) -> float | None:
    """Draw one method's line and points: where the line ends, or None where nothing fits."""
    assert record.memory is not None
    exact, high = (_edges(record.memory, bound) for bound in ("exact", "high"))
    edges = exact or high
    if not edges:
        return None
    last = (high or exact)[-1]
    line = np.array([1, last.largest_batch])
    slope = record.memory.peak_bytes_per_image["high"]
    allocated = (last.peak_allocated_bytes or 0) + slope * (line - last.largest_batch)
    (drawn,) = axes.plot(line, allocated / GiB, **look.line | {"marker": "none"})
    tip(drawn, f"{name}: {slope / MiB:,.1f} MiB per image")
    face = {"markerfacecolor": look.color if exact else "white", "zorder": 3}
    for edge in edges:
        reserved = edge.peak_reserved_bytes or 0
        (point,) = axes.plot([edge.largest_batch], [reserved / GiB], **look.point | face)
        tip(point, f"{name}: batch {edge.largest_batch} reserves {reserved / GiB:.2f} GiB")
    return float(last.largest_batch)


def _edges(memory: Memory, bound: Bound) -> list[Edge]:
    """Where one bound has something that fits, the smallest batch first."""
    edges = [card.edges[bound] for card in memory.cards if bound in card.edges]
    return sorted((edge for edge in edges if edge.largest_batch), key=lambda edge: edge.largest_batch)


def _draw_caps(axes: Any, cards: Sequence[CardResult]) -> None:
    for card in cards:
        usable = card.usable_bytes / GiB
        axes.axhline(usable, color=NOTE[0], linewidth=1, linestyle=(0, (6, 3)))
        axes.annotate(card.card, (1.01, usable), xycoords=("axes fraction", "data"), va="center", fontsize=8)
