"""The dynamic symbols of a shared library: which it imports, which it exports.

As `nm --dynamic` tells, which users' machines may lack. Only 64-bit little-endian files are read, and of them only the
symbol table, so that the gigabyte of libtorch_cuda takes milliseconds.
"""

from __future__ import annotations

import mmap
import struct
from pathlib import Path
from typing import NamedTuple

_HEADER = struct.Struct("<4s 2B 10x 2H I 3Q I 6H")  # up to e_shstrndx
_SECTION = struct.Struct("<2I 4Q 2I 2Q")
_SYMBOL = struct.Struct("<I 2B H 2Q")
_DYNAMIC_SYMBOLS = 11  # SHT_DYNSYM
_LOCAL, _UNDEFINED = 0, 0


class NotElfError(ValueError):
    """A file is no 64-bit little-endian ELF file with dynamic symbols."""


class Symbols(NamedTuple):
    """Names without versions."""

    imported: frozenset[str]
    exported: frozenset[str]


def dynamic_symbols(path: Path) -> Symbols:
    """What a shared library imports and exports.

    Raises:
        NotElfError: the file is something else, or damaged.
        OSError: it cannot be read.
    """
    with path.open("rb") as file:
        try:
            with mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as content:
                return _read(content)
        except (struct.error, ValueError, IndexError) as error:  # an empty file, cut short, or with wild offsets
            raise NotElfError(f"{path} is no shared library of 64-bit Linux with dynamic symbols") from error


def _read(content: mmap.mmap) -> Symbols:
    magic, bits, order, *_, sections_at, _, _, _, _, size, count, _ = _HEADER.unpack_from(content)
    if (magic, bits, order) != (b"\x7fELF", 2, 1):
        raise ValueError("not a 64-bit little-endian ELF file")
    sections = [_SECTION.unpack_from(content, sections_at + size * place) for place in range(count)]
    table = next((section for section in sections if section[1] == _DYNAMIC_SYMBOLS), None)
    if table is None:
        raise ValueError("no dynamic symbols")
    start, length, strings = table[4], table[5], sections[table[6]]
    names = content[strings[4] : strings[4] + strings[5]]
    imported: set[str] = set()
    exported: set[str] = set()
    for name, info, _, section, _, _ in _SYMBOL.iter_unpack(content[start : start + length]):
        if info >> 4 == _LOCAL:
            continue
        text = names[name : names.index(b"\0", name)].decode()
        (imported if section == _UNDEFINED else exported).add(text)
    return Symbols(frozenset(imported), frozenset(exported))
