"""The channels of a pixel side by side, as tensor cores read them."""

from bench.strategies.strategy import Strategy

CHANNELS_LAST = Strategy(
    "channels-last", "images and kernels with their channels last", {"training": {"memory_format": "channels_last"}}
)
