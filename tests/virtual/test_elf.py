"""Dynamic symbols of shared libraries, against one made by hand and the C library of this machine."""

import ctypes
import struct
import sys
from pathlib import Path

import pytest

from bench.virtual.elf import NotElfError, dynamic_symbols

LOCAL, GLOBAL, WEAK = 0, 1, 2
UNDEFINED, DEFINED = 0, 7


def shared_library(symbols, *, bits=2, order=1, table=11):
    """An ELF file with nothing but a symbol table and its strings."""
    strings, entries = b"\0", b""
    for name, binding, section in [("", LOCAL, UNDEFINED), *symbols]:
        entries += struct.pack("<IBBHQQ", len(strings) if name else 0, binding << 4, 0, section, 0, 0)
        strings += name.encode() + b"\0" if name else b""
    symbols_at, strings_at = 64, 64 + len(entries)
    sections_at = strings_at + len(strings)
    header = b"\x7fELF" + bytes([bits, order]) + bytes(10)
    header += struct.pack("<HHIQQQIHHHHHH", 3, 62, 1, 0, 0, sections_at, 0, 64, 0, 0, 64, 3, 0)
    section = struct.Struct("<IIQQQQIIQQ")
    sections = section.pack(*[0] * 10)
    sections += section.pack(0, table, 0, 0, symbols_at, len(entries), 2, 1, 8, 24)
    sections += section.pack(0, 3, 0, 0, strings_at, len(strings), 0, 0, 1, 0)
    return header + entries + strings + sections


def test_what_a_library_imports_and_exports(tmp_path):
    path = tmp_path / "lib.so"
    path.write_bytes(
        shared_library(
            [
                ("cudaMalloc", GLOBAL, UNDEFINED),
                ("may_be_missing", WEAK, UNDEFINED),
                ("ours", GLOBAL, DEFINED),
                ("also_ours", WEAK, DEFINED),
                ("hidden", LOCAL, DEFINED),
            ]
        )
    )
    found = dynamic_symbols(path)
    assert found.imported == {"cudaMalloc", "may_be_missing"}
    assert found.exported == {"ours", "also_ours"}


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"#!/bin/sh\n",
        b"\x7fELF",
        shared_library([], bits=1),
        shared_library([], order=2),
        shared_library([], table=2),
        shared_library([("cut", GLOBAL, DEFINED)])[:-70],
    ],
    ids=["empty", "text", "magic alone", "32 bits", "big-endian", "no dynamic symbols", "cut short"],
)
def test_anything_else_is_said(tmp_path, content):
    path = tmp_path / "lib.so"
    path.write_bytes(content)
    with pytest.raises(NotElfError, match=r"lib\.so is no shared library of 64-bit Linux with dynamic symbols"):
        dynamic_symbols(path)


@pytest.mark.skipif(sys.platform != "linux", reason="reads this process's map of memory, as Linux shows it")
def test_the_c_library_of_this_machine():
    ctypes.CDLL(None)
    lines = Path("/proc/self/maps").read_text().splitlines()
    path = next(Path(line.split()[-1]) for line in lines if "/libc.so.6" in line or "/libc-" in line)
    exported = dynamic_symbols(path).exported
    assert {"malloc", "free", "printf"} <= exported
    assert "cudaMalloc" not in exported
