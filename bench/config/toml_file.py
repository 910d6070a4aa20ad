"""A TOML file of the user's: read with care, and the line of a key in it."""

from __future__ import annotations

import codecs
import json
import re
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import takewhile
from pathlib import Path
from typing import Any

from bench.errors import UsageError
from bench.files import read_regular

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

Place = tuple[str | int, ...]
"""Where a value is: the keys that lead to it, and numbers in lists."""

MOST_BYTES = 2**18
MOST_LEVELS = 16
_LONGEST_STATEMENT = 200  # lines that are tried as the end of one
_BARE_KEY = re.compile(r"[A-Za-z0-9_-]{1,64}")


@dataclass(frozen=True)
class TomlFile:
    """What a TOML file says."""

    path: Path
    text: str
    values: dict[str, Any]

    def where(self, place: Place) -> str:
        """A place in words: the file, the line if it is known, and the keys."""
        line = self.line_of(place)
        return f"{self.path}{f' line {line}' if line else ''}: {dotted(place)}"

    def line_of(self, place: Place) -> int | None:
        """The line on which the statement begins that gives a key its value, or a table its name.

        Of what is missing, the line of the table that should have it.
        TOML cut off after a statement is TOML: the statement asked for is the one that brings the key.
        """
        keys = list(takewhile(lambda key: isinstance(key, str), place[: reach(self.values, place)]))
        lines = self.text.split("\n")
        spellings = {str(keys[-1]), json.dumps(keys[-1])[1:-1]} if keys else set()
        for index, line in enumerate(lines):
            if not any(spelling in line for spelling in spellings) or _parsed(lines[:index]) is None:
                continue
            for end in range(index + 1, min(len(lines), index + _LONGEST_STATEMENT) + 1):
                values = _parsed(lines[:end])
                if values is not None:
                    if reach(values, keys) == len(keys):
                        return index + 1
                    break
        return None


def read(path: Path) -> TomlFile:
    """Read a TOML file, with or without a byte order mark.

    Raises:
        UsageError: there is none, it cannot be read, is too large, or is not TOML.
    """
    try:
        content = read_regular(path, MOST_BYTES)
    except FileNotFoundError:
        raise UsageError(f"no configuration file at {path}: give the path of a TOML file such as bench.toml") from None
    except OSError as error:
        raise UsageError(f"cannot read the configuration file {path}: {error.strerror}") from error
    if content.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)):
        raise UsageError(f"{path} is not TOML: it is UTF-16, and TOML is UTF-8; save it as UTF-8")
    try:
        text = content.decode("utf-8-sig").replace("\r\n", "\n")
        values = tomllib.loads(text)
    except UnicodeDecodeError as error:
        line = content.count(b"\n", 0, error.start) + 1
        raise UsageError(f"{path} is not TOML: line {line} is not UTF-8; save it as UTF-8") from error
    except ValueError as error:
        raise UsageError(f"{path} is not TOML: {error}") from error
    except RecursionError:
        raise UsageError(f"{path} is nested too deeply, expected at most {MOST_LEVELS} levels") from None
    if _is_deeper(values, MOST_LEVELS):
        raise UsageError(f"{path} is nested too deeply, expected at most {MOST_LEVELS} levels")
    return TomlFile(path, text, values)


def reach(values: object, place: Sequence[str | int]) -> int:
    """How many steps of a place there are in the values: all of them where it has one."""
    for step, key in enumerate(place):
        in_list = isinstance(values, (list, tuple)) and isinstance(key, int) and key < len(values)
        in_table = isinstance(values, Mapping) and key in values
        if not in_list and not in_table:
            return step
        values = values[key]  # type: ignore[index]
    return len(place)


def dotted(place: Place) -> str:
    """A place as TOML writes keys, numbers of lists counted from 0; what is no plain key in quotes."""
    return ".".join(str(key) if _BARE_KEY.fullmatch(str(key)) else shown(key) for key in place)


def shown(value: object, longest: int = 60) -> str:
    """A value, cut where it is long: one line in any case."""
    text = str(value).lower() if isinstance(value, bool) else repr(value)
    return text if len(text) <= longest else f"{text[: longest - 3]}..."


def _parsed(lines: Sequence[str]) -> dict[str, Any] | None:
    try:
        return tomllib.loads("\n".join(lines))
    except ValueError:
        return None


def _is_deeper(values: object, levels: int) -> bool:
    inner = [values]
    for _ in range(levels + 1):
        inner = [
            value
            for each in inner
            if isinstance(each, (dict, list))
            for value in (each.values() if isinstance(each, dict) else each)
        ]
    return bool(inner)
