"""What a strategy is: a name for options that change what a training step keeps, and who can take them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass


@dataclass(frozen=True)
class Strategy:
    """A way to train the same network with other memory.

    Attributes:
        name: as `--strategy` and the tables have it.
        summary: what it does, in a few words.
        changes: the configuration's options that it sets, section by section. Two strategies that set one option
            differently exclude each other.
        needs: the attribute of `Architecture` that says whether an architecture can take it; every one can if empty.
        refusal: why those that cannot do not, and what to choose.
    """

    name: str
    summary: str
    changes: Mapping[str, Mapping[str, object]]
    needs: str = ""
    refusal: str = ""
