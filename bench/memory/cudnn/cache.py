"""Answers of cuDNN in a file: for the suite's own convolutions, where the library is not installed.

The file is gzipped JSON (whose checksum finds damage):

    {"format": 1, "answers": [{"cudnn": "9.20.0", "card": "H200", "calls": [[call, batches], ...]}, ...]}

`call` is a Convolution without its images, field by field; `batches` has the answer for 1, 2, 3, ... images. An answer
is the list of Configurations, three numbers each: the workspace as whole planes per image (a plane: one channel of the
input), the bytes beyond them, and the notes (1 tensor core, 2 nondeterministic). In these numbers most answers are the
same for most batches, and the file is small.

Make it again, or add the answers of the installed cuDNN, with

    python -m tools.cudnn_cache
"""

from __future__ import annotations

import gzip
import json
import math
import os
import zlib
from collections.abc import Mapping, Sequence
from functools import lru_cache
from pathlib import Path
from typing import Any

from bench.memory.convolution import Convolution
from bench.memory.cudnn.backend import Configuration, CudnnError

SHIPPED = Path(__file__).with_name("workspaces.json.gz")
FORMAT = 1

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


@lru_cache(maxsize=2)
def read(path: Path = SHIPPED) -> dict[tuple[str, str], Answers]:
    """All answers in a file, by (version of cuDNN, name of card).

    Raises:
        CudnnError: the file is missing, damaged or of another format.
    """
    try:
        content = json.loads(gzip.decompress(path.read_bytes()))
        if content["format"] != FORMAT:
            raise CudnnError(f"{path} has format {content['format']}, but this version of bench reads format {FORMAT}")
        return {
            (entry["cudnn"], entry["card"]): Answers({_call(fields): batches for fields, batches in entry["calls"]})
            for entry in content["answers"]
        }
    except CudnnError:
        raise
    except (OSError, EOFError, zlib.error, ValueError, KeyError, TypeError) as damage:
        raise CudnnError(
            f"the answers of cuDNN in {path} cannot be read ({damage}): install bench again, "
            "or make them with python -m tools.cudnn_cache"
        ) from damage


def write(answers: Mapping[tuple[str, str], Answers], path: Path = SHIPPED) -> None:
    """Write a file that `read` reads, in one piece; the same answers give the same bytes."""
    content = {
        "format": FORMAT,
        "answers": [
            {"cudnn": version, "card": card, "calls": sorted(answers[version, card].calls.items())}
            for version, card in sorted(answers)
        ],
    }
    new = path.with_suffix(".new")
    new.write_bytes(gzip.compress(json.dumps(content, separators=(",", ":")).encode(), mtime=0))
    os.replace(new, path)
    read.cache_clear()


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
