"""The page of claims, docs/CLAIMS.md."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from bench.records import Record, Stage
from bench.report.claims.differences import CONFIDENCE, LESS_TO_COUNT
from bench.report.claims.findings import claims
from bench.report.claims.tables import at_equal_cost, with_checkpoints
from bench.report.methods import conditions, newest
from bench.report.provenance import credit


def markdown(records: Sequence[Record]) -> str:
    """The page: what holds in one table, then each claim task by task, then the tables at equal cost."""
    found = claims(records)
    lines = [
        "# What holds of the paper",
        "",
        "*Loop Unrolled Shallow Equilibrium Regularizer (LUSER)* by Guan, Jin, Romberg and Davenport (2022), claim by "
        "claim, as measured here. Made by `bench claims`.",
        "",
        f"Of PSNR a claim holds, or is reversed, where the {CONFIDENCE:.0%} interval (Student's) of the mean paired "
        "difference over the test images, each a mean over seeds, lies on one side of 0; else it is not resolved. Of "
        f"seconds, bytes, steps and calls where they differ by more than {LESS_TO_COUNT - 1:.0%}. Its best is the best "
        "validation PSNR of LU-DnCNN's training. Test images of one subject are not independent: the tables' captions "
        "say how many subjects there are.",
        "",
        *_conditions(records),
        "| claim | answer |",
        "|:--|:--|",
        *(f"| {claim.text} | {claim.answer} |" for claim in found),
        "",
        "## Task by task",
        "",
        "| claim | task | answer | numbers |",
        "|:--|:--|:--|:--|",
        *(
            f"| {claim.text if not number else ''} | {each.task} | {each.answer} | {each.numbers} |"
            for claim in found
            for number, each in enumerate(claim.findings)
        ),
    ]
    lines += _table(
        "Memory with checkpoints",
        "As the networks are, and with what their stages keep made again in backward, which gives the same gradient: "
        "bytes of each image, and the largest batch on each card (-: none).",
        with_checkpoints(records),
    )
    lines += _table(
        "At equal steps and at equal seconds",
        "Validation PSNR after all steps, and after as many seconds as the fastest training of the task takes. "
        "Trainings that run side by side slow each other down: where all networks of a task were timed, a training "
        "takes its steps times the seconds of a step by itself, as at the start of training (Table 4 says how many "
        "more evaluations solvers need later); else it is what it took.",
        at_equal_cost(records),
    )
    return "\n".join(lines) + "\n"


def _conditions(records: Sequence[Record]) -> list[str]:
    """Under which conditions the numbers were measured: a line for each stage that has some."""
    lines = []
    names: dict[Stage, str] = {"accuracy": "Quality", "timing": "Time", "memory": "Memory"}
    for stage, what in names.items():
        of_stage = newest(records, stage)
        if of_stage:
            engines = dict.fromkeys(f"{record.memory.engine} engine" for record in of_stage if record.memory)
            lines.append(f"* {what}: {', '.join(filter(None, (conditions(of_stage), *engines, credit(of_stage))))}")
    return [*lines, ""] if lines else []


def _table(title: str, text: str, rows: Sequence[Mapping[str, str]]) -> list[str]:
    """A section with a table, each row with the same columns; nothing of no rows."""
    if not rows:
        return []
    names = list(dict.fromkeys(name for row in rows for name in row))
    return [
        "",
        f"## {title}",
        "",
        text,
        "",
        f"| {' | '.join(names)} |",
        f"|{':--|' * len(names)}",
        *(f"| {' | '.join(row.get(name, '') for name in names)} |" for row in rows),
    ]
