"""The colours of all pictures, each with the one that takes its place on a dark page.

Whatever has a meaning stands out from its ground with a contrast of 3 or more, as WCAG 2.2 wants of graphics (success
criterion 1.4.11): the first colour of a pair from `GROUNDS[0]`, the second from `GROUNDS[1]`.
"""

from __future__ import annotations

import re

from bench.records import CATEGORIES

GROUNDS = ("#ffffff", "#1c1f23")
"""White paper, and the dark page's surface (`--surface` of page.css)."""

INK = ("#000000", "#e9e7e2")
NOTE = ("#606060", "#a5abb3")
"""Of lines and words beside the data: a card's memory, the other bound."""
LIMIT = ("#b00020", "#ff7a88")
"""Of what may not be exceeded."""
GRID = ("#d9d9d9", "#3a3f46")
"""Of lines that help the eye and say nothing."""
FAINT = ("#f0f0f0", "#2b2f35")
"""Beneath a hatch that has the contrast."""

METHODS = (
    ("#1a1a1a", "#f2f2f2"),
    ("#b46f00", "#f0ab3c"),
    ("#0069a8", "#5fb3f0"),
    ("#00805c", "#2fc79a"),
    ("#b0558a", "#e39cc6"),
    ("#c44a00", "#ff8a50"),
    ("#3f87b5", "#9fd4f5"),
    ("#767676", "#b0b0b0"),
)
"""In an order in which neighbours differ in lightness too; bench.mplstyle has the first of each."""

CONTEXT = ("#767676", "#9a9a9a")
MEMORY = dict(
    zip(
        CATEGORIES,
        (
            ("#16324f", "#8fb6e0"),
            ("#4a86b8", "#5b87b3"),
            ("#5b2a6e", "#c79adb"),
            ("#b0559a", "#d678bd"),
            ("#6b4200", "#c9a06a"),
            ("#a87400", "#e8b646"),
            ("#c2410c", "#f0784a"),
            ("#2f8a5f", "#7fd0a5"),
            ("#3d3d3d", "#d0d0d0"),
            ("#8c8c8c", "#7d8289"),
        ),
        strict=True,
    )
)
"""Of what memory is taken by. The last one, which is reserved and not allocated, is the colour of a hatch."""
NORMALISATIONS = ("#c98500", "#f5dc9a")
OTHER_ACTIVATIONS = ("#7d5600", "#b08a3a")
"""Saved activations beside those of convolutions, which have their category's colour."""

_OTHERS = (GROUNDS, INK, NOTE, LIMIT, GRID, FAINT, CONTEXT, NORMALISATIONS, OTHER_ACTIVATIONS)
_DARK = dict([*METHODS, *MEMORY.values(), *_OTHERS])
_PAINT = re.compile(r'((?:fill|stroke)(?:: |="))(#[0-9a-f]{6})\b')


def in_both(svg: str) -> str:
    """An SVG file whose colours follow the page's colour scheme; those that are not of the palette stay."""
    return _PAINT.sub(lambda paint: paint[1] + _both(paint[2]), svg)


def _both(color: str) -> str:
    dark = _DARK.get(color)
    return f"light-dark({color}, {dark})" if dark else color
