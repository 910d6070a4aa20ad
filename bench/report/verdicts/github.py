"""Verdicts for GitHub Actions: annotations on the lines that grew, and the step's summary.

https://docs.github.com/actions/reference/workflows-and-actions/workflow-commands
"""

from __future__ import annotations

import re
from collections.abc import Sequence

import pandas as pd

from bench.regression.gate import Level
from bench.regression.verdicts import Verdict
from bench.report import verdicts as words
from bench.report.terminal import markdown


def summary(verdicts: Sequence[Verdict], title: str, refusal: str | None = None) -> str:
    """Markdown: the tally, why the gate is not passed, the table, and why memory changed."""
    parts = [f"## {title}", words.caption(verdicts)]
    if refusal:
        parts.append(f"```\n{refusal}\n```")
    parts.append(_table(words.table(verdicts)))
    why = words.why_table(verdicts)
    if why is not None:
        parts += [_table(why), words.why_caption(verdicts)]
    return "\n\n".join(parts) + "\n"


def _table(table: pd.DataFrame) -> str:
    """As Markdown in which nothing in a cell ends it or is taken for HTML."""
    return markdown(table.map(lambda text: re.sub(r"[|<]", r"\\\g<0>", text)))


def workflow_commands(verdicts: Sequence[Verdict], levels: Sequence[Level], title: str) -> list[str]:
    """One workflow command for each cell that fails the gate (an error), or has something to see (a warning)."""
    return [
        _command("warning" if level is Level.WARNING else "error", verdict, title)
        for verdict, level in zip(verdicts, levels, strict=True)
        if level is not Level.OK
    ]


def _command(level: str, verdict: Verdict, title: str) -> str:
    properties = {"title": f"{title}: {verdict.architecture} on {verdict.task} {words.word(verdict)}"}
    cause = words.cause(verdict)
    if cause and cause.places:
        file, _, line = cause.places[0].rsplit(" > ", 1)[-1].rpartition(":")
        properties = {"file": file, "line": line} | properties
    given = ",".join(f"{key}={_escaped(value, more=True)}" for key, value in properties.items())
    return f"::{level} {given}::{_escaped(words.sentence(verdict))}"


def _escaped(text: str, *, more: bool = False) -> str:
    text = text.replace("%", "%25").replace("\r", "%0D").replace("\n", "%0A")
    return text.replace(":", "%3A").replace(",", "%2C") if more else text
