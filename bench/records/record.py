"""A record: the versioned JSON result of one stage of one cell."""

from __future__ import annotations

from typing import Any, Literal, get_args

from pydantic import ValidationError, model_validator

from bench.names import Key, Name
from bench.records.accuracy import Accuracy
from bench.records.memory import CardResult, Memory, Parameters
from bench.records.origin import Provenance
from bench.records.profile import Profile
from bench.records.settings import SETTINGS
from bench.records.timing import Timing
from bench.records.values import Count, Elapsed, Part, Positive, Stage


class Record(Part):
    """The result of one stage of one cell. `status` "failed" carries its `reason` and no results.

    `preset` and `image_shape` are the sizes it was measured at; those of the stages timing and accuracy may be reduced.
    `format` is the version of this layout. 1: memory only. 2: one record per stage.
    `sequence` grows from each of a cell's records in a folder to the next, whatever the clock says; 0: not counted.
    """

    format: Literal[2] = 2
    sequence: Count = 0
    key: Key
    stage: Stage
    preset: str | None
    image_shape: tuple[Positive, ...] | None = None
    architecture: Name
    task: Name
    paper_task: str | None
    settings: dict[str, Any]
    status: Literal["ok", "failed"]
    reason: str | None = None
    seconds: Elapsed
    parameters: Parameters | None = None
    memory: Memory | None = None
    profile: Profile | None = None
    timing: Timing | None = None
    accuracy: Accuracy | None = None
    provenance: Provenance

    @model_validator(mode="after")
    def _is_a_result_or_a_failure(self) -> Record:
        has = {stage for stage in get_args(Stage) if getattr(self, stage) is not None}
        if has != ({self.stage} if self.status == "ok" else set()):
            raise ValueError(f"{self.status}: expected {self.stage if self.status == 'ok' else 'no results'}")
        if (self.reason is None) != (self.status == "ok"):
            raise ValueError("expected the reason of what failed, and of nothing else")
        if self.memory is not None and self.parameters is None:
            raise ValueError("expected parameters beside memory")
        try:
            SETTINGS[self.stage].model_validate(self.settings)
        except ValidationError as error:
            first = error.errors()[0]
            raise ValueError(f"settings.{'.'.join(map(str, first['loc']))}: {first['msg']}") from None
        return self

    @property
    def cell(self) -> tuple[str, str, Stage]:
        """Task, architecture and stage."""
        return self.task, self.architecture, self.stage

    def card(self, name: str) -> CardResult | None:
        """The answer for one card, if the record has it."""
        return next((card for card in self.memory.cards if card.card == name), None) if self.memory else None


def united(earlier: Record, later: Record) -> Record:
    """What two records of the same cell and key come to: the later one, with the cards that it does not answer for.

    A failure does not take the place of a result.
    """
    if earlier.memory and later.memory:
        cards = {card.card: card for card in (*earlier.memory.cards, *later.memory.cards)}
        return later.model_copy(update={"memory": later.memory.model_copy(update={"cards": list(cards.values())})})
    return earlier if (earlier.status, later.status) == ("ok", "failed") else later
