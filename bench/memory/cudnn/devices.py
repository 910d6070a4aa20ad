"""The cards of bench.memory.gpus as cuDNN's heuristics see them.

What each field is: cudaDeviceProp in CUDA's documentation. Limits of a compute capability are from the table of the
CUDA programming guide, clocks, buses and caches from the cards' public specifications; an H200 was read out. For the
suite's convolutions, cuDNN 9.20's answers hang on the compute capability, on the number of multiprocessors (72 or 46,
not 72 or 64) and, on an H200, on the memory's clock. Every other number was changed, by a fifth to two thirds, and no
answer changed with it.
Adding a card: one entry here, and one in gpus.py; for a compute capability that is new, its limits too.
"""

from __future__ import annotations

import json
from typing import Any, NamedTuple

from bench.memory.cudnn.backend import NotAtHandError
from bench.memory.gpus import CARDS


class _Chip(NamedTuple):
    """What gpus.Card does not know of a card."""

    device_name: str
    clock_khz: int
    memory_clock_khz: int
    memory_bus_bits: int
    l2_cache_bytes: int


_CHIPS = {
    "RTX 2080": _Chip("NVIDIA GeForce RTX 2080", 1710000, 7000000, 256, 4194304),
    "RTX 3080": _Chip("NVIDIA GeForce RTX 3080", 1710000, 9501000, 320, 5242880),
    "Quadro RTX 6000": _Chip("Quadro RTX 6000", 1770000, 7001000, 384, 6291456),
    "H200": _Chip("NVIDIA H200", 1980000, 3201000, 6144, 62914560),
}

# Per multiprocessor or block of a compute capability.
_LIMITS: dict[tuple[int, int], dict[str, int]] = {
    (7, 5): {
        "maxSharedMemoryPerBlockOptin": 65536,
        "reservedSharedMemoryPerBlock": 0,
        "maxCtasPerSM": 16,
        "maxThreadsPerSM": 1024,
    },
    (8, 6): {
        "maxSharedMemoryPerBlockOptin": 101376,
        "reservedSharedMemoryPerBlock": 1024,
        "maxCtasPerSM": 16,
        "maxThreadsPerSM": 1536,
    },
    (9, 0): {
        "maxSharedMemoryPerBlockOptin": 232448,
        "reservedSharedMemoryPerBlock": 1024,
        "maxCtasPerSM": 32,
        "maxThreadsPerSM": 2048,
    },
}

_COMMON: dict[str, Any] = {
    "driverVer": 13000,
    "cudaDeviceId": 0,
    "smCountOrigin": 0,
    "warpSize": 32,
    "maxSharedMemoryPerBlock": 49152,
    "oversizedSharedMemoryPerBlock": 0,
    "maxRegistersPerSM": 65536,
    "maxThreadsPerBlock": 1024,
    "pciDeviceId": 0,
    "isTccDriver": 0,
    "supportCoopLaunch": 1,
    "maxGridSize": [2147483647, 65535, 65535],
    "maxBlockSize": [1024, 1024, 64],
    "regsPerBlock": 65536,
}


def properties_json(card_name: str) -> str:
    """A card's properties, in the form cuDNN reads them.

    Raises:
        NotAtHandError: no card whose properties are known; a capacity such as "8GB" is none.
    """
    card, chip = CARDS.get(card_name), _CHIPS.get(card_name)
    if card is None or chip is None or card.compute_capability not in _LIMITS:
        raise NotAtHandError(f"cuDNN cannot be told about {card_name!r}, but about: {', '.join(_CHIPS)}")
    major, minor = card.compute_capability
    return json.dumps(
        {
            "deviceVer": 100 * major + 10 * minor,
            "deviceName": chip.device_name,
            "totalGlobalMem": card.total_bytes,
            "multiProcessorCount": card.multiprocessors,
            "smClockRateKHz": chip.clock_khz,
            "memClockRateKHz": chip.memory_clock_khz,
            "memoryBusWidth": chip.memory_bus_bits,
            "l2CacheSize": chip.l2_cache_bytes,
            **_LIMITS[card.compute_capability],
            **_COMMON,
        }
    )
