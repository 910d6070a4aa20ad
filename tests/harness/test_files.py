"""Files are read with care: regular ones, of bounded size, inside the folder they are said to be in."""

import os
from pathlib import Path

import pytest

from bench.files import leads_outside, read_regular


def refusal(path: Path, at_most_bytes: int = 10, within: Path | None = None) -> str | None:
    with pytest.raises(OSError) as refused:
        read_regular(path, at_most_bytes, within=within)
    return refused.value.strerror


def test_a_file_as_large_as_allowed_is_read_and_a_larger_one_refused(tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.write_bytes(b"ten bytes.")
    assert read_regular(path, 10) == b"ten bytes."
    assert refusal(path, 9) == "larger than 9 B"


def test_a_pipe_a_device_a_folder_and_nothing_are_refused_without_waiting(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    open_before = len(os.listdir("/proc/self/fd")) if Path("/proc/self/fd").exists() else 0
    assert refusal(tmp_path / "pipe") == "not a regular file"
    assert refusal(Path("/dev/zero")) == "not a regular file"
    assert refusal(tmp_path) == "not a regular file"
    assert refusal(tmp_path / "missing") == "No such file or directory"
    assert not open_before or len(os.listdir("/proc/self/fd")) == open_before


def test_links_are_followed_within_the_folder_and_not_out_of_it(tmp_path: Path) -> None:
    folder = tmp_path / "folder"
    (folder / "inner").mkdir(parents=True)
    (folder / "file").write_bytes(b"inside")
    (tmp_path / "secret").write_bytes(b"outside")
    (folder / "inner/link").symlink_to(folder / "file")
    (folder / "inner/out").symlink_to(tmp_path / "secret")
    (folder / "linked").symlink_to(tmp_path)
    (tmp_path / "alias").symlink_to(folder)
    assert read_regular(folder / "inner/link", 10, within=folder) == b"inside"
    assert read_regular(tmp_path / "alias/file", 10, within=tmp_path / "alias") == b"inside"
    for name in ("inner/out", "linked/secret", "../secret"):
        assert leads_outside(folder / name, folder)
        assert refusal(folder / name, within=folder) == f"a symbolic link leads out of {folder}"
