"""The transcripts of docs/ANY-STEP.md: each command's output in its place, and the rest as it was."""

from pathlib import Path

import pytest

from tools.any_step.__main__ import renewed
from tools.any_step.document import DOCUMENT, markdown, with_table

ROOT = Path(__file__).parents[2]


def test_transcripts_are_replaced_and_nothing_else():
    text = "# A\n\n```\n$ bench one --x\nold\nold\n```\n\n```python\nimport bench\n```\n\n```\n$ bench two\n```\nend\n"
    asked = []

    def said(command):
        asked.append(command)
        return f"says {len(asked)}\n"

    new = renewed(text, said)
    assert asked == ["bench one --x", "bench two"]
    assert new == text.replace("old\nold", "says 1").replace("$ bench two\n", "$ bench two\nsays 2\n")
    assert renewed(new, lambda command: "says 1" if command == "bench one --x" else "says 2") == new


def test_the_document_has_transcripts():
    asked = []
    text = (ROOT / DOCUMENT).read_text(encoding="utf-8")
    renewed(text, lambda command: asked.append(command) or "")
    assert len(asked) == 3
    assert text.count("\n(exit code 2)\n") == 2


def test_a_script_on_the_virtual_card_is_a_transcript_too():
    asked = []
    text = (ROOT / "docs/VIRTUAL-CARD.md").read_text(encoding="utf-8")
    assert renewed(text, lambda command: asked.append(command) or "NVIDIA GeForce RTX 3080: 82 MiB") == text
    assert asked == ['python -m bench.virtual "RTX 3080" script.py 8']


@pytest.mark.parametrize("name", ["real steps", "published", "peers"])
def test_the_table_is_put_between_its_marks(name):
    begin, end = f"<!-- {name} -->", f"<!-- end of {name} -->"
    text = f"before\n{begin}\nold\n{end}\nafter\n"
    assert with_table(text, name, "new") == f"before\n{begin}\n\nnew\n\n{end}\nafter\n"
    document = (ROOT / DOCUMENT).read_text(encoding="utf-8")
    assert document.count(begin) == document.count(end) == 1


def test_a_table_in_markdown():
    assert markdown(["a", "b"], [["1", "2"], ["3", ""]]) == "| a | b |\n| :--- | :--- |\n| 1 | 2 |\n| 3 |  |"
