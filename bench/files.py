"""Files read with care: a regular one, of bounded size, and of the folder that it is said to be in."""

from __future__ import annotations

import errno
import os
import stat
from pathlib import Path

from bench.units import format_bytes

# Neither a FIFO without a writer nor a terminal may keep a command waiting; Windows has neither, and text files.
_FLAGS = os.O_RDONLY | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_NOCTTY", 0) | getattr(os, "O_BINARY", 0)


def read_regular(path: Path, at_most_bytes: int, *, within: Path | None = None) -> bytes:
    """What is in a file.

    Args:
        path: of the file.
        at_most_bytes: that it may have.
        within: a folder that no symbolic link may lead out of.

    Raises:
        FileNotFoundError: there is none.
        OSError: it cannot be read, is no regular file, is too large or outside `within`; `strerror` says which.
    """
    if within is not None and leads_outside(path, within):
        raise OSError(errno.ELOOP, f"a symbolic link leads out of {within}", str(path))
    descriptor = os.open(path, _FLAGS)
    try:
        if not stat.S_ISREG(os.fstat(descriptor).st_mode):
            raise OSError(errno.EINVAL, "not a regular file", str(path))
        with open(descriptor, "rb", closefd=False) as file:
            content = file.read(at_most_bytes + 1)
    finally:
        os.close(descriptor)
    if len(content) > at_most_bytes:
        raise OSError(errno.EFBIG, f"larger than {format_bytes(at_most_bytes)}", str(path))
    return content


def leads_outside(path: Path, folder: Path) -> bool:
    """Whether a path is not below `folder` once symbolic links and `..` are followed."""
    return not Path(os.path.realpath(path)).is_relative_to(os.path.realpath(folder))
