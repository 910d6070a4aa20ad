"""One bad input: a command, what it finds in its project and in its environment; tried, and judged."""

from __future__ import annotations

import os
import shlex
import shutil
import signal
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from tools.storm import rules
from tools.storm.command import End, Running
from tools.storm.sandbox import PROJECT, RUNS, Sandbox
from tools.storm.values import ROOT

WORKING = ("run", "train", "check", "explain", "fit", "baseline update")
"""Verbs that a valid input may set to work for hours."""

WORK_SECONDS = 4.0
PATIENCE_SECONDS = 90.0
BUSY_SECONDS = 1.0
"""In which work takes processor time, and waiting for what never comes takes none."""


@dataclass(frozen=True)
class Content:
    """What is put at a path of the project: bytes, or if `kind` says so a fifo, folder, device or link to nowhere."""

    path: str
    content: bytes = b""
    kind: str = "file"
    said: str = ""
    """How it differs from what stood there."""

    def put(self, project: Path) -> None:
        """Write it."""
        path = project / self.path
        path.parent.mkdir(parents=True, exist_ok=True)
        if path.is_dir() and not path.is_symlink():
            shutil.rmtree(path)
        path.unlink(missing_ok=True)
        match self.kind:
            case "fifo":
                os.mkfifo(path)
            case "folder":
                path.mkdir()
            case "link to nowhere":
                path.symlink_to(path.name)
            case "device":
                os.link(project / "zero", path, follow_symlinks=False)
            case _:
                path.write_bytes(self.content)


@dataclass(frozen=True)
class Case:
    """A command line of `verb`, and what is special about where it runs.

    Attributes:
        verb: such as "run" or "baseline update".
        arguments: after it; {root} stands for the folder of the case.
        contents: of files in the project.
        environment: variables that are set, or with None removed.
        is_new_process: started as a user does, not forked.
        stdout: where it prints to, a path in the project, if not to a file.
        refused: a damaged file, that it must name and do without.
    """

    verb: str
    arguments: tuple[str, ...] = ()
    contents: tuple[Content, ...] = ()
    environment: tuple[tuple[str, str | None], ...] = ()
    is_new_process: bool = False
    stdout: str | None = None
    refused: str | None = None

    def __str__(self) -> str:
        """As a user would repeat it."""
        said = [ascii(f"{content.path}: {content.said}")[1:-1] for content in self.contents]
        variables = "".join(
            f"{name}={value!r} " if value is not None else f"-u {name} " for name, value in self.environment
        )
        arguments = shlex.join(
            argument if len(argument) < 200 else f"{argument[:60]}... ({len(argument)} characters)"
            for argument in self.arguments
        )
        line = f"{'env ' + variables if variables else ''}bench {self.verb} {arguments}".rstrip()
        return "\n".join([*said, ascii(line)[1:-1] + (f" > {self.stdout}" if self.stdout else "")])


@dataclass(frozen=True)
class Outcome:
    """How a case went: in a word, for the totals; and the kinds of its faults."""

    how: str
    faults: tuple[str, ...]
    stderr: str


def tried(case: Case, root: Path, template: Path) -> Outcome:
    """Run a case in a sandbox made anew, and hold it against everything that must hold."""
    sandbox = Sandbox(root, template)
    for content in case.contents:
        content.put(sandbox.project)
    before = sandbox.contents()
    environment = sandbox.environment
    for name, value in case.environment:
        environment.pop(name, None)
        if value is not None:
            environment[name] = value.replace(ROOT, str(root))
    arguments = [argument.replace(ROOT, str(root)) for argument in case.arguments]
    command = Running(
        [*case.verb.split(), *arguments],
        sandbox.project,
        environment,
        root / "logs",
        is_new_process=case.is_new_process,
        stdout=sandbox.project / case.stdout if case.stdout else None,
    )
    how, end, found = _ended(case, command)
    if end is not None:
        in_colour = any("COLOR" in name for name, _ in case.environment)
        found += rules.faults(case.verb, end, in_colour=in_colour, stdout_is_full=case.stdout is not None)
        found += _ignored(case, end)
    if command.orphans():
        found.append(f"{case.verb}: leaves a process behind")
        command.kill()
    found += [f"{case.verb}: {fault}" for fault in _lost(case, arguments, sandbox, before)]
    sandbox.clear()
    return Outcome(how, tuple(dict.fromkeys(found)), end.stderr if end else "")


def _ended(case: Case, command: Running) -> tuple[str, End | None, list[str]]:
    """How a command ended: in a word, and its end, unless it was at work and had to be interrupted."""
    if case.verb in WORKING:
        starting = 10.0 if case.is_new_process else 0.0
        if command.wait(WORK_SECONDS + starting) is None and _is_busy(command):
            command.signal(signal.SIGINT)
            end = command.end(PATIENCE_SECONDS)
            allowed = {rules.INTERRUPTED, *rules.CODES[case.verb]}
            wrong = [] if end.code in allowed else [f"{case.verb}: interrupted, exit code {end.code}"]
            if "Traceback" in end.stderr or "Exception ignored" in end.stderr:
                wrong.append(f"{case.verb}: interrupted, a traceback")
            return "at work", None, wrong
    end = command.end(PATIENCE_SECONDS)
    return "does not end" if end.code is None else f"exit {end.code}", end, []


def _is_busy(command: Running) -> bool:
    before = command.processor_seconds()
    return command.wait(BUSY_SECONDS) is None and command.processor_seconds() > before


def _ignored(case: Case, end: End) -> Iterator[str]:
    """Whether a damaged file is named, and what needs no other file is done without it."""
    if case.refused is None or end.code is None:
        return
    if Path(case.refused).name not in end.stderr:
        yield f"{case.verb}: a damaged file is not named"
    elif case.verb in ("report", "plot", "run") and end.code != 0:
        yield f"{case.verb}: one damaged file, and nothing of the others (exit code {end.code})"


def _lost(case: Case, arguments: list[str], sandbox: Sandbox, before: dict[Path, str]) -> Iterator[str]:
    """What a command took away, changed, or wrote outside."""
    after = sandbox.contents()
    named = [
        os.path.normpath(sandbox.project / argument)
        for argument in arguments
        if len(argument) < 256 and "\0" not in argument
    ]
    own = [str(sandbox.project / path) for path in _own(case)]
    if "--force" in arguments:
        own += named
    kept = {path: content for path, content in before.items() if not _is_below(sandbox.root / path, own)}
    if any(after.get(path) != content for path, content in kept.items() if path.parts[0] == "user"):
        yield "a file beside the project is changed"
    gone = Counter(kept.values()) - Counter(after.values())
    lost = sorted(
        str(path.relative_to(PROJECT))
        for path, content in kept.items()
        if content in gone and path.is_relative_to(PROJECT)
    )
    if lost:
        yield f"{_kind(lost[0])} of the project is lost or overwritten"
    reaches_out = any(word in argument for argument in arguments for word in ("..", "user", "link", str(sandbox.root)))
    new_outside = [
        path for path in after if path not in before and not path.is_relative_to(PROJECT) and path.parts[0] != "tmp"
    ]
    if new_outside and not reaches_out:
        yield "writes outside the project"
    if sandbox.temporaries(before.keys()):
        yield "leaves a temporary file"


def _kind(path: str) -> str:
    return "a record" if "records" in path else f"a {Path(path).suffix or 'other'} file"


def _own(case: Case) -> list[Path]:
    """What a command is there to change: a run its own folder, but for what is damaged there."""
    if case.verb in ("run", "train") and case.refused is None:
        return [RUNS]
    if case.verb in ("run", "train"):
        return [
            RUNS / name
            for name in (
                "checkpoints",
                "reconstructions",
                *(f"table{n}.{s}" for n in (2, 3, 4) for s in ("md", "csv")),
                "timing.md",
                "timing.csv",
                "profile.md",
                "profile.csv",
            )
        ]
    return [Path("results/baseline.json")] if case.verb == "baseline update" else []


def _is_below(path: Path, folders: list[str]) -> bool:
    return any(path.is_relative_to(folder) for folder in folders)
