"""Checkpoint each stage: keep its input alone, and run its network again in backward (Chen et al., 2016)."""

from bench.strategies.strategy import Strategy

CHECKPOINT = Strategy(
    "checkpoint",
    "each stage keeps its input and is run again in backward",
    {"model": {"checkpoint": True}},
    needs="can_checkpoint",
    refusal="has no stages of layers to checkpoint; choose recomputed",
)
NESTED = Strategy(
    "nested",
    "as checkpoint, and inside a stage four layers at a time",
    {"model": {"checkpoint": True, "checkpoint_layers": 4}},
    needs="can_checkpoint",
    refusal="has no stages of layers to checkpoint; choose recomputed+lean",
)
