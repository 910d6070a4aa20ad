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

    assert load().model == ModelOptions()


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
    for part in (str(path), "unknown key suite.task", "model.stages", "'many'", "memory.steps", "unknown key colour"):
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
