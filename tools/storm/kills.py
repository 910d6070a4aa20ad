"""Kills: a run, or one of its workers, is killed at a random moment; the same command again must make good."""

from __future__ import annotations

import contextlib
import json
import os
import random
import signal
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from bench.records import Record
from tools.storm import rules
from tools.storm.command import End, Running
from tools.storm.sandbox import Sandbox
from tools.storm.totals import Fault, Totals

OUTPUT = "out"
COMMANDS = (
    *[("run", "--stages", "memory")] * 4,
    ("run", "--stages", "memory,profile"),
    ("run", "--stages", "memory,timing"),
    *[("train", "--architecture", "LU-DnCNN", "--task", "blur", "--task", "knee")] * 4,
)
WAYS = {
    "SIGKILL": 5,
    "SIGKILL of a worker": 2,
    "SIGINT": 2,
    "SIGINT twice": 1,
    "SIGTERM": 1,
    "SIGTERM twice": 1,
}
"""How a run is stopped, and how often in proportion."""

NEW_PROCESSES = 0.05
"""The share of runs that are started as a user does, so that their start is hit as well."""

PATIENCE_SECONDS = 120.0


@dataclass(frozen=True)
class Kill:
    """One kill: of which command, how, after which part of the time that it takes."""

    command: tuple[str, ...]
    way: str
    moment: float
    is_new_process: bool

    def __str__(self) -> str:
        how = "a new process" if self.is_new_process else "a forked process"
        return (
            f"bench {' '.join(self.command)} --output {OUTPUT}, {how}, {self.way} after {self.moment:.0%} of its time"
        )


@dataclass(frozen=True)
class Undisturbed:
    """What a command gives that nobody stops."""

    seconds: float
    results: dict[str, Any]


def storm(count: int, seed: int, root: Path, template: Path) -> Totals:
    """Kill `count` times, in sandboxes at `root` that are made of `template`."""
    chance = random.Random(seed)
    totals = Totals()
    undisturbed: dict[tuple[str, ...], Undisturbed] = {}
    for _ in range(count):
        (way,) = chance.choices(list(WAYS), list(WAYS.values()))
        kill = Kill(chance.choice(COMMANDS), way, chance.uniform(0, 1.1), chance.random() < NEW_PROCESSES)
        if kill.command not in undisturbed:
            undisturbed[kill.command] = _undisturbed(kill.command, root, template)
        sandbox = Sandbox(root, template)
        when, faults = stopped(kill, undisturbed[kill.command], sandbox)
        sandbox.clear()
        totals.count(f"kills {kill.way}", when)
        for kind, said in faults:
            totals.found(Fault(f"kill: {kind}", f"{kill}\n-> {when}: {said}"))
    return totals


def _undisturbed(command: tuple[str, ...], root: Path, template: Path) -> Undisturbed:
    sandbox = Sandbox(root, template)
    end = sandbox.run(*command, "--output", OUTPUT, seconds=PATIENCE_SECONDS)
    if end.code != 0:
        raise RuntimeError(f"bench {' '.join(command)} ends with {end.code} when nobody stops it: {end.stderr}")
    found = Undisturbed(end.seconds, results(sandbox.project / OUTPUT))
    sandbox.clear()
    return found


def stopped(kill: Kill, undisturbed: Undisturbed, sandbox: Sandbox) -> tuple[str, list[tuple[str, str]]]:
    """When a kill came, and the faults, each with a word on it."""
    arguments = (*kill.command, "--output", OUTPUT)
    running = sandbox.start(*arguments, is_new_process=kill.is_new_process)
    if kill.is_new_process:
        running.wait_until_started()
    time.sleep(kill.moment * undisturbed.seconds)
    before = _whole(sandbox.project / OUTPUT)
    had_ended = running.wait(0) is not None
    _stop(running, kill.way)
    end = running.end(PATIENCE_SECONDS)
    orphans = running.orphans()
    running.kill()
    done = len(before)
    when = (
        "had ended"
        if had_ended
        else "before a record"
        if not done
        else f"with {min(done, 2)}{'+' * (done > 2)} records"
    )
    faults = [(fault, end.stderr[-300:]) for fault in _faults_of_end(kill.way, end, had_ended)]
    if orphans:
        faults.append(("leaves a process behind", str(orphans)))
    faults += list(_faults_of_rerun(arguments, undisturbed, sandbox, before))
    return when, faults


def _stop(running: Running, way: str) -> None:
    signals = {"SIGKILL": signal.SIGKILL, "SIGINT": signal.SIGINT, "SIGTERM": signal.SIGTERM}
    if way == "SIGKILL of a worker":
        for pid in running.others()[:1]:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        return
    running.signal(signals[way.split()[0]])
    if way.endswith("twice"):
        time.sleep(0.02)
        running.signal(signals[way.split()[0]])


def _faults_of_end(way: str, end: End, had_ended: bool) -> Iterator[str]:
    """Whether it ended as it should: killed, interrupted with one sentence, or as if nothing had been."""
    name = way.split()[0]
    allowed: dict[str, set[int | None]] = {
        "SIGKILL": {-signal.SIGKILL},
        "SIGINT": {rules.INTERRUPTED},
        "SIGTERM": {rules.TERMINATED},
    }
    expected = {0, 3} if way == "SIGKILL of a worker" else {0} if had_ended else {0, *allowed[name]}
    if end.code not in expected:
        yield f"{way}: exit code {end.code}"
    if end.code is not None and end.code < 0:
        end = End(0, end.stdout, end.stderr, end.seconds)
    elif end.code in (rules.INTERRUPTED, rules.TERMINATED):
        if not end.stderr.splitlines()[-1:] or not end.stderr.splitlines()[-1].startswith("bench: "):
            yield f"{way}: nothing is said"
        end = End(0, end.stdout, end.stderr, end.seconds)
    yield from (fault for fault in rules.faults("run", end) if "exit code" not in fault)


def _faults_of_rerun(
    arguments: tuple[str, ...], undisturbed: Undisturbed, sandbox: Sandbox, before: dict[str, bytes]
) -> Iterator[tuple[str, str]]:
    """Whether the same command again ends with all records, those of before among them, and nothing else."""
    folder = sandbox.project / OUTPUT
    after_kill = _whole(folder)
    lost = [name for name, content in before.items() if after_kill.get(name) != content and _is_ok(content)]
    if lost:
        yield "a record that was whole is lost by the kill", lost[0]
    damaged = [path.name for path in (folder / "records").glob("*.json") if path.name not in after_kill]
    if damaged:
        yield "a record is damaged by the kill", damaged[0]
    end = sandbox.run(*arguments, seconds=PATIENCE_SECONDS)
    if end.code != 0:
        yield f"the same command again ends with {end.code}", end.stderr[-300:]
        return
    yield from ((f"again, {fault}", end.stderr[-300:]) for fault in rules.faults("run", end))
    again = _whole(folder)
    lost = [name for name, content in after_kill.items() if again.get(name) != content and _is_ok(content)]
    if lost:
        yield "a record that was whole is made again", lost[0]
    found = results(folder)
    if found != undisturbed.results:
        yield "the records are not those of a run that nobody stops", difference(found, undisturbed.results)
    left = sandbox.temporaries()
    if left:
        yield "a temporary file stays, after the same command again too", str(left[0])


def _whole(folder: Path) -> dict[str, bytes]:
    """The records of an output folder that can be read, by name."""
    found = {}
    for path in (folder / "records").glob("*.json"):
        content = path.read_bytes()
        with contextlib.suppress(ValidationError):
            Record.model_validate_json(content)
            found[path.name] = content
    return found


def _is_ok(content: bytes) -> bool:
    return bool(json.loads(content)["status"] == "ok")


def results(folder: Path) -> dict[str, Any]:
    """What an output folder's records say, by name, but for when, where and how fast."""
    return {path.name: _lasting(json.loads(path.read_text())) for path in sorted((folder / "records").glob("*.json"))}


def _lasting(tree: Any) -> Any:
    """What is the same each time: no seconds, no provenance; cards by name."""
    if isinstance(tree, dict):
        return {
            key: sorted((_lasting(card) for card in value), key=lambda card: str(card["card"]))
            if key == "cards"
            else _lasting(value)
            for key, value in tree.items()
            if key != "provenance" and not key.endswith("seconds")
        }
    return [_lasting(each) for each in tree] if isinstance(tree, list) else tree


def difference(found: dict[str, Any], expected: dict[str, Any]) -> str:
    """In a few words, where two sets of results differ."""
    for name in sorted(expected.keys() | found.keys()):
        if name not in found:
            return f"no {name}"
        if name not in expected:
            return f"{name} too"
        if found[name] != expected[name]:
            keys = [key for key in expected[name] if found[name].get(key) != expected[name][key]]
            return f"{name}: {', '.join(keys)} differ"
    return "no difference"
