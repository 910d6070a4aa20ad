"""How a command may end: its exit codes, and what it says on stderr."""

from __future__ import annotations

import re
from collections.abc import Iterator

from tools.storm.command import End

CODES: dict[str, set[int]] = {
    "": {0, 2},
    "baseline": {0, 2},
    "baseline update": {0, 2, 3, 4},
    "check": {0, 1, 2, 4},
    "compare": {0, 1, 2, 4},
    "data": {0, 2},
    "data fetch": {0, 2},
    "data list": {0, 2},
    "doctor": {0, 2},
    "explain": {0, 2},
    "fit": {0, 2},
    "history": {0, 2, 4},
    "jobs": {0, 2},
    "list": {0, 2},
    "merge": {0, 2, 4},
    "plan": {0, 2},
    "plot": {0, 2, 4},
    "claims": {0, 2, 4},
    "report": {0, 2, 4},
    "run": {0, 2, 3},
    "schema": {0, 2},
    "submit": {0, 2},
    "train": {0, 2, 3},
    "validate": {0, 2, 3},
}
"""Of each verb; 130 as well for one that was interrupted."""

_GROUPS = ("", "baseline", "data")
"""Verbs that tell their help where nothing follows them."""

_SILENT = ("plot", "claims")
"""Verbs that say nothing on stdout, as where they write a file."""

INTERRUPTED = 130
TERMINATED = 143
STDOUT_FULL = 74
LONGEST_LINE = 4000

_CLICKS = re.compile(r"^(Usage: |Try '|Error: |$)")
_FETCHING = re.compile(r"^\S+: \d+ files of .* being fetched$")
_CONTROL = re.compile(r"[\x00-\x08\x0b-\x1f\x7f]")
_COLOUR = re.compile(r"\x1b\[[0-9;?]*[A-Za-z]|\r")


def faults(verb: str, end: End, *, in_colour: bool = False, stdout_is_full: bool = False) -> Iterator[str]:
    """What is wrong with the way a command ended that was given time enough, kind by kind."""
    stderr = _COLOUR.sub("", end.stderr) if in_colour else end.stderr
    traceback = _traceback(stderr) or _traceback(end.stdout)
    if traceback:
        yield f"{verb}: traceback, {traceback}"
        return
    if end.code is None:
        yield f"{verb}: does not end"
    elif end.code < 0:
        yield f"{verb}: ended by signal {-end.code}"
    elif end.code not in (_with_full_stdout(verb) if stdout_is_full else CODES[verb]):
        yield f"{verb}: exit code {end.code}"
    elif end.code == 1 and not re.search("worse|better", end.stdout):
        yield f"{verb}: exit code 1 without a verdict"
    if not (
        verb in _GROUPS and end.code == 2 and stderr.lstrip().startswith("Usage: ")
    ):  # a group alone tells its help
        yield from (f"{verb or 'bench'}: {fault}" for fault in _faults_of_stderr(stderr, end.code or 0))


def _with_full_stdout(verb: str) -> set[int]:
    silent = {0} if verb in _SILENT else set()
    return CODES[verb] - {0, 1} | {STDOUT_FULL} | silent


def _faults_of_stderr(stderr: str, code: int) -> Iterator[str]:
    lines = stderr.splitlines()
    if "Exception ignored" in stderr:
        yield "'Exception ignored' on stderr"
    elif foreign := [line for line in lines if not _is_ours(line)]:
        yield f"a line of stderr is not ours: {_template(foreign[0])}"
    if code and not (lines and re.match(r"bench: .*\w|Error: .*\w", lines[-1])):
        yield f"exit code {code} without a sentence at the end"
    if _CONTROL.search(stderr):
        yield "control characters on stderr"
    if any(len(line) > LONGEST_LINE for line in lines):
        yield f"a line of stderr is longer than {LONGEST_LINE} characters"


def _is_ours(line: str) -> bool:
    return line.startswith("bench: ") or bool(_CLICKS.match(line) or _FETCHING.match(line))


def _template(line: str) -> str:
    """A line without what differs from case to case, so that equal faults are of one kind."""
    return re.sub(r"'[^']*'|\"[^\"]*\"|\d+|/\S+", "_", line)[:60]


def _traceback(text: str) -> str | None:
    """The last traceback's exception, and where in bench it came from."""
    if "Traceback (most recent call last)" not in text:
        return None
    after = text[text.rindex("Traceback (most recent call last)") :]
    places = re.findall(r'File "[^"]*/(?:bench|models|operators)/([^"]+)", line \d+, in (\S+)', after)
    exceptions = re.findall(r"^([\w.]+(?:Error|Exception|Interrupt|Exit|Warning))\b", after, re.MULTILINE)
    exception = exceptions[-1].rpartition(".")[2] if exceptions else "an exception"
    return f"{exception} in {places[-1][0]}, {places[-1][1]}" if places else exception
