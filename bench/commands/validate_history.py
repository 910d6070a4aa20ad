"""bench validate --snapshot: a step held against a memory history of a card."""

from __future__ import annotations

from pathlib import Path

from bench.commands.common import busy, import_torch


def validate_history(
    snapshot: Path | None,
    step: str | None,
    batch: int | None,
    gpus: list[str],
    config: Path | None,
    is_of_cells: bool,
    on_card: bool,
) -> None:
    """Hold the recording of a step against a history, or the step on the virtual card, and print both.

    Raises:
        UsageError: options that do not go together, an unknown card, or a step that cannot be used.
    """
    from bench.errors import UsageError

    if snapshot is None or step is None or batch is None:
        raise UsageError("a history is validated with --snapshot FILE --step FILE.py:FUNCTION --batch B")
    if is_of_cells:
        raise UsageError("--snapshot goes with --step, --batch, --gpu, --engine and --config alone")
    if len(gpus) > 1:
        raise UsageError(f"--gpu: a history is of one card, got {len(gpus)}")
    if on_card and not gpus:
        raise UsageError("--engine virtual: name the history's card with --gpu, such as --gpu 'RTX 3080'")
    import_torch()
    import torch

    from bench.commands.measuring import steps_errors_told, virtual_cards
    from bench.config import load
    from bench.fitting.named_step import NamedStep
    from bench.fitting.user_step import load_step
    from bench.histories.matching import match
    from bench.histories.reading import read
    from bench.memory import Card
    from bench.memory.cudnn.heuristics import workspaces
    from bench.memory.forms import as_make_step
    from bench.memory.gpus import ENDLESS_BYTES, card_named
    from bench.memory.recording.on_cuda import on_cuda
    from bench.report.terminal import histories as report
    from bench.report.terminal import print_table

    card = Card("no card", ENDLESS_BYTES, 0, None, None, "none named")
    try:
        card = card_named(gpus[0], load(config).own_cards) if gpus else card
    except ValueError as error:
        raise UsageError(str(error)) from error
    history = read(snapshot)
    if on_card:
        virtual_cards([card])
    doing = "running the step on the virtual card" if on_card else "recording the step"
    with busy(doing), steps_errors_told(step), on_cuda(card):
        make_step = NamedStep(step) if on_card else as_make_step(load_step(step))
        known = workspaces(card) if gpus and not on_card else None
        found = match(history, make_step, batch, card, known, on_card=on_card)
    print_table(report.peaks(found), report.caption(found, batch, torch.__version__, card.name if gpus else None))
    if found.left:
        print_table(report.left(found), report.left_caption(found))
