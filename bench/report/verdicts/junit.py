"""Verdicts as JUnit XML, which CI systems show: one test case per cell."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal
from xml.etree import ElementTree as ET

from bench.regression.gate import Level
from bench.regression.verdicts import Outcome, Verdict
from bench.report import verdicts as words

_SKIPPED = (Outcome.NEW, Outcome.GONE, Outcome.NOT_COMPARABLE)


def to_xml(verdicts: Sequence[Verdict], levels: Sequence[Level], name: str) -> str:
    """A test suite called `name`.

    What fails the gate is a failure or (what could not be compared) an error; other cells without a comparison are
    skipped.
    """
    results = [_result(verdict, level) for verdict, level in zip(verdicts, levels, strict=True)]
    counts = {
        "tests": len(results),
        "failures": results.count("failure"),
        "errors": results.count("error"),
        "skipped": results.count("skipped"),
    }
    attributes = {"name": name} | {key: str(value) for key, value in counts.items()}
    suites = ET.Element("testsuites", attributes)
    suite = ET.SubElement(suites, "testsuite", attributes)
    for verdict, result in zip(verdicts, results, strict=True):
        case = ET.SubElement(
            suite, "testcase", classname=f"{verdict.stage}.{verdict.task}", name=verdict.architecture, time="0"
        )
        if result is None:
            continue
        told = ET.SubElement(case, result, message=_printable(words.sentence(verdict)))
        if result != "skipped":
            told.set("type", words.word(verdict))
            told.text = _printable(_details(verdict))
    ET.indent(suites, " ")
    return ET.tostring(suites, encoding="unicode", xml_declaration=True) + "\n"


def _result(verdict: Verdict, level: Level) -> Literal["failure", "error", "skipped"] | None:
    if level is Level.FAILURE:
        return "failure"
    if level is Level.ERROR:
        return "error"
    return "skipped" if verdict.outcome in _SKIPPED else None


def _details(verdict: Verdict) -> str:
    numbers = [f"{words.what(change)}: {change.before} -> {change.after}" for change in verdict.decisive]
    growths = [
        f"{growth.category}, {growth.what}: {growth.before_bytes} -> {growth.after_bytes} bytes"
        + (f" ({', '.join(growth.places)})" if growth.places else "")
        for growth in (verdict.why.growths[: words.GROWTHS] if verdict.why else ())
    ]
    return "\n".join(filter(None, [*numbers, *growths, words.reason(verdict)]))


def _printable(text: str) -> str:
    """Without the control characters that XML 1.0 has no way to write."""
    return "".join(character for character in text if character in "\n\t" or character >= " ")
