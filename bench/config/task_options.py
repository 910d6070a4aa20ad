"""What a task's operator and its images take, found out when the configuration is read: nothing large is built."""

from __future__ import annotations

import inspect
from collections.abc import Collection, Iterator, Mapping
from functools import cache
from typing import TYPE_CHECKING, Any, get_type_hints

from pydantic import BaseModel, ConfigDict, create_model

from bench import data, operators
from bench.choices import refusal
from bench.config.layers import Fault, narrowed, validated
from bench.errors import UsageError

if TYPE_CHECKING:
    from bench.config import Task

_BUILT = frozenset({"device", "dtype"})
"""What an operator is built with besides the task's options."""

_SPLIT = frozenset({"split", "image_shape"})
"""What a set of images is asked for besides the task's options."""

_REFUSALS = (ArithmeticError, LookupError, RuntimeError, TypeError, ValueError, UsageError)
"""What a constructor says no with."""


def faults(name: str, task: Task, tasks: Collection[str]) -> Iterator[Fault]:
    """Everything in [task.NAME] that its operator, its noise or its images refuse, each in its place."""
    place = ("task", name)
    yield from (
        Fault((*place, "stands_for"), refusal("task", other, tasks)) for other in task.stands_for if other not in tasks
    )
    if task.operator not in operators.names():
        yield Fault((*place, "operator"), refusal("operator", task.operator, operators.names()))
        return
    operator = operators.get(task.operator)
    wrong = option_faults(operator, task.options, (*place, "options"), without=_BUILT)
    if wrong:
        yield from wrong
        return
    try:
        channels = operator.image_shape_of(**task.options)[0]
    except _REFUSALS as error:
        sentence = " ".join(str(error).split()) or type(error).__name__
        yield Fault(narrowed((*place, "options"), sentence, task.options), sentence)
        return
    if task.measured_by:
        laid = task.options | task.measured_by
        yield from option_faults(operator, laid, (*place, "measured_by"), without=_BUILT)
    if task.measurements == "own" and task.measured_by:
        yield Fault((*place, "measured_by"), 'is of simulated measurements, and measurements are "own": leave one out')
    if task.noise.photons is not None and task.operator != "Radon":
        yield Fault((*place, "noise", "photons"), f"only Radon counts photons, and the operator is {task.operator}")
    if task.metric != "image" and channels != 2:
        yield Fault(
            (*place, "metric"),
            f'"{task.metric}" is of complex images, which have two channels, and these have {channels}: give "image"',
        )
    yield from data_faults(name, task, channels)


def data_faults(name: str, task: Task, channels: int) -> Iterator[Fault]:
    """What is wrong with a task's images, as far as it shows without reading them."""
    place = ("task", name)
    if task.data is None:
        return
    if task.data not in data.names():
        yield Fault((*place, "data"), refusal("data set", task.data, data.names()))
        return
    try:
        image_set = data.get(task.data)
    except ModuleNotFoundError:  # without the extra `accuracy`, where nothing is trained either
        return
    yield from option_faults(image_set, task.data_options, (*place, "data_options"), without=_SPLIT)
    if task.measurements == "own" and not image_set.has_observations:
        yield Fault(
            (*place, "measurements"), f'{task.data} has no measurements of its own: give "simulated", or another set'
        )
    if image_set.channels != channels:
        yield Fault(
            (*place, "data"),
            f"{task.data} has images of {image_set.channels} channel{'s' * (image_set.channels > 1)}, "
            f"and {task.operator} takes {channels}",
        )


def option_faults(
    made: type, options: Mapping[str, Any], place: tuple[str, ...], *, without: frozenset[str]
) -> list[Fault]:
    """Options that the constructor of a class does not take: wrong names, types, and missing ones."""
    found = validated(_signature(made, without), options, place)
    return found if isinstance(found, list) else []


@cache
def _signature(made: type, without: frozenset[str]) -> type[BaseModel]:
    """The options of a class's constructor, as a model of pydantic."""
    hints = get_type_hints(made.__init__)  # type: ignore[misc]
    parameters = [
        each
        for each in inspect.signature(made).parameters.values()
        if each.name not in without and each.kind not in (each.VAR_POSITIONAL, each.VAR_KEYWORD)
    ]
    fields: dict[str, Any] = {
        each.name: (hints.get(each.name, Any), ... if each.default is each.empty else each.default)
        for each in parameters
    }
    return create_model(made.__name__, __config__=ConfigDict(extra="forbid", allow_inf_nan=False), **fields)
