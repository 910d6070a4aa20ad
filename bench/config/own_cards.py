"""[cards.NAME] of bench.toml: cards of one's own, as data; and names of cards among these and the known ones."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field, field_validator, model_validator

from bench import plugins
from bench.config import own_modules, toml_file
from bench.config.layers import Layer, told, validated
from bench.errors import UsageError
from bench.memory.cudnn.devices import LIMITS
from bench.memory.gpus import CARDS, Card, Chip, card_named
from bench.names import Name
from bench.units import format_bytes, parse_bytes

Megahertz = Annotated[int, Field(ge=1, le=100_000)]


class OwnCard(BaseModel):
    """A card that CARDS does not have, or has otherwise.

    Without `capability` and `multiprocessors` it is a capacity with a name, which does not identify a GPU: cuDNN's
    workspace is unknown, and has a lower and an upper bound. With them, other figures that are not given are those of
    the known card of this capability whose number of multiprocessors is nearest.

    Attributes:
        total: memory as CUDA reports it, such as "23.52GiB".
        context: what CUDA takes of it.
        capability: compute capability, such as "8.9".
        multiprocessors: their number.
        clock_mhz: of the multiprocessors, at most.
        memory_clock_mhz: of the memory.
        memory_bus_bits: the width of its bus.
        l2: size of the L2 cache.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    total: str
    context: str = "500MiB"
    capability: str | None = None
    multiprocessors: int | None = Field(default=None, ge=1, le=1024)
    clock_mhz: Megahertz | None = None
    memory_clock_mhz: Megahertz | None = None
    memory_bus_bits: int | None = Field(default=None, ge=1, le=65536)
    l2: str | None = None

    @field_validator("total", "context", "l2")
    @classmethod
    def _is_a_size(cls, text: str | None) -> str | None:
        if text is not None:
            parse_bytes(text)
        return text

    @field_validator("capability")
    @classmethod
    def _is_known(cls, text: str | None) -> str | None:
        known = [f"{major}.{minor}" for major, minor in LIMITS]
        if text is not None and text not in known:
            raise ValueError(f"unknown compute capability {text[:60]!r}: known are {', '.join(known)}")
        return text

    @model_validator(mode="after")
    def _is_whole(self) -> OwnCard:
        if parse_bytes(self.total) <= parse_bytes(self.context):
            raise ValueError(f"total is {self.total}, and the CUDA context alone takes {self.context}")
        if (self.capability is None) != (self.multiprocessors is None):
            raise ValueError("capability and multiprocessors belong together: give both, or none for a mere capacity")
        return self

    def card(self, name: str) -> Card:
        """The card that the table describes."""
        total_bytes, context_bytes = parse_bytes(self.total), parse_bytes(self.context)
        source = f"bench.toml: {format_bytes(total_bytes)}"
        if self.capability is None or self.multiprocessors is None:
            return Card(name, total_bytes, context_bytes, None, None, source)
        major, minor = map(int, self.capability.split("."))
        like = _nearest((major, minor), self.multiprocessors)
        chip = Chip(
            (name,),
            like.clock_khz if self.clock_mhz is None else 1000 * self.clock_mhz,
            like.memory_clock_khz if self.memory_clock_mhz is None else 1000 * self.memory_clock_mhz,
            like.memory_bus_bits if self.memory_bus_bits is None else self.memory_bus_bits,
            like.l2_cache_bytes if self.l2 is None else parse_bytes(self.l2),
        )
        return Card(name, total_bytes, context_bytes, (major, minor), self.multiprocessors, source, chip)


def canonical(name: str, own: Iterable[str]) -> str:
    """A card's name as it is registered, if it means one card; else as it is."""
    called = [each for each in own if each.casefold() == " ".join(name.split()).casefold()]
    try:
        return called[0] if called else card_named(name).name
    except ValueError:
        return name


def read(path: Path) -> list[Card]:
    """The cards of a file's own, with those of its plugins; none if there is no such file.

    Raises:
        UsageError: the file is not TOML, or one of its cards or plugins is wrong.
    """
    if not path.exists():
        return []
    file = toml_file.read(path)
    tables = file.values.get("cards", {})
    found = validated(_Cards, {"cards": tables})
    if isinstance(found, list):
        raise UsageError("; ".join(told(fault, [Layer(file.values, file.where)]) for fault in found))
    own_modules.load(file)
    section = file.values.get("plugins")
    modules = section.get("modules") if isinstance(section, dict) else None
    return [*cards_of(found.cards), *plugins.cards(modules)]


def cards_of(tables: Mapping[str, OwnCard]) -> list[Card]:
    """The cards that tables describe."""
    return [table.card(name) for name, table in tables.items()]


class _Cards(BaseModel):
    cards: dict[Name, OwnCard]


def _nearest(capability: tuple[int, int], multiprocessors: int) -> Chip:
    same = [card for card in CARDS.values() if card.compute_capability == capability and card.chip]
    chip = min(same, key=lambda card: abs((card.multiprocessors or 0) - multiprocessors)).chip
    assert chip
    return chip
