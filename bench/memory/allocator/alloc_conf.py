"""What ``PYTORCH_ALLOC_CONF`` (formerly ``PYTORCH_CUDA_ALLOC_CONF``) says, in PyTorch's own syntax.

Source: c10/core/AllocatorConfig.{h,cpp} and c10/cuda/CUDAAllocatorConfig.{h,cpp}. Options that change where
memory goes but that the replay does not follow are refused, never ignored.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

from bench.memory.allocator.blocks import LARGE_BUFFER

MIB = 1 << 20
ROUNDUP_INTERVALS = 16  # kRoundUpPowerOfTwoIntervals: one per power of two from 1 MiB up; the last is open-ended


@dataclass(frozen=True)
class AllocatorConfig:
    """Options of the caching allocator, and the PyTorch release whose behaviour is wanted.

    Attributes:
        max_split_size_bytes: Blocks of this size or more are never split; None splits every block.
        roundup_power2_divisions: Round a request up to the next 1/d of a power of two (0 and 1: off); one
            number for every size, or 16 numbers, one per power of two from 1 MiB to 32 GiB.
        garbage_collection_threshold: Fraction of the cap above which old cached blocks are released; 0 is off.
        expandable_segments: Grow one segment per pool by pages instead of allocating separate segments.
        torch_version: (major, minor) of the release to behave as.
    """

    max_split_size_bytes: int | None = None
    roundup_power2_divisions: int | tuple[int, ...] = 0
    garbage_collection_threshold: float = 0.0
    expandable_segments: bool = False
    torch_version: tuple[int, int] = (2, 13)

    def __post_init__(self) -> None:
        if self.expandable_segments and self.max_split_size_bytes is not None:
            raise ValueError("expandable_segments together with max_split_size_mb is not simulated: choose one")
        given = self.roundup_power2_divisions
        if isinstance(given, tuple) and len(given) != ROUNDUP_INTERVALS:
            raise ValueError(f"roundup_power2_divisions: got {len(given)} numbers, expected {ROUNDUP_INTERVALS}")

    @property
    def divisions(self) -> tuple[int, ...] | None:
        """``roundup_power2_divisions`` as 16 numbers, one per power of two from 1 MiB up; None where it is off."""
        given = self.roundup_power2_divisions
        table = given if isinstance(given, tuple) else (given,) * ROUNDUP_INTERVALS
        return table if max(table) > 1 else None

    @classmethod
    def parse(cls, text: str | None, torch_version: tuple[int, int] = (2, 13)) -> AllocatorConfig:
        """Read a value of ``PYTORCH_ALLOC_CONF`` such as ``"max_split_size_mb:128,expandable_segments:False"``.

        Args:
            text: Comma-separated ``key:value`` pairs, spaces ignored; None or "" is the default configuration.
            torch_version: (major, minor) of the release to behave as.

        Raises:
            ValueError: An unknown or unsimulated key, or a value PyTorch would not accept.
        """
        return cls(torch_version=torch_version).updated(text)

    def updated(self, text: str | None) -> AllocatorConfig:
        """These options, and over them what `text` says.

        Raises:
            ValueError: as from `parse`.
        """
        fields: dict[str, Any] = {}
        compact = "".join((text or "").split()).removesuffix(",")
        for item in re.split(r",(?![^\[]*\])", compact) if compact else ():  # a comma inside [...] does not separate
            key, colon, value = item.partition(":")
            if not colon:
                raise ValueError(f"allocator configuration: got {item!r}, expected key:value; {_KNOWN_KEYS}")
            if key in _WITHOUT_EFFECT or item == "backend:native":
                continue
            if key in _NOT_SIMULATED:
                raise ValueError(f"allocator option {key}: {value!r} is not simulated; {_KNOWN_KEYS}")
            if key not in _PARSERS:
                raise ValueError(f"allocator configuration: got unknown key {key!r}; {_KNOWN_KEYS}")
            field, parse_value = _PARSERS[key]
            try:
                fields[field] = parse_value(value)
            except ValueError as error:
                raise ValueError(f"allocator option {key}: got {value!r}, expected {error}") from None
        return replace(self, **fields)


def _max_split_size(value: str) -> int:
    if not value.isdecimal() or int(value) * MIB < LARGE_BUFFER:
        raise ValueError(f"a whole number of MiB, at least {LARGE_BUFFER // MIB}")
    return int(value) * MIB


def _threshold(value: str) -> float:
    expected = ValueError("a fraction strictly between 0 and 1")
    try:
        fraction = float(value)
    except ValueError:
        raise expected from None
    if not 0.0 < fraction < 1.0:
        raise expected
    return fraction


def _boolean(value: str) -> bool:
    if value not in ("True", "False"):
        raise ValueError("True or False")
    return value == "True"


def _divisions(value: str) -> int | tuple[int, ...]:
    """One power of two, or ``[MiB:divisions,...,>:divisions]`` (parseRoundUpPower2Divisions)."""
    if not (value.startswith("[") and value.endswith("]")):
        return _power_of_two(value)
    table = [0] * ROUNDUP_INTERVALS
    last: int | None = None
    for pair in value[1:-1].split(","):
        boundary, _, text = pair.partition(":")
        divisions = 0 if text == "0" else _power_of_two(text)
        if boundary == ">":
            start = (last or 0) + 1
            table[start:] = [divisions] * (ROUNDUP_INTERVALS - start)
            continue
        index = min(_power_of_two(boundary).bit_length() - 1, ROUNDUP_INTERVALS - 1)
        if last is None:  # the first boundary also answers for every smaller size
            table[:index] = [divisions] * index
        table[index] = divisions
        last = index
    return tuple(table)


def _power_of_two(text: str) -> int:
    if not text.isdecimal() or int(text).bit_count() != 1:
        raise ValueError("a power of two, or a list of MiB:divisions in powers of two such as [256:1,512:2,>:4]")
    return int(text)


_PARSERS: dict[str, tuple[str, Callable[[str], object]]] = {
    "max_split_size_mb": ("max_split_size_bytes", _max_split_size),
    "roundup_power2_divisions": ("roundup_power2_divisions", _divisions),
    "garbage_collection_threshold": ("garbage_collection_threshold", _threshold),
    "expandable_segments": ("expandable_segments", _boolean),
}
_NOT_SIMULATED = (  # they change where memory goes
    "backend",
    "large_segment_size_mb",
    "max_non_split_rounding_mb",
    "per_process_memory_fraction",
    "throw_on_cudamalloc_oom",
)
_WITHOUT_EFFECT = (  # host memory, locking and graph capture: the replay accepts and ignores them
    "graph_capture_record_stream_reuse",
    "pinned_free_catch_all",
    "pinned_max_cached_size_mb",
    "pinned_max_round_threshold_mb",
    "pinned_num_register_threads",
    "pinned_reserve_segment_size_mb",
    "pinned_use_background_threads",
    "pinned_use_cuda_host_register",
    "release_lock_on_cudamalloc",
)
_KNOWN_KEYS = f"known keys: {', '.join(_PARSERS)}"
