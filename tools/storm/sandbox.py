"""The folders that a command works in: a user's project with a small suite, and beside it what is not bench's.

ROOT/user           what must stay as it is
ROOT/home, tmp      of the command
ROOT/a/b/project    where it works: three levels down, so that `../../..` of a hostile name ends in ROOT
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import shutil
import stat
import sys
from collections.abc import Set
from pathlib import Path

from tools.storm.command import End, Running

SUITE = """\
[suite]
stages = ["memory"]
architectures = ["LU-DnCNN"]
tasks = ["blur", "knee"]
gpu_caps = ["4GB"]

[model]
stages = 1

[model.solver]
max_evaluations = 4

[accuracy]
classical = ["initialisation"]

[task.blur]
operator = "GaussianBlur"
options = { image_shape = [1, 32, 32], kernel_size = 3 }
noise = { sigma = 0.01 }
data = "ct-phantoms"

[task.knee]
operator = "MRI"
options = { image_shape = [2, 32, 32] }
data = "mri-phantoms"
range = "image" # phantoms of so few pixels span more than 1

[preset.demo.model]
stages = 1

[preset.demo.model.solver]
max_evaluations = 2

[preset.demo.timing]
batch = 1
warmup = 1
repeats = 3
seconds_per_quantity = 0.01

[preset.demo.task.blur.options]
image_shape = [1, 16, 16]

[preset.demo.task.knee.options]
image_shape = [2, 16, 16]

[preset.demo.accuracy]
steps = 6
batch = 1
validate_every = 3
checkpoint_every = 2
validation_images = 1
test_images = 2
"""

TRAINING = """\
import torch

def make_step(batch, device):
    net = torch.nn.Conv2d(1, 8, 3).to(device)
    optimizer = torch.optim.Adam(net.parameters())
    def step():
        net(torch.rand(batch, 1, 16, 16, device=device)).square().mean().backward()
        optimizer.step()
    return step

def fails(batch, device):
    return lambda: torch.rand(batch, 3, device=device) @ torch.rand(4, 5, device=device)

def reads(batch, device):
    return lambda: torch.rand(batch, 3, device=device).sum().item()

number = 3
"""
STEPS = tuple(f"train.py:{name}" for name in ("make_step", "fails", "reads", "number", "nothing"))

"""A suite whose every stage takes a second or so; its preset is small too."""

PROJECT = Path("a/b/project")
RUNS = Path("results/runs")

_USERS = {"settings.json": '{"theme": "dark"}\n', "notes.txt": "buy milk\n", "models/__init__.py": "mine = True\n"}
ODD_PATHS = ("fifo", "full", "zero", "locked", "loop", "link", "notes.txt", "picture.png", "empty.toml", "ünï")
"""What stands in every project: no ordinary file or folder, or one that bench has not made."""


class Sandbox:
    """A ROOT, made anew for every case from a copy of `project`."""

    def __init__(self, root: Path, project: Path | None = None) -> None:
        """Put the folders there; what was there before is removed."""
        self.root, self.project = root, root / PROJECT
        self.clear()
        for name in ("home", "tmp", "logs"):
            (root / name).mkdir(parents=True)
        for name, content in _USERS.items():
            path = root / "user" / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(content)
        if project is None:
            self.project.mkdir(parents=True)
            (self.project / "bench.toml").write_text(SUITE)
            (self.project / "train.py").write_text(TRAINING)
            _make_odd_paths(self.project)
        else:
            shutil.copytree(project, self.project, symlinks=True, ignore=shutil.ignore_patterns(*ODD_PATHS))
            _make_odd_paths(self.project)

    @property
    def environment(self) -> dict[str, str]:
        """Of a command: no GPU, no network, one thread, nothing of the machine's user."""
        return {
            "PATH": f"{Path(sys.executable).parent}:/usr/local/bin:/usr/bin:/bin",
            "HOME": str(self.root / "home"),
            "TMPDIR": str(self.root / "tmp"),
            "MPLCONFIGDIR": str(self.root.parent / "matplotlib"),
            "LANG": "C.UTF-8",
            "OMP_NUM_THREADS": "1",
            "OMP_WAIT_POLICY": "passive",
            "CUDA_VISIBLE_DEVICES": "",
            "PIP_NO_INDEX": "1",
            "npm_config_offline": "true",
        }

    def start(self, *arguments: str, is_new_process: bool = False) -> Running:
        """Start `bench ARGUMENTS` in the project."""
        return Running(arguments, self.project, self.environment, self.root / "logs", is_new_process=is_new_process)

    def run(self, *arguments: str, seconds: float = 120.0) -> End:
        """Run `bench ARGUMENTS` in the project to its end."""
        return self.start(*arguments).end(seconds)

    def contents(self) -> dict[Path, str]:
        """The hash of every file, and the target of every link, by its path in ROOT; not of logs and home."""
        found = {}
        for top in ("a", "user", "tmp"):
            for folder, _, names in os.walk(self.root / top):
                for path in (Path(folder, name) for name in names):
                    with contextlib.suppress(OSError):
                        found[path.relative_to(self.root)] = _content(path)
        extra = (path for path in self.root.iterdir() if path.name not in ("a", "user", "tmp", "home", "logs"))
        return found | {path.relative_to(self.root): "unknown" for path in extra}

    def temporaries(self, before: Set[Path] = frozenset()) -> list[Path]:
        """Files that a command should have removed: hidden ones but locks, and all in its tmp but reports of faults."""
        found = []
        for path in self.contents().keys() - before:
            is_hidden = any(part.startswith(".") for part in path.parts) and not path.name.endswith("lock")
            is_left_in_tmp = path.parts[0] == "tmp" and not path.name.startswith("bench-fault-")
            if is_hidden or is_left_in_tmp:
                found.append(path)
        return sorted(found)

    def clear(self) -> None:
        """Remove everything."""
        locked = self.project / "locked"
        if locked.exists():
            locked.chmod(0o700)
        shutil.rmtree(self.root, ignore_errors=True)


def _content(path: Path) -> str:
    mode = path.lstat().st_mode
    if stat.S_ISLNK(mode):
        return f"link to {os.readlink(path)}"
    return hashlib.sha256(path.read_bytes()).hexdigest() if stat.S_ISREG(mode) else f"mode {stat.S_IFMT(mode):o}"


def _make_odd_paths(project: Path) -> None:
    os.mkfifo(project / "fifo")
    for name, minor in (("full", 7), ("zero", 5)):
        try:  # a device of our own, because root could replace the system's
            os.mknod(project / name, 0o666 | stat.S_IFCHR, os.makedev(1, minor))
        except PermissionError:
            (project / name).symlink_to(f"/dev/{name}")
    (project / "locked").mkdir()
    (project / "locked").chmod(0)
    (project / "loop").symlink_to("loop")
    (project / "link").symlink_to("../../../user")
    (project / "notes.txt").write_text("mine\n")
    (project / "picture.png").write_bytes(b"\x89PNG mine")
    (project / "empty.toml").touch()
    (project / "ünï").mkdir()
