"""JSON schemas of bench.toml, for editors, and of records, for whoever reads them."""

from __future__ import annotations

import json
from typing import Any, Literal, get_args

from bench.config import Config
from bench.records import Record

DIALECT = "https://json-schema.org/draft/2020-12/schema"

Described = Literal["config", "record"]
DESCRIBED: tuple[Described, ...] = get_args(Described)


def schema(what: Described) -> dict[str, Any]:
    """The JSON schema of a configuration, in which every key may be left out, or of a record.

    What types alone do not say, such as which tasks there are, bench itself checks when it reads the file.
    """
    if what == "record":
        return {"$schema": DIALECT, "title": "A record of bench", **Record.model_json_schema()}
    described = _all_optional(Config.model_json_schema())
    described["properties"]["preset"]["additionalProperties"] = _preset(described["properties"])
    return {"$schema": DIALECT, **described, "title": "bench.toml"}


def text(what: Described) -> str:
    """The same as the text of a file."""
    return json.dumps(schema(what), indent=2, ensure_ascii=False) + "\n"


def _all_optional(node: Any) -> Any:
    """A schema that requires nothing and has no defaults: what a file leaves out comes from the default suite."""
    if isinstance(node, list):
        return [_all_optional(each) for each in node]
    if not isinstance(node, dict):
        return node
    return {
        key: {name: _all_optional(each) for name, each in value.items()}
        if key == "properties"
        else _all_optional(value)
        for key, value in node.items()
        if key == "properties" or not (key == "default" or (key == "required" and isinstance(value, list)))
    }


def _preset(sections: dict[str, Any]) -> dict[str, Any]:
    """A preset has the sections of the file, but no presets and no cards."""
    inner = {name: section for name, section in sections.items() if name not in ("preset", "cards")}
    return {"type": "object", "properties": inner, "additionalProperties": False}
