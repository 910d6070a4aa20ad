"""Strategies: the same network, trained with other memory, by name; several at once with "+" between them.

Adding one means adding a file: every module here is looked through for `Strategy` values. A strategy sets options of
the configuration, and gives the cell a name of its own ("LUSER-SW + recomputed"); nothing else knows of it.
"""

from __future__ import annotations

import importlib
import pkgutil
from collections.abc import Iterable, Sequence
from dataclasses import replace
from functools import cache
from typing import TYPE_CHECKING, Any, NamedTuple

from bench.choices import refusal, spelled
from bench.errors import UsageError
from bench.strategies.naming import PLAIN, named, split
from bench.strategies.strategy import Strategy

if TYPE_CHECKING:
    from bench.config import Config
    from bench.models.architectures.base import Architecture

__all__ = ["PLAIN", "Combination", "Strategy", "chosen", "combination", "known", "named", "names", "split"]

_BETWEEN = "+"


@cache
def _known() -> dict[str, Strategy]:
    modules = (importlib.import_module(f"{__name__}.{file.name}") for file in pkgutil.iter_modules(__path__))
    found = (value for module in modules for value in vars(module).values() if isinstance(value, Strategy))
    return {strategy.name: strategy for strategy in found}


def names() -> list[str]:
    """Known strategies, "plain" first."""
    return [PLAIN, *_known()]


def known() -> list[Strategy]:
    """All of them but "plain"."""
    return list(_known().values())


class Combination(NamedTuple):
    """Strategies at once; none is "plain"."""

    strategies: tuple[Strategy, ...]

    @property
    def name(self) -> str:
        """Their names with "+" between them, in the order of `names`."""
        return joined(each.name for each in self.strategies)

    @property
    def changes(self) -> dict[str, dict[str, object]]:
        """The options that they set, section by section."""
        changes: dict[str, dict[str, object]] = {}
        for each in self.strategies:
            for section, options in each.changes.items():
                changes.setdefault(section, {}).update(options)
        return changes

    def laid_on(self, config: Config) -> Config:
        """The configuration with these options."""
        sections: dict[str, Any] = {}
        for name, options in self.changes.items():
            section: Any = getattr(config, name)
            is_dataclass = name == "model"
            sections[name] = replace(section, **options) if is_dataclass else section.model_copy(update=options)
        return config.model_copy(update=sections)

    def refused_by(self, architecture: type[Architecture], config: Config) -> str | None:
        """Why an architecture cannot take them, and what to choose; None if it can, and of none at all."""
        if not self.strategies:
            return None
        for each in self.strategies:
            if each.needs and not getattr(architecture, each.needs):
                why = (
                    f"{architecture.lean_already}; choose plain" if architecture.lean_already else f"it {each.refusal}"
                )
                return f"{architecture.name} cannot be trained with {each.name}: {why}"
        return architecture.refusal_of(self.laid_on(config).model)


def combination(text: str) -> Combination:
    """Read "recomputed" or "checkpoint+bf16", in any case and order.

    Raises:
        ValueError: a name is unknown, or two of them exclude each other.
    """
    chosen = [spelled(part, names()) for part in text.split(_BETWEEN)]
    for name in chosen:
        if name not in names():
            raise ValueError(refusal("strategy", name, names()))
    made = Combination(tuple(each for name, each in _known().items() if name in chosen))
    _check_compatible(made.strategies)
    return made


def joined(names: Iterable[str]) -> str:
    """Names as one text that `combination` reads; empty ones are passed over."""
    return _BETWEEN.join(name for name in names if name) or PLAIN


def _check_compatible(strategies: Sequence[Strategy]) -> None:
    setters: dict[tuple[str, str], tuple[Strategy, object]] = {}
    for strategy in strategies:
        for section, options in strategy.changes.items():
            for key, value in options.items():
                other, before = setters.setdefault((section, key), (strategy, value))
                if before != value:
                    raise ValueError(
                        f"strategies {other.name} and {strategy.name} exclude each other, as both set "
                        f"[{section}] {key}: choose one of them"
                    )


def chosen(
    texts: Iterable[str], architectures: Iterable[type[Architecture]], config: Config
) -> tuple[list[tuple[str, Combination]], list[str]]:
    """Which architectures are trained with which strategies; and the sentences that tell why others are not.

    Raises:
        UsageError: a strategy that none of the architectures can take.
    """
    pairs: list[tuple[str, Combination]] = []
    refusals: list[str] = []
    combinations = {made.name: made for made in map(combination, texts)}
    known = list(architectures)
    for made in combinations.values():
        reasons = [(architecture, made.refused_by(architecture, config)) for architecture in known]
        takers = [architecture.name for architecture, reason in reasons if reason is None]
        refusals += [reason for _, reason in reasons if reason is not None]
        if known and not takers:
            raise UsageError(next(reason for _, reason in reasons if reason is not None))
        pairs += [(name, made) for name in takers]
    order = [architecture.name for architecture in known]
    return sorted(pairs, key=lambda pair: order.index(pair[0])), refusals
