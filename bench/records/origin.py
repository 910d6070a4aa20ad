"""Where a record comes from, as data: version, code, commit, machine, time."""

from __future__ import annotations

import datetime
from typing import Annotated

from pydantic import AfterValidator, AwareDatetime, TypeAdapter

from bench.records.values import Part

_TIME = TypeAdapter(AwareDatetime)


def _time(text: str) -> str:
    _TIME.validate_python(text)
    return text


class Provenance(Part):
    """Where a record comes from."""

    bench: str
    source: str
    commit: str | None
    torch: str
    python: str
    platform: str
    created: Annotated[str, AfterValidator(_time)]

    @property
    def made(self) -> datetime.datetime:
        """When it was made, by the clock of the machine that made it."""
        return _TIME.validate_python(self.created)
