"""Make bench/memory/cudnn/workspaces-VERSION.json.xz: what cuDNN answers for the convolutions of the default suite.

    pip install -e '.[cudnn]'
    python -m tools.cudnn_cache

Asks the installed cuDNN about every convolution of every cell of bench.toml, on the cards below and on all cards of
the suite's capacities, at every batch whose live bytes stay within the card (no larger one can fit); on the capacities
also about those of the strategies below, which take least memory and so have the largest batches. What cuDNN does
not tell apart is asked once. For another version, say 9.19.0 (which torch 2.11 runs on), install
nvidia-cudnn-cu13==9.19.0.* and run it again. Takes minutes, and no GPU.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from bench import config
from bench.cells import suite
from bench.memory import SimulatedEngine, card_of_capacity, record
from bench.memory.convolution import Convolution
from bench.memory.cudnn import cache
from bench.memory.cudnn.backend import Configuration, load
from bench.memory.cudnn.devices import kind
from bench.memory.cudnn.envelope import envelope_name, largest, stands_for
from bench.memory.cudnn.heuristics import LiveCudnn
from bench.memory.gpus import CARDS, Card
from bench.memory.routing import as_handed_over, uses_cudnn
from bench.memory.search import NEIGHBOURS
from bench.memory.trace import Trace, Workspace
from bench.units import GiB

NAMES = (
    *("RTX 2080", "RTX 3080", "Quadro RTX 6000", "H200"),
    *("H100 SXM", "H100 PCIe", "A100 80GB", "RTX 4090", "RTX 4060", "RTX 3090", "RTX 3060 12GB", "T4", "L4"),
)
STRATEGIES = ("checkpoint+lean-quarter", "recomputed+lean-quarter")
AT_LEAST = 16


def main(folder: Path = cache.SHIPPED) -> None:
    """Ask, and write the file."""
    settings = config.load(config.default_path())
    with_strategies = settings.suite.model_copy(update={"strategies": STRATEGIES})
    plain, lean = (
        [record(cell.workload.for_recording().make_step, cell.memory.steps) for cell in suite.cells(each)]
        for each in (settings, settings.model_copy(update={"suite": with_strategies}))
    )
    version = load().version
    answers: dict[str, cache.Answers] = {}
    asked = Asked()
    for card in (*(CARDS[name] for name in NAMES), *map(card_of_capacity, settings.suite.gpu_caps)):
        start = time.monotonic()
        name = card.name if card.chip else envelope_name(card)
        answers[name] = found = asked.on(card, plain if card.chip else [*plain, *lean])
        print(
            f"cuDNN {version} on {name}: {len(found.calls)} convolutions, "
            f"{sum(map(len, found.calls.values()))} answers, {time.monotonic() - start:.0f} s",
            flush=True,
        )
    path = cache.write(version, answers, folder)
    print(f"{path}: {path.stat().st_size / 1024:.0f} KiB")


class Asked:
    """The library's answers, each asked for once."""

    def __init__(self) -> None:
        self._sources: dict[tuple[object, ...], LiveCudnn] = {}

    def on(self, card: Card, traces: Sequence[Trace]) -> cache.Answers:
        """The answers for all convolutions of some steps on a card, for 1 to the most images that can come up.

        A capacity is answered for with the largest of its cards'.
        """
        sources = [self._sources.setdefault(kind(each), LiveCudnn(each)) for each in stands_for(card)]

        def configurations(call: Convolution) -> Sequence[Configuration]:
            answers = [source.configurations(call) or () for source in sources]
            return answers[0] if card.chip else largest(answers, call.dtype)

        calls: dict[Convolution, list[list[int]]] = {}
        for call, most_images in sorted(images(card, traces).items()):
            at_counts = [call.with_images(count) for count in range(1, most_images + 1)]
            calls[call] = [cache.coded(at_count, configurations(at_count)) for at_count in at_counts]
        return cache.Answers(calls)


def images(card: Card, traces: Sequence[Trace]) -> dict[Convolution, int]:
    """The convolutions that go to cuDNN, without images, and the most images of each that can come up on the card.

    The card is taken as what is printed on its box, without a context: a cap of that size has a little more room than
    the card. A small card is asked about AT_LEAST images all the same, so that cards can be compared.
    """
    whole_card = replace(card, total_bytes=card.capacity_gib * GiB, context_bytes=0)
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
