"""Values that are drawn: of the wrong type, out of range, hostile; and trees of JSON or TOML with some put in."""

from __future__ import annotations

import copy
import json
import math
from collections.abc import Iterator
from typing import Any

from hypothesis import strategies as st

Strategy = st.SearchStrategy[Any]
Path = tuple[str | int, ...]

ROOT = "{root}"
"""Stands in a drawn text for the folder of the case."""

HOSTILE = (
    "",
    " ",
    ".",
    "..",
    "../x",
    "../../../user/settings",
    f"{ROOT}/user/settings",
    "a/b",
    "a\\b",
    "x" * 300,
    "-rf",
    "--help",
    "=1+1",
    "$\\frac{$",
    "{x}",
    "%s%n",
    "<b>&amp;</b>",
    "[red]x[/red]",
    "a|b",
    "naïve",
    "日本",
    "🙂",
    "\u202ex",
    "a\nb",
    "a\x1b[31mb",
    "NaN",
    "null",
    "CON",
)
NUMBERS = (0, -1, 1, 2, 7, 2**31, 2**63, 10**40, -(10**40), 10**4000, 0.5, -0.0, 1e308, 5e-324, math.inf, math.nan)

texts: Strategy = st.sampled_from(HOSTILE) | st.text(st.characters(exclude_categories=["Cs"]), max_size=8)
numbers: Strategy = st.sampled_from(NUMBERS) | st.integers() | st.floats()
anything: Strategy = st.recursive(
    st.none() | st.booleans() | numbers | texts,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(texts, inner, max_size=3),
    max_leaves=5,
)


def of_schema(schema: dict[str, Any], definitions: dict[str, Any]) -> Strategy:
    """Values of the type that a JSON schema asks for; its bounds and patterns are not kept."""
    if "$ref" in schema:
        return st.deferred(lambda: of_schema(definitions[schema["$ref"].rpartition("/")[2]], definitions))
    if "anyOf" in schema:
        return st.one_of([of_schema(each, definitions) for each in schema["anyOf"]])
    if "enum" in schema:
        return st.sampled_from(schema["enum"])
    if "const" in schema:
        return st.just(schema["const"])
    match schema.get("type"):
        case "array":
            items = schema.get("items") or {"anyOf": schema.get("prefixItems", [{}])}
            return st.lists(of_schema(items, definitions), max_size=3)
        case "object":
            if "properties" in schema:
                known = {name: of_schema(each, definitions) for name, each in schema["properties"].items()}
                return st.fixed_dictionaries({}, optional=known)
            more = schema.get("additionalProperties")
            return st.dictionaries(texts, of_schema(more if isinstance(more, dict) else {}, definitions), max_size=3)
        case "integer":
            return numbers.filter(lambda number: isinstance(number, int))
        case "number":
            return numbers
        case "string":
            return texts
        case "boolean":
            return st.booleans()
        case "null":
            return st.none()
    return anything


def words(schema: Any) -> Iterator[str]:
    """All names that a JSON schema lists."""
    if isinstance(schema, dict):
        yield from (word for word in [*schema.get("enum", []), schema.get("const")] if isinstance(word, str))
        schema = list(schema.values())
    if isinstance(schema, list):
        for each in schema:
            yield from words(each)


def places(schema: dict[str, Any], definitions: dict[str, Any]) -> Iterator[tuple[Path, dict[str, Any]]]:
    """Every key that a JSON schema knows, by its path, with its own schema; "*" stands for a name of the user's."""
    schema = definitions[schema["$ref"].rpartition("/")[2]] if "$ref" in schema else schema
    inner = dict(schema.get("properties", {}))
    if isinstance(schema.get("additionalProperties"), dict):
        inner["*"] = schema["additionalProperties"]
    for name, each in inner.items():
        yield (name,), each
        yield from (((name, *path), below) for path, below in places(each, definitions))


def paths(tree: Any) -> Iterator[Path]:
    """The path of every value within a tree."""
    items: Any = tree.items() if isinstance(tree, dict) else enumerate(tree) if isinstance(tree, list) else ()
    for key, value in items:
        yield (key,)
        yield from ((key, *path) for path in paths(value))


def changed(tree: Any, path: Path, value: Any) -> Any:
    """A copy of a tree with another value at a path, whose tables are made where they are missing."""
    tree = copy.deepcopy(tree)
    *above, last = path
    at = tree
    for key in above:
        if isinstance(at, dict) and not isinstance(at.get(key), dict | list):
            at[key] = {}
        at = at[key]
    at[last] = value
    return tree


def without(tree: Any, path: Path) -> Any:
    """A copy of a tree without what is at a path."""
    tree = copy.deepcopy(tree)
    at = tree
    for key in path[:-1]:
        at = at[key]
    del at[path[-1]]
    return tree


def shown(value: Any) -> str:
    """A value in few words."""
    text = ascii(value)
    return text if len(text) < 200 else f"{text[:100]}... ({len(text)} characters)"


def toml(value: Any) -> str:
    """A value as TOML, tables inline; None, which TOML does not have, as a text."""
    match value:
        case bool():
            return str(value).lower()
        case int():
            return str(value)
        case float():
            return repr(value)
        case list() | tuple():
            return f"[{', '.join(map(toml, value))}]"
        case dict():
            return f"{{ {', '.join(f'{_quoted(str(key))} = {toml(each)}' for key, each in value.items())} }}"
    return _quoted(str(value))


def toml_document(tables: dict[str, Any]) -> str:
    """A document of TOML."""
    return "".join(f"{_quoted(key)} = {toml(value)}\n" for key, value in tables.items())


def _quoted(text: str) -> str:
    return json.dumps(text, ensure_ascii=False).replace("\x7f", "\\u007f")
