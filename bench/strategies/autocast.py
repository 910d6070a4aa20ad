"""Mixed precision: convolutions and their results in half the bytes; parameters stay as they are."""

from bench.strategies.strategy import Strategy

BF16 = Strategy("bf16", "autocast to bfloat16", {"training": {"autocast": "bfloat16"}})
