"""What a cell's row is called: its architecture's name, and behind it that of its strategy."""

from __future__ import annotations

PLAIN = "plain"
"""The strategy that changes nothing."""

_BESIDE = " + "


def named(architecture: str, strategy: str) -> str:
    """The name of both: "LUSER-SW + recomputed"; the architecture's alone where the strategy is plain."""
    return architecture if strategy == PLAIN else f"{architecture}{_BESIDE}{strategy}"


def split(name: str) -> tuple[str, str]:
    """The architecture and the strategy of such a name."""
    architecture, _, strategy = name.partition(_BESIDE)
    return architecture, strategy or PLAIN


def is_plain(name: str) -> bool:
    """Whether such a name has no strategy."""
    return split(name)[1] == PLAIN
