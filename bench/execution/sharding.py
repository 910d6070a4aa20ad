"""Shards: a run's cells dealt out to several machines, the same way on each of them without a word between them.

The cells of each stage are put in an order that hangs on their names alone, and dealt out in turn. So no shard has more
than one cell of a stage more than another, and neither the order in which they are asked for nor torch's version
matters. The order is that of a hash: in that of the names, four shards would be one architecture each.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Protocol, TypeVar

from bench.errors import UsageError


class Named(Protocol):
    """What names a cell within a run."""

    @property
    def stage(self) -> str: ...  # noqa: D102
    @property
    def task(self) -> str: ...  # noqa: D102
    @property
    def architecture(self) -> str: ...  # noqa: D102


AnyCell = TypeVar("AnyCell", bound=Named)


@dataclass(frozen=True)
class Shard:
    """One of `count` parts of a run; `index` counts from 1."""

    index: int
    count: int

    @classmethod
    def parse(cls, text: str) -> Shard:
        """Read "2/4": the second of four.

        Raises:
            UsageError: not of that form, or no such part.
        """
        match = re.fullmatch(r"([0-9]{1,9})/([0-9]{1,9})", text)
        shard = cls(int(match[1]), int(match[2])) if match else None
        if shard is None or not 1 <= shard.index <= shard.count:
            raise UsageError(
                f"{text!r} is no shard: expected i/n with i from 1 to n, such as 2/4 for the second of four"
            )
        return shard

    def __str__(self) -> str:
        return f"{self.index}/{self.count}"

    def part(self, cells: Iterable[AnyCell]) -> list[AnyCell]:
        """This shard's cells of a run, in the order given; all shards together have each cell once."""
        cells = list(cells)
        dealt = sorted(range(len(cells)), key=lambda place: _order(cells[place]))
        return [cells[place] for place in sorted(dealt[self.index - 1 :: self.count])]


def _order(cell: Named) -> tuple[str, str]:
    return cell.stage, hashlib.sha256(f"{cell.task}\0{cell.architecture}".encode()).hexdigest()
