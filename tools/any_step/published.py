"""Memory that people have published of steps on their cards, beside what the recording says.

python -m tools.any_step.published writes the table of docs/ANY-STEP.md between its marks. The steps are those of
tests/steps/published.py.
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import NamedTuple

from bench.fitting import recorded_step
from bench.memory.gpus import CARDS
from bench.units import MiB
from tools.any_step.document import DOCUMENT, markdown, renew


class Published(NamedTuple):
    """A figure; `what` is "allocated" or "reserved". None says on which card: the one taken decides workspaces."""

    step: str
    batch: int
    what: str
    measured_mib: float
    card: str
    source: str


_TOOLS = "[bonlime/pytorch-tools](https://github.com/bonlime/pytorch-tools/tree/master/tests/benchmarking)"
_XMEM = "[xMem](https://github.com/Stone-ResearchLife/xMem/tree/main/plot/data/001-Anova/CNN/001)"
FIGURES = (
    Published("resnet50", 128, "allocated", 10_884, "A100 40GB", _TOOLS),
    Published("vgg16_bn", 128, "allocated", 17_733, "A100 40GB", _TOOLS),
    Published("se_resnext50", 128, "allocated", 16_827, "A100 40GB", _TOOLS),
    Published("efficientnet_b0", 64, "allocated", 5_491, "A100 40GB", _TOOLS),
    Published("efficientnet_b1", 64, "allocated", 7_681, "A100 40GB", _TOOLS),
    Published("efficientnet_b2", 64, "allocated", 8_064, "A100 40GB", _TOOLS),
    Published("efficientnet_b3", 64, "allocated", 10_676, "A100 40GB", _TOOLS),
    Published(
        "bert_large",
        4,
        "reserved",
        13_606,
        "T4",
        "[transformers: model memory anatomy](https://huggingface.co/docs/transformers/model_memory_anatomy)",
    ),
    Published(
        "gpt2",
        8,
        "allocated",
        8 * 1024,
        "RTX 3090",
        "[a forum](https://discuss.huggingface.co/t/172332): peaks at 8 GiB",
    ),
    Published("convnext_tiny", 200, "reserved", 3_166, "RTX 3060 12GB", _XMEM),
    Published("convnext_tiny_adam", 500, "reserved", 7_634, "RTX 3060 12GB", _XMEM),
    Published("convnext_base", 300, "reserved", 9_522, "RTX 3060 12GB", _XMEM),
    Published("mobilenet_v3_large", 500, "reserved", 4_368, "RTX 3060 12GB", _XMEM),
    Published("mnasnet", 300, "reserved", 3_088, "RTX 3060 12GB", _XMEM),
)


MOST = 0.02  # by which a figure may differ
OF_ONE_RUN = {"convnext_tiny", "convnext_base", "mobilenet_v3_large", "mnasnet"}
"""Steps whose figure differs by more, and from run to run as well."""


def row(figure: Published) -> list[str]:
    """One line of the table."""
    card = CARDS[figure.card]
    peak = recorded_step(f"tests.steps.published:{figure.step}", first=card).needed(card, figure.batch)
    peaks_bytes = {"allocated": peak.peak_allocated_bytes, "reserved": peak.peak_reserved_bytes}
    recorded_mib = peaks_bytes[figure.what] / MiB
    difference = recorded_mib / figure.measured_mib - 1
    numbers = f"{figure.measured_mib:,g}", f"{recorded_mib:,.0f}", f"{difference:+.1%}"
    return [f"{figure.step}, {figure.batch}", figure.what, *numbers, figure.card, figure.source]


def table(rows: list[list[str]]) -> str:
    """Markdown of all rows, and what is known of those that differ."""
    heads = ["step, batch", "MiB", "published", "recorded", "difference", "card taken", "source"]
    return markdown(heads, rows)


def main() -> None:
    """Renew the document."""
    renew(Path(sys.argv[1]) if len(sys.argv) > 1 else DOCUMENT, "published", table([row(each) for each in FIGURES]))


if __name__ == "__main__":
    main()
