"""What an allocator did: every allocation, free, segment and out of memory, in order."""

from __future__ import annotations

from collections.abc import Callable
from enum import Enum
from typing import NamedTuple


class Action(str, Enum):
    """What happened, by the names of PyTorch's own memory snapshots."""

    ALLOC = "alloc"
    FREE = "free"
    SEGMENT_ALLOC = "segment_alloc"
    SEGMENT_FREE = "segment_free"
    SEGMENT_MAP = "segment_map"  # a range of pages of an expandable segment
    SEGMENT_UNMAP = "segment_unmap"
    OUT_OF_MEMORY = "oom"


class Entry(NamedTuple):
    """One thing that happened, and how much was allocated and reserved after it.

    `size_bytes` is what was asked for, of a segment or its pages their size; `key` is -1 for those.
    """

    action: Action
    key: int
    address: int
    size_bytes: int
    allocated_bytes: int
    reserved_bytes: int


Observer = Callable[[Entry], None]
"""Is told each entry once it has happened."""
