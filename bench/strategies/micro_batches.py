"""A batch in parts one after the other, whose gradients add up; exact where a network does not mix its samples."""

from bench.strategies.strategy import Strategy

MICRO_BATCHES = Strategy(
    "micro-batches", "four parts of a batch one after the other", {"training": {"micro_batches": 4}}
)
