"""bench run: measure every cell of the suite, stage by stage, and print the tables."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial
from itertools import chain
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from bench.commands.common import DEFAULT_OUTPUT, MOST_JOBS, ConfigFile, Names, check_folder, import_torch, listed, say

if TYPE_CHECKING:  # torch takes over a second to import: only a run pays for it
    from bench.cells.cell import Cell
    from bench.config import Config
    from bench.execution.sharding import Shard
    from bench.memory import Card
    from bench.records import Record, Stage


def cards_given(gpu_caps: Names, gpus: Names) -> dict[str, object]:
    """The cards of the command line, which replace all those of the configuration; none if none are given."""
    caps, names = listed("--gpu-cap", gpu_caps), listed("--gpu", gpus)
    return {"gpu_caps": caps or [], "gpus": names or []} if caps or names else {}


def run(
    gpu_cap: Annotated[
        Names, typer.Option(help="Memory of cards, such as 8GB (= 8 GiB) or 8000MB; 8GB,24GB for several.")
    ] = None,
    gpu: Annotated[Names, typer.Option(help="Named cards, with commas between them: see `bench list`.")] = None,
    architecture: Annotated[Names, typer.Option(help="Only these architectures, with commas between them.")] = None,
    task: Annotated[Names, typer.Option(help="Only these tasks, with commas between them.")] = None,
    strategy: Annotated[
        Names, typer.Option(help="How to train them, such as plain,recomputed,checkpoint+bf16; `bench list` has all.")
    ] = None,
    stages: Annotated[
        Names, typer.Option(help="What to measure: memory,profile,timing,accuracy. [default: all but accuracy]")
    ] = None,
    preset: Annotated[
        str | None, typer.Option(help="Sizes of timing and accuracy. [default: demo on a CPU, paper on a GPU]")
    ] = None,
    config: ConfigFile = None,
    engine: Annotated[
        str | None,
        typer.Option(help="What answers: simulated, virtual (neither needs a GPU) or cuda. [default: simulated]"),
    ] = None,
    alloc_conf: Annotated[
        str | None, typer.Option(help="PyTorch's allocator options, in its syntax: expandable_segments:True")
    ] = None,
    allow_tf32: Annotated[
        bool | None, typer.Option(help="torch.backends.cudnn.allow_tf32 while training. [default: on]")
    ] = None,
    deterministic: Annotated[
        bool | None, typer.Option(help="torch.backends.cudnn.deterministic while training. [default: off]")
    ] = None,
    json: Annotated[bool, typer.Option("--json", help="Print the records as JSON instead of the tables.")] = False,
    output: Annotated[Path, typer.Option(help="Folder for records and tables.")] = DEFAULT_OUTPUT,
    jobs: Annotated[
        int | None, typer.Option(min=1, max=MOST_JOBS, help="Cells measured side by side. [default: one per core]")
    ] = None,
    fresh: Annotated[bool, typer.Option("--fresh", help="Measure again what is already recorded.")] = False,
    shard: Annotated[
        str | None, typer.Option(help="Only a part of the cells, such as 2/4, the second of four; see `bench merge`.")
    ] = None,
) -> None:
    """Measure memory (to the byte), its composition, time and accuracy of every architecture on every task.

    Each stage of each cell is recorded in the output folder as soon as it is measured. An interrupted run goes on
    where it stopped when the same command is given again. Options that name several things may also be repeated.
    """
    import_torch("bench.cells.suite", "bench.report.terminal")
    from bench.cells.stale import told
    from bench.commands.measuring import (
        at_preset,
        check_none_failed,
        chosen_cards,
        measured,
        say_what_diverged,
        say_what_is_doubtful,
        with_environment,
    )
    from bench.config import load
    from bench.execution.sharding import Shard
    from bench.records.store import RecordStore, to_json
    from bench.report import summary
    from bench.report.terminal import print_json

    part = Shard.parse(shard) if shard is not None else None
    given: dict[str, dict[str, object]] = {
        "suite": {
            "stages": listed("--stages", stages),
            "preset": preset,
            "architectures": listed("--architecture", architecture),
            "tasks": listed("--task", task),
            "strategies": listed("--strategy", strategy),
            **cards_given(gpu_cap, gpu),
        },
        "memory": {
            "engine": engine,
            "alloc_conf": alloc_conf,
            "allow_tf32": allow_tf32,
            "deterministic": deterministic,
        },
    }
    given = with_environment(config, given)
    settings = load(config, given)
    if settings.suite.preset != "auto":  # which cells there are a preset may say; sizes of memory it does not change
        settings = settings.model_copy(update={"suite": at_preset(settings, config, given).suite})
    cards = chosen_cards(settings, [], [])
    check_folder("--output", output)
    cells, note = _cells(settings, config, given, cards), ""
    if part:
        cells, note = _of_shard(part, cells)
    store = RecordStore(output / "records", say)
    if not fresh and (stale := told(chain.from_iterable(cells.values()), store)):
        say(stale)
    records = _measured(
        cells,
        cards,
        settings,
        measure=partial(measured, store=store, fresh=fresh, jobs=jobs),
        output=None if part else output,
        printed=not json,
        note=note,
    )
    say_what_diverged(records)
    say_what_is_doubtful(records)
    if json:
        print_json(to_json(records))
    say(summary.counted(records))
    say(summary.found(records, [card.name for card in cards], settings.memory.workspace))
    say(_where(output, is_part=part is not None))
    check_none_failed(records)


def _cells(
    settings: Config, config: Path | None, given: Mapping[str, Mapping[str, object]], cards: list[Card]
) -> dict[Stage, list[Cell]]:
    """The cells of each stage, after a look at what they need: a GPU, or a CUDA build, and images."""
    from bench.cells import suite
    from bench.commands.measuring import at_preset, gpu_for, virtual_cards
    from bench.commands.train import check_images
    from bench.records import FULL_SIZE

    if "memory" in settings.suite.stages and settings.memory.engine != "simulated":
        {"cuda": gpu_for, "virtual": virtual_cards}[settings.memory.engine](cards)
    cells = {
        stage: suite.cells(
            settings if stage in FULL_SIZE else at_preset(settings, config, given),
            stage=stage,
            cards=cards,
            say=say if stage == settings.suite.stages[0] else _silent,
        )
        for stage in settings.suite.stages
    }
    check_images(cells.get("accuracy", ()))
    return cells


def _measured(
    cells: Mapping[Stage, list[Cell]],
    cards: list[Card],
    settings: Config,
    *,
    measure: Callable[[list[Cell]], list[Record]],
    output: Path | None,
    printed: bool,
    note: str,
) -> list[Record]:
    """The records of all cells. Each stage's table is written into the output folder, if there is one, and printed."""
    from bench.cells import suite
    from bench.commands.measuring import say_what_was_virtual
    from bench.commands.tables import report, report_all, report_strategies
    from bench.report.chosen import plain_or_all

    names = [card.name for card in cards]
    records: list[Record] = []
    for stage, of_stage in cells.items():
        made = measure(of_stage)
        records += made
        if made:
            report(stage, made, names, settings, output, printed=printed, note=note)
        if stage == "memory":
            if settings.memory.engine == "virtual":
                say_what_was_virtual(made)
            suite.check_cards_hold_parameters(made, cards)
    if len(cells) > 1 and not note:  # a shard's tables are no whole
        report_all(plain_or_all(records), output, printed=printed)
    report_strategies(records, names, settings, output, printed=printed)
    return records


def _silent(sentence: str) -> None:
    """Say nothing."""


def _where(output: Path, *, is_part: bool) -> str:
    """Where a run's results are, and what makes more of them."""
    if is_part:
        return f"records: {output / 'records'}; `bench merge` makes the tables of all shards"
    return f"tables and records: {output}; `bench report --records {output}` makes a page of them"


def _of_shard(part: Shard, cells: dict[Stage, list[Cell]]) -> tuple[dict[Stage, list[Cell]], str]:
    """The shard's cells by stage, and a note for below their tables."""
    every = [cell for of_stage in cells.values() for cell in of_stage]
    mine = part.part(every)
    if not mine:
        say(f"shard {part} has nothing to do: the run has {len(every)} cells")
    note = f" Shard {part} alone, {len(mine)} of {len(every)} cells: `bench merge` makes the whole."
    return {stage: [cell for cell in mine if cell.stage == stage] for stage in cells}, note
