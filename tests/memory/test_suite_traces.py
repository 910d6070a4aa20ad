"""The default suite's own training steps through the replay, against what PyTorch's own allocator answered to them.

Every step of the suite, as it was recorded when tests/golden/suite_steps was written, at the edge of each card and
one image beyond it. tools/allocator_oracle/README.md says how the files are made and what stands in them.
"""

from __future__ import annotations

import gzip
import json
from functools import cache
from itertools import product
from pathlib import Path
from typing import Any

import pytest

from bench.memory.allocator.caching import FREE, Act, AllocatorConfig, CachingAllocator, OutOfMemory
from tools.allocator_oracle.suite_steps import Outcome, decode, digest

STEPS = {
    path.name.removesuffix(".json.gz"): path
    for path in sorted((Path(__file__).parents[1] / "golden" / "suite_steps").glob("*.json.gz"))
}
NAMES = [
    f"{architecture}_{task}"
    for architecture in ("DEQ4IP", "LU-DnCNN", "LUSER-DW", "LUSER-SW")
    for task in ("ct", "deblurring", "mri")
]
RELEASES = ("2.11.0", "2.13.0")
CONFS = (None, "expandable_segments:True")


@cache
def load(name: str) -> dict[str, Any]:
    with gzip.open(STEPS[name]) as file:
        step: dict[str, Any] = json.load(file)
    return step


def outcome_of(events: list[tuple[int, int | Act]], allocator: CachingAllocator) -> Outcome:
    """Replay events as the oracle is asked them: up to the first out of memory."""
    answers = []
    failed_event = None
    for index, (key, size) in enumerate(events):
        try:
            if size is FREE:
                allocator.free(key)
            else:
                allocator.malloc(key, size)
        except OutOfMemory:
            failed_event = index
            break
        answers.append((allocator.allocated_bytes, allocator.reserved_bytes, allocator.segments, allocator.retries))
    return Outcome(failed_event, allocator.peak_allocated_bytes, allocator.peak_reserved_bytes, digest(answers))


def test_no_step_is_skipped() -> None:
    assert list(STEPS) == NAMES
    for name in NAMES:
        cases = load(name)["cases"]
        combinations = {(case["cap"], case["torch"], case["alloc_conf"]) for case in cases}
        assert combinations == set(product(("8GB", "10GB", "24GB"), RELEASES, CONFS))
        assert {case["failed_event"] is None for case in cases} == {True, False}


@pytest.mark.parametrize("alloc_conf", CONFS, ids=["default", "expandable"])
@pytest.mark.parametrize("torch", RELEASES)
@pytest.mark.parametrize("name", NAMES)
def test_step(name: str, torch: str, alloc_conf: str | None) -> None:
    step = load(name)
    major, minor = map(int, torch.split(".")[:2])
    allocator_config = AllocatorConfig.parse(alloc_conf, (major, minor))
    for case in step["cases"]:
        if (case["torch"], case["alloc_conf"]) == (torch, alloc_conf):
            allocator = CachingAllocator(case["total_bytes"], config=allocator_config)
            got = outcome_of(decode(step, case["batch"]), allocator)
            assert got == Outcome(**{field: case[field] for field in vars(got)}), (case["cap"], case["batch"])
