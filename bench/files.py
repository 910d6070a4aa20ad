"""Files read and written with care.

What is read is a regular file of bounded size, of the folder that it is said to be in. What is written is there whole
or not at all: beside its place first, under a temporary name, and then moved into it. Whoever writes holds a lock on
the temporary file, so that one whose writer was killed can be told from one that is being written.
"""

from __future__ import annotations

import codecs
import contextlib
import errno
import os
import re
import stat
import sys
import tempfile
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO

from bench.errors import StorageError
from bench.units import MiB, format_bytes

if sys.platform != "win32":
    import fcntl

# Neither a FIFO without a writer nor a terminal may keep a command waiting; Windows has neither, and text files.
_FLAGS = os.O_RDONLY | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_NOCTTY", 0) | getattr(os, "O_BINARY", 0)

_NO_LOCKS = {errno.ENOSYS, errno.ENOLCK, errno.ENOTSUP, errno.EOPNOTSUPP}
LONGEST_WAIT_SECONDS = 60.0
"""For a lock that another process holds, which takes no longer than to read and write some small files."""

_TEMPORARY = re.compile(r"\.(?P<name>.+)\.[a-z0-9_]{8}")  # as `tempfile.mkstemp` makes it of a prefix


def open_regular(path: Path, *, within: Path | None = None) -> BinaryIO:
    """A file, opened for reading; it is never waited for.

    Args:
        path: of the file.
        within: a folder that no symbolic link may lead out of.

    Raises:
        FileNotFoundError: there is none.
        OSError: it cannot be read, is no regular file or outside `within`; `strerror` says which.
    """
    if within is not None and leads_outside(path, within):
        raise OSError(errno.ELOOP, f"a symbolic link leads out of {within}", str(path))
    descriptor = os.open(path, _FLAGS)
    if stat.S_ISREG(os.fstat(descriptor).st_mode):
        return open(descriptor, "rb")
    os.close(descriptor)
    raise OSError(errno.EINVAL, "not a regular file", str(path))


def read_regular(path: Path, at_most_bytes: int, *, within: Path | None = None) -> bytes:
    """What is in a file of at most so many bytes.

    Raises:
        FileNotFoundError: there is none.
        OSError: it is larger, or see `open_regular`; `strerror` says which.
    """
    with open_regular(path, within=within) as file:
        expected_bytes = os.fstat(file.fileno()).st_size  # which is 0 of files that the system makes up
        content = file.read(min(max(expected_bytes, MiB), at_most_bytes) + 1)  # room for so much is made at once
    if max(len(content), expected_bytes) > at_most_bytes:
        raise OSError(errno.EFBIG, f"larger than {format_bytes(at_most_bytes)}", str(path))
    return content


def read_json(path: Path, at_most_bytes: int, *, within: Path | None = None) -> bytes:
    """As `read_regular`, without the byte order mark with which some editors begin JSON, and no reader of it does."""
    return read_regular(path, at_most_bytes, within=within).removeprefix(codecs.BOM_UTF8)


def leads_outside(path: Path, folder: Path) -> bool:
    """Whether a path is not below `folder` once symbolic links and `..` are followed."""
    return not Path(os.path.realpath(path)).is_relative_to(os.path.realpath(folder))


def write_atomically(path: Path, content: str | bytes, *, within: Path | None = None) -> None:
    """Write a file so that a reader, or a crash, sees the old or the new content and never a part.

    Args:
        path: of the file.
        content: of it.
        within: a folder that no symbolic link may lead out of; one in the file's own place is replaced, not followed.

    Raises:
        StorageError: it cannot be written, or would be outside `within`.
    """
    if within is not None and leads_outside(path.parent, within):
        raise StorageError(f"cannot write {path}: a symbolic link leads out of {within}")
    temporary = None
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        descriptor, temporary = _temporary(path)
        with os.fdopen(descriptor, "wb") as file:
            file.write(content.encode() if isinstance(content, str) else content)
            file.flush()
            os.fsync(file.fileno())
            temporary.chmod(0o644)
            if sys.platform != "win32":  # which moves no open file
                temporary.replace(path)
        if sys.platform == "win32":
            temporary.replace(path)
    except OSError as error:
        if temporary is not None:
            with contextlib.suppress(OSError):
                temporary.unlink()
        raise StorageError(f"cannot write {path}: {error.strerror}; what was stored before is intact") from error


def _temporary(path: Path) -> tuple[int, Path]:
    """A new file beside `path`, locked; made again where somebody cleaned up between the two."""
    while True:
        descriptor, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
        _lock(descriptor, wait=True)
        if os.fstat(descriptor).st_nlink:
            return descriptor, Path(name)
        os.close(descriptor)


def _lock(descriptor: int, *, wait: bool = False) -> bool:
    """Lock an open file for as long as it is open; False where somebody else has, or where there are no locks."""
    if sys.platform == "win32":
        return False
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX if wait else fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        return False
    return True


def remove_abandoned(folder: Path, name: str) -> None:
    """Remove the temporary files that killed writers left in a folder, of files whose names match the pattern `name`.

    What is being written, or cannot be removed, stays.
    """
    with contextlib.suppress(OSError):
        for path in list(folder.iterdir()):
            match = _TEMPORARY.fullmatch(path.name)
            if match and re.fullmatch(name, match["name"]):
                with contextlib.suppress(OSError), open_regular(path, within=folder) as file:
                    if _lock(file.fileno()):
                        path.unlink()


@contextlib.contextmanager
def locked(folder: Path) -> Iterator[None]:
    """Keep others from writing into a folder meanwhile, by a lock on the file .lock in it that ends with the process.

    Where the file system has no locks, this is said, and nobody is kept from anything.

    Raises:
        StorageError: somebody else holds it and does not come to an end, or it cannot be made.
    """
    from filelock import FileLock, Timeout

    lock = FileLock(folder / ".lock", mode=0o666)  # anybody who may write into the folder may lock it
    try:
        lock.acquire(timeout=LONGEST_WAIT_SECONDS)
    except Timeout as error:
        raise StorageError(
            f"another process has kept {folder} locked for {LONGEST_WAIT_SECONDS:.0f} seconds: end it, or wait for it"
        ) from error
    except OSError as error:
        if error.errno not in _NO_LOCKS:
            raise StorageError(f"cannot lock {folder}: {error.strerror}") from error
        warnings.warn(f"the file system of {folder} has no locks: let one run at a time write there", stacklevel=3)
    try:
        yield
    finally:
        lock.release()
