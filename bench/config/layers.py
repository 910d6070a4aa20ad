"""What several files and options say together, one laid upon the other, and which of them is to blame for a value."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

from pydantic import BaseModel, ValidationError

from bench.choices import meant
from bench.config.toml_file import Place, reach, shown

Model = TypeVar("Model", bound=BaseModel)


@dataclass(frozen=True)
class Layer:
    """Values, and a place among them in words."""

    values: dict[str, Any]
    where: Callable[[Place], str]


@dataclass(frozen=True)
class Fault:
    """What is wrong with the value at a place."""

    place: Place
    sentence: str


def laid_together(layers: Iterable[Layer]) -> dict[str, Any]:
    """The values of all layers, the later ones upon the earlier ones, table by table.

    A task with another operator is another task: it replaces what the layers below say of the one of its name.
    """
    together: dict[str, Any] = {}
    for layer in layers:
        together = _upon(together, layer.values)
    return together


def is_another(task: object, before: object) -> bool:
    """Whether a [task.NAME] table has an operator of its own, which is not the one before."""
    if not isinstance(task, Mapping) or not isinstance(before, Mapping):
        return False
    names = [str(each.get("operator", before.get("operator"))).casefold() for each in (task, before)]
    return names[0] != names[1]


def _upon(base: Mapping[str, Any], over: Mapping[str, Any], above: Place = ()) -> dict[str, Any]:
    merged = dict(base)
    for key, value in over.items():
        before = base.get(key)
        replaced = above == ("task",) and is_another(value, before)
        if isinstance(value, Mapping) and isinstance(before, Mapping) and not replaced:
            merged[key] = _upon(before, value, (*above, key))
        else:
            merged[key] = value
    return merged


def validated(model: type[Model], values: Mapping[str, Any], above: Place = ()) -> Model | list[Fault]:
    """The values as `model`, or everything that is wrong with them, in places below `above`.

    Types are taken as they are written: neither 8.0 nor "8" nor true is the whole number 8.
    """
    try:
        return model.model_validate_json(json.dumps(values, default=str), strict=True)
    except ValidationError as error:
        expected: dict[Place, list[str]] = {}
        inputs: dict[Place, object] = {}
        for detail in error.errors():
            if detail["type"] == "too_short" and len(detail["input"]) >= detail["ctx"]["min_length"]:
                continue  # pydantic counts the entries that are right
            place, sentence = _judged(model, values, detail)
            expected.setdefault(place, []).append(sentence)
            inputs[place] = detail["input"]
        return [
            Fault((*above, *place), _joined(list(dict.fromkeys(sentences)), inputs[place]))
            for place, sentences in expected.items()
        ]


def blamed(fault: Fault, layers: Sequence[Layer]) -> Layer:
    """The layer that a fault comes from: of those that reach deepest into its place, the uppermost."""
    return max(reversed(layers), key=lambda layer: reach(layer.values, fault.place))


def told(fault: Fault, layers: Sequence[Layer]) -> str:
    """A fault in one sentence, with where it comes from."""
    layer = blamed(fault, layers)
    return f"{layer.where(fault.place)}: {fault.sentence}"


def narrowed(place: Place, sentence: str, values: object) -> Place:
    """The key of a table that a sentence on it names, if it names one alone; else the table."""
    if isinstance(values, Mapping):
        words = set(re.findall(r"\w+", sentence))
        named = [key for key in values if key in words]
        if len(named) == 1:
            return (*place, named[0])
    return place


_EXPECTED = {
    "missing": "is missing",
    "int_type": "a whole number",
    "int_parsing_size": "a whole number of fewer digits",
    "float_type": "a number",
    "finite_number": "a finite number",
    "bool_type": "true or false",
    "string_type": "a text in quotes",
    "tuple_type": "a list",
    "dict_type": "a table",
    "model_type": "a table",
    "dataclass_type": "a table",
    "none_required": "nothing",
    "greater_than_equal": "at least {ge}",
    "greater_than": "more than {gt}",
    "less_than_equal": "at most {le}",
    "less_than": "less than {lt}",
    "string_too_long": "at most {max_length} characters",
    "literal_error": "{expected}",
}
_UNKNOWN = ("extra_forbidden", "unexpected_keyword_argument")


def _judged(model: type[BaseModel], values: Mapping[str, Any], detail: Any) -> tuple[Place, str]:
    """Where a value is wrong, and what was expected there; what begins with "!" is a whole sentence."""
    place: Place = tuple(detail["loc"])
    kind, context = detail["type"], detail.get("ctx", {})
    if kind in _UNKNOWN:
        return place, f"!unknown key{_meant_key(model, place)}"
    if kind == "missing":
        return place, "!is missing"
    if place[-1:] == ("[key]",):  # the name of a table is wrong
        return place[:-1], f"!{detail['msg'].removeprefix('Value error, ')}"
    place = place[: reach(values, place)]  # without the branch of a union
    if kind == "value_error":
        sentence = detail["msg"].removeprefix("Value error, ")
        return narrowed(place, sentence, detail["input"]), f"!{sentence}"
    if kind in ("too_short", "too_long"):
        few = kind == "too_short"
        most = context["min_length"] if few else context["max_length"]
        return place, f"!got {context['actual_length']} entries, expected at {'least' if few else 'most'} {most}"
    return place, _EXPECTED.get(kind, detail["msg"]).format(**context)


def _meant_key(model: type[BaseModel], place: Place) -> str:
    """Which key may have been meant, or in which table below the key belongs, in words to append."""
    *table, key = place
    known = _keys_at(model, tuple(table))
    below = next((name for name in known if key in _keys_at(model, (*table, name))), None)
    return f" (it belongs in [{'.'.join(map(str, (*table, below)))}])" if below else meant(str(key), known)


def _joined(sentences: Sequence[str], got: object) -> str:
    whole = [sentence[1:] for sentence in sentences if sentence.startswith("!")]
    if whole:
        return "; ".join(whole)
    return f"got {shown(got)}, expected {' or '.join(sentences)}"


def _keys_at(model: type[BaseModel], place: Place) -> list[str]:
    """The keys that a table may have."""
    schema = model.model_json_schema()
    here: dict[str, Any] = schema

    def resolved(part: dict[str, Any]) -> dict[str, Any]:
        for choice in part.get("anyOf", ()):
            if "$ref" in choice:
                part = choice
        return schema["$defs"][part["$ref"].rpartition("/")[2]] if "$ref" in part else part

    for key in place:
        inner = here.get("properties", {}).get(key) or here.get("additionalProperties")
        if not isinstance(inner, dict):
            return []
        here = resolved(inner)
    return list(here.get("properties", {}))
