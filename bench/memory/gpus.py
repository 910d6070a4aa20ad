"""Cards: how much memory each has, and how much of it a training step can use.

usable = total - context. The total is what CUDA reports for the card, a little under what is printed on the box; a
capacity such as "8GB" stands for itself. The context is what CUDA and the loaded kernels take beside PyTorch's
allocator: 250 to 500 MiB with lazy loading. It grows with the number of multiprocessors and with the kernels used;
where nobody measured it, the upper end is assumed.
Adding a card: one entry here.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from bench.units import GiB, KiB, MiB, format_bytes, parse_bytes, tidy_size

ASSUMED_CONTEXT_BYTES = 500 * MiB

CUBLAS_WORKSPACE_CONFIG = ":4096:2:16:8"  # what PyTorch gives cuBLAS if that environment variable is not set ...
LARGE_CUBLAS_WORKSPACE_CONFIG = ":4096:8"  # ... and on Hopper and Blackwell
_LARGE_CUBLAS_WORKSPACE_MAJORS = (9, 10, 12)


@dataclass(frozen=True)
class Card:
    """A GPU as far as memory is concerned; `source` says where its numbers come from."""

    name: str
    total_bytes: int
    context_bytes: int
    compute_capability: tuple[int, int] | None
    multiprocessors: int | None
    source: str

    @property
    def usable_bytes(self) -> int:
        """What PyTorch's allocator can reserve."""
        return self.total_bytes - self.context_bytes

    @property
    def cublas_workspace_config(self) -> str:
        """PyTorch's default for cuBLAS's workspace here, as the environment variable CUBLAS_WORKSPACE_CONFIG has it.

        From parseChosenWorkspaceSize in aten/src/ATen/cuda/CublasHandlePool.cpp (torch 2.12 and later; 2.11 took the
        large one on 9.0 alone). A card of which only the capacity is known is taken as older than Hopper.
        """
        major, _ = self.compute_capability or (0, 0)
        return LARGE_CUBLAS_WORKSPACE_CONFIG if major in _LARGE_CUBLAS_WORKSPACE_MAJORS else CUBLAS_WORKSPACE_CONFIG

    @property
    def cublas_workspace_bytes(self) -> int:
        """What cuBLAS keeps for each thread that uses it."""
        return cublas_workspace_bytes(self.cublas_workspace_config)


_PUBLISHED = "total: PyTorch's out-of-memory message on such a card, as a user published it; context assumed"

CARDS = {
    card.name: card
    for card in (
        Card("RTX 2080", int(7.76 * GiB), ASSUMED_CONTEXT_BYTES, (7, 5), 46, _PUBLISHED),
        Card("RTX 3080", int(9.78 * GiB), ASSUMED_CONTEXT_BYTES, (8, 6), 68, _PUBLISHED),
        Card(
            "Quadro RTX 6000",  # the paper's card
            24 * GiB,
            ASSUMED_CONTEXT_BYTES,
            (7, 5),
            72,
            "total: nominal, not measured (ECC takes more); context assumed",
        ),
        Card("H200", 150754820096, ASSUMED_CONTEXT_BYTES, (9, 0), 132, "total: device properties; context assumed"),
    )
}


def cublas_workspace_bytes(config: str = CUBLAS_WORKSPACE_CONFIG) -> int:
    """The bytes that a CUBLAS_WORKSPACE_CONFIG stands for: ":4096:2:16:8" is twice 4096 KiB and eight times 16 KiB."""
    return sum(int(size) * KiB * int(count) for size, count in re.findall(r":(\d+):(\d+)", config))


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


def card_named(name: str) -> Card:
    """A card of CARDS by its name, whatever its case.

    Raises:
        ValueError: no such card; the message lists the known ones.
    """
    for known, card in CARDS.items():
        if known.casefold() == " ".join(name.split()).casefold():
            return card
    raise ValueError(f"unknown card {name[:60]!r}: known cards are {', '.join(CARDS)}; or give a capacity, such as 8GB")
