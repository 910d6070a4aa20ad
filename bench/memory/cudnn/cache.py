"""Answers of cuDNN in files: for the suite's own convolutions, where the library is not installed.

One file for each version of cuDNN, packed by xz (whose checksum finds damage, and which stores once what several cards
answer). Its lines are JSON: the first names the cards, and each of the others has what cuDNN answers on one of them.

    {"format": 2, "cards": ["A100 40GB", ...]}
    [[call, runs], ...]

`call` is a Convolution without its images, field by field but for the last, of which cuDNN knows nothing. `runs` has
the answers for 1, 2, 3, ... images, each with the number of times that it comes in a row: [times, *answer]. An answer
is the list of Configurations, three numbers each: the workspace as whole planes per image (a plane: one channel of
the input), the bytes beyond them, and the notes (1 tensor core, 2 nondeterministic). In these numbers most answers
are the same for most batches, and the file is small.

Make the file of the installed cuDNN with

    python -m tools.cudnn_cache
"""

from __future__ import annotations

import json
import lzma
import math
import os
from collections.abc import Mapping, Sequence
from functools import lru_cache
from itertools import groupby
from pathlib import Path
from typing import Any

from bench.memory.convolution import Convolution
from bench.memory.cudnn.backend import Configuration, CudnnError, NotAtHandError

SHIPPED = Path(__file__).parent
FILES = {  # by their whole names, so that what decides a record is known to hang on them (bench.cells.code)
    "9.19.0": "workspaces-9.19.0.json.xz",
    "9.20.0": "workspaces-9.20.0.json.xz",
    "9.24.0": "workspaces-9.24.0.json.xz",
    "9.26.0": "workspaces-9.26.0.json.xz",
}
FORMAT = 2

_ELEMENT_BYTES = {"float64": 8, "float32": 4, "float16": 2, "bfloat16": 2}


class Answers:
    """What one version of cuDNN answers for one card: calls without images, and for each the coded batches."""

    def __init__(self, calls: Mapping[Convolution, Sequence[Sequence[int]]]) -> None:
        self.calls = calls

    def get(self, call: Convolution) -> tuple[Configuration, ...] | None:
        """The configurations of a call; None if it is not here."""
        batches = self.calls.get(call.with_images(0), ())
        images = call.input_shape[0]
        if not 1 <= images <= len(batches):
            return None
        return tuple(_decoded(batches[images - 1], images * _plane_bytes(call)))


def coded(call: Convolution, configurations: Sequence[Configuration]) -> list[int]:
    """Configurations as the file has them."""
    numbers: list[int] = []
    for workspace_bytes, tensor_core, nondeterministic in configurations:
        planes, rest_bytes = divmod(workspace_bytes, call.input_shape[0] * _plane_bytes(call))
        numbers += [planes, rest_bytes, tensor_core + 2 * nondeterministic]
    return numbers


def cards(version: str, folder: Path = SHIPPED) -> list[str]:
    """The cards, and the capacities, that a version's file has answers for.

    Raises:
        NotAtHandError: there are none of this version.
        CudnnError: the file is damaged or of another format.
    """
    return list(_lines(version, folder))


@lru_cache(maxsize=64)
def read(version: str, card_name: str, folder: Path = SHIPPED) -> Answers:
    """The answers of a version of cuDNN on a card.

    Raises:
        NotAtHandError: there are none of this version, or on this card.
        CudnnError: the file is damaged or of another format.
    """
    lines = _lines(version, folder)
    if card_name not in lines:
        known = ", ".join(lines)
        raise NotAtHandError(
            f"{folder / FILES[version]} has no answers of cuDNN {version} on {card_name}, but on: {known}"
        )
    try:
        return Answers({_call(fields): _batches(runs) for fields, runs in json.loads(lines[card_name])})
    except (ValueError, TypeError) as damage:
        raise _damaged(version, folder, damage) from damage


def write(version: str, answers: Mapping[str, Answers], folder: Path = SHIPPED) -> Path:
    """Write a file that `read` reads, in one piece; the same answers give the same bytes."""
    names = sorted(answers)
    contents = [[[call[:-1], _runs(of)] for call, of in sorted(answers[name].calls.items())] for name in names]
    lines = [json.dumps(each, separators=(",", ":")) for each in ({"format": FORMAT, "cards": names}, *contents)]
    path = folder / FILES[version]
    new = path.with_suffix(".new")
    new.write_bytes(lzma.compress("\n".join(lines).encode(), preset=9 | lzma.PRESET_EXTREME))
    os.replace(new, path)
    _lines.cache_clear()
    read.cache_clear()
    return path


@lru_cache(maxsize=8)
def _lines(version: str, folder: Path) -> dict[str, str]:
    """A version's file: for each card its line, which is read only where somebody asks."""
    if version not in FILES:
        raise NotAtHandError(f"bench has no answers of cuDNN {version}, but of: {', '.join(FILES)}")
    path = folder / FILES[version]
    try:
        head, *lines = lzma.decompress(path.read_bytes()).decode().split("\n")
        header = json.loads(head)
        if header["format"] != FORMAT:
            raise CudnnError(f"{path} has format {header['format']}, but this version of bench reads format {FORMAT}")
        return dict(zip(header["cards"], lines, strict=True))
    except CudnnError:
        raise
    except (OSError, EOFError, lzma.LZMAError, ValueError, KeyError, TypeError) as damage:
        raise _damaged(version, folder, damage) from damage


def _damaged(version: str, folder: Path, damage: Exception) -> CudnnError:
    return CudnnError(
        f"the answers of cuDNN in {folder / FILES[version]} cannot be read ({damage}): install bench again, "
        "or make them with python -m tools.cudnn_cache"
    )


def _runs(batches: Sequence[Sequence[int]]) -> list[list[int]]:
    return [[len(list(same)), *answer] for answer, same in groupby(map(list, batches))]


def _batches(runs: Sequence[Sequence[int]]) -> list[Sequence[int]]:
    return [answer for times, *answer in runs for _ in range(times)]


def _decoded(numbers: Sequence[int], planes_bytes: int) -> list[Configuration]:
    thirds = [iter(numbers)] * 3
    return [
        Configuration(planes * planes_bytes + rest_bytes, bool(notes & 1), bool(notes & 2))
        for planes, rest_bytes, notes in zip(*thirds, strict=True)
    ]


def _plane_bytes(call: Convolution) -> int:
    return math.prod(call.input_shape[2:]) * _ELEMENT_BYTES[call.dtype]


def _call(fields: Sequence[Any]) -> Convolution:
    values: list[Any] = [tuple(field) if isinstance(field, list) else field for field in fields]
    return Convolution(*values)
