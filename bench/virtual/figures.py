"""A card's figures as the virtual card's library takes them: those that cuDNN is told, from the one table there is."""

from __future__ import annotations

import json
from typing import NamedTuple

from bench.memory.cudnn.backend import NotAtHandError, UnknownCardError
from bench.memory.cudnn.devices import properties_json
from bench.memory.gpus import CARDS, Card
from bench.memory.trace import Workspace

KERNELS_OF_A_CAPACITY = "RTX 3080"  # whose kernels run where a card is no more than a capacity, such as "8GB"

# cuFFT's work areas are not known: how often the larger of input and output they are, at either end of an interval.
FFT_WORK_TIMES = {Workspace.LOW: 0, Workspace.HIGH: 2}


class NoVirtualCardError(Exception):
    """There can be no virtual card here: one sentence that says why, and what to do."""


class Figures(NamedTuple):
    """What the library is told: numbers by the names of source/card.h, and two texts."""

    numbers: dict[str, int]
    name: str
    cudnn_json: str


def kernels_of(card: Card) -> Card:
    """The card whose figures decide which kernels run, and with which temporaries."""
    return CARDS[KERNELS_OF_A_CAPACITY] if card.compute_capability is None else card


def figures(card: Card, work_areas: Workspace = Workspace.HIGH) -> Figures:
    """Everything that the library is told about a card, and which bound of cuFFT's work areas it shall take.

    Raises:
        NoVirtualCardError: the card's properties are not known.
    """
    try:
        told = json.loads(properties_json(kernels_of(card))) | {"totalGlobalMem": card.total_bytes}
    except UnknownCardError as error:
        raise NoVirtualCardError(str(error)) from error
    except NotAtHandError as error:
        raise NoVirtualCardError(f"the virtual engine does not know {card.name}'s properties ({error})") from error
    optin, reserved = told["maxSharedMemoryPerBlockOptin"], told["reservedSharedMemoryPerBlock"]
    numbers = {
        "total_bytes": card.total_bytes,
        "context_bytes": card.context_bytes,
        "major": told["deviceVer"] // 100,
        "minor": told["deviceVer"] // 10 % 10,
        "multiprocessors": told["multiProcessorCount"],
        "threads_per_multiprocessor": told["maxThreadsPerSM"],
        "blocks_per_multiprocessor": told["maxCtasPerSM"],
        "shared_bytes_per_block": told["maxSharedMemoryPerBlock"],
        "shared_bytes_per_block_optin": optin,
        "shared_bytes_per_multiprocessor": optin + reserved,  # so on every compute capability from 7.5 on
        "reserved_shared_bytes_per_block": reserved,
        "registers_per_multiprocessor": told["maxRegistersPerSM"],
        "l2_bytes": told["l2CacheSize"],
        "clock_khz": told["smClockRateKHz"],
        "memory_clock_khz": told["memClockRateKHz"],
        "memory_bus_bits": told["memoryBusWidth"],
        "fft_work_times": FFT_WORK_TIMES[work_areas],
    }
    return Figures(numbers, told["deviceName"], json.dumps(told))
