"""Calls that reduce, for the virtual card to answer: every operation, on many shapes, layouts, dimensions and types.

`CALLS` are texts, so that an answer can be named by its call. Each is evaluated with an input `x`.
"""

from __future__ import annotations

import itertools
import math
from typing import NamedTuple

import torch

INF = float("inf")


class Call(NamedTuple):
    """`operation`, in Python, of an `x` of this shape and type, laid out so."""

    operation: str
    shape: tuple[int, ...]
    layout: str
    dtype: str

    def source(self, device):
        """The input."""
        shape, dtype = self.shape, getattr(torch, self.dtype)
        if self.layout == "contiguous":
            return torch.empty(shape, dtype=dtype, device=device)
        if self.layout == "reversed":
            return torch.empty(shape[::-1], dtype=dtype, device=device).permute(*range(len(shape))[::-1])
        if self.layout == "swapped":
            swapped = (*shape[:-2], shape[-1], shape[-2])
            return torch.empty(swapped, dtype=dtype, device=device).transpose(-1, -2)
        if self.layout == "channels_last":
            return torch.empty((shape[0], *shape[2:], shape[1]), dtype=dtype, device=device).movedim(-1, 1)
        if self.layout == "cut":
            return torch.empty((*shape[:-1], shape[-1] + 3), dtype=dtype, device=device)[..., 1 : shape[-1] + 1]
        if self.layout == "every_other":
            return torch.empty((*shape[:-1], 2 * shape[-1]), dtype=dtype, device=device)[..., ::2]
        if self.layout == "shifted":
            return torch.empty(math.prod(shape) + 1, dtype=dtype, device=device)[1:].view(shape)
        if self.layout == "windows":
            return torch.empty(shape[0] + shape[1] - 1, dtype=dtype, device=device).unfold(0, shape[1], 1)
        if self.layout.startswith("strides "):
            *numbers, begin = map(int, self.layout.removeprefix("strides ").replace(" at ", " ").split())
            strides = tuple(numbers)
            end = begin + 1 + sum((size - 1) * stride for size, stride in zip(shape, strides, strict=True))
            return torch.empty(end, dtype=dtype, device=device).as_strided(shape, strides, begin)
        assert self.layout == "expanded"
        return torch.empty((*shape[:-1], 1), dtype=dtype, device=device).expand(shape)

    def prepared(self, device):
        """The call, with its input made."""
        x = self.source(device)
        return lambda: eval(self.operation, {"torch": torch, "x": x, "inf": INF})


_OPERATIONS = (
    "x.sum()",
    "x.sum(0)",
    "x.sum(-1)",
    "x.mean(-1, keepdim=True)",
    "x.mean()",
    "x.prod(0)",
    "x.nansum(-1)",
    "torch.linalg.vector_norm(x)",
    "torch.linalg.vector_norm(x, 1, dim=0)",
    "torch.linalg.vector_norm(x, inf, dim=-1)",
    "x.amax(-1)",
    "x.amin(0, keepdim=True)",
    "x.max()",
    "x.max(-1)",
    "x.min(0, keepdim=True)",
    "x.argmax(-1)",
    "x.argmin()",
    "x.var(-1)",
    "x.std()",
    "torch.var_mean(x, 0)",
    "torch.std_mean(x, -1)",
    "x.any()",
    "x.all(-1)",
    "torch.aminmax(x, dim=-1)",
    "torch.aminmax(x)",
)
_SHAPES = (
    ((2_000_000,), ("contiguous", "every_other", "cut")),
    ((2048, 10_000), ("contiguous", "swapped")),
    ((300_000, 64), ("contiguous", "reversed", "cut")),
    ((16, 64, 112, 112), ("contiguous", "channels_last", "reversed", "cut")),
    ((3, 5, 70_001), ("contiguous", "swapped", "expanded")),
    ((1, 1_048_576, 1), ("contiguous",)),
)
_IMAGES = ("x.sum((0, 2, 3))", "x.mean((2, 3))", "x.sum((0, 1))", "x.var((0, 2, 3))", "x.amax((1, 3))", "x.std((2, 3))")
_TYPES = (
    *itertools.product(
        ("x.sum(0)", "x.mean(-1)", "torch.linalg.vector_norm(x)", "x.amax(0)", "x.max(0)", "x.var(0)", "x.sum()"),
        ("float16", "bfloat16", "float64"),
    ),
    *itertools.product(
        ("x.sum(0, dtype=torch.float32)", "torch.linalg.vector_norm(x, dtype=torch.float32)"), ("float16", "bfloat16")
    ),
    *itertools.product(("x.sum(0)", "x.sum()", "x.mean(-1)"), ("complex64", "complex128")),
    *itertools.product(("x.sum(0)", "x.amax(-1)", "x.max(-1)", "x.argmax(0)", "x.any(0)"), ("int64", "int32", "uint8")),
    *itertools.product(("x.sum(0)", "x.any()", "x.all(0)"), ("bool",)),
    ("x.sum(0, dtype=torch.float64)", "float32"),
)
_OF_TYPES = (((4_000_000,), "contiguous"), ((100_000, 96), "contiguous"), ((1000, 9_999), "swapped"))
_LARGE = (
    ("x.sum()", (700, 1024, 1024), "float32"),
    ("x.sum(0)", (700, 1024, 1024), "float32"),
    ("x.sum(-1)", (3, 300, 1_000_003), "float32"),
    ("x.sum((0, 2))", (900, 64, 20_000), "float32"),
    ("x.mean((0, 2))", (2000, 64, 20_000), "bfloat16"),
    ("x.max(0)", (2000, 64, 20_000), "bfloat16"),
    ("x.var((0, 2))", (1200, 64, 20_000), "float32"),
    ("x.argmax()", (1200, 64, 20_000), "float32"),
    ("x.amax(-1)", (1200, 64, 20_000), "float32"),
)
# At the last number that 32 bits reach, one before and behind it; halves that are not alike; inputs that begin later.
_AT_LIMITS = (
    *(
        (operation, shape, layout, "uint8")
        for operation in ("x.amax()", "x.sum()", "x.max()", "x.any()")
        for shape, layout in (
            ((2**31 - 2,), "contiguous"),
            ((2**31 - 1,), "contiguous"),
            ((2**31,), "contiguous"),
            ((2**31 + 4097,), "contiguous"),
            ((2**30,), "every_other"),
            ((2**30 + 1,), "every_other"),
            ((4, 2**30 + 5), "expanded"),
        )
    ),
    *(
        (operation, shape, layout, "float32")
        for operation in ("x.sum(0)", "x.sum(-1)", "x.sum((0, 2))", "x.sum((0, 1))", "x.max(0)", "x.var((0, 2))")
        for shape, layout in (
            ((700, 1024, 1024), "shifted"),
            ((700, 1024, 1024), "cut"),
            ((701, 513, 2050), "swapped"),
            ((5, 300_007, 514), "reversed"),
            ((1, 600_000, 1024), "shifted"),
            ((1, 600_000, 1024), "contiguous"),
        )
    ),
)
# Dimensions of one, rows that lie on one another, and few results.
_ORDERS = tuple(
    (operation, shape, layout, "float32")
    for operation in (
        "x.sum(0)",
        "x.sum(1)",
        "x.sum(-1)",
        "x.sum((0, 2))",
        "x.sum((0, 1))",
        "x.var((1, 2))",
        "x.argmax(1)",
    )
    for shape, layout in (
        ((1, 70_000, 5), "contiguous"),
        ((2000, 1, 700), "swapped"),
        ((600, 700, 1), "reversed"),
        ((70_000, 3, 5), "expanded"),
        ((3, 70_000, 5), "expanded"),
        ((40_000, 2, 4), "reversed"),
        ((40_000, 2, 2), "contiguous"),
        ((2, 40_000, 6), "cut"),
        ((256, 129, 64), "swapped"),
        ((257, 64, 64), "channels_last"),
    )
)
# Dimensions that lie on one another, before, between and behind others.
_EXPANDED = (
    *(
        (operation, shape, layout, dtype)
        for operation, shape, layout in (
            ("x.amax((0, 2, 3))", (512, 4, 3, 129), "strides 1 512 0 2048 at 0"),
            ("x.amax((1, 2, 3))", (7, 512, 4, 512), "strides 512 1 0 3584 at 0"),
            ("x.amax((0, 1))", (512, 16, 16, 4), "strides 0 64 1 16 at 0"),
            ("x.amax((1, 3))", (4, 512, 4, 16), "strides 1 0 4 16 at 0"),
        )
        for dtype in ("uint8", "float32")
    ),
    ("x.sum((0, 1, 2))", (7, 1000, 100, 16), "strides 1 0 112 7 at 0", "float32"),
    ("x.sum((1, 2, 3))", (4, 3, 3000, 4), "strides 1 0 0 4 at 0", "float32"),
    ("x.sum((0, 1))", (4, 3000, 16), "strides 0 16 1 at 0", "float32"),
    # too large: halves begin at multiples of four or do not; which of two dimensions spans more differs by one step
    ("x.sum(0)", (30_000, 131_080), "strides 4 1 at 0", "float32"),
    ("x.amax(0)", (30_000, 131_080), "strides 4 1 at 0", "uint8"),
    ("x.sum(0)", (30_000, 131_079), "strides 4 1 at 1", "float32"),
    ("x.sum(-1)", (40_001, 80_000), "strides 2 1 at 0", "float32"),
    ("x.sum(0)", (40_001, 80_000), "strides 2 1 at 0", "float32"),
)
_ROOM = (40 * 8, 68 * 12, 132 * 16)  # blocks of 128 threads: T4, RTX 3080, H200
CALLS = (
    *(
        Call(operation, shape, layout, "float32")
        for shape, layouts in _SHAPES
        for layout in layouts
        for operation in _OPERATIONS
    ),
    *(
        Call(operation, shape, layout, "float32")
        for operation in _IMAGES
        for shape in ((16, 64, 112, 112), (2, 3, 512, 512), (256, 512, 7, 7), (5, 7, 33, 129), (1, 1, 4096, 4096))
        for layout in ("contiguous", "channels_last", "cut")
    ),
    *(Call(operation, shape, layout, dtype) for operation, dtype in _TYPES for shape, layout in _OF_TYPES),
    *(Call(operation, shape, "contiguous", dtype) for operation, shape, dtype in _LARGE),
    *(Call(*each) for each in (*_AT_LIMITS, *_ORDERS, *_EXPANDED)),
    *(
        Call(operation, shape, layout, "float32")
        for operation in ("x.sum()", "x.sum(0)", "x.sum(-1)", "x.max(0)", "x.var(0)")
        for shape, layout in (((100_000, 96), "shifted"), ((20_000, 300), "windows"), ((300, 20_000), "windows"))
    ),
    # As many columns of blocks as each card has room for, and one more.
    *(
        Call("x.sum(0)", (rows, 128 * columns), "contiguous", "float32")
        for rows in (1024, 1025, 1100)
        for room in _ROOM
        for columns in (room, room + 1)
    ),
)
