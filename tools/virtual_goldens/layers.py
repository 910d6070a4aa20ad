"""Ask cuDNN about recurrent layers drawn at random, on the virtual card, and write what it takes for them.

    python -m bench.virtual "RTX 3080" tools/virtual_goldens/layers.py FILE

Each answer: the layers (bench.memory.recurrence.Layers), whether they are run in the kernel for small ones, and
the bytes of workspace, reserve and weights.
"""

from __future__ import annotations

import ctypes
import json
import lzma
import random
import sys
from ctypes import byref, c_double, c_float, c_int, c_size_t, c_ulonglong, c_void_p
from pathlib import Path
from typing import Any

COUNT = 1000
POINTER = c_void_p(1 << 44)
KINDS = ("relu", "tanh", "lstm", "gru")
TYPES = {"float32": (0, 4), "float64": (1, 8), "float16": (2, 2), "bfloat16": (9, 2)}
STANDARD, SMALL = 0, 3
CHECKED_BY_THE_DEVICE = 5003  # the answer is whole: tests/virtual/test_recurrent.py


def main() -> None:
    """Ask, and write the file."""
    import torch

    torch.ones(1, device="cuda")
    library = Library()
    chosen = random.Random(0)
    answers = []
    while len(answers) < COUNT:
        asked = drawn(chosen)
        answer = library.ask(*asked)
        if answer is not None:
            answers.append([*asked, *answer])
    Path(sys.argv[1]).write_bytes(lzma.compress(json.dumps(answers, separators=(",", ":")).encode(), preset=9))


def drawn(chosen: random.Random) -> tuple[Any, ...]:
    """Kind, type, inputs, width, projected, layers, directions, steps, lengths, drops, trains, is_small."""
    kind, dtype = chosen.choice(KINDS), chosen.choice(list(TYPES))
    layers, directions = chosen.choice((1, 1, 2, 3)), chosen.choice((1, 1, 2))
    width = chosen.choice((5, 7, 33, 50, 64, 77, 96, 128, 200, 256, 512, 1024))
    inputs, steps = chosen.choice((1, 7, 16, 40, 64, 128, 300, 512)), chosen.choice((1, 2, 5, 12, 16, 35, 100))
    lengths = [steps] * chosen.choice((1, 2, 3, 8, 16, 20, 64))
    if chosen.random() < 0.1:
        lengths = [steps, *sorted((chosen.randint(1, steps) for _ in lengths[1:]), reverse=True)]
    is_projected = kind == "lstm" and width > 8 and chosen.random() < 0.2
    projected = width // chosen.choice((2, 4)) if is_projected else width
    trains = chosen.random() < 0.6
    drops = trains and layers > 1 and chosen.random() < 0.5
    is_even = len(set(lengths)) == 1 and not is_projected and dtype in ("float16", "float32")
    is_small = is_even and width <= (128 if kind in ("lstm", "gru") else 256)  # as PyTorch asks for both passes
    return kind, dtype, inputs, width, projected, layers, directions, steps, lengths, drops, trains, is_small


class Library:
    """cuDNN on the virtual card."""

    def __init__(self) -> None:
        self._card, self._cudnn = ctypes.CDLL(None), ctypes.CDLL("libcudnn.so.9")
        self._handle = self._made("cudnnCreate")

    def ask(
        self,
        kind: str,
        dtype: str,
        inputs: int,
        width: int,
        projected: int,
        layers: int,
        directions: int,
        steps: int,
        lengths: list[int],
        drops: bool,
        trains: bool,
        is_small: bool,
    ) -> tuple[int, int, int] | None:
        """Bytes of workspace, reserve and weights; None if cuDNN has no such layers."""
        type_ = TYPES[dtype][0]
        math_type = 1 if dtype == "float64" else 0
        is_padded = len(set(lengths)) == 1
        network, dropout = self._made("cudnnCreateRNNDescriptor"), self._made("cudnnCreateDropoutDescriptor")
        data, size_bytes = self._made("cudnnCreateRNNDataDescriptor"), c_size_t()
        self._run("cudnnDropoutGetStatesSize", self._handle, byref(size_bytes))
        states = (POINTER, size_bytes) if drops else (None, c_size_t())
        self._run("cudnnSetDropoutDescriptor", dropout, self._handle, c_float(0.5 * drops), *states, c_ulonglong())
        self._run(
            *("cudnnSetRNNDescriptor_v8", network, SMALL if is_small else STANDARD, KINDS.index(kind), 2),
            *(directions - 1, 0, type_, math_type, int(dtype == "float16"), inputs, width, projected, layers),
            *(dropout, int(is_padded)),
        )
        of_each, fill = (c_int * len(lengths))(*lengths), c_double()
        layout = int(not is_padded)
        self._run(
            *("cudnnSetRNNDataDescriptor", data, type_, layout, steps, len(lengths), inputs, of_each, byref(fill))
        )
        workspace, reserve, weights = c_size_t(), c_size_t(), c_size_t()
        status = self._cudnn.cudnnGetRNNTempSpaceSizes(
            self._handle, network, int(trains), data, byref(workspace), byref(reserve)
        )
        self._run("cudnnGetRNNWeightSpaceSize", self._handle, network, byref(weights))
        return (workspace.value, reserve.value, weights.value) if status in (0, CHECKED_BY_THE_DEVICE) else None

    def _made(self, create: str) -> c_void_p:
        thing = c_void_p()
        self._run(create, byref(thing))
        return thing

    def _run(self, name: str, *arguments: Any) -> None:
        status = (getattr(self._card, name, None) or getattr(self._cudnn, name))(*arguments)
        if status:
            raise RuntimeError(f"{name} answers {status}")


if __name__ == "__main__":
    main()
