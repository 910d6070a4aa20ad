"""A cell: one architecture on one task with its options, the unit of work, of failure and of storage."""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, get_args

import torch

from bench import data, models, operators, strategies
from bench.cells import code
from bench.cells.workload import Workload
from bench.config import Classical
from bench.records import FULL_SIZE, Stage

if TYPE_CHECKING:
    from bench.config import AccuracySection, Config, MemorySection, TimingSection
    from bench.memory import Card
    from bench.models.architectures.base import Architecture

_OF_IMAGES = frozenset({"noise", "measured_by", "measurements", "data", "data_options", "metric", "range", "ssim"})
"""What of a task decides accuracy alone."""


@dataclass(frozen=True)
class Cell:
    """One architecture on one task, and one stage of what is measured of it.

    Attributes:
        stage: what is measured.
        architecture: its name, with its strategy's; in the stage accuracy also that of a classical method.
        task: its name in `config`.
        config: with the preset laid upon it, if there is one.
        cards: that the stage memory answers for; the largest is what the stage profile is of, and the first one decides
            the stage timing's largest batch.
    """

    stage: Stage
    architecture: str
    task: str
    config: Config
    cards: tuple[Card, ...] = ()

    @property
    def workload(self) -> Workload:
        """What is trained, with the gradient that the stage accuracy may have of its own."""
        model = self.config.model
        if self.stage == "accuracy" and self.accuracy.gradient is not None:
            model = replace(model, gradient=self.accuracy.gradient)
        return Workload(self.network, model, self.config.task[self.task], self.config.training)

    @property
    def network(self) -> str:
        """The architecture's name alone, without that of a strategy."""
        return strategies.split(self.architecture)[0]

    @property
    def _architecture(self) -> type[Architecture] | None:
        return None if self.architecture in get_args(Classical) else models.get(self.network)

    @property
    def memory(self) -> MemorySection:
        """How memory is measured."""
        return self.config.memory

    @property
    def timing(self) -> TimingSection:
        """How time is measured."""
        return self.config.timing

    @property
    def accuracy(self) -> AccuracySection:
        """How it is trained and evaluated."""
        return self.config.accuracy

    @property
    def preset(self) -> str | None:
        """The preset that the sizes come from; memory is always that of the configuration's own."""
        return None if self.stage in FULL_SIZE else self.config.suite.preset

    @property
    def largest_card(self) -> Card:
        """The card with the most memory; the stage profile needs one."""
        return max(self.cards, key=lambda card: card.usable_bytes)

    @property
    def settings(self) -> dict[str, object]:
        """Everything that decides the result, as plain data; for memory not the cards, which are added to a record."""
        images = _OF_IMAGES if self.stage != "accuracy" else frozenset()
        task = self.config.task[self.task].model_dump(exclude={"stands_for", *images})
        if task.get("measurements") == "simulated":
            del task["measurements"]  # a key of later days that says nothing new
        settings: dict[str, object] = {
            "model": self.workload.options.told(self._architecture),
            "task": task,
            "training": self.config.training.told,
        }
        if self.stage == "profile":
            return settings | {"memory": self.memory.model_dump(exclude={"engine"}), "card": self.largest_card.name}
        settings[self.stage] = getattr(self.config, self.stage).model_dump(exclude={"workspace", "classical", "losses"})
        if self.stage == "timing" and self.timing.batch == "largest" and self.cards:
            settings |= {"memory": self.memory.model_dump(exclude={"engine"}), "card": self.cards[0].name}
        return settings

    @property
    def modules(self) -> list[str]:
        """The modules that, with what they import, decide the result."""
        task = self.config.task[self.task]
        names = [f"bench.stages.{self.stage}", operators.get(task.operator).__module__]
        if self.stage == "accuracy" and task.data is not None:
            names.append(data.get(task.data).__module__)
        if self._architecture is not None:
            names += ["bench.cells.workload", self._architecture.__module__]
        return names

    @property
    def asked(self) -> str:
        """The first half of the key: a hash of what is measured, with which settings, by which torch."""
        identity = [self.architecture, self.task, self.stage, self.settings, torch.__version__]
        return hashlib.sha256(json.dumps(identity, sort_keys=True).encode()).hexdigest()[: code.HASH_LENGTH]

    @property
    def source(self) -> str:
        """The second half of the key: a hash of the code that decides the result."""
        return code.HERE.fingerprint(self.modules)

    @property
    def key(self) -> str:
        """A name for exactly this cell's stage: what is asked, and the code that answers."""
        return self.asked + self.source
