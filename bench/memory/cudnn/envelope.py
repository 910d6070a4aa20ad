"""The most that cuDNN takes for a convolution on any of several cards: a bound, where only a capacity is known.

"8GB" stands for every known card of 8 GB, any other capacity and a card without a limit for every known card. What
bounds a call, the first of these that there is:

1. the largest of cuDNN's first choices on all of them, for every version of cuDNN that bench has answers of: the same
   bound beside every release of PyTorch;
2. the same from the library, if it is installed, for the version that PyTorch runs on;
3. `most_workspace_bytes`, a bound that held in every answer that was looked at.

PyTorch falls back to a smaller workspace where the first does not fit. The bound does not: on the card that takes the
most of one call, another may take more of the next.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace
from functools import cached_property
from typing import Any

from bench.memory.convolution import Convolution, most_workspace_bytes
from bench.memory.cudnn import cache
from bench.memory.cudnn.backend import Configuration
from bench.memory.cudnn.devices import kind
from bench.memory.cudnn.heuristics import (
    CachedCudnn,
    LiveCudnn,
    WorkspaceSource,
    at_hand,
    tried,
    version_of_torch,
)
from bench.memory.gpus import CARDS, Card
from bench.memory.routing import has_own_kernel
from bench.units import GiB


class Envelope:
    """What bounds the workspaces on the cards that a card stands for.

    Args:
        card: a capacity, a card without a limit, or a named card, which stands for itself.
        allow_tf32: torch.backends.cudnn.allow_tf32.
        deterministic: torch.backends.cudnn.deterministic.
        cudnn_version: by default, the one that the installed PyTorch runs on.
    """

    is_exact = False

    def __init__(
        self,
        card: Card,
        *,
        allow_tf32: bool = True,
        deterministic: bool = False,
        cudnn_version: str | None = None,
    ) -> None:
        self.cudnn_version = cudnn_version or version_of_torch() or "unknown"
        self.card = card
        self._asked: dict[str, Any] = {
            "cudnn_version": self.cudnn_version,
            "allow_tf32": allow_tf32,
            "deterministic": deterministic,
        }
        self._known: dict[Convolution, int] = {}

    @cached_property
    def cards(self) -> list[Card]:
        """The cards whose kernels are meant."""
        return stands_for(self.card)

    def candidates(self, call: Convolution) -> tuple[int]:
        """The one size that bounds a call, in bytes."""
        if call not in self._known:
            self._known[call] = self._most_bytes(call)
        return (self._known[call],)

    def _most_bytes(self, call: Convolution) -> int:
        if has_own_kernel(call):
            return 0
        most = _largest_first(self._shipped, call)
        if most is None:
            most = _largest_first(self._live, call)
        return most_workspace_bytes(call) if most is None else most

    @cached_property
    def _shipped(self) -> list[WorkspaceSource]:
        """The file's entry of the capacity, in all versions."""
        named = replace(self.card, name=envelope_name(self.card))
        asked = [self._asked | {"cudnn_version": version} for version in cache.FILES]
        return _all_or_none(at_hand(CachedCudnn, named, **each) for each in asked)

    @cached_property
    def _live(self) -> list[WorkspaceSource]:
        """The library on each of the cards."""
        return _all_or_none(at_hand(LiveCudnn, each, **self._asked) for each in self.cards)


def _all_or_none(sources: Iterable[WorkspaceSource | None]) -> list[WorkspaceSource]:
    """The sources, if they are all at hand: some of them bound nothing."""
    found: list[WorkspaceSource] = []
    for source in sources:
        if source is None:
            return []
        found.append(source)
    return found


def _largest_first(sources: Iterable[WorkspaceSource], call: Convolution) -> int | None:
    """The largest of the first choices; None if one of the sources has none, or there is no source."""
    firsts = [next(iter(source.candidates(call) or ()), None) for source in sources]
    known = [size for size in firsts if size is not None]
    return max(known) if known and len(known) == len(firsts) else None


def stands_for(card: Card) -> list[Card]:
    """The known cards that a card stands for, each kind of chip once: those that cuDNN tells apart.

    A named card stands for itself.
    """
    if card.compute_capability is not None:
        return [card]
    known = [each for each in CARDS.values() if not each.refusal]
    same = [each for each in known if each.capacity_gib * GiB == card.total_bytes] or known
    return list({kind(each): each for each in same}.values())


def with_most_cublas(card: Card) -> Card:
    """The card, with the compute capability of the one that cuBLAS keeps most on, among those that it stands for."""
    most = max(stands_for(card), key=lambda each: each.cublas_workspace_bytes)
    return replace(card, compute_capability=most.compute_capability)


def envelope_name(card: Card) -> str:
    """What the shipped file calls the envelope of a capacity, however that is written: "every 8GB card"."""
    whole = card.compute_capability is None and card.total_bytes % GiB == 0
    return f"every {card.total_bytes // GiB}GB card" if whole else card.name


def largest(answers: Iterable[Iterable[Configuration]], dtype: str) -> list[Configuration]:
    """The largest of several cards' first choices, as configurations of which each setting of the flags tries its own.

    The notes decide which setting passes over which of the four.
    """
    kept = [list(configurations) for configurations in answers]

    def most(allow_tf32: bool, deterministic: bool) -> int:
        firsts = [tried(each, dtype, allow_tf32=allow_tf32, deterministic=deterministic)[:1] for each in kept]
        return max((size for first in firsts for size in first), default=0)

    return [
        Configuration(most(allow_tf32, deterministic), tensor_core=allow_tf32, nondeterministic=not deterministic)
        for allow_tf32, deterministic in ((True, False), (False, False), (True, True), (False, True))
    ]
