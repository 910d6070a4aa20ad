"""Strategies for cases, drawn from what bench says of itself: its commands, and the schemas of config and records."""

from __future__ import annotations

import inspect
import json
import re
import sys
import typing
from collections.abc import Iterator
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import typer
from hypothesis import strategies as st
from pydantic import ValidationError

from bench import models, operators
from bench.commands.verbs import app
from bench.config import Config
from bench.memory.gpus import CARDS
from bench.records import Record
from tools.storm import values
from tools.storm.cases import Case, Content
from tools.storm.sandbox import ODD_PATHS, RUNS, STEPS, SUITE
from tools.storm.values import ROOT, Strategy

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

PATHS = (
    *ODD_PATHS,
    "nowhere",
    "nowhere/x.json",
    "nowhere/x.png",
    "bench.toml",
    "bench.toml/x",
    "results",
    "results/runs",
    "results/runs/records",
    "results/baseline.json",
    "new",
    "new.json",
    "new.svg",
    "link/settings.json",
    "../../../user",
    f"{ROOT}/user",
    "picture.png",
    "~",
    "",
    ".",
    "..",
    "x" * 300,
    "a\nb",
    "\udcff",
)
CAPACITIES = (
    "4GB",
    "8gb",
    " 8 GB ",
    "8000MB",
    "0GB",
    "-1GB",
    "1e9GB",
    "nanGB",
    "999999999999GB",
    "8",
    "GB",
    "8,9GB",
    "1TB",
)
FIXED = {"submit": ("--dry-run",)}
"""Options without which a drawn command would outlive its case."""

ENVIRONMENT: dict[str, tuple[str | None, ...]] = {
    "MPLBACKEND": ("module://matplotlib_inline.backend_inline", "TkAgg", "nope", ""),
    "FORCE_COLOR": ("1", ""),
    "NO_COLOR": ("1",),
    "TERM": ("dumb", "xterm-256color", "nope", None),
    "COLUMNS": ("0", "1", "-5", "100000", "x"),
    "PYTHONIOENCODING": ("ascii", "cp1252", "latin-1"),
    "LANG": ("C", "nope", None),
    "HOME": (None, "nowhere", "fifo", "/nonexistent"),
    "XDG_CACHE_HOME": ("nowhere", "fifo", "bench.toml", ""),
    "BENCH_DATA": ("nowhere", "fifo", "bench.toml", "", "a\nb"),
    "PATH": (None, "", "/nonexistent"),
    "PYTORCH_ALLOC_CONF": (
        "expandable_segments:True",
        "max_split_size_mb:100",
        "nope",
        "max_split_size_mb:x",
        ":",
        ",",
    ),
    "PYTORCH_CUDA_ALLOC_CONF": ("expandable_segments:True", "garbage_collection_threshold:9", "nope"),
    "OMP_NUM_THREADS": ("0", "-1", "x", ""),
    "CUDA_VISIBLE_DEVICES": ("0", "x", "-1"),
    "TZ": ("nope",),
    "GITHUB_STEP_SUMMARY": ("nowhere/x", "full", "locked/x"),
}
SINKS = (None, None, None, "full")


@dataclass(frozen=True)
class Drawn:
    """Strategies for cases in a project that is like `project`, which has results of its suite."""

    project: Path

    @cached_property
    def verbs(self) -> dict[str, list[tuple[Any, Any]]]:
        """The parameters of every verb, as the command line has them, each with its type."""
        return dict(_verbs(typer.main.get_command(app)))

    @cached_property
    def _schemas(self) -> tuple[dict[str, Any], dict[str, Any]]:
        return Config.model_json_schema(), Record.model_json_schema()

    @cached_property
    def names(self) -> list[str]:
        """All names that mean something to bench."""
        suite = tomllib.loads(SUITE)
        listed = {word for schema in self._schemas for word in values.words(schema)}
        given = [*suite["task"], *suite["suite"]["stages"], "demo", "paper", "deblurring", "table3", "html", "markdown"]
        return sorted({*listed, *given, *STEPS, *models.names(), *operators.names(), *CARDS})

    @property
    def options(self) -> Strategy:
        """A verb with some of its options, right and wrong."""
        by_parameters = [verb for verb, parameters in self.verbs.items() for _ in range(1 + len(parameters))]
        return st.sampled_from(by_parameters).flatmap(
            lambda verb: st.builds(
                Case,
                verb=st.just(verb),
                arguments=self._arguments(verb),
                is_new_process=st.integers(0, 19).map(lambda number: number == 19),
            )
        )

    def _arguments(self, verb: str) -> Strategy:
        needed = [each for each in self.verbs[verb] if each[0].required]
        free = [each for each in self.verbs[verb] if not each[0].required]
        some = st.lists(st.sampled_from(free), max_size=4) if free else st.just([])
        chosen = st.tuples(st.sampled_from([needed] * 9 + [[]]), some)
        return chosen.flatmap(
            lambda both: st.tuples(*(self._argument(*each) for group in both for each in group)).map(
                lambda parts: (*FIXED.get(verb, ()), *(word for part in parts for word in part))
            )
        )

    def _argument(self, parameter: Any, kind: Any) -> Strategy:
        """One option with its value, or an argument, as words of a command line."""
        drawn = self._value(kind).map(lambda text: text.replace("\0", ""))
        if parameter.param_type_name == "argument":
            return drawn.map(lambda text: (text,))
        names = st.sampled_from([*parameter.opts, *parameter.secondary_opts])
        return names.map(lambda name: (name,)) if parameter.is_flag else st.tuples(names, drawn)

    def _value(self, kind: Any) -> Strategy:
        any_text = values.texts | st.sampled_from(["\udcff", "a,b", "'"])
        integers = values.numbers.map(str)
        kinds = {
            kind,
            *typing.get_args(kind),
            *(inner for each in typing.get_args(kind) for inner in typing.get_args(each)),
        }
        if Path in kinds:
            return st.sampled_from(PATHS) | any_text
        if kinds & {int, float}:
            return integers | st.sampled_from(["1", "2", "0x10", "1_000", "٣", "1e3"]) | any_text
        known = st.sampled_from(self.names)
        lists = st.lists(known, min_size=1, max_size=3).map(", ".join)
        return known | known.map(str.upper) | lists | st.sampled_from(CAPACITIES) | any_text

    @property
    def configs(self) -> Strategy:
        """A verb that reads a configuration, and one that has been changed at some places."""
        reading = {
            "list": (),
            "run": ("--output", "new"),
            "explain": ("--architecture", "LU-DnCNN", "--task", "blur"),
            "fit": (STEPS[0],),
            "compare": ("results/runs", "results/baseline.json"),
            "check": (),
            "train": ("--architecture", "LU-DnCNN", "--task", "blur", "--output", "new"),
            "merge": ("results/runs", "--output", "new"),
        }
        named = {f"{verb} --config": (*arguments, "--config", "suite.toml") for verb, arguments in reading.items()}
        ways = st.sampled_from([*reading.items(), *[(name, named[name]) for name in named]])
        return st.tuples(ways, self._config).map(
            lambda both: Case(
                both[0][0].split(" --")[0],
                both[0][1],
                (replace(both[1], path="suite.toml" if "suite.toml" in both[0][1] else "bench.toml"),),
            )
        )

    @property
    def _config(self) -> Strategy:
        suite = tomllib.loads(SUITE)
        schema = self._schemas[0]
        definitions = schema.get("$defs", {})
        known = list(values.places(schema, definitions))

        def change(drawn: tuple[tuple[values.Path, dict[str, Any]], str]) -> Strategy:
            (path, below), user_name = drawn
            path = tuple(user_name if part == "*" else part for part in path)
            value = values.of_schema(below, definitions) | values.anything | st.sampled_from(self.names)
            return value.map(lambda value: (path, value))

        user_names = st.sampled_from(["blur", "knee", "demo"]) | values.texts
        change_of_known = st.tuples(st.sampled_from(known), user_names).flatmap(change)
        unknown = st.tuples(st.sampled_from(known).map(lambda place: place[0][:-1]), values.texts, values.anything)
        changes = change_of_known | unknown.map(
            lambda drawn: ((*("blur" if part == "*" else part for part in drawn[0]), drawn[1]), drawn[2])
        )

        def document(changes: list[tuple[values.Path, Any]]) -> Content:
            tree = suite
            for path, value in changes:
                tree = values.changed(tree, path, value) if _fits(tree, path) else tree
            said = "; ".join(f"{'.'.join(map(str, path))} = {values.shown(value)}" for path, value in changes)
            return Content("bench.toml", values.toml_document(tree).encode(), said=said)

        drawn = st.lists(changes, min_size=1, max_size=3).map(document)
        return drawn | drawn | drawn | _spoilt(Content("bench.toml", SUITE.encode()), b"a = [", b"a = {x = ")

    @property
    def records(self) -> Strategy:
        """A verb that reads records, one of which has been changed at some places."""
        folder = str(RUNS)
        reading = [
            ("report", ("--formats", "markdown,csv", "--output", "new")),
            ("report", ("--formats", "html,terminal,latex", "--output", "new")),
            ("plot", ("--output", "new")),
            ("compare", (folder, "results/baseline.json")),
            ("compare", ("results/baseline.json", folder)),
            ("check", ("--records", folder)),
            ("merge", (folder, "--output", "new")),
            ("run", ("--stages", "memory")),
        ]
        return st.tuples(st.sampled_from(reading), self._record).map(
            lambda both: Case(*both[0], contents=(both[1],), refused=_refused(both[0][0], both[1]))
        )

    @property
    def _record(self) -> Strategy:
        texts = [*sorted((self.project / RUNS / "records").glob("*.json")), self.project / "results/baseline.json"]
        readable = [(path, json.loads(path.read_text())) for path in texts if path.is_file()]
        tensors = [
            *sorted((self.project / RUNS).glob("*/*.pt")),
            *sorted((self.project / RUNS).glob("*/*.safetensors")),
        ]

        def document(drawn: tuple[Path, Any]) -> Strategy:
            path, tree = drawn
            whole = Content(str(path.relative_to(self.project)), path.read_bytes())
            places = list(values.paths(tree))

            def apply(changes: list[tuple[values.Path, str, Any, str]]) -> Content:
                changed, said = tree, []
                for place, way, value, name in changes:
                    if not _fits(changed, place) or (way != "set" and not _has(changed, place)):
                        continue
                    shown = ".".join(map(str, place))
                    if way == "drop":
                        changed = values.without(changed, place)
                        said.append(f"without {shown}")
                    else:
                        place = (*place[:-1], name) if way == "add" and isinstance(place[-1], str) else place
                        changed = values.changed(changed, place, value)
                        said.append(f"{'.'.join(map(str, place))} = {values.shown(value)}")
                return replace(whole, content=json.dumps(changed).encode(), said="; ".join(said))

            value = values.anything | values.numbers | values.texts | st.sampled_from([{}, [], 3, "0" * 10, "ok"])
            change = st.tuples(
                st.sampled_from(places), st.sampled_from(["set", "set", "set", "drop", "add"]), value, values.texts
            )
            changed = st.lists(change, min_size=1, max_size=3).map(apply)
            return changed | changed | changed | _spoilt(whole, b"[", b'{"memory": ')

        drawn = st.sampled_from(readable).flatmap(document)
        if not tensors:
            return drawn
        of_tensors = st.sampled_from(tensors).flatmap(
            lambda path: _spoilt(Content(str(path.relative_to(self.project)), path.read_bytes()), b"\x80", b"\0")
        )
        return drawn | drawn | drawn | of_tensors

    @property
    def environments(self) -> Strategy:
        """A right command in an odd environment, with a stdout that may take nothing."""
        commands = [
            ("report", ("--formats", "terminal,html", "--output", "new")),
            ("report", ("--formats", "terminal")),
            ("list", ()),
            ("plot", ("--output", "new", "--select", "largest-batch")),
            ("claims", ("--output", "new.md")),
            ("run", ("--output", "new", "--json")),
            ("run", ("--output", "new", "--stages", "memory,profile")),
            ("check", ()),
            ("compare", ("results/runs", "results/baseline.json")),
            ("data list", ()),
            ("doctor", ()),
        ]
        variables = st.sampled_from(list(ENVIRONMENT)).flatmap(
            lambda name: st.tuples(st.just(name), st.sampled_from(ENVIRONMENT[name]))
        )
        return st.builds(
            lambda command, environment, stdout: Case(
                command[0], command[1], environment=tuple(environment), is_new_process=True, stdout=stdout
            ),
            st.sampled_from(commands),
            st.lists(variables, min_size=1, max_size=2, unique_by=lambda pair: pair[0]),
            st.sampled_from(SINKS),
        )


def _verbs(command: Any, name: str = "") -> Iterator[tuple[str, list[tuple[Any, Any]]]]:
    """Every command by its verb, groups too, with its parameters and their types."""
    function = command.callback and inspect.unwrap(command.callback)
    kinds = typing.get_type_hints(function) if function else {}
    yield name, [(parameter, kinds.get(parameter.name, str)) for parameter in command.params]
    for below, inner in getattr(command, "commands", {}).items():
        yield from _verbs(inner, f"{name} {below}".strip())


def _spoilt(whole: Content, opening: bytes, prefix: bytes) -> Strategy:
    """What is left of a file that was cut, or is of another encoding, or no file."""
    size = len(whole.content)

    def spoil(drawn: tuple[str, int, bytes]) -> Content:
        way, place, junk = drawn
        content = {
            "cut": whole.content[:place],
            "with junk": whole.content[:place] + junk + whole.content[place:],
            "empty": b"",
            "with a BOM": b"\xef\xbb\xbf" + whole.content,
            "in UTF-16": whole.content.decode("latin-1").encode("utf-16"),
            "with CRLF": whole.content.replace(b"\n", b"\r\n"),
            "nested deeply": (prefix if place % 2 else opening) * 50_000,
            "null": b"null",
            "twice": whole.content * 2,
            "zeros": bytes(size),
            "with a number of 5000 digits": re.sub(rb"\b\d+", b"1" + b"0" * 4999, whole.content, count=1),
        }.get(way, b"")
        kind = way if way in ("fifo", "folder", "device", "link to nowhere") else "file"
        return replace(
            whole, content=content, kind=kind, said=f"{way}, at {place}" + (f": {junk!r}" if way == "with junk" else "")
        )

    ways = ("cut", "cut", "with junk", "with junk", "empty", "with a BOM", "in UTF-16", "with CRLF", "nested deeply")
    more = ("null", "twice", "zeros", "with a number of 5000 digits", "fifo", "folder", "device", "link to nowhere")
    return st.tuples(st.sampled_from([*ways, *more]), st.integers(0, size), st.binary(min_size=1, max_size=8)).map(
        spoil
    )


def _fits(tree: Any, path: values.Path) -> bool:
    """Whether all above a path's last part are tables, or missing, or lists that are long enough."""
    for key in path[:-1]:
        if isinstance(tree, dict):
            tree = tree.get(key, {})
        elif isinstance(tree, list) and isinstance(key, int) and key < len(tree):
            tree = tree[key]
        else:
            return False
    return isinstance(tree, dict) or (isinstance(tree, list) and isinstance(path[-1], int) and path[-1] < len(tree))


def _has(tree: Any, path: values.Path) -> bool:
    for key in path:
        if not (key in tree if isinstance(tree, dict) else isinstance(key, int) and key < len(tree)):
            return False
        tree = tree[key]
    return True


def _refused(verb: str, content: Content) -> str | None:
    """The file, where it is a record that no verb can take for one, and that this one reads."""
    if "records" not in content.path or (verb == "run" and "--memory--" not in content.path):
        return None
    if content.kind == "file":
        try:
            Record.model_validate_json(content.content)
        except ValidationError:
            return content.path
        return None
    return content.path
