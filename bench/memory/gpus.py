"""Cards: how much memory each has, and how much of it a training step can use.

usable = total - context. The total is what CUDA reports for the card, a little under what is printed on the box, and
less under newer drivers; a capacity such as "8GB" stands for itself. The context is what CUDA and the loaded kernels
take beside PyTorch's allocator: 250 to 500 MiB with lazy loading (PyTorch's maintainers say some 300 MB:
https://github.com/pytorch/pytorch/issues/107667). It grows with the number of multiprocessors and with the kernels
used; where nobody measured it, the upper end is assumed.

The cards are the rows of cards.csv, each with the source of its total: where several were found, the least. The other
figures are those of NVIDIA's specifications, in the units of cudaDeviceProp.
Adding a card: one row there.
"""

from __future__ import annotations

import csv
import math
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from difflib import get_close_matches
from pathlib import Path

from bench.units import GiB, KiB, MiB, format_bytes, parse_bytes, tidy_size

ASSUMED_CONTEXT_BYTES = 500 * MiB
ENDLESS_BYTES = 2**60
LEAST_CAPABILITY = (7, 5)  # of cuDNN from 9.11 on, and so of PyTorch 2.11 and later

CUBLAS_WORKSPACE_CONFIG = ":4096:2:16:8"  # what PyTorch gives cuBLAS if that environment variable is not set ...
LARGE_CUBLAS_WORKSPACE_CONFIG = ":4096:8"  # ... and on Hopper and Blackwell
_LARGE_CUBLAS_WORKSPACE_MAJORS = (9, 10, 12)

# Threads of a multiprocessor, by compute capability: the CUDA programming guide's table of technical specifications.
_THREADS_PER_MULTIPROCESSOR = {(6, 0): 2048, (7, 0): 2048, (7, 5): 1024, (8, 0): 2048, (9, 0): 2048, (10, 0): 2048}
_THREADS_OF_OTHERS = 1536

_SOLD_GIB = (2, 3, 4, 6, 8, 10, 11, 12, 16, 20, 24, 32, 40, 48, 64, 80, 96, 141)


@dataclass(frozen=True)
class Chip:
    """What kernels are chosen by, beside a card's capability and multiprocessors; named and in units as CUDA has it."""

    device_names: tuple[str, ...]
    clock_khz: int
    memory_clock_khz: int
    memory_bus_bits: int
    l2_cache_bytes: int


@dataclass(frozen=True)
class Card:
    """A GPU as far as memory is concerned; `source` says where its numbers come from.

    A program can leave it less: `memory_fraction` as torch.cuda.set_per_process_memory_fraction has it,
    `cublas_workspace` as the environment variable CUBLAS_WORKSPACE_CONFIG; None: what PyTorch chooses.
    """

    name: str
    total_bytes: int
    context_bytes: int
    compute_capability: tuple[int, int] | None
    multiprocessors: int | None
    source: str
    chip: Chip | None = None
    memory_fraction: float = 1.0
    cublas_workspace: str | None = None

    @property
    def usable_bytes(self) -> int:
        """What PyTorch's allocator can reserve."""
        return min(self.total_bytes - self.context_bytes, int(self.total_bytes * self.memory_fraction))

    def without_limit(self) -> Card:
        """The same kernels, and memory that never ends."""
        return replace(self, total_bytes=ENDLESS_BYTES, context_bytes=0, memory_fraction=1.0)

    @property
    def capacity_gib(self) -> int:
        """What is printed on the box: the least size that memory is sold in and that holds the total."""
        return next((size for size in _SOLD_GIB if size * GiB >= self.total_bytes), math.ceil(self.total_bytes / GiB))

    @property
    def cublas_workspace_config(self) -> str:
        """What cuBLAS's workspace is told to be, as the environment variable CUBLAS_WORKSPACE_CONFIG has it.

        PyTorch's default, where nothing else is given or what is given cannot be read. From
        parseChosenWorkspaceSize in aten/src/ATen/cuda/CublasHandlePool.cpp (torch 2.12 and later; 2.11 took the
        large one on 9.0 alone). A card of which only the capacity is known is taken as older than Hopper.
        """
        if self.cublas_workspace is not None and _sizes(self.cublas_workspace):
            return self.cublas_workspace
        major, _ = self.compute_capability or (0, 0)
        return LARGE_CUBLAS_WORKSPACE_CONFIG if major in _LARGE_CUBLAS_WORKSPACE_MAJORS else CUBLAS_WORKSPACE_CONFIG

    @property
    def cublas_workspace_bytes(self) -> int:
        """What cuBLAS keeps for each thread that uses it."""
        return cublas_workspace_bytes(self.cublas_workspace_config)

    @property
    def multiprocessors_and_threads(self) -> tuple[int, int] | None:
        """How many multiprocessors, and threads of each; None of a mere capacity."""
        if self.compute_capability is None or self.multiprocessors is None:
            return None
        return self.multiprocessors, threads_per_multiprocessor(self.compute_capability)

    @property
    def refusal(self) -> str | None:
        """Why nothing can be said of the card's kernels: one sentence, or None if they are known."""
        if self.compute_capability is None or self.compute_capability >= LEAST_CAPABILITY:
            return None
        major, minor = self.compute_capability
        return (
            f"cuDNN does not know {self.name} any more: it has compute capability {major}.{minor}, and cuDNN 9.11 and "
            f"later, which PyTorch 2.11 and later need, begin with 7.5; its capacity can be asked about: "
            f"--gpu-cap {self.capacity_gib}GB"
        )


def threads_per_multiprocessor(capability: tuple[int, int]) -> int:
    """`maxThreadsPerMultiProcessor` of a compute capability."""
    return _THREADS_PER_MULTIPROCESSOR.get(capability, _THREADS_OF_OTHERS)


def cublas_workspace_bytes(config: str = CUBLAS_WORKSPACE_CONFIG) -> int:
    """The bytes that a CUBLAS_WORKSPACE_CONFIG stands for: ":4096:2:16:8" is twice 4096 KiB and eight times 16 KiB."""
    return sum(size * KiB * count for size, count in _sizes(config))


def _sizes(config: str) -> list[tuple[int, int]]:
    """The KiB and counts of a CUBLAS_WORKSPACE_CONFIG; none if PyTorch cannot read it."""
    return [(int(size), int(count)) for size, count in re.findall(r":([0-9]+):([0-9]+)", config)]


def card_of_capacity(text: str, context_bytes: int = ASSUMED_CONTEXT_BYTES) -> Card:
    """The card that a capacity such as "8GB" stands for.

    Raises:
        ValueError: not a size, or nothing is left of it beside the CUDA context.
    """
    total_bytes = parse_bytes(text)
    if total_bytes <= context_bytes:
        raise ValueError(
            f"a cap of {text} leaves nothing to train in: the CUDA context alone takes {format_bytes(context_bytes)}"
        )
    return Card(tidy_size(text), total_bytes, context_bytes, None, None, "capacity as given; context assumed")


def _card(row: Mapping[str, str]) -> Card:
    major, minor = row["capability"].split(".")
    chip = Chip(
        tuple(row["devices"].split("|")) if row["devices"] else (f"NVIDIA GeForce {row['name']}",),
        int(row["clock_mhz"]) * 1000,
        int(row["memory_clock_mhz"]) * 1000,
        int(row["memory_bus_bits"]),
        parse_bytes(row["l2"]),
    )
    return Card(
        row["name"],
        parse_bytes(row["total"]),
        ASSUMED_CONTEXT_BYTES,
        (int(major), int(minor)),
        int(row["multiprocessors"]),
        row["source"],
        chip,
    )


def _shipped() -> dict[str, Card]:
    with Path(__file__).with_name("cards.csv").open(encoding="utf-8", newline="") as file:
        return {row["name"]: _card(row) for row in csv.DictReader(file)}


CARDS = _shipped()


def card_named(name: str, own: Iterable[Card] = ()) -> Card:
    """The card that a name means, as people write it: "RTX 4090", "rtx4090", "4090", "NVIDIA GeForce RTX 4090".

    `own` are cards of the user's, found before the known ones.

    Raises:
        ValueError: no such card, several of them, or one that cuDNN does not know; the message says what there is.
    """
    mine = {card.name: card for card in own}
    known = mine | {each: card for each, card in CARDS.items() if each not in mine}
    found = _meant(name, known)
    if len(found) > 1 and not all(known[each].refusal for each in found):
        raise ValueError(f"{name[:60]!r} is the name of several cards: give one of {', '.join(found)}")
    if not found:
        close = get_close_matches(_plain(name), [_plain(each) for each in known], 3, 0.5)
        near = [each for each in known if _plain(each) in close]
        nearest = f"the nearest are {', '.join(near)}" if near else "none is near"
        raise ValueError(f"unknown card {name[:60]!r}: {nearest} (see `bench list`); or give a capacity, such as 8GB")
    card = known[found[0]]
    if card.refusal:
        raise ValueError(card.refusal)
    return card


def card_of_device(device_name: str) -> Card | None:
    """The card that CUDA calls so; None if it is not known, or is the name of several."""
    found = [card for card in CARDS.values() if card.chip and device_name in card.chip.device_names]
    return found[0] if len(found) == 1 else None


_NOISE = {"nvidia", "geforce", "tesla", "rtx", "gpu", "generation", "graphics", "card"}
_SIGNIFICANT = {"ti", "super"}  # another card with them than without


def _plain(name: str) -> str:
    """A name in small letters, one space between its words: "RTX4060Ti-8GB" is "rtx 4060 ti 8gb"."""
    text = re.sub(r"[\s_-]+", " ", name.casefold()).strip()
    text = re.sub(r"\b(rtx|gtx)(?=\d)", r"\1 ", text)
    text = re.sub(r"(?<=\d)\s*(ti|super)(?=\b|super)", r" \1 ", text)
    text = re.sub(r"(\d)\s+(?=gi?b\b)", r"\1", text).replace("gib", "gb")
    return re.sub(r"\s+", " ", re.sub(r"\bsxm\d\b", "sxm", text)).strip()


def _words(name: str) -> frozenset[str]:
    return frozenset(_plain(name).split()) - _NOISE


def _meant(name: str, known: Mapping[str, Card]) -> list[str]:
    """The names of the cards that a name may mean: the one called so, else all whose words include the name's."""
    wanted, plain = _words(name), _plain(name)
    exact = [each for each in known if _plain(each) == plain] or [each for each in known if _words(each) == wanted]
    if exact or not wanted:
        return exact[:1]
    found = []
    for each, card in known.items():
        for called in (each, *(card.chip.device_names if card.chip else ())):
            words = _words(called)
            if words & _SIGNIFICANT == wanted & _SIGNIFICANT and wanted <= words | {f"{card.capacity_gib}gb"}:
                found.append(each)
                break
    return found
