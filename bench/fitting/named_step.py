"""A step of the user's that travels by its name to another process."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch

from bench.errors import UsageError
from bench.fitting.model_step import ModelStep
from bench.fitting.user_step import load_step
from bench.memory.forms import WrongFormError, as_make_step
from bench.memory.recording import places
from bench.memory.recording.outside import nothing_outside
from bench.streams import in_silence


@dataclass(frozen=True)
class NamedStep:
    """A step by its name, or around a network's: make_step(batch, device) that another process imports.

    What it prints is not shown, and what it raises is a SaidError, but for running out of memory.
    """

    source: str | ModelStep

    def __call__(self, batch: int, device: torch.device) -> Callable[[], object]:
        """Build the step."""

        def made() -> Callable[[], object]:
            make_step = as_make_step(load_step(self.source)) if isinstance(self.source, str) else self.source
            return make_step(batch, device)

        step = _told(made)
        return lambda: _told(step)


def named(step: str | Callable[..., Any]) -> NamedStep | None:
    """A step that another process can import; None for one that has no name there, as in a notebook."""
    if isinstance(step, (str, ModelStep)):
        return NamedStep(step)
    name, module = getattr(step, "__name__", ""), sys.modules.get(getattr(step, "__module__", None) or "")
    if module is None or getattr(module, name, None) is not step:
        return None
    if module.__name__ != "__main__":
        return NamedStep(f"{module.__name__}:{name}")
    file = getattr(module, "__file__", None) or ""
    return NamedStep(f"{os.path.abspath(file)}:{name}") if file.endswith(".py") else None


def _told(function: Callable[[], Any]) -> Any:
    """What a function of the user's gives, in silence."""
    try:
        with in_silence(), nothing_outside():
            return function()
    except torch.OutOfMemoryError:
        raise
    except (UsageError, WrongFormError) as error:
        raise places.SaidError(str(error)) from error
    except (Exception, SystemExit) as error:
        raise places.SaidError(places.sentence(error)) from error
