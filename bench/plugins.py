"""[plugins] of bench.toml: files and modules of the user's, with architectures, operators and cards of their own.

A plugin is run once in each process. Its architectures and operators stand beside those of bench from then on, under
names that no other has; its cards are those of the configurations that name it.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType

import torch

from bench import models, operators
from bench.errors import UsageError
from bench.memory.gpus import CARDS, Card
from bench.models.architectures.base import Architecture
from bench.operators.base import Operator
from bench.operators.discovery import named_in
from bench.user_module import load_module


@dataclass(frozen=True)
class Plugin:
    """What a module has of its own, by name."""

    architectures: Mapping[str, type[Architecture]]
    operators: Mapping[str, type[Operator]]
    cards: Mapping[str, Card]


_loaded: dict[str, Plugin] = {}


def whole(name: str, folder: Path) -> str:
    """A plugin's name that holds in any folder: of a file its path. Modules are looked for in `folder` too."""
    if name.endswith(".py"):
        return str((folder / name).resolve())
    if str(folder.resolve()) not in sys.path:
        sys.path.insert(0, str(folder.resolve()))
    return name


def load(name: str) -> Plugin:
    """Run the plugin, if that was not done yet, and register its architectures and operators.

    Args:
        name: as `whole` gives it.

    Raises:
        UsageError: it cannot be imported, has nothing of its own, or a name that is taken.
    """
    if name not in _loaded:
        same = [each for each in _loaded if each.endswith(".py") and Path(each).name == Path(name).name]
        if same:
            raise UsageError(f"{name} is called as {same[0]} is: give one of the two another name")
        _loaded[name] = _registered(load_module(name, "plugin"), name)
    return _loaded[name]


def cards(names: object) -> list[Card]:
    """The cards of plugins that are loaded; none where `names` is no list of such."""
    found = [_loaded[name] for name in names if name in _loaded] if isinstance(names, (list, tuple)) else []
    return [card for plugin in found for card in plugin.cards.values()]


@dataclass(frozen=True)
class WithPlugins:
    """A make_step(batch, device) that another process, too, can call: plugins are loaded there first."""

    names: tuple[str, ...]
    make_step: Callable[[int, torch.device], Callable[[], object]]

    def __call__(self, batch: int, device: torch.device) -> Callable[[], object]:
        """Build the step."""
        for name in self.names:
            load(name)
        return self.make_step(batch, device)


def _registered(module: ModuleType, name: str) -> Plugin:
    """What a module has, once its names are found to be free."""
    networks, known = models._discovered(), operators._discovered()
    new_networks = {each.name: each for each in named_in(module, Architecture) if each not in networks.values()}
    new_operators = {each.name: each for each in named_in(module, Operator) if each not in known.values()}
    values = (value for value in vars(module).values() if isinstance(value, Card))
    new_cards = {card.name: card for card in values if card not in CARDS.values()}
    if not (new_networks or new_operators or new_cards):
        kinds = "a subclass of Architecture or Operator with a name, or a Card"
        raise UsageError(f"{name} has no plugin: expected {kinds}")
    for what, new, taken in (
        ("architecture", new_networks, networks),
        ("operator", new_operators, known),
        ("card", new_cards, CARDS),
    ):
        _refuse_taken(name, what, new, taken)
    networks.update(new_networks)
    known.update(new_operators)
    return Plugin(new_networks, new_operators, new_cards)


def _refuse_taken(plugin: str, what: str, new: Iterable[str], taken: Iterable[str]) -> None:
    there = {name.casefold() for name in taken}
    for name in new:
        if name.casefold() in there:
            raise UsageError(f"{plugin}: the name of the {what} {name} is taken: give it another one")
