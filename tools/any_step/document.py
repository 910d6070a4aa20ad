"""docs/ANY-STEP.md, in which tables stand between marks: each is made by a command of its own."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

DOCUMENT = Path("docs/ANY-STEP.md")


def markdown(heads: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """A table of texts."""
    lines = heads, [":---"] * len(heads), *rows
    return "\n".join(f"| {' | '.join(each)} |" for each in lines)


def with_table(text: str, name: str, table: str) -> str:
    """A document with another table between the marks of this name."""
    begin, end = f"<!-- {name} -->", f"<!-- end of {name} -->"
    before, rest = text.split(begin, 1)
    return f"{before}{begin}\n\n{table}\n\n{end}{rest.split(end, 1)[1]}"


def renew(path: Path, name: str, table: str) -> None:
    """Write another table into a document's file."""
    path.write_text(with_table(path.read_text(encoding="utf-8"), name, table), encoding="utf-8")
