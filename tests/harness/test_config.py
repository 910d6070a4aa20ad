import os
import subprocess
import sys

import pytest
import torch

from bench.config import default_path, load
from bench.errors import UsageError


@pytest.fixture
def write(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)

    def write(text, name="suite.toml"):
        path = tmp_path / name
        path.write_text(text)
        return path

    return write


def test_the_default_suite_is_the_papers(write):
    config = load()
    assert config.suite.architectures == ("LU-DnCNN", "DEQ4IP", "LUSER-SW", "LUSER-DW")
    assert config.suite.tasks == ("deblurring", "ct", "mri")
    assert config.suite.gpu_caps == ("8GB", "10GB", "24GB")
    assert config.model.stages == 8


def test_the_default_suite_spells_out_the_defaults_of_the_code(write):
    """bench.toml shows a reader every value; it must not say something else than models' own defaults."""
    from bench.models.architectures.base import ModelOptions

    assert load().model.told() == ModelOptions().told()


def test_the_default_switches_of_cudnn_are_pytorchs(write):
    memory = load().memory
    assert (memory.allow_tf32, memory.deterministic) == (
        torch.backends.cudnn.allow_tf32,
        torch.backends.cudnn.deterministic,
    )


def test_a_file_needs_only_what_it_changes(write):
    config = load(write('[suite]\ntasks = ["small"]\n[model]\nstages = 3\n[task.small]\noperator = "Radon"\n'))
    assert config.suite.tasks == ("small",)
    assert config.model.stages == 3
    assert config.model.solver.max_evaluations == 50
    assert config.task["small"].operator == "Radon"
    assert "ct" in config.task


def test_the_working_folder_comes_before_the_default(write):
    write("[model]\nstages = 5\n", "bench.toml")
    assert load().model.stages == 5


def test_all_errors_at_once_with_their_places(write):
    path = write('[suite]\ntask = ["ct"]\n[model]\nstages = "many"\n[memory]\nsteps = 1\n[colour]\nred = 1\n')
    with pytest.raises(UsageError) as refusal:
        load(path)
    message = str(refusal.value)
    for part in (
        str(path),
        "suite.task: unknown key (did you mean tasks?)",
        "model.stages",
        "'many'",
        "memory.steps",
        "colour: unknown key",
    ):
        assert part in message
    assert "\n" not in message


@pytest.mark.parametrize("text", ["[suite\n", "stages = \n", "\x00"])
def test_not_toml(write, text):
    with pytest.raises(UsageError, match="is not TOML"):
        load(write(text))


def test_not_utf8(tmp_path):
    path = tmp_path / "latin.toml"
    path.write_bytes(b"# caf\xe9\n")
    with pytest.raises(UsageError, match="is not TOML"):
        load(path)


def test_no_such_file(tmp_path):
    with pytest.raises(UsageError, match="no configuration file at"):
        load(tmp_path / "nowhere.toml")


def test_a_folder_is_not_a_file(tmp_path):
    with pytest.raises(UsageError, match="cannot read"):
        load(tmp_path)


def test_the_default_file_exists():
    assert default_path().name == "bench.toml"
    assert default_path().exists()


def refusal(path):
    with pytest.raises(UsageError) as told:
        load(path)
    return str(told.value)


@pytest.mark.parametrize(
    ("text", "line", "sentence"),
    [
        ("[model]\nstages = true\n", 2, "model.stages: got true, expected a whole number"),
        ("[model]\nstages = 8.0\n", 2, "model.stages: got 8.0, expected a whole number"),
        ('[model]\nstages = "8"\n', 2, "model.stages: got '8', expected a whole number"),
        (
            "\n\n[model]\n# K\nstages = 100000000\n",
            5,
            "model.stages: stages must be at least 1 and at most 1,000, got 100000000",
        ),
        (
            "[model.solver]\nmax_evaluations = 0\n",
            2,
            "model.solver.max_evaluations: solver option max_evaluations must be at least 1 and at most 10,000, got 0",
        ),
        ("[model.solver]\nridge = nan\n", 2, "model.solver.ridge: got nan, expected a finite number"),
        ("[memory]\nsteps = 100000\n", 2, "memory.steps: got 100000, expected at most 100"),
        ('[timing]\nbatch = "8"\n', 2, "timing.batch: got '8', expected a whole number or 'largest'"),
        ("[timing]\nseconds_per_quantity = inf\n", 2, "timing.seconds_per_quantity: got inf, expected a finite number"),
        ("[accuracy]\nseeds = []\n", 2, "accuracy.seeds: got 0 entries, expected at least 1"),
        ("[accuracy]\nseeds = [\n  0,\n  1.5,\n]\n", 2, "accuracy.seeds.1: got 1.5, expected a whole number"),
        ("suite = 3\n", 1, "suite: got 3, expected a table"),
        (
            '[suite]\ntasks = ["ct", "knee"]\n',
            2,
            "suite.tasks.1: unknown task 'knee': known are deblurring, ct, mri, mri-4x, mri-8x, seismic, lorenz",
        ),
        (
            '[suite]\npreset = "nope"\n',
            2,
            "suite.preset: unknown preset 'nope': known are auto, paper, demo, evening, systems",
        ),
        (
            '[suite]\ngpu_caps = ["8XB"]\n',
            2,
            "suite.gpu_caps: '8XB' is not a memory size: expected a number and a unit, such as 8GB or 8000MB",
        ),
        (
            "[check.limits]\nlargest_bach = { absolute = 1 }\n",
            2,
            "check.limits.largest_bach: unknown key (did you mean largest_batch?)",
        ),
        ("[task.new]\nmetric = 'image'\n", 1, "task.new.operator: is missing"),
        (
            "[task.new]\noperator = 'Sobel'\n",
            2,
            "task.new.operator: unknown operator 'Sobel': known are GaussianBlur, Lorenz96, MRI, Radon, Seismic",
        ),
        ("[model.deq4ip]\nanchr = 0.2\n", 2, "model.deq4ip.anchr: unknown key (did you mean anchor?)"),
        ("[model.lu_dncnn]\nwidth = 3\n", 1, "model.lu_dncnn: unknown key"),
        (
            "[model]\nleaky_slope = 0.1\n",
            2,
            "model.leaky_slope: unknown key (it belongs in [model.luser])",
        ),
        ("[model]\ninitial = 'fpb'\n", 2, "model.initial: unknown initial 'fpb'; known: adjoint, fbp"),
        ("[task.ct.options]\nimage_siz = 3\n", 2, "task.ct.options.image_siz: unknown key (did you mean image_size?)"),
        (
            "[task.ct.options]\nangles = -1\n",
            2,
            "task.ct.options.angles: Radon got angles -1, expected at least 1 and at most 4,096",
        ),
        ("[task.ct.options]\nimage_size = 3.5\n", 2, "task.ct.options.image_size: got 3.5, expected a whole number"),
        (
            "[task.deblurring.options]\nkernel_size = 4\n",
            2,
            "task.deblurring.options.kernel_size: GaussianBlur got kernel_size 4, expected an odd number of pixels, "
            "at most 999",
        ),
        ("[task.deblurring.options]\ndevice = 'cpu'\n", 2, "task.deblurring.options.device: unknown key"),
        (
            "[task.deblurring.options]\nimage_shape = [3, 100000, 100000]\n",
            2,
            "task.deblurring.options.image_shape: GaussianBlur got image_shape [3, 100000, 100000], "
            "expected sizes of at least 1 and at most 33,554,432 numbers",
        ),
        (
            "[task.deblurring.noise]\nphotons = 5\n",
            2,
            "task.deblurring.noise.photons: only Radon counts photons, and the operator is GaussianBlur",
        ),
        (
            "[task.ct]\nmetric = 'real'\n",
            2,
            'task.ct.metric: "real" is of complex images, which have two channels, and these have 1: give "image"',
        ),
        (
            "[task.ct]\nmeasurements = 'own'\n",
            2,
            'task.ct.measurements: ct-phantoms has no measurements of its own: give "simulated", or another set',
        ),
        (
            "[task.ct]\ndata = 'LoDoPaB-CT'\nmeasurements = 'own'\nmeasured_by = { image_size = 64 }\n",
            4,
            'task.ct.measured_by: is of simulated measurements, and measurements are "own": leave one out',
        ),
        (
            "[task.ct]\ndata = 'photographs'\n",
            2,
            "task.ct.data: photographs has images of 3 channels, and Radon takes 1",
        ),
        ("[task.ct.data_options]\nsead = 1\n", 2, "task.ct.data_options.sead: unknown key (did you mean seed?)"),
        (
            "[task.mri]\nstands_for = ['knee']\n",
            2,
            "task.mri.stands_for: unknown task 'knee': known are deblurring, ct, mri, mri-4x, mri-8x, seismic, lorenz",
        ),
        ("[task.mri]\npaper = 'knee'\n", 2, "task.mri.paper: got 'knee', expected 'deblurring', 'ct' or 'mri'"),
        ("[task.CT]\noperator = 'Radon'\n", 1, "task.CT: differs from [task.ct] in case alone: give it another name"),
        ("[preset.demo.accuracy]\nbatch = 0\n", 2, "preset.demo.accuracy.batch: got 0, expected at least 1"),
        ("[preset.mine.memry]\nsteps = 2\n", 1, "preset.mine.memry: unknown key (did you mean memory?)"),
    ],
)
def test_a_key_is_blamed_on_its_file_and_line(write, text, line, sentence):
    path = write(text)
    assert refusal(path) == f"{path} line {line}: {sentence}"
    path.write_bytes(b"\xef\xbb\xbf" + text.replace("\n", "\r\n").encode())
    assert refusal(path) == f"{path} line {line}: {sentence}"


@pytest.mark.parametrize("name", ["../../x", "a/b", r"$\frac{$", "=cmd", "x" * 300, ""])
def test_a_task_is_called_what_a_file_can_be_called(write, name):
    from json import dumps

    path = write(f'[task.{dumps(name)}]\noperator = "MRI"\n')
    assert f"{path} line 1: task." in refusal(path)
    assert "a name " in refusal(path)


def test_a_fault_that_a_preset_brings_is_in_the_presets_table(write):
    path = write("[preset.demo.task.ct.options]\nangles = 0\n")
    sentence = f"{path} line 2: preset.demo.task.ct.options.angles: Radon got angles 0, expected at least 1"
    assert refusal(path).startswith(sentence)
    with pytest.raises(UsageError) as told:
        load(path, preset="demo")
    assert str(told.value).startswith(sentence)


def test_a_task_of_a_known_name_changes_only_what_it_says(write):
    before = load().task["ct"]
    task = load(write("[task.ct.options]\nangles = 100\n[task.ct.noise]\nsigma = 0.5\n")).task["ct"]
    assert task.options == {**before.options, "angles": 100}
    assert (task.noise.sigma, task.noise.photons) == (0.5, 4096)
    assert (task.operator, task.paper, task.data) == (before.operator, before.paper, before.data)
    assert load(write("[task.ct.noise]\nphotons = 0\n")).task["ct"].noise.photons is None


def test_other_images_take_no_options_of_a_presets_images(write):
    """The preset gives ct's phantoms a texture, which the user's own images do not take."""
    assert load(write(""), preset="demo").task["ct"].data_options == {"texture": 4.0}
    task = load(write('[task.ct]\ndata = "fetched-ct"\n'), preset="demo").task["ct"]
    assert (task.data, task.data_options, task.options["angles"]) == ("fetched-ct", {}, 16)


@pytest.mark.parametrize("preset", [None, "demo"])
def test_a_task_with_another_operator_takes_nothing_from_the_one_before(write, preset):
    path = write('[task.ct]\noperator = "gaussianblur"\noptions = { image_shape = [1, 9, 9] }\n')
    task = load(path, preset=preset).task["ct"]
    assert (task.operator, task.options) == ("GaussianBlur", {"image_shape": [1, 9, 9]})
    assert (task.noise.photons, task.data, task.paper) == (None, None, None)


def test_names_in_any_case_each_once(write):
    config = load(
        write(
            '[suite]\nstages = ["MEMORY", "memory"]\narchitectures = ["deq4ip"]\ntasks = ["CT", "ct"]\n'
            'gpu_caps = ["8 gb", "8GB"]\ngpus = ["h200"]\npreset = "DEMO"\n[memory]\nengine = "CUDA"\n'
            '[task.ct]\noperator = "RADON"\ndata = "CT-Phantoms"\n'
        )
    )
    suite = config.suite
    assert (suite.stages, suite.architectures, suite.tasks) == (("memory",), ("DEQ4IP",), ("ct",))
    assert (suite.gpu_caps, suite.gpus, suite.preset, config.memory.engine) == (("8GB",), ("H200",), "demo", "cuda")
    assert (config.task["ct"].operator, config.task["ct"].data) == ("Radon", "ct-phantoms")


@pytest.mark.parametrize(
    ("content", "sentence"),
    [
        ("[suite]".encode("utf-16"), "is not TOML: it is UTF-16, and TOML is UTF-8; save it as UTF-8"),
        (b"a = " + b"[" * 3000 + b"]" * 3000, "is nested too deeply, expected at most 16 levels"),
        (b".".join([b"a"] * 3000) + b" = 1", "is nested too deeply, expected at most 16 levels"),
        (b"#" * 300_000, "cannot read the configuration file {}: larger than 256.00 KiB"),
        (b"a = " + b"9" * 5000, "is not TOML: "),
    ],
)
def test_files_that_are_no_configuration(tmp_path, content, sentence):
    path = tmp_path / "suite.toml"
    path.write_bytes(content)
    assert sentence.format(path) in refusal(path)


def test_neither_a_pipe_nor_a_device_keeps_a_command_waiting(tmp_path):
    import os

    os.mkfifo(tmp_path / "pipe")
    for path in (tmp_path / "pipe", "/dev/zero"):
        from pathlib import Path

        assert refusal(Path(path)) == f"cannot read the configuration file {path}: not a regular file"


def test_what_is_forked_after_a_configuration_is_read_can_compute():
    """OpenMP's threads do not survive a fork: reading must not start them."""
    code = """
import os, torch
torch.set_num_threads(2)
from bench.config import load
load()
if not os.fork():
    torch.outer(torch.rand(1000), torch.rand(1000)).sum()
    os._exit(0)
os.wait()
"""
    environment = {name: value for name, value in os.environ.items() if name != "OMP_NUM_THREADS"}
    subprocess.run([sys.executable, "-c", code], check=True, timeout=60, env=environment)
