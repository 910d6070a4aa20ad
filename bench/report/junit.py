"""Verdicts as JUnit XML, which CI systems show: one test case per cell."""

from __future__ import annotations

from collections.abc import Sequence
from xml.etree import ElementTree as ET

from bench.regression.verdicts import Outcome, Verdict
from bench.report import verdicts as words

_SKIPPED = (Outcome.NEW, Outcome.GONE, Outcome.NOT_COMPARABLE)


def to_xml(verdicts: Sequence[Verdict], name: str, failing: Sequence[Outcome]) -> str:
    """A test suite called `name`; cells without a comparison are skipped, those whose outcome is in `failing` fail."""
    counts = {
        "tests": len(verdicts),
        "failures": sum(verdict.outcome in failing for verdict in verdicts),
        "errors": 0,
        "skipped": sum(verdict.outcome in _SKIPPED for verdict in verdicts),
    }
    attributes = {"name": name} | {key: str(value) for key, value in counts.items()}
    suites = ET.Element("testsuites", attributes)
    suite = ET.SubElement(suites, "testsuite", attributes)
    for verdict in verdicts:
        case = ET.SubElement(
            suite, "testcase", classname=f"{verdict.stage}.{verdict.task}", name=verdict.architecture, time="0"
        )
        said = _printable(words.sentence(verdict))
        if verdict.outcome in failing:
            ET.SubElement(case, "failure", type=verdict.outcome.value, message=said).text = _printable(
                _details(verdict)
            )
        elif verdict.outcome in _SKIPPED:
            ET.SubElement(case, "skipped", message=said)
    ET.indent(suites, " ")
    return ET.tostring(suites, encoding="unicode", xml_declaration=True) + "\n"


def _details(verdict: Verdict) -> str:
    numbers = [f"{words.what(change)}: {change.before} -> {change.after}" for change in verdict.decisive]
    growths = [
        f"{growth.category}, {growth.what}: {growth.before_bytes} -> {growth.after_bytes} bytes "
        f"({', '.join(growth.places)})"
        for growth in (verdict.why.growths[: words.GROWTHS] if verdict.why else ())
    ]
    return "\n".join([*numbers, *growths] or [verdict.reason or ""])


def _printable(text: str) -> str:
    """Without the control characters that XML 1.0 has no way to write."""
    return "".join(character for character in text if character in "\n\t" or character >= " ")
