"""bench validate: predictions held against a GPU or the virtual card; with --snapshot see validate_history.py."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

import typer

from bench.commands.common import ConfigFile, Names, check_folder, import_torch, listed, say

_USE_SIMULATED, _HERE_IT_IS_NEEDED = ": use --engine simulated", ": run it where there is one"


def validate(
    gpu_cap: Annotated[
        Names, typer.Option(help="Memory of cards, such as 8GB (= 8 GiB); 8GB,24GB for several.")
    ] = None,
    gpu: Annotated[
        Names, typer.Option(help="Named cards, with commas between them: see `bench list`. With --snapshot: its card.")
    ] = None,
    architecture: Annotated[Names, typer.Option(help="Only these architectures, with commas between them.")] = None,
    task: Annotated[Names, typer.Option(help="Only these tasks, with commas between them.")] = None,
    config: ConfigFile = None,
    engine: Annotated[
        Literal["cuda", "virtual"],
        typer.Option(
            help="What predictions are compared with: a GPU, or PyTorch's own CUDA code without one. With --snapshot, "
            "virtual: that runs the step instead of its recording."
        ),
    ] = "cuda",
    output: Annotated[Path, typer.Option(help="Folder for the result.")] = Path("results/validation"),
    time_limit: Annotated[float, typer.Option(min=1, help="Start no new row after this many seconds.")] = float("inf"),
    snapshot: Annotated[
        Path | None, typer.Option(help="A memory history of a card, as torch.cuda.memory._dump_snapshot writes it.")
    ] = None,
    step: Annotated[
        str | None, typer.Option(help="With --snapshot: its step, FILE.py:FUNCTION or MODULE:FUNCTION(batch, device).")
    ] = None,
    batch: Annotated[int | None, typer.Option(min=1, help="With --snapshot: the batch that the card ran.")] = None,
) -> None:
    """Compare every prediction with a GPU: batch B fits, B + 1 does not, and the peaks are equal.

    The GPU's allocator is capped, so that a large card can stand for smaller ones. With the virtual card, every
    allocation is compared too. Each row is stored as soon as it is measured; the same command goes on where the last
    one stopped.

    With --snapshot no GPU is needed: the recording of a step, or the step on the virtual card, is compared with a
    memory history from a card, peaks and events, and differences are listed by operation and line.
    """
    if snapshot is not None or step is not None or batch is not None:
        from bench.commands.validate_history import validate_history

        of_cells = (gpu_cap, architecture, task, output, time_limit)
        is_of_cells = of_cells != (None, None, None, Path("results/validation"), float("inf"))
        validate_history(
            snapshot, step, batch, listed("--gpu", gpu) or [], config, is_of_cells, on_card=engine == "virtual"
        )
        return
    import_torch()
    from bench import validation
    from bench.cells import suite
    from bench.commands.measuring import chosen_cards, gpu_for, say_that_environment_is_ignored, virtual_cards
    from bench.commands.run import cards_given
    from bench.config import load
    from bench.errors import CellsFailedError, UsageError
    from bench.report.terminal import print_table
    from bench.report.terminal import validation as report
    from bench.report.terminal.layout import LEAST

    if not time_limit >= 1:
        raise UsageError(f"--time-limit: got {time_limit}, expected at least 1 second")
    say_that_environment_is_ignored()
    given: dict[str, dict[str, object]] = {
        "suite": {
            "architectures": listed("--architecture", architecture),
            "tasks": listed("--task", task),
            **cards_given(gpu_cap, gpu),
        }
    }
    settings = load(config, given)
    cards = chosen_cards(settings, [], [])
    cells = suite.cells(settings)
    check_folder("--output", output)
    try:
        device_name = gpu_for(cards) if engine == "cuda" else virtual_cards(cards)
    except UsageError as error:
        reason = str(error).replace(", or use --engine simulated", "")
        raise UsageError(reason.replace(_USE_SIMULATED, _HERE_IT_IS_NEEDED)) from error
    path = output / f"{device_name.removeprefix('the ').replace(' ', '-').lower()}.json"
    rows = []
    for row, is_new in validation.run(cells, cards, path, device_name, engine=engine, time_limit_seconds=time_limit):
        rows.append(row)
        if is_new:
            verdict = row.reason or f"predicted {row.predicted_batch}, measured {row.measured_batch}"
            typer.echo(f"{row.architecture} on {row.task}, {row.cap}: {verdict} ({row.seconds} s)", err=True)
    print_table(report.table(rows), report.caption(rows, device_name), LEAST["validation"])
    if len(rows) < len(cells) * len(cards):
        say(f"{len(rows)} of {len(cells) * len(cards)} rows done: the same command goes on")
    failed = [row for row in rows if row.status == "failed"]
    if failed:
        raise CellsFailedError(f"{len(failed)} of {len(rows)} rows failed; the first: {failed[0].reason}")
