"""Cells of a suite measured for a command: which cards and preset, with bars, and what went wrong in the end."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from bench.commands.common import say

if TYPE_CHECKING:  # torch takes over a second to import: only a measurement pays for it
    from bench.cells.cell import Cell
    from bench.config import Config
    from bench.fitting.model_step import ModelStep
    from bench.memory import Card
    from bench.records import Record, Stage
    from bench.records.store import RecordStore


def chosen_cards(settings: Config, gpu_caps: list[str], gpus: list[str]) -> list[Card]:
    """The cards asked for on the command line, or the configuration's."""
    from bench.errors import UsageError
    from bench.memory.gpus import card_named, card_of_capacity

    if not gpu_caps and not gpus:
        gpu_caps, gpus = list(settings.suite.gpu_caps), list(settings.suite.gpus)
    try:
        cards = [card_of_capacity(text) for text in gpu_caps] + [card_named(name, settings.own_cards) for name in gpus]
    except ValueError as error:
        raise UsageError(str(error)) from error
    if not cards:
        raise UsageError("no card to answer for: give --gpu-cap 8GB, --gpu NAME, or gpu_caps in the configuration")
    return list({card.name: card for card in cards}.values())


def with_environment(config: Path | None, given: dict[str, dict[str, object]]) -> dict[str, dict[str, object]]:
    """What is `given`, and the allocator options of the environment, which the card's allocator would obey.

    They are taken, and said, where neither `given` nor the configuration has any.

    Raises:
        UsageError: the environment's are not PyTorch's, or not simulated, or it has no caching allocator.
    """
    from bench.config import load
    from bench.errors import UsageError
    from bench.memory.allocator.alloc_conf import AllocatorConfig
    from bench.memory.environment import alloc_conf, check_cached, cublas_workspace

    try:
        check_cached()
    except ValueError as error:
        raise UsageError(str(error)) from error
    if workspace := cublas_workspace():
        say(f"{workspace} in the environment is ignored here: cuBLAS's workspaces are those that PyTorch chooses")
    found = alloc_conf()
    memory = given.get("memory", {})
    if not found or memory.get("alloc_conf") is not None or load(config, given).memory.alloc_conf:
        return given
    try:
        AllocatorConfig.parse(found.text)
    except ValueError as error:
        raise UsageError(
            f"{found.name} in the environment: {error}; unset it, or set alloc_conf in [memory]"
        ) from error
    say(f"{found} in the environment is obeyed, as on the card (--alloc-conf or [memory] alloc_conf replaces it)")
    return {**given, "memory": {**memory, "alloc_conf": found.text}}


def say_that_environment_is_ignored() -> None:
    """What is compared must not depend on the machine: what the environment tells PyTorch counts for nothing."""
    from bench.memory.environment import told

    for found in told():
        say(f"{found.name} in the environment is ignored here: [memory] of the configuration is what counts")


def gpu_for(cards: list[Card]) -> str:
    """The name of the GPU, which has the memory of every card.

    Raises:
        UsageError: there is no such GPU.
    """
    from bench.errors import UsageError
    from bench.memory.measuring.cuda import NoGpuError, require_gpu

    try:
        return require_gpu(max(card.usable_bytes for card in cards))
    except NoGpuError as error:
        raise UsageError(str(error)) from error


def virtual_cards(cards: list[Card]) -> str:
    """Make sure that there can be a virtual card of each; its library is built if need be. What to call them all.

    Raises:
        UsageError: there cannot, on this system or with this build of PyTorch.
    """
    from bench.errors import UsageError
    from bench.virtual import NoVirtualCardError, VirtualDevice

    try:
        for card in cards:
            VirtualDevice(card)
    except NoVirtualCardError as error:
        raise UsageError(str(error)) from error
    return "the virtual card"


def at_preset(settings: Config, path: Path | None, given: Mapping[str, Mapping[str, object]]) -> Config:
    """The configuration once more, with its preset laid upon it: "auto" is demo on a CPU, paper on a GPU."""
    import torch

    from bench.config import load

    name = settings.suite.preset
    if name == "auto":
        name = "paper" if torch.cuda.is_available() else "demo"
    return load(path, {**given, "suite": {**given.get("suite", {}), "preset": name}}, preset=name)


def measured(cells: list[Cell], store: RecordStore, fresh: bool, jobs: int | None) -> list[Record]:
    """The cells' records, measured as far as they are not stored; stderr tells how far they are.

    Raises:
        InterruptedRunError: by the user; what is done is stored.
        StorageError: a record or checkpoint cannot be used or written.
    """
    from bench.cells import suite
    from bench.commands.watching import watched
    from bench.errors import InterruptedRunError

    records: dict[int, Record] = {}
    measured = 0
    try:
        with watched(cells) as watcher:
            gpus = suite.gpus(cells)
            at_a_time = _side_by_side(cells[0].stage, jobs, gpus) if cells else 1
            made = suite.run(cells, store, fresh=fresh, jobs=at_a_time, gpus=gpus, listener=watcher.hear)
            for place, record, is_new in made:
                records[place] = record
                measured += is_new
                watcher.finish(place, record, is_new)
    except KeyboardInterrupt:
        raise InterruptedRunError(
            f"interrupted with {len(records)} of {len(cells)} cells in {store.folder}: "
            "the same command goes on from there"
        ) from None
    if measured < len(cells):
        say(f"{len(cells) - measured} of {len(cells)} cells taken from {store.folder} (--fresh measures them again)")
    return [records[place] for place in sorted(records)]


def _side_by_side(stage: Stage, jobs: int | None, gpus: Sequence[str]) -> int:
    """How many cells are measured at a time: one per GPU; on the CPU one per core, or, when time is measured, one."""
    from bench.execution.pool import available_cores

    if gpus:
        return min(jobs or len(gpus), len(gpus))
    return 1 if stage == "timing" else jobs or available_cores()


def say_what_diverged(records: list[Record]) -> None:
    """Name each training that diverged, and where, on stderr."""
    for record in records:
        for training in record.accuracy.trainings if record.accuracy else ():
            if training.status == "diverged":
                say(f"{record.architecture} on {record.task}, seed {training.seed}, diverged: {training.reason}")


LEAST_CONVERGED = 0.5  # of the solves for the test images
LEAST_VALIDATION_IMAGES = 4


def say_what_is_doubtful(records: list[Record]) -> None:
    """Warn, with numbers, of results that do not mean what they seem to: in one line each, on stderr."""
    few = {}
    for record in records:
        if not record.accuracy:
            continue
        if record.accuracy.data.validation_images < LEAST_VALIDATION_IMAGES:
            few[record.task] = record.accuracy.data.validation_images
        for training in record.accuracy.trainings:
            solves = training.test_solves
            if solves and solves.share < LEAST_CONVERGED:
                say(
                    f"{record.architecture} on {record.task}, seed {training.seed}: of {solves.count} fixed points "
                    f"{solves.converged} were found, the worst residual is {solves.worst_residual:.1e}: raise "
                    "max_evaluations or lower the learning rate"
                )
    for task, images in few.items():
        say(f"{task}: {images} validation images are too few to choose on, expected {LEAST_VALIDATION_IMAGES} or more")


def say_what_was_virtual(records: list[Record]) -> None:
    """In one line on stderr: what answered on the virtual card, and where it cannot answer as a real one would."""
    results = [card for record in records if record.memory for card in record.memory.cards if card.virtual]
    done = [card.virtual for card in results if card.virtual]
    if not done:
        return
    torch = ", ".join(sorted({record.provenance.torch for record in records}))
    cudnn = ", ".join(sorted({card.cudnn for card in results if card.cudnn})) or "none"
    kernels = ", ".join(dict.fromkeys(each.kernels_of for each in done))
    values = max(each.values_read for each in done)
    selections = max(each.selections for each in done)
    lower = sorted({name for each in done for name in each.lower_bounds})
    upper = sorted({name for each in done for name in each.upper_bounds})
    bounds = [f"lower bounds: {', '.join(lower)}"] * bool(lower) + [f"low and high bounds: {', '.join(upper)}"] * bool(
        upper
    )
    say(
        f"virtual card: torch {torch}, cuDNN {cudnn}, kernels of {kernels}; a step reads at most {values} values, "
        f"which are zeros, and selects by value at most {selections} times, which gives nothing; "
        + ("; ".join(bounds) or "no size is a bound")
    )


def check_none_failed(records: list[Record]) -> None:
    """End the command with the reasons of the cells that failed, if there are any.

    Raises:
        CellsFailedError: some have.
    """
    from bench.errors import CellsFailedError

    failed = [record for record in records if record.status == "failed"]
    if failed:
        reasons = "; ".join(f"{record.architecture} on {record.task}: {record.reason}" for record in failed)
        raise CellsFailedError(f"{len(failed)} of {len(records)} cells failed: {reasons}")


@contextmanager
def steps_errors_told(step: str | ModelStep) -> Iterator[None]:
    """Run a step of the user's in silence, and say in one sentence what it raises.

    Raises:
        UsageError: with the error's type, the user's line and the one that raised it.
    """
    from bench.errors import BenchError, UsageError
    from bench.memory import NotRecordableError
    from bench.memory.forms import WrongFormError
    from bench.memory.measuring.cuda import ProbeFailedError
    from bench.memory.recording import places
    from bench.streams import in_silence

    try:
        with in_silence():
            yield
    except BenchError:
        raise
    except (WrongFormError, ProbeFailedError) as error:
        raise UsageError(str(error)) from error
    except NotRecordableError as error:
        raise UsageError(
            f"{step} cannot be recorded: {_with_place(error, places.place(error.__cause__ or error))}"
        ) from error
    except (Exception, SystemExit) as error:
        where = places.place(error)
        if not where and isinstance(step, str):  # none of it is the user's
            raise
        raise UsageError(f"{step} fails: {_with_place(places.told(error), where)}") from error


def _with_place(what: object, where: str) -> str:
    return f"{what} ({where})" if where else str(what)
