"""Calls of attention at every limit of its kernels, and which kernel PyTorch takes for them on a card.

With a CUDA build, from the top of the repository, makes the answers of the virtual card:

    python -m bench.virtual "H200" tests/fidelity/attention_choices.py "H200"
"""

from __future__ import annotations

import itertools
import json
from pathlib import Path
from typing import NamedTuple

import torch

ANSWERS = Path(__file__).parents[1] / "golden" / "attention-choices-2.14.json"
CARDS = ("T4", "A100 40GB", "RTX 3080", "RTX 4090", "H200", "RTX 5090")
KERNELS = ("math", "flash", "efficient", "cudnn")  # by their numbers in PyTorch (SDPBackend)


class Case(NamedTuple):
    """A call: the sizes of its query, key and value, and what else decides."""

    query: tuple[int, ...] = (2, 4, 16, 64)
    key: tuple[int, ...] = (2, 4, 16, 64)
    value: tuple[int, ...] = (2, 4, 16, 64)
    dtype: str = "float16"
    mask: str = ""  # "fixed", or "trained"
    dropout: float = 0.0
    is_causal: bool = False
    grouped: bool = False
    trained: str = "qkv"  # which of them want a gradient
    gaps: str = ""  # of which every other number is taken

    def inputs(self, device: str) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor, torch.Tensor | None]:
        """Query, key, value and mask."""
        dtype = getattr(torch, self.dtype)
        made = []
        for name, shape in zip("qkv", (self.query, self.key, self.value), strict=True):
            with_gaps = (*shape[:-1], 2 * shape[-1]) if name in self.gaps else shape
            tensor = torch.empty(with_gaps, dtype=dtype, device=device)
            made.append((tensor[..., ::2] if name in self.gaps else tensor).requires_grad_(name in self.trained))
        mask = torch.empty(self.query[-2], self.key[-2], dtype=dtype, device=device) if self.mask else None
        if mask is not None:
            mask.requires_grad_(self.mask == "trained")
        return made[0], made[1], made[2], mask


def _of_width(width: int, of_values: int | None = None, length: int = 16, keys: int = 16, **other: object) -> Case:
    of_values = width if of_values is None else of_values
    return Case((2, 4, length, width), (2, 4, keys, width), (2, 4, keys, of_values), **other)  # type: ignore[arg-type]


_WIDTHS = (1, 2, 4, 6, 8, 12, 64, 100, 120, 128, 129, 136, 192, 193, 200, 224, 225, 232, 255, 256, 257, 264)
CASES = (
    *(
        _of_width(width, dtype=dtype, trained=trained, dropout=dropout)
        for width, dtype, trained, dropout in itertools.product(
            _WIDTHS, ("float16", "bfloat16", "float32"), ("qkv", ""), (0.0, 0.125)
        )
    ),
    *(
        _of_width(*widths, dtype=dtype, trained=trained)
        for widths, dtype, trained in itertools.product(
            (
                (64, 72),
                (72, 64),
                (192, 128),
                (128, 192),
                (256, 64),
                (64, 256),
                (64, 12),
                (12, 64),
                (64, 6),
                (64, 264),
                (264, 64),
            ),
            ("float16", "float32"),
            ("qkv", "v", ""),
        )
    ),
    *(
        _of_width(64, length=length, keys=keys, dropout=dropout, mask=mask, is_causal=is_causal)
        for length, keys, dropout, (mask, is_causal) in itertools.product(
            (0, 1, 2, 16),
            (0, 1, 2, 16),
            (0.0, 0.1, 0.125),
            (("", False), ("", True), ("fixed", False), ("trained", False)),
        )
    ),
    *(
        _of_width(width, dtype=dtype, gaps=gaps)
        for width, dtype, gaps in itertools.product((1, 64), ("float16", "float32"), ("q", "k", "v", "qkv"))
    ),
    *(
        Case((batch, heads, 16, 64), (2, keys, 16, 64), (2, values, 16, 64), dtype, grouped=grouped)
        for batch, (heads, keys, values), dtype, grouped in itertools.product(
            (1, 2),
            ((4, 4, 4), (4, 2, 2), (4, 2, 4), (4, 4, 2), (4, 3, 3), (2, 4, 4)),
            ("float16", "float32"),
            (False, True),
        )
    ),
    *(
        Case((heads, 16, 64), (keys, 16, 64), (values, 16, 64), dtype, mask, grouped=grouped)
        for (heads, keys, values), dtype, mask, grouped in itertools.product(
            ((4, 4, 4), (4, 1, 1), (4, 2, 2), (4, 2, 4), (1, 4, 4)),
            ("float16", "float32", "float64"),
            ("", "fixed"),
            (False, True),
        )
    ),
    *(
        Case((2, heads, 16, 64), (2, keys, 16, 64), (2, values, 16, 64), dtype, grouped=grouped)
        for (heads, keys, values), dtype, grouped in itertools.product(
            ((4, 1, 1), (4, 1, 4), (4, 4, 1), (1, 4, 4)), ("float16", "float32"), (False, True)
        )
    ),
    Case((4, 16, 64), (1, 4, 16, 64), (1, 4, 16, 64)),
    Case(dtype="float64"),
    Case((2, 4, 16, 64), (2, 4, 16, 32), (2, 4, 16, 64)),
    *(Case(dropout=sixteenths / 16) for sixteenths in (0.5, 1, 1.5, 3)),
    *(
        Case((2, 6, 16, 64), (2, keys, 16, 64), (2, values, 16, 64), grouped=True)
        for keys, values in ((3, 6), (6, 3), (2, 3), (4, 6), (6, 4), (4, 4))
    ),
)


def answers(device: str) -> str:
    """The number of the kernel of every case, "x" where PyTorch refuses it."""
    numbers = []
    for case in CASES:
        query, key, value, mask = case.inputs(device)
        try:
            number = torch._fused_sdp_choice(
                query, key, value, mask, case.dropout, case.is_causal, enable_gqa=case.grouped
            )
        except RuntimeError:
            numbers.append("x")
        else:
            numbers.append(str(number))
    return "".join(numbers)


if __name__ == "__main__":
    import sys

    kept = json.loads(ANSWERS.read_text()) if ANSWERS.exists() else {}
    kept[sys.argv[1]] = answers("cuda")
    ANSWERS.write_text(json.dumps(kept, indent=1) + "\n")
    print(torch.cuda.get_device_capability(), len(CASES), {n: kept[sys.argv[1]].count(n) for n in "0123x"})
