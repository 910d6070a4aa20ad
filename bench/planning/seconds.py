"""How much longer a step takes than another that multiplies as much: an estimate, from the bytes that both move.

None of the ways to run a step of the user's changes how many numbers it multiplies. What they change are the bytes that
kernels read and write, which take time at the card's memory bandwidth, and those that cross PCIe to the host and back,
while nothing else runs. Where kernels wait for memory, that is all; where multiplications take longer, a step loses
relatively less. Not counted: what it costs to start more and smaller kernels, and what tensor cores win.

Source of the rates: 16 lanes of PCIe 3.0, 4.0 and 5.0 at 0.985, 1.969 and 3.938 GB/s each (PCI-SIG), by the generation
that cards of a compute capability have.
"""

from __future__ import annotations

from bench.memory import Card
from bench.virtual.figures import kernels_of

_LANES = 16
_LANE_GB_PER_SECOND = {7: 0.985, 8: 1.969}
_LANE_GB_PER_SECOND_OF_LATER = 3.938

MEASURE = (
    "time",
    "an estimate, relative to plain, by the bytes that kernels move at the card's bandwidth and PCIe's at its own",
)


def memory_bytes_per_second(card: Card) -> float:
    """The bandwidth of a card's memory, two transfers at each clock; of a capacity, that of the card it stands for."""
    chip = kernels_of(card).chip
    assert chip
    return 2 * 1000 * chip.memory_clock_khz * chip.memory_bus_bits / 8


def host_bytes_per_second(card: Card) -> float:
    """What crosses PCIe, in one direction."""
    major, _ = kernels_of(card).compute_capability or (0, 0)
    return 1e9 * _LANES * _LANE_GB_PER_SECOND.get(major, _LANE_GB_PER_SECOND_OF_LATER)


def has_bfloat16(card: Card) -> bool:
    """Whether a card's kernels compute in bfloat16: from compute capability 8.0 on."""
    return (kernels_of(card).compute_capability or (0, 0)) >= (8, 0)


def moving_seconds(kernel_bytes: float, host_bytes: float, card: Card) -> float:
    """What it takes a card to move so many bytes in kernels, and so many to the host and back."""
    return kernel_bytes / memory_bytes_per_second(card) + 2 * host_bytes / host_bytes_per_second(card)
