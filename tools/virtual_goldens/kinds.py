"""The steps whose answers are kept, kind by kind, and on which card each kind runs."""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

from bench import config
from bench.cells import suite
from bench.memory import CARDS, Card, MakeStep, Trace, record
from bench.memory.measuring.cuda import Trial
from bench.memory.recording.on_cuda import on_cuda
from bench.memory.recording.recorder import events_of
from bench.memory.recording.values import Read, reads_noted
from bench.memory.trace import constant
from tests.fidelity import (
    adapters,
    attention,
    convolutions,
    counterfactual,
    emptying,
    everyday,
    foreign,
    forward,
    gradients,
    histories,
    modules,
    recurrent,
    speech,
    transfers,
    unchanged,
)


class Kind(NamedTuple):
    """Steps of a kind: how each is made, by name; the card, the batch, and how often each is called.

    `is_recorded` says that each can also be recorded without data, `is_on_cuda` that it says "cuda" itself: it is then
    recorded at its one batch, since flash attention does something else at others. The card of one `is_told` knows of
    what the step reads as much as the recording does.
    """

    make_steps: Mapping[str, MakeStep]
    card: Card
    batch: int = 2
    steps: int = 2
    is_recorded: bool = True
    is_on_cuda: bool = False
    is_told: bool = False

    def recorded(self, name: str) -> Trace:
        """The step without data, with the card's kernels."""
        make_step = self.make_steps[name]
        if not self.is_on_cuda:
            return record(make_step, self.steps).on(self.card)
        with on_cuda(self.card):
            return constant(events_of(make_step, self.batch, self.steps)).on(self.card)

    def trial(self, name: str) -> Trial:
        """What the virtual card has to do."""
        return Trial(
            make_step=self.make_steps[name],
            batch=self.batch,
            steps=self.steps,
            limit_bytes=self.card.usable_bytes,
            device_index=0,
            alloc_conf="",
            allow_tf32=True,
            deterministic=False,
            cublas_workspace_config=self.card.cublas_workspace_config,
            with_events=True,
            reads=self._reads(name) if self.is_told else None,
        )

    def _reads(self, name: str) -> tuple[Read, ...]:
        with reads_noted() as reads:
            self.recorded(name)
        return tuple(reads)


def _cells() -> dict[str, MakeStep]:
    return {
        f"{cell.architecture} on {cell.task}": cell.workload.for_recording().make_step
        for cell in suite.cells(config.load(config.default_path()))
    }


_PAPERS, _FUSED, _HISTORIES = CARDS["Quadro RTX 6000"], CARDS["RTX 3080"], CARDS["H100 SXM"]
_ADAPTERS = CARDS["A100 80GB"]

KINDS = {
    "torch": Kind(_cells(), _PAPERS),  # the suite's cells
    "gradients": Kind(gradients.STEPS, _PAPERS),
    "modules": Kind(modules.STEPS, _PAPERS),
    "convolutions": Kind(convolutions.STEPS, _FUSED),
    "transfers": Kind(transfers.STEPS, _FUSED),
    "emptying": Kind(emptying.STEPS, _FUSED, batch=8),
    "unchanged": Kind(unchanged.STEPS, _FUSED, is_on_cuda=True),
    "everyday": Kind(everyday.STEPS, _FUSED, batch=4, is_on_cuda=True, is_told=True),
    "speech": Kind(speech.STEPS, _FUSED, is_on_cuda=True),
    "attention": Kind(attention.STEPS, _FUSED, is_on_cuda=True),
    "attention-turing": Kind(attention.STEPS, _PAPERS, is_on_cuda=True),
    "attention-hopper": Kind(attention.STEPS, CARDS["H100 SXM"], is_on_cuda=True),
    "forward": Kind(forward.STEPS, _FUSED, batch=4, is_on_cuda=True),
    "foreign": Kind(foreign.STEPS, _FUSED, batch=8, is_recorded=False),
    "recurrent": Kind(recurrent.STEPS, _FUSED, batch=8, is_on_cuda=True),
    "histories": Kind(histories.STEPS, _HISTORIES, batch=histories.BATCH, steps=1, is_recorded=False),
    "histories-turing": Kind(
        histories.ON_TURING, _PAPERS, batch=counterfactual.BATCH, steps=counterfactual.STEPS, is_on_cuda=True
    ),
    "histories-ampere": Kind(histories.ON_AMPERE, _ADAPTERS, batch=adapters.BATCH, steps=1, is_on_cuda=True),
}
