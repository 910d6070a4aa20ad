"""Bytes as people write them, and back.

Card sizes are written as cards are sold: "8GB" is 8 GiB (8,589,934,592 bytes), the same as "8GiB".
Below that, "MB" and "KB" are decimal and "MiB" and "KiB" binary.
"""

import re

KiB, MiB, GiB, TiB = 2**10, 2**20, 2**30, 2**40

UNITS = {
    "B": 1,
    "KB": 10**3,
    "KIB": KiB,
    "MB": 10**6,
    "MIB": MiB,
    "GB": GiB,
    "GIB": GiB,
    "TB": TiB,
    "TIB": TiB,
}
MOST_BYTES = 2**50  # 1 PiB: no card and no step is as large
_PATTERN = re.compile(r"\s*(?P<number>[0-9]{1,18}(?:\.[0-9]{1,18})?)\s*(?P<unit>[A-Za-z]+)\s*")
_SPELLED = {name.upper(): name for name in ("B", "KB", "KiB", "MB", "MiB", "GB", "GiB", "TB", "TiB")}


def parse_bytes(text: str) -> int:
    """Read a size such as "8GB", "10 GiB" or "8000MB" as a whole number of bytes.

    Raises:
        ValueError: not a positive number followed by a known unit, or more than 1 PiB; the message says what was got.
    """
    match = _PATTERN.fullmatch(text)
    unit = UNITS.get(match["unit"].upper()) if match else None
    if not match or unit is None:
        raise ValueError(f"{text[:60]!r} is not a memory size: expected a number and a unit, such as 8GB or 8000MB")
    size_bytes = int(float(match["number"]) * unit)
    if size_bytes <= 0:
        raise ValueError(f"{text!r} is not a memory size: it must be more than zero, such as 8GB")
    if size_bytes > MOST_BYTES:
        raise ValueError(f"{text!r} is not a memory size: it must be at most 1024TB, such as 8GB")
    return size_bytes


def tidy_size(text: str) -> str:
    """A size as `parse_bytes` reads it, written in one way: " 8 gb" is "8GB".

    Raises:
        ValueError: as from `parse_bytes`.
    """
    parse_bytes(text)
    match = _PATTERN.fullmatch(text)
    assert match
    return match["number"] + _SPELLED[match["unit"].upper()]


def format_bytes(size_bytes: float) -> str:
    """Write bytes with the largest binary unit that keeps the number at or above one: "7.53 GiB"."""
    for unit, scale in (("GiB", GiB), ("MiB", MiB), ("KiB", KiB)):
        if abs(size_bytes) >= scale:
            return f"{size_bytes / scale:.2f} {unit}"
    return f"{size_bytes:.0f} B"
