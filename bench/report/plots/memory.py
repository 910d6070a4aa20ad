"""Pictures of the stage memory: the largest batch by card, memory over the batch."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from matplotlib.figure import Figure

from bench.records import Bound, CardResult, Edge, Memory, Record
from bench.report.methods import by_task, label, newest
from bench.report.plots.style import finish, log_scale, looks, task_grid
from bench.units import GiB

_BOTTOM = 0.5  # of the logarithmic axis of batches, on which none is nothing and 1 is seen


def largest_batch(records: Sequence[Record]) -> Figure | None:
    """Bars: the largest batch by card and method; a whisker reaches to the other bound where it is not exact."""
    records = newest(records, "memory")
    if not records:
        return None
    tasks = by_task(records)
    figure, axes_of = task_grid(list(tasks), max(4.6, 1.5 * len(_cards(records))))
    look = looks(label(record, records) for record in records)
    for task, of_task in tasks.items():
        axes, cards = axes_of[task], _cards(of_task)
        width = 0.84 / len(of_task)
        for place, record in enumerate(of_task):
            results = {at: result for at, card in enumerate(cards) if (result := record.card(card.card))}
            heights = [result.edge("high")[1].largest_batch for result in results.values()]
            above = [_reach(result) for result in results.values()]
            name = label(record, records)
            bars = axes.bar(
                np.array(list(results)) + (place - (len(of_task) - 1) / 2) * width,
                np.maximum(heights, _BOTTOM) - _BOTTOM,
                0.94 * width,
                bottom=_BOTTOM,
                yerr=[np.zeros(len(above)), above],
                error_kw={"ecolor": "#707070", "elinewidth": 1.2},
                label=name,
                **look[name].area,
            )
            axes.bar_label(bars, [str(height or "none") for height in heights], padding=1, fontsize=7)
        axes.set_xticks(range(len(cards)), [card.card for card in cards])
        axes.grid(axis="x", visible=False)
        is_bound = any(_reach(card) for record in of_task if record.memory for card in record.memory.cards)
        whisker = "\n(whisker: nothing taken inside kernels)" if is_bound else ""
        axes.set_ylabel(f"largest training batch, images{whisker}")
        log_scale(axes, "y")
        axes.set_ylim(bottom=_BOTTOM)
    finish(figure)
    return figure


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
    """Peaks over the batch, and the cards' usable memory.

    Points are the peaks reserved at the cards' largest batches: full ones exact, empty ones with the most that kernels
    can take inside. Lines are the peak allocated with that most: through the largest batch's, by an image's bytes.
    """
    records = newest(records, "memory")
    if not records:
        return None
    tasks = by_task(records)
    figure, axes_of = task_grid(list(tasks), 4.2, 3.6)
    look = looks(label(record, records) for record in records)
    for task, of_task in tasks.items():
        axes, cards = axes_of[task], _cards(of_task)
        for record in of_task:
            assert record.memory is not None
            name = label(record, records)
            exact, high = (_edges(record.memory, bound) for bound in ("exact", "high"))
            edges = exact or high
            if not edges:
                continue
            last = (high or exact)[-1]
            line = np.arange(1, last.largest_batch + 1)
            slope = record.memory.peak_bytes_per_image["high"]
            allocated = (last.peak_allocated_bytes or 0) + slope * (line - last.largest_batch)
            known_as = look[name].line | {"markerfacecolor": look[name].color if exact else "white"}
            axes.plot(line, allocated / GiB, **look[name].line | {"marker": "none"})
            reserved = [(edge.peak_reserved_bytes or 0) / GiB for edge in edges]
            axes.plot([edge.largest_batch for edge in edges], reserved, **known_as | {"linestyle": "none"})
            axes.plot([], [], label=name, **known_as)
        _draw_caps(axes, cards)
        log_scale(axes, "both")
        axes.set(
            xlabel="batch, images",
            ylabel="peak, GiB (line: allocated, points:\nreserved, full if exact, empty if a bound)",
        )
    finish(figure)
    return figure


def _edges(memory: Memory, bound: Bound) -> list[Edge]:
    """Where one bound has something that fits, the smallest batch first."""
    edges = [card.edges[bound] for card in memory.cards if bound in card.edges]
    return sorted((edge for edge in edges if edge.largest_batch), key=lambda edge: edge.largest_batch)


def _draw_caps(axes: Any, cards: Sequence[CardResult]) -> None:
    for card in cards:
        usable = card.usable_bytes / GiB
        axes.axhline(usable, color="#606060", linewidth=1, linestyle=(0, (6, 3)))
        axes.annotate(card.card, (1.01, usable), xycoords=("axes fraction", "data"), va="center", fontsize=8)
