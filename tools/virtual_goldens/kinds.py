"""The steps whose answers are kept, kind by kind, and on which card each kind runs."""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

from bench import config, suite
from bench.memory import CARDS, Card, MakeStep
from bench.memory.measuring.cuda import Trial
from tests.fidelity import foreign, gradients, histories, modules, unchanged


class Kind(NamedTuple):
    """Steps of a kind: how each is made, by name; the card, the batch, and how often each is called.

    `is_recorded` says that each can also be recorded without data, `is_unchanged` that this is as it stands, with its
    devices of type "cuda".
    """

    make_steps: Mapping[str, MakeStep]
    card: Card
    batch: int = 2
    steps: int = 2
    is_recorded: bool = True
    is_unchanged: bool = False

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
        )


def _cells() -> dict[str, MakeStep]:
    return {
        f"{cell.architecture} on {cell.task}": cell.workload.for_recording().make_step
        for cell in suite.cells(config.load(config.default_path()))
    }


_PAPERS, _FUSED, _HISTORIES = CARDS["Quadro RTX 6000"], CARDS["RTX 3080"], CARDS["H100 SXM"]

KINDS = {
    "torch": Kind(_cells(), _PAPERS),  # the suite's cells
    "gradients": Kind(gradients.STEPS, _PAPERS),
    "modules": Kind(modules.STEPS, _PAPERS),
    "unchanged": Kind(unchanged.STEPS, _FUSED, is_unchanged=True),
    "foreign": Kind(foreign.STEPS, _FUSED, batch=8, is_recorded=False),
    "histories": Kind(histories.STEPS, _HISTORIES, batch=histories.BATCH, steps=1, is_recorded=False),
}
