"""What a storm did, and what it found wrong."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field


@dataclass(frozen=True)
class Fault:
    """Something that must not be: its kind, and the smallest example known, as a user would repeat it."""

    kind: str
    example: str


@dataclass
class Totals:
    """Counts, by what is counted and how it went, and faults by kind."""

    counts: dict[str, Counter[str]] = field(default_factory=dict)
    faults: dict[str, Fault] = field(default_factory=dict)

    def count(self, what: str, how: str) -> None:
        """One more."""
        self.counts.setdefault(what, Counter())[how] += 1

    def found(self, fault: Fault) -> None:
        """Keep a fault, if its kind is new or its example smaller than the one known."""
        known = self.faults.get(fault.kind)
        if known is None or len(fault.example) < len(known.example):
            self.faults[fault.kind] = fault

    def add(self, other: Totals) -> None:
        """Take over those of another part of the storm."""
        for what, counts in other.counts.items():
            self.counts.setdefault(what, Counter()).update(counts)
        for fault in other.faults.values():
            self.found(fault)

    def number(self, section: str) -> int:
        """How many there were of all that begins with `section`."""
        return sum(counts.total() for what, counts in self.counts.items() if what.startswith(section))

    def lines(self) -> Iterable[str]:
        """The totals, one line for each thing that was counted, and then the faults."""
        for section in ("inputs", "kills", "pairs"):
            yield f"{section}: {self.number(section)}"
            for what, counts in sorted(self.counts.items()):
                if what.startswith(section):
                    ways = ", ".join(f"{number} {how}" for how, number in sorted(counts.items()))
                    yield f"  {what.removeprefix(section).strip():24} {counts.total():4}: {ways}"
        yield f"faults: {len(self.faults)}"
        for fault in sorted(self.faults.values(), key=lambda fault: fault.kind):
            yield ""
            yield f"* {fault.kind}"
            yield from (f"    {line}" for line in fault.example.splitlines())
