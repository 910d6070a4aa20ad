"""A plan for a cell: every combination of strategies that its architecture can take, simulated."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from itertools import product

from bench import models, strategies
from bench.cells.cell import Cell
from bench.config import Config
from bench.memory import Card, record
from bench.memory.recording.metadata import OutputCache
from bench.memory.trace import Trace, Workspace
from bench.planning.choices import Choice, Plan
from bench.stages.memory import bounded_engine, recording_of
from bench.work import step_multiplications

EXACT = (
    ("checkpoint", "nested", "recomputed"),
    ("lean", "lean-7of8", "lean-half", "lean-third", "lean-quarter"),
    ("expandable",),
)
"""Strategies whose gradient is exact, by kind: a combination has at most one of each."""


MEASURE = ("work", "convolutions of a step, relative to plain")


def plan(
    config: Config,
    architecture: str,
    task: str,
    card: Card,
    batch: int,
    kinds: Sequence[Sequence[str]] = EXACT,
) -> Plan:
    """Try every combination of strategies, at most one of each kind, that the architecture can take.

    Workspaces of kernels are taken as the configuration's bound has them. Combinations that differ in the allocator's
    options alone share a recording.
    """
    cache = OutputCache()
    traces: dict[str, Trace] = {}
    works: dict[str, int] = {}
    choices = []
    for made in _combinations(config, architecture, kinds):
        cell = Cell("memory", strategies.named(architecture, made.name), task, made.laid_on(config), (card,))
        workload = cell.workload
        network = repr((workload.options, workload.training))
        if network not in traces:
            shorter = workload.for_recording()
            with recording_of(shorter):
                traces[network] = record(shorter.make_step, cell.memory.steps, cache)
            works[network] = step_multiplications(replace(workload, options=replace(workload.options, stages=2)))
        engine = bounded_engine(cell, traces[network], card, Workspace(cell.memory.workspace))
        units = -(-batch // workload.images(1))
        choices.append(
            Choice(
                made.name,
                works[network] / next(iter(works.values())),  # of plain, which comes first
                engine.without_limit().probe(units).peak_reserved_bytes,
                engine.probe(units).fits,
            )
        )
    ordered = tuple(sorted(choices, key=lambda choice: choice.order))
    what = {"architecture": architecture, "task": task}
    return Plan(what, f"{architecture} on {task}", MEASURE, card, batch, ordered)


def _combinations(
    config: Config, architecture: str, kinds: Sequence[Sequence[str]]
) -> Iterator[strategies.Combination]:
    """Those that the architecture can take, plain first, each once."""
    seen = set()
    for names in product(*(("", *kind) for kind in kinds)):
        try:
            made = strategies.combination(strategies.joined(names))
        except ValueError:  # two that set one option
            continue
        if made.name not in seen and made.refused_by(models.get(architecture), config) is None:
            seen.add(made.name)
            yield made
