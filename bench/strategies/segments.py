"""Let the allocator grow its segments, so that free blocks of several make room for a large one."""

from bench.strategies.strategy import Strategy

EXPANDABLE = Strategy(
    "expandable",
    "expandable_segments:True of PyTorch's allocator",
    {"memory": {"alloc_conf": "expandable_segments:True"}},
)
