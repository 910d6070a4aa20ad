"""What cuDNN takes for the convolutions of the steps in convolutions.py, kept: so that tests need no cuDNN."""

import json
import lzma

from bench.memory import CARDS
from bench.memory.convolution import Convolution

CARD = CARDS["RTX 3080"]


class KeptWorkspaces:
    """A source of workspaces as SimulatedEngine takes one: bytes that PyTorch tries, in its order."""

    cudnn_version = "9.24.0"
    is_exact = True
    cards = (CARD,)

    def __init__(self, path):
        listed = json.loads(lzma.decompress(path.read_bytes()))
        self._sizes = {_call(fields): sizes for fields, sizes in listed}

    def candidates(self, call):
        return self._sizes.get(call)


def write(path, trace_by_name, source, batch):
    """Keep what `source` knows of every convolution of these traces at a batch."""
    calls = {images.at(batch) for trace in trace_by_name.values() for images in trace.of(batch).convolutions}
    listed = sorted([call, source.candidates(call)] for call in calls)
    path.write_bytes(lzma.compress(json.dumps(listed, separators=(",", ":")).encode(), preset=9))


def _call(fields):
    return Convolution(*(tuple(field) if isinstance(field, list) else field for field in fields))
