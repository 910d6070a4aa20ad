"""bench list: the architectures, operators, tasks and cards that there are to choose from."""

from __future__ import annotations

import shutil
import sys
import textwrap
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from bench.commands.common import ConfigFile, import_torch

if TYPE_CHECKING:
    from bench.memory import Card

_COLUMNS = 80


def list_known(
    what: Annotated[
        Literal["cards"] | None, typer.Argument(help="cards: each with its figures, and where they come from.")
    ] = None,
    config: ConfigFile = None,
) -> None:
    """The architectures, operators, tasks and cards that there are to choose from."""
    import_torch()
    from bench import models, operators, strategies
    from bench.config import load
    from bench.memory.gpus import CARDS
    from bench.units import format_bytes

    settings = load(config)
    own = settings.own_cards
    mine = {card.name for card in own}
    cards = [*own, *(card for card in CARDS.values() if card.name not in mine)]
    if what == "cards":
        for card in cards:
            print("\n".join(_described(card)))
        print()
        print("\n".join(_wrapped("Any capacity, such as 8GB, stands for the known cards that are sold with it.", 0)))
        return
    print("\n".join(_wrapped(f"architectures: {', '.join(models.names())}", indent=15)))
    print("\n".join(_wrapped(f"operators:     {', '.join(operators.names())}", indent=15)))
    print("strategies (with + between several: checkpoint+bf16):")
    for each in strategies.known():
        print("\n".join(_wrapped(f"  {each.name:16} {each.summary}", indent=19)))
    print("tasks:")
    for name, task in settings.task.items():
        options = ", ".join(f"{key}={value}" for key, value in task.options.items())
        print("\n".join(_wrapped(f"  {name:12} {task.operator}({options})", indent=15)))
    print("\n".join(_wrapped("cards (or any capacity, such as 8GB; `bench list cards` has figures and sources):", 2)))
    for card in cards:
        usable = "refused" if card.refusal else f"{format_bytes(card.usable_bytes)} usable"
        print(f"  {card.name:18} {format_bytes(card.total_bytes)}, {usable}")


def _described(card: Card) -> list[str]:
    """A card's figures on a line or two, and their source."""
    from bench.memory.gpus import ASSUMED_CONTEXT_BYTES
    from bench.units import format_bytes

    context = format_bytes(card.context_bytes)
    assumed = " (assumed)" if card.context_bytes == ASSUMED_CONTEXT_BYTES else ""
    parts = [f"{format_bytes(card.total_bytes)} ({card.total_bytes:,} bytes)", f"context {context}{assumed}"]
    if card.compute_capability and card.chip:
        major, minor = card.compute_capability
        parts += [f"compute capability {major}.{minor}", f"{card.multiprocessors} multiprocessors"]
        parts += [f"L2 {format_bytes(card.chip.l2_cache_bytes)}"]
        parts += [f"clocks {card.chip.clock_khz // 1000} and {card.chip.memory_clock_khz // 1000} MHz"]
        parts += [f"bus {card.chip.memory_bus_bits} bits"]
    if card.refusal:
        parts.append("refused: cuDNN does not know it any more")
    return [card.name, *_indented(", ".join(parts)), *_indented(f"source: {card.source}")]


def _indented(text: str) -> list[str]:
    return _wrapped(f"  {text}", indent=4)


def _wrapped(text: str, indent: int) -> list[str]:
    """Text in lines as wide as the terminal, or of 80 columns; names and numbers stay whole."""
    columns = shutil.get_terminal_size().columns if sys.stdout.isatty() else _COLUMNS
    return textwrap.wrap(text, columns, subsequent_indent=" " * indent, break_long_words=False, break_on_hyphens=False)
