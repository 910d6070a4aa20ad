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
_FILE = re.compile(r"[A-Za-z0-9]([A-Za-z0-9 ._+-]{0,253}[A-Za-z0-9_+-])?")
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


def check_relative_name(name: str) -> str:
    """The name itself, if it is that of a file below a folder: "reconstructions/ct--DEQ4IP--0123.safetensors".

    Raises:
        ValueError: it may lead elsewhere, or is no file's on some system.
    """
    if not all(_FILE.fullmatch(part) and not _DEVICE.fullmatch(part) for part in name.split("/")):
        raise ValueError("expected the name of a file below the output folder")
    return name


RelativeName = Annotated[str, AfterValidator(check_relative_name)]
"""A file's, as seen from the folder that it belongs to."""


def file_stem(*names: str) -> str:
    """Checked names as one, which is that of a file but for its suffix: "ct--DEQ4IP--memory--0123456789".

    Raises:
        ValueError: see `check_name`.
    """
    return "--".join(map(check_name, names))
