"""Names that have to be known: in any case, each once, and with a word on what was meant."""

from __future__ import annotations

from collections.abc import Iterable
from difflib import get_close_matches


def spelled(name: str, known: Iterable[str]) -> str:
    """A name as it is spelled among those known, whatever its case and the space around it; else as it is."""
    wanted = " ".join(name.split()).casefold()
    return next((each for each in known if each.casefold() == wanted), name)


def refusal(what: str, name: str, known: Iterable[str]) -> str:
    """The sentence that refuses an unknown name."""
    return f"unknown {what} {name[:60]!r}: known are {', '.join(known) or 'none'}"


def meant(name: str, known: Iterable[str]) -> str:
    """Which of the known names may have been meant, in words to append; nothing if none is close."""
    close = get_close_matches(name, list(known), 1)
    return f" (did you mean {close[0]}?)" if close else ""
