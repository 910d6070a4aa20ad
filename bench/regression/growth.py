"""Why memory changed: two compositions of a peak, held against each other."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import NamedTuple

from bench.module_names import merged
from bench.records import Composition

ALLOCATORS = ("rounding", "fragmentation")  # categories that follow from the tensors


class Growth(NamedTuple):
    """Bytes of one category, module and operation; `places` are its lines now, those of the most bytes first.

    `what` has a * where several modules are meant.
    """

    category: str
    what: str
    before_bytes: int
    after_bytes: int
    places: tuple[str, ...]

    @property
    def change_bytes(self) -> int:
        """Positive where it grew."""
        return self.after_bytes - self.before_bytes


@dataclass(frozen=True)
class Why:
    """What the peak of `batch` images was made of before and after, as far as that differs.

    Tensors come first, those of the most bytes before others; what the allocator adds to them comes last. The changes
    add up to that of the reserved peak.
    """

    batch: int
    allocated_bytes: tuple[int, int]
    reserved_bytes: tuple[int, int]
    growths: tuple[Growth, ...]

    def largest(self, *, grew: bool) -> Growth | None:
        """What grew most, or shrank most; None if nothing did."""
        return next((growth for growth in self.growths if (growth.change_bytes > 0) == grew), None)


def why(before: Composition, after: Composition) -> Why:
    """What grew and what shrank between two compositions of the same batch."""
    growths = _merged([growth for growth in _growths(before, after) if growth.change_bytes])
    return Why(
        batch=after.batch,
        allocated_bytes=(before.peak_allocated_bytes, after.peak_allocated_bytes),
        reserved_bytes=(before.peak_reserved_bytes, after.peak_reserved_bytes),
        growths=tuple(sorted(growths, key=lambda g: (g.category in ALLOCATORS, -abs(g.change_bytes), g))),
    )


def _merged(growths: Sequence[Growth]) -> Iterator[Growth]:
    """Growths of the same category in modules that differ in their numbers alone, as one."""
    shown = merged(growth.what for growth in growths)
    groups: dict[tuple[str, str], list[Growth]] = {}
    for growth in growths:
        groups.setdefault((growth.category, shown[growth.what]), []).append(growth)
    for (category, what), of_group in groups.items():
        before_bytes, after_bytes = sum(g.before_bytes for g in of_group), sum(g.after_bytes for g in of_group)
        places = dict.fromkeys(place for growth in of_group for place in growth.places)
        yield Growth(category, what, before_bytes, after_bytes, tuple(places))


def _growths(before: Composition, after: Composition) -> Iterator[Growth]:
    for category in dict.fromkeys((*before.size_bytes, *after.size_bytes)):
        old, new = before.size_bytes.get(category, {}), after.size_bytes.get(category, {})
        places = after.places.get(category, {})
        for what in dict.fromkeys((*old, *new)):
            yield Growth(category, what, old.get(what, 0), new.get(what, 0), tuple(places.get(what, ())))
