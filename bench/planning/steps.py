"""A plan for a step of the user's: every combination of what needs no change of its network, simulated."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from itertools import chain, combinations, product

from bench.choices import refusal
from bench.errors import UsageError
from bench.fitting import Step
from bench.fitting.changes import CHANGES, micro_batches
from bench.fitting.model_step import ModelStep
from bench.fitting.observed import Observed
from bench.memory import Card
from bench.memory.recording import places
from bench.memory.recording.recorder import STEPS
from bench.memory.recording.refusals import FailsAtBatchError
from bench.planning.choices import Choice, Plan
from bench.planning.seconds import MEASURE, has_bfloat16
from bench.planning.ways import EXPANDABLE, PLAIN, Trials, Way

PARTS = micro_batches.NAME
NAMES = (*CHANGES, PARTS, EXPANDABLE)
"""Strategies that need no change of the network."""

_INEXACT = tuple(name for name, change in CHANGES.items() if change.gradient != "exact")
_OF_AN_OPTIMIZER = ("fused", "one-by-one")  # the first that a step can take; both have the same memory
_IF_SMALLER = ("channels-last", "set-to-none")  # which cost nothing that is known, and seldom save memory


def plan_step(
    step: Step, card: Card, batch: int, engine: str = "simulated", steps: int = STEPS, more: Sequence[str] = ()
) -> Plan:
    """Try every combination of what needs no change of a step's network and leaves its gradient as it is.

    `engine` and `steps` as of `bench.fitting.engine_of`: all are simulated; a virtual card or a GPU is asked about the
    front, which is then the plan. `more` are strategies to try beside those whose gradient is exact: "bf16", and
    "micro-batches" where batch normalisation makes them inexact.

    Raises:
        UsageError: a strategy is unknown, or the step cannot be run with it.
        NotRecordableError, ProbeFailedError, WrongFormError: as from bench.fitting.
    """
    for each in more:
        if each not in NAMES:
            raise UsageError(f"--strategy: {refusal('strategy', each, NAMES)}; others change the network")
    name = str(step) if isinstance(step, (str, ModelStep)) else getattr(step, "__name__", type(step).__name__)
    trials = Trials(step, card, batch, engine, steps)
    plain = Choice(PLAIN, 1.0, *trials.plain())
    observed = trials.observed()
    remarks: list[str] = []
    choices = {Way(): plain}

    def tried(way: Way) -> Choice | None:
        if way not in choices:
            try:
                taken = trials.simulated(way)
            except FailsAtBatchError as error:
                remarks.append(f"{way.name} is left out: {places.told(error.__cause__ or error)}")
                return None
            is_unknown = "channels-last" in way.names or ("bf16" in way.names and not has_bfloat16(card))
            work = None if is_unknown else trials.seconds(way) / trials.seconds(Way())
            choices[way] = Choice(way.name, work, *taken)
        return choices[way]

    names = []
    for each in _names(name, observed, more):
        alone = tried(Way((each,)))
        if alone and (each not in _IF_SMALLER or alone.peak_reserved_bytes < plain.peak_reserved_bytes):
            names.append(each)
        elif alone:
            remarks.append(f"{each} saves no memory here, and is tried by itself alone")
    counts = micro_batches.counts(batch) if _takes_parts(name, observed, more, remarks) else []
    subsets = chain.from_iterable(combinations(names, size) for size in range(len(names) + 1))
    for chosen, parts in product(subsets, (1, *counts)):
        if tried(Way(chosen, parts)) and trials.can_expand():
            tried(Way(chosen, parts, True))
    made = Plan(
        {"step": name, "engine": trials.engine},
        name,
        MEASURE,
        trials.card,
        batch,
        tuple(sorted(choices.values(), key=lambda choice: choice.order)),
        tuple(remarks),
        trials.assumed,
    )
    if trials.engine == "simulated":
        return made
    ways = {choice.strategy: way for way, choice in choices.items()}
    asked = [replace(each, **trials.on_device(ways[each.strategy])._asdict()) for each in made.front]
    remarks.append(f"of {len(choices)} combinations simulated, these were run: engine {trials.engine}")
    return replace(made, choices=tuple(asked), remarks=tuple(remarks), assumed=trials.assumed)


def _names(step: str, observed: Observed, more: Sequence[str]) -> list[str]:
    """Changes that the step can take.

    Raises:
        UsageError: it cannot take one that is asked for.
    """
    refused = {name: reason for name, change in CHANGES.items() if (reason := change.refusal(observed))}
    for name in more:
        if name in refused:
            raise UsageError(f"--strategy: {step} cannot be run with {name}: {refused[name]}")
    left_out = {*refused, *(set(_INEXACT) - set(more))}
    of_an_optimizer = [name for name in _OF_AN_OPTIMIZER if name not in left_out]
    left_out |= set(of_an_optimizer[1:]) - set(more)
    return [name for name in CHANGES if name not in left_out]


def _takes_parts(step: str, observed: Observed, more: Sequence[str], remarks: list[str]) -> bool:
    """Whether the step is tried in parts.

    Raises:
        UsageError: it cannot be, and is asked for.
    """
    reason = micro_batches.refusal(observed)
    if reason and PARTS in more:
        raise UsageError(f"--strategy: {step} cannot be run with {PARTS}: {reason}")
    if reason:
        remarks.append(f"{PARTS} are left out: {reason}")
        return False
    if observed.normalises_batches:
        why = "batch normalisation would take the statistics of each part, which gives another gradient"
        remarks.append(
            f"{PARTS}: {why}" if PARTS in more else f"{PARTS} are left out: {why}; --strategy {PARTS} tries them"
        )
        return PARTS in more
    remarks.append(f"{PARTS} give the same gradient where the loss is a mean over the batch")
    return True
