"""bench baseline: the numbers that `bench check` compares with."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from bench.commands.check import Jobs
from bench.commands.common import ConfigFile, Verbs, busy, import_torch, say
from bench.commands.conclusion import Force, refuse_existing

app = Verbs(help="The numbers that `bench check` compares with.", no_args_is_help=True)


@app.callback()
def _group() -> None: ...


@app.command("update")
def update(
    output: Annotated[
        Path | None, typer.Option(help="Another file. [default: the baseline of the configuration, overwritten]")
    ] = None,
    config: ConfigFile = None,
    force: Force = False,
    jobs: Jobs = None,
) -> None:
    """Simulate the suite's memory and write the baseline: every cell's numbers, and what its peak is made of.

    The same results give the same file, byte for byte. Cells that fail end it with 3, and nothing is written.
    """
    import_torch()
    from bench.cells import suite
    from bench.commands.measuring import chosen_cards, say_that_environment_is_ignored
    from bench.config import load
    from bench.errors import CellsFailedError, UsageError
    from bench.execution.pool import available_cores
    from bench.files import write_atomically
    from bench.regression import baseline, fresh

    refuse_existing(output, force)
    say_that_environment_is_ignored()
    settings = load(config)
    if settings.memory.engine != "simulated":
        raise UsageError(f'a baseline is simulated, got engine = "{settings.memory.engine}" in [memory]')
    path = output or settings.check.baseline
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UsageError(f"cannot make the folder of {path}: {error.strerror}") from error
    cells = suite.cells(settings, cards=chosen_cards(settings, [], []))
    with busy(f"simulating {len(cells)} cells"):
        measured = fresh.side_by_side(fresh.measure_composed, jobs or available_cores(), cells)
    failed = [cell for cell in measured if cell.failure]
    if failed:
        first = failed[0]
        raise CellsFailedError(
            f"{len(failed)} of {len(cells)} cells failed, and {path} stays as it is; "
            f"the first: {first.architecture} on {first.task}: {first.failure}"
        )
    text = baseline.text(measured)
    if path.is_file() and path.read_bytes() == text.encode():
        say(f"{path} says so already: {len(cells)} cells, nothing changed")
        return
    write_atomically(path, text)
    say(f"wrote {path}: {len(cells)} cells")
