"""The cards of bench.memory.gpus as cuDNN's heuristics see them.

What each field is: cudaDeviceProp in CUDA's documentation. Limits of a compute capability are from the table of the
CUDA programming guide. For the suite's convolutions, cuDNN 9.20's answers hang on the compute capability, on the number
of multiprocessors (72 or 46, not 72 or 64) and, on an H200, on the memory's clock. Every other number was changed, by a
fifth to two thirds, and no answer changed with it.
Adding a compute capability: its limits here.
"""

from __future__ import annotations

import json
from typing import Any

from bench.memory.cudnn.backend import NotAtHandError, UnknownCardError
from bench.memory.gpus import Card, threads_per_multiprocessor

# Per multiprocessor or block of a compute capability.
LIMITS: dict[tuple[int, int], dict[str, int]] = {
    (7, 5): {
        "maxSharedMemoryPerBlockOptin": 65536,
        "reservedSharedMemoryPerBlock": 0,
        "maxCtasPerSM": 16,
    },
    (8, 0): {
        "maxSharedMemoryPerBlockOptin": 166912,
        "reservedSharedMemoryPerBlock": 1024,
        "maxCtasPerSM": 32,
    },
    (8, 6): {
        "maxSharedMemoryPerBlockOptin": 101376,
        "reservedSharedMemoryPerBlock": 1024,
        "maxCtasPerSM": 16,
    },
    (8, 9): {
        "maxSharedMemoryPerBlockOptin": 101376,
        "reservedSharedMemoryPerBlock": 1024,
        "maxCtasPerSM": 24,
    },
    (9, 0): {
        "maxSharedMemoryPerBlockOptin": 232448,
        "reservedSharedMemoryPerBlock": 1024,
        "maxCtasPerSM": 32,
    },
    (12, 0): {
        "maxSharedMemoryPerBlockOptin": 101376,
        "reservedSharedMemoryPerBlock": 1024,
        "maxCtasPerSM": 24,
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


def properties_json(card: Card) -> str:
    """A card's properties, in the form cuDNN reads them.

    Raises:
        UnknownCardError: cuDNN does not know the card, and would answer 0 everywhere.
        NotAtHandError: the card's properties are not known; a capacity such as "8GB" has none.
    """
    if card.refusal:
        raise UnknownCardError(card.refusal)
    if card.chip is None or card.compute_capability not in LIMITS:
        raise NotAtHandError(f"cuDNN cannot be told about {card.name!r}: its properties are not known")
    major, minor = card.compute_capability
    return json.dumps(
        {
            "deviceVer": 100 * major + 10 * minor,
            "deviceName": card.chip.device_names[0],
            "totalGlobalMem": card.total_bytes,
            "multiProcessorCount": card.multiprocessors,
            "smClockRateKHz": card.chip.clock_khz,
            "memClockRateKHz": card.chip.memory_clock_khz,
            "memoryBusWidth": card.chip.memory_bus_bits,
            "l2CacheSize": card.chip.l2_cache_bytes,
            **LIMITS[card.compute_capability],
            "maxThreadsPerSM": threads_per_multiprocessor(card.compute_capability),
            **_COMMON,
        }
    )


def kind(card: Card) -> tuple[object, ...]:
    """What cuDNN's answers depend on, as far as it was looked into: cards of one kind have the same."""
    is_hopper = card.compute_capability == (9, 0)
    memory_clock = card.chip.memory_clock_khz if card.chip and is_hopper else None
    return card.compute_capability, card.multiprocessors, memory_clock
