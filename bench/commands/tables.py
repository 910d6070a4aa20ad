"""A run's tables, printed and written beside its records."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:  # pandas takes a second to import: only a table pays for it
    import pandas as pd

    from bench.config import Config
    from bench.records import Record, Stage


def report(
    stage: Stage,
    records: list[Record],
    cards: list[str],
    settings: Config,
    output: Path | None,
    *,
    printed: bool = True,
    note: str = "",
) -> None:
    """Write a stage's table into the output folder, if there is one, and print it, with a note below."""
    from bench.report.chosen import plain_or_all
    from bench.report.tables import profile, table2, table3, timing

    if stage == "memory":
        shown = plain_or_all(records)
        _show(table3, table3.tidy(shown, cards, settings.memory.workspace), output, printed, note)
    else:
        of_stage: Any = {"profile": profile, "timing": timing, "accuracy": table2}[stage]
        _show(of_stage, of_stage.tidy(records), output, printed, note)


def report_all(records: list[Record], output: Path | None, *, printed: bool = True) -> None:
    """Write Table 4, which is made of all stages, into the output folder, if there is one, and print it."""
    from bench.report.tables import table4

    _show(table4, table4.tidy(records), output, printed)


def report_strategies(
    records: list[Record], cards: list[str], settings: Config, output: Path | None, *, printed: bool = True
) -> None:
    """Write Table 3 with strategies as rows, and print it, if a cell has one."""
    from bench.report.tables import strategies

    frame = strategies.tidy(records, cards, settings.memory.workspace)
    if not frame.empty:
        _show(strategies, frame, output, printed)


def _show(module: Any, frame: pd.DataFrame, output: Path | None, printed: bool, note: str = "") -> None:
    """Write and print one of the tables of bench.report; its module's name is the files'."""
    from bench.report.terminal import print_table, write_table
    from bench.report.terminal.layout import LEAST

    name = module.__name__.rpartition(".")[2]
    table, caption = module.arranged(frame), module.caption(frame)
    if output:
        write_table(name, table, caption, frame, output)
    if printed:
        print_table(table, caption + note, LEAST.get(name, ()))
