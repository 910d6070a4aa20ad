"""bench doctor: says what is there and what is not, whatever the machine lacks."""

import json
import re
import subprocess
import sys
from types import SimpleNamespace

import pytest
import torch

from bench import doctor, machine
from bench.data import fetch
from bench.memory.cudnn import cache
from bench.memory.cudnn.backend import CudnnError
from bench.units import GiB
from bench.virtual import library


class NVMLError(Exception):
    pass


def nvml(*devices, driver="550.54", fails=()):
    """A pynvml with these devices: (name, bytes of memory, compute capability)."""

    def answer(name, value):
        def call(*arguments):
            if name in fails:
                raise NVMLError(f"{name} failed")
            return value(*arguments)

        return call

    functions = {
        "nvmlInit": lambda: None,
        "nvmlShutdown": lambda: None,
        "nvmlSystemGetDriverVersion": lambda: driver,
        "nvmlDeviceGetCount": lambda: len(devices),
        "nvmlDeviceGetHandleByIndex": lambda index: devices[index],
        "nvmlDeviceGetName": lambda device: device[0],
        "nvmlDeviceGetMemoryInfo": lambda device: SimpleNamespace(total=device[1]),
        "nvmlDeviceGetCudaComputeCapability": lambda device: device[2],
    }
    return SimpleNamespace(NVMLError=NVMLError, **{name: answer(name, value) for name, value in functions.items()})


@pytest.fixture
def gpus(monkeypatch):
    """The parts that `doctor.gpus` finds with a fake pynvml, under a PyTorch with or without CUDA."""

    def gpus(fake, cuda="13.0"):
        monkeypatch.setitem(sys.modules, "pynvml", fake)
        monkeypatch.setattr(torch.version, "cuda", cuda)
        return doctor.gpus()

    return gpus


def test_gpus_are_named_with_memory_capability_and_driver(gpus):
    found = gpus(nvml(("RTX 2080", 8 * GiB, (7, 5)), ("H200", 140 * GiB, (9, 0))))
    assert [(part.name, part.state, part.found) for part in found] == [
        ("GPU 0", "fine", "RTX 2080, 8.00 GiB, compute capability 7.5, driver 550.54"),
        ("GPU 1", "fine", "H200, 140.00 GiB, compute capability 9.0, driver 550.54"),
    ]


def test_a_gpu_that_pytorch_is_not_built_for_is_of_no_use(gpus):
    (part,) = gpus(nvml(("RTX 2080", 8 * GiB, (7, 5))), cuda=None)
    assert part.state == "missing"
    assert "PyTorch is built without CUDA" in part.found and "a CUDA build" in part.adds


@pytest.mark.parametrize(
    ("fake", "found"),
    [
        (None, "not known: pynvml is not installed"),
        (nvml(fails=["nvmlInit"]), "no driver (nvmlInit failed)"),
        (nvml(), "driver 550.54, but no device"),
        (nvml(fails=["nvmlDeviceGetCount"]), "a driver, whose devices do not answer (nvmlDeviceGetCount failed)"),
        (nvml(("H200", 1, (9, 0)), fails=["nvmlDeviceGetMemoryInfo"]), "a driver, whose devices do not answer"),
    ],
)
def test_no_gpu_is_said_with_the_reason(gpus, fake, found):
    (part,) = gpus(fake)
    assert (part.name, part.state) == ("GPU", "missing")
    assert part.found.startswith(found)
    assert "--engine cuda" in part.adds


@pytest.fixture
def linux(monkeypatch):
    """Linux on x86_64, whatever this is."""
    monkeypatch.setattr("platform.system", lambda: "Linux")
    monkeypatch.setattr("platform.machine", lambda: "x86_64")


def test_a_build_without_cuda_can_have_no_virtual_card(monkeypatch, linux):
    monkeypatch.setattr(torch.version, "cuda", None)
    (part,) = doctor.virtual_card()
    assert (part.name, part.state) == ("virtual card", "missing")
    assert part.found.endswith(f"a CUDA build of PyTorch, but {torch.__version__} is built without CUDA")
    assert part.adds.startswith("`--engine virtual`: PyTorch's own CUDA code, without a GPU: pip install torch")


def test_a_cuda_build_needs_a_compiler_until_the_card_is_built(monkeypatch, linux, tmp_path):
    monkeypatch.setattr(torch.version, "cuda", "13.0")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    monkeypatch.delenv("CC", raising=False)
    monkeypatch.setattr(library.shutil, "which", lambda name: name if name == "clang" else None)
    (part,) = doctor.virtual_card()
    assert (part.state, part.adds) == ("fine", "")
    assert part.found == "PyTorch's CUDA 13.0 code without a GPU; to be built at first use by clang"
    monkeypatch.setattr(library.shutil, "which", lambda name: None)
    (part,) = doctor.virtual_card()
    assert part.state == "missing" and part.adds.endswith("install one (apt-get install gcc), or name it in CC")
    assert list(tmp_path.iterdir()) == []  # nothing is made by looking
    (tmp_path / "bench/virtual-card" / library._key(library._torch_libraries())).mkdir(parents=True)
    (part,) = doctor.virtual_card()
    assert part.found == "PyTorch's CUDA 13.0 code without a GPU; built"


def test_a_healthy_machine_is_exit_code_0_and_its_json_the_same_parts(bench):
    result = bench("doctor")
    assert result.returncode == 0, result.stderr
    parts = json.loads(bench("doctor", "--json").stdout)
    assert all(f"| {part['name']} " in result.stdout and part["found"] in result.stdout for part in parts)
    states = {part["name"]: part["state"] for part in parts}
    assert {"Python", "bench", "PyTorch", "allocator", "cuDNN", "extra slurm", "data", "results"} <= states.keys()
    assert "broken" not in states.values()
    assert all(part["adds"] for part in parts if part["state"] == "missing")
    found = {part["name"]: part["found"] for part in parts}
    assert found["PyTorch"].startswith(torch.__version__)


@pytest.mark.parametrize(("version", "release"), [("2.10.1+cu128", "2.10"), ("3.0.0", "3.0")])
def test_an_unknown_torch_is_exit_code_2(bench, monkeypatch, version, release):
    monkeypatch.setattr(torch, "__version__", version)
    result = bench("doctor")
    assert result.returncode == 2
    assert f"torch {release}'s is not known" in result.stdout
    assert result.stderr.startswith("bench: bench cannot run here: PyTorch: ") and result.stderr.count("\n") == 1
    assert "supported: 2.11 to 2.15" in result.stderr


@pytest.mark.parametrize("output", ["/proc/nowhere", "bench.toml"])
def test_an_output_that_cannot_be_written_is_exit_code_2(bench, output):
    result = bench("doctor", "--output", output)
    assert result.returncode == 2
    assert f"cannot write to {output}" in result.stderr


def test_nothing_is_made_by_looking(bench, tmp_path):
    before = sorted(tmp_path.rglob("*"))
    bench("doctor")
    assert sorted(tmp_path.rglob("*")) == before


def test_a_full_disk_is_said(monkeypatch, tmp_path):
    monkeypatch.setattr(doctor.shutil, "disk_usage", lambda path: SimpleNamespace(free=2**20))
    results, disk = doctor.disk(tmp_path)
    assert (results.state, disk.state, disk.found) == ("fine", "missing", "1.00 MiB free")


def test_damaged_answers_of_cudnn_are_said(monkeypatch):
    def damaged(_version):
        raise CudnnError("the answers of cuDNN in file cannot be read")

    monkeypatch.setattr(cache, "cards", damaged)
    _, answers = doctor.cudnn()
    assert (answers.state, answers.found) == ("missing", "the answers of cuDNN in file cannot be read")


def test_answers_of_another_cudnn_are_of_no_use(monkeypatch):
    monkeypatch.setattr(doctor, "version_of_torch", lambda: "9.99.0")
    _, answers = doctor.cudnn()
    assert answers.state == "missing"
    assert answers.found == "of 9.19.0, 9.20.0, 9.24.0, 9.26.0, not of cuDNN 9.99.0"


def test_a_library_that_is_not_installed_or_does_not_load_is_said(monkeypatch):
    def broken(card):
        raise CudnnError("cuDNN is installed but does not load")

    monkeypatch.setattr(doctor, "LiveCudnn", broken)
    library, _ = doctor.cudnn()
    assert (library.state, library.found) == ("missing", "cuDNN is installed but does not load")
    assert "nvidia-cudnn-cu13" in library.adds


def test_extras_are_found_by_their_modules(monkeypatch):
    monkeypatch.setattr(doctor, "find_spec", lambda name: None if name == "submitit" else object())
    parts = {part.name: part for part in doctor.extras()}
    assert {name: part.state for name, part in parts.items()} == {
        "extra accuracy": "fine",
        "extra report": "fine",
        "extra slurm": "missing",
    }
    assert parts["extra slurm"].adds.endswith("pip install submitit")


def test_no_extra_is_needed_to_look():
    extras = [module for modules, _ in doctor.EXTRAS.values() for module in modules] + ["sklearn", "PIL", "nrrd"]
    script = (
        f"import sys\nsys.modules.update(dict.fromkeys({extras!r}))\nfrom bench import doctor\nprint(doctor.data())"
    )
    assert "not in" in subprocess.check_output([sys.executable, "-c", script], text=True)


def write(root, files):
    for name, text in files.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text(text)


@pytest.mark.parametrize(
    ("files", "cores", "memory_bytes"),
    [
        ({}, 8, None),
        ({"proc/meminfo": "MemTotal:  1024 kB\nMemFree: 1 kB\n"}, 8, 2**20),
        ({"sys/fs/cgroup/cpu.max": "max 100000\n", "sys/fs/cgroup/memory.max": "max\n"}, 8, None),
        ({"sys/fs/cgroup/cpu.max": "150000 100000\n", "sys/fs/cgroup/memory.max": "4096\n"}, 1.5, 4096),
        ({"sys/fs/cgroup/memory.max": "9999999\n", "proc/meminfo": "MemTotal: 1 kB\n"}, 8, 1024),
        (
            {
                "sys/fs/cgroup/cpu/cpu.cfs_quota_us": "200000\n",
                "sys/fs/cgroup/cpu/cpu.cfs_period_us": "100000\n",
                "sys/fs/cgroup/memory/memory.limit_in_bytes": "8192\n",
            },
            2,
            8192,
        ),
        ({"sys/fs/cgroup/cpu/cpu.cfs_quota_us": "-1\n", "sys/fs/cgroup/cpu/cpu.cfs_period_us": "100000\n"}, 8, None),
    ],
)
def test_cores_and_memory_as_a_container_leaves_them(monkeypatch, tmp_path, files, cores, memory_bytes):
    monkeypatch.setattr(machine, "available_cores", lambda: 8)
    write(tmp_path, files)
    assert machine.cores(tmp_path) == cores
    assert machine.memory_bytes(tmp_path) == memory_bytes


def test_data_that_are_not_fetched_are_named(monkeypatch, tmp_path):
    monkeypatch.setenv("BENCH_DATA", str(tmp_path))
    (part,) = doctor.data()
    assert (part.state, part.found) == ("missing", f"photographs, ct, mri not in {tmp_path}")
    monkeypatch.setattr(fetch, "is_complete", lambda place: "fetched-mri" not in str(place))
    (part,) = doctor.data()
    assert part.found == f"mri not in {tmp_path}"


@pytest.mark.parametrize("columns", [60, 80, 120])
def test_no_remedy_is_cut(bench, terminal, columns):
    parts = json.loads(bench("doctor", "--json").stdout)
    words = {word for part in parts for word in f"{part['name']} {part['found']} {part['adds']}".split()}
    told = set(terminal(columns, "doctor").split())
    # Free disk and memory are of the moment, and the two runs are two moments.
    assert {word for word in words if not re.fullmatch(r"\d+\.\d+", word)} <= told
