"""Names that become parts of the names of files: of tasks, architectures, stages and keys.

What a file is called is made of checked names alone, joined by "--", so that nothing in a configuration or in a record
leads out of the folder it belongs to.
"""

from __future__ import annotations

import re
from typing import Annotated

from pydantic import AfterValidator, Field

LONGEST_NAME = 64
"""Characters. Four names and what joins them stay below the 255 bytes that file systems allow."""

_NAME = re.compile(r"[A-Za-z0-9]([A-Za-z0-9 ._+-]*[A-Za-z0-9_+])?")
_DEVICE = re.compile(r"(CON|PRN|AUX|NUL|COM\d|LPT\d) *(\..*)?", re.IGNORECASE)


def check_name(name: str) -> str:
    """The name itself, if it may become part of a file's name on every system.

    Raises:
        ValueError: it may not; the message says what a name is made of.
    """
    if len(name) > LONGEST_NAME:
        raise ValueError(f"a name has at most {LONGEST_NAME} characters, and this one {len(name)}")
    if not _NAME.fullmatch(name) or "--" in name:
        raise ValueError(
            "a name is made of English letters, digits, spaces and . _ + -, begins with a letter or digit, "
            "does not end with a space, . or -, and has no -- in it"
        )
    if _DEVICE.fullmatch(name):
        raise ValueError("Windows keeps this name for a device")
    return name


Name = Annotated[str, AfterValidator(check_name)]
"""A task's or an architecture's."""

Key = Annotated[str, Field(pattern=r"\A[A-Za-z0-9]{1,64}\z")]
"""What tells two settings of a cell apart: a short hash."""
