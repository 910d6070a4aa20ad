"""bench fit: does a training step of the user's fit, at what batch, and why."""

from __future__ import annotations

import contextlib
import io
from collections.abc import Iterator
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from bench.commands.common import Names

if TYPE_CHECKING:  # torch takes over a second to import: only an answer pays for it
    from bench.fitting import Answer, Engine, Recorded
    from bench.memory import Card

EngineName = Literal["auto", "virtual", "simulated", "cuda"]


def fit(
    step: Annotated[str, typer.Argument(help="FILE.py:FUNCTION or MODULE:FUNCTION, such as train.py:make_step.")],
    gpu: Annotated[Names, typer.Option(help="Named cards, with commas between them: see `bench list`.")] = None,
    gpu_cap: Annotated[
        Names, typer.Option(help="Memory of cards, such as 8GB (= 8 GiB) or 8000MB; 8GB,24GB for several.")
    ] = None,
    batch: Annotated[int | None, typer.Option(help="Does this batch fit, and by how much?")] = None,
    engine: Annotated[
        EngineName,
        typer.Option(
            help="What answers: virtual, simulated (neither needs a GPU) or cuda; auto: virtual where a CUDA build of "
            "PyTorch is installed, else simulated."
        ),
    ] = "auto",
    json: Annotated[bool, typer.Option("--json", help="Print everything as JSON.")] = False,
    strict: Annotated[bool, typer.Option("--strict", help="Refuse what needs a value to be assumed.")] = False,
) -> None:
    """Does your training step fit? The largest batch per card, its peak, what it is made of, what was assumed.

    The function takes a batch and returns one training step: make_step(batch) or make_step(batch, device); or it is
    one: step(batch). Without --gpu and --gpu-cap, the cards of bench.toml.
    """
    from bench.commands.measuring import chosen_cards, with_environment
    from bench.commands.run import cards_given
    from bench.config import load
    from bench.errors import UsageError
    from bench.fitting import fit as answered
    from bench.memory.search import LARGEST_BATCH
    from bench.report import fit as report
    from bench.report.terminal import print_json

    if batch is not None and not 1 <= batch <= LARGEST_BATCH:
        raise UsageError(f"--batch: got {batch}, expected at least 1 and at most {LARGEST_BATCH:,}")
    settings = load(None, with_environment(None, {"suite": cards_given(gpu_cap, gpu)}))
    cards = chosen_cards(settings, [], [])
    with _told(step):
        answer = answered(step, _engine(engine, step, cards, settings.memory.alloc_conf), cards, batch)
    if strict:
        _refuse_assumed_values(answer)
    if json:
        import torch

        print_json(_dumped(report.as_dict(answer, torch.__version__)))
    else:
        print(report.text(answer))


def _refuse_assumed_values(answer: Answer) -> None:
    from bench.errors import UsageError
    from bench.report.fit import assumptions

    values = tuple(each for each in answer.assumed if each.is_value)
    if values:
        lines = "; ".join(assumptions(values))
        raise UsageError(f"--strict: {answer.step} asks for values that nobody knows without a GPU: {lines}")


def _dumped(value: object) -> str:
    from json import dumps

    return dumps(value, indent=2)


def _engine(name: EngineName, step: str, cards: list[Card], alloc_conf: str) -> Engine:
    """What answers.

    Raises:
        UsageError: it cannot be had here.
    """
    import torch

    from bench.commands.measuring import gpu_for, virtual_cards
    from bench.fitting import OnDevice
    from bench.memory.measuring.cuda import CudaEngine
    from bench.named_step import NamedStep
    from bench.virtual import VirtualEngine

    if name == "auto":
        name = "virtual" if torch.version.cuda else "simulated"
    if name == "simulated":
        return _recorded(step, alloc_conf)
    if name == "virtual":
        virtual_cards(cards)
        return OnDevice(VirtualEngine, NamedStep(step), alloc_conf=alloc_conf, recorded=_recorded_if_it_can(step))
    gpu_for(cards)
    return OnDevice(CudaEngine, NamedStep(step), alloc_conf=alloc_conf, recorded=_recorded_if_it_can(step))


def _recorded(step: str, alloc_conf: str) -> Recorded:
    from bench.fitting import Recorded
    from bench.memory.forms import as_make_step
    from bench.user_step import load_step

    return Recorded(as_make_step(load_step(step)), alloc_conf=alloc_conf)


def _recorded_if_it_can(step: str) -> Recorded | None:
    """The recording, for where a search starts and what a peak is made of; None where the step cannot be recorded."""
    try:
        return _recorded(step, "")
    except Exception:  # noqa: BLE001 - whatever it raises, the engine that was asked for raises it too
        return None


@contextlib.contextmanager
def _told(step: str) -> Iterator[None]:
    """Run the user's step in silence, and say in one sentence what it raises.

    Raises:
        UsageError: with the error's type, the user's line and the one that raised it.
    """
    from bench import places
    from bench.errors import BenchError, UsageError
    from bench.memory import NotRecordableError
    from bench.memory.forms import WrongFormError
    from bench.memory.measuring.cuda import ProbeFailedError

    try:
        with contextlib.redirect_stdout(io.StringIO()):
            yield
    except BenchError:
        raise
    except (WrongFormError, ProbeFailedError) as error:
        raise UsageError(str(error)) from error
    except NotRecordableError as error:
        raise UsageError(
            f"{step} cannot be recorded: {_with(error, places.place(error.__cause__ or error))}"
        ) from error
    except (Exception, SystemExit) as error:
        where = places.place(error)
        if not where:  # none of it is the user's
            raise
        raise UsageError(f"{step} fails: {_with(places.told(error), where)}") from error


def _with(what: object, where: str) -> str:
    return f"{what} ({where})" if where else str(what)
