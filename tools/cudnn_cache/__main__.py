"""Make bench/memory/cudnn/workspaces.json.gz: what cuDNN answers for the convolutions of the default suite.

    pip install -e '.[cudnn]'
    python -m tools.cudnn_cache

Asks the installed cuDNN about every convolution of every cell of bench.toml, on every card of bench.memory.gpus, at
every batch whose live bytes stay within the card (no larger one can fit). The answers of other versions of cuDNN that
the file has are kept; to add those of, say, 9.19.0 (which torch 2.11 runs on), install nvidia-cudnn-cu13==9.19.0.* and
run it again. Takes minutes, and no GPU.
"""

from __future__ import annotations

import math
import sys
from dataclasses import replace
from pathlib import Path

from bench import config, suite
from bench.memory import SimulatedEngine, record
from bench.memory.convolution import Convolution
from bench.memory.cudnn import cache
from bench.memory.cudnn.backend import load
from bench.memory.cudnn.heuristics import LiveCudnn, as_handed_over, uses_cudnn
from bench.memory.gpus import CARDS, Card
from bench.memory.recording.trace import Trace, Workspace
from bench.memory.search import NEIGHBOURS
from bench.units import GiB

AT_LEAST = 16


def main(path: Path = cache.SHIPPED) -> None:
    """Ask, and write the file."""
    traces = [
        record(cell.workload.make_step, cell.memory.steps) for cell in suite.cells(config.load(config.default_path()))
    ]
    answers = dict(cache.read(path)) if path.exists() else {}
    version = load().version
    for card in CARDS.values():
        answers[version, card.name] = asked(card, traces)
        calls = answers[version, card.name].calls
        print(f"cuDNN {version} on {card.name}: {len(calls)} convolutions, {sum(map(len, calls.values()))} answers")
    cache.write(answers, path)
    print(f"{path}: {path.stat().st_size / 1024:.0f} KiB")


def asked(card: Card, traces: list[Trace]) -> cache.Answers:
    """The answers for all convolutions of some steps on a card, for 1 to the most images that can come up."""
    cudnn = LiveCudnn(card.name)
    calls: dict[Convolution, list[list[int]]] = {}
    for call, most_images in sorted(images(card, traces).items()):
        calls[call] = []
        for count in range(1, most_images + 1):
            at_count = call.with_images(count)
            calls[call].append(cache.coded(at_count, cudnn.configurations(at_count) or ()))
    return cache.Answers(calls)


def images(card: Card, traces: list[Trace]) -> dict[Convolution, int]:
    """The convolutions that go to cuDNN, without images, and the most images of each that can come up on the card.

    The card is taken as what is printed on its box, without a context: a cap of that size has a little more room than
    the card. A small card is asked about AT_LEAST images all the same, so that cards can be compared.
    """
    whole_card = replace(card, total_bytes=math.ceil(card.total_bytes / GiB) * GiB, context_bytes=0)
    most: dict[Convolution, int] = {}
    for trace in traces:
        batch = SimulatedEngine(trace, whole_card, Workspace.LOW).guess() + NEIGHBOURS
        for convolution in trace.convolutions:
            at_batch = convolution.at(batch)
            if uses_cudnn(at_batch):
                call = as_handed_over(at_batch).with_images(0)
                most[call] = max(most.get(call, AT_LEAST), at_batch.input_shape[0])
    return most


if __name__ == "__main__":
    main(*map(Path, sys.argv[1:]))
