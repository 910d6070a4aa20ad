"""bench.toml: read, completed from the default suite, and checked as a whole.

Every unknown key and wrong value is reported at once, each with its place in the file.
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator

from bench.errors import UsageError
from bench.memory.allocator import AllocatorConfig
from models.architectures.base import ModelOptions

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

FILE_NAME = "bench.toml"


class _Section(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class SuiteSection(_Section):
    """[suite]: which cells a run measures, and on which cards."""

    architectures: tuple[str, ...] = Field(min_length=1)
    tasks: tuple[str, ...] = Field(min_length=1)
    gpu_caps: tuple[str, ...] = ()
    gpus: tuple[str, ...] = ()


class TrainingSection(_Section):
    """[training]: the loss and the optimiser of a step."""

    loss: Literal["final", "auxiliary"]
    learning_rate: float = Field(gt=0)


class MemorySection(_Section):
    """[memory]: what answers, how a step is recorded, and which bound the table shows."""

    engine: Literal["simulated", "cuda"]
    steps: int = Field(ge=2)
    workspace: Literal["high", "low"]
    alloc_conf: str
    allow_tf32: bool
    deterministic: bool

    @field_validator("alloc_conf")
    @classmethod
    def _is_pytorchs(cls, text: str) -> str:
        AllocatorConfig.parse(text)
        return text


class Task(_Section):
    """[task.NAME]: an operator with its options, and the paper's name for it."""

    operator: str
    options: dict[str, Any] = {}
    paper: str | None = None


class Config(_Section):
    """A whole bench.toml."""

    suite: SuiteSection
    model: ModelOptions
    training: TrainingSection
    memory: MemorySection
    task: dict[str, Task]


def default_path() -> Path:
    """The default suite: at the top of a checkout, or inside the installed package."""
    package = Path(__file__).parent
    installed = package / FILE_NAME
    return installed if installed.exists() else package.parent / FILE_NAME


def load(path: Path | None = None, memory: dict[str, str | bool | None] | None = None) -> Config:
    """Read `path`, or bench.toml in the working folder, or the default suite.

    What `memory` has that is not None replaces the keys of that section, as options of a command do.

    Raises:
        UsageError: no such file, not TOML, or unknown keys and wrong values (all of them, with their places).
    """
    if path is None and Path(FILE_NAME).exists():
        path = Path(FILE_NAME)
    values = _read(default_path())
    if path is not None:
        values = _merge(values, _read(path))
    given = {key: value for key, value in (memory or {}).items() if value is not None}
    values = _merge(values, {"memory": given})
    try:
        return Config.model_validate(values)
    except ValidationError as error:
        places = "; ".join(_sentence(detail) for detail in error.errors())
        raise UsageError(f"{path or default_path()}: {places}") from error


def _read(path: Path) -> dict[str, Any]:
    try:
        return tomllib.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise UsageError(f"no configuration file at {path}: give the path of a TOML file such as bench.toml") from None
    except OSError as error:
        raise UsageError(f"cannot read the configuration file {path}: {error.strerror}") from error
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise UsageError(f"{path} is not TOML: {error}") from error


def _merge(base: dict[str, Any], over: dict[str, Any]) -> dict[str, Any]:
    """`over` laid upon `base`, table by table; a task given anew replaces the default one of its name."""
    merged = dict(base)
    for key, value in over.items():
        if key == "task" and isinstance(value, dict):
            merged[key] = {**base[key], **value}
        elif isinstance(value, dict) and isinstance(base.get(key), dict):
            merged[key] = _merge(base[key], value)
        else:
            merged[key] = value
    return merged


def _sentence(detail: Any) -> str:
    place = ".".join(str(part) for part in detail["loc"])
    if detail["type"] in ("extra_forbidden", "unexpected_keyword_argument"):
        return f"unknown key {place}"
    return f"{place}: {detail['msg'].removeprefix('Value error, ')} (got {detail['input']!r})"
