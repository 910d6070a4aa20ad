"""The answer about one training step as a page of its own, with the look of the report."""

from __future__ import annotations

from pathlib import Path

import jinja2
from markupsafe import Markup

from bench.fitting import Answer
from bench.report.terminal import fit

_FOLDER = Path(__file__).parent
_ENVIRONMENT = jinja2.Environment(
    loader=jinja2.FileSystemLoader(_FOLDER), autoescape=True, undefined=jinja2.StrictUndefined, trim_blocks=True
)


def page(answer: Answer, torch_version: str) -> bytes:
    """The page, which needs nothing else and runs no script."""
    batches = [f"{each.card.name} {fit.largest(each)}" for each in answer.cards]
    made = _ENVIRONMENT.get_template("answer.html.jinja").render(
        title=f"bench fit · {answer.step}",
        found=f"Largest batch: {', '.join(batches)}",
        style=Markup((_FOLDER / "page.css").read_text(encoding="utf-8")),
        answer=Markup(fit.html(answer)),
        credit=f"Engine: {answer.engine}; torch {torch_version}.",
    )
    return made.encode()
