"""bench list: the architectures, operators, tasks and cards that there are to choose from."""

from __future__ import annotations

from bench.commands.common import ConfigFile


def list_known(
    config: ConfigFile = None,
) -> None:
    """The architectures, operators, tasks and cards that there are to choose from."""
    from bench import models, operators
    from bench.config import load
    from bench.memory.gpus import CARDS
    from bench.units import format_bytes

    settings = load(config)
    print("architectures:", ", ".join(models.names()))
    print("operators:    ", ", ".join(operators.names()))
    print("tasks:")
    for name, task in settings.task.items():
        options = ", ".join(f"{key}={value}" for key, value in task.options.items())
        print(f"  {name:12} {task.operator}({options})")
    print("cards (or any capacity, such as 8GB):")
    for card in CARDS.values():
        print(f"  {card.name:16} {format_bytes(card.total_bytes)}, {format_bytes(card.usable_bytes)} usable")
