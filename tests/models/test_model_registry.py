import subprocess
import sys
from pathlib import Path

import pytest

from bench import models
from bench.models import architectures

NEW = """
from bench.models.architectures.base import Architecture

class Identity(Architecture):
    name = "Identity"

    def forward(self, measurement, *, all_iterates=False):
        raise NotImplementedError
"""


@pytest.fixture
def fresh():
    models._discovered.cache_clear()
    yield
    models._discovered.cache_clear()


def test_names_come_in_the_papers_order():
    assert models.names()[:4] == ["LU-DnCNN", "DEQ4IP", "LUSER-SW", "LUSER-DW"]  # and then others, if there are
    assert all(models.names())  # without what they have in common


def test_get():
    for name in models.names():
        assert models.get(name).name == name


def test_unknown_name_lists_the_known_ones():
    message = "unknown architecture 'UNet'; known architectures: LU-DnCNN, DEQ4IP, LUSER-SW, LUSER-DW"
    with pytest.raises(ValueError, match=message):
        models.get("UNet")


def test_an_architecture_is_one_more_file(fresh, tmp_path: Path, monkeypatch):
    (tmp_path / "new.py").write_text(NEW)
    monkeypatch.setattr(architectures, "__path__", [*architectures.__path__, str(tmp_path)])
    monkeypatch.delitem(sys.modules, "bench.models.architectures.new", raising=False)
    assert models.names()[:4] == ["LU-DnCNN", "DEQ4IP", "LUSER-SW", "LUSER-DW"]
    assert "Identity" in models.names()[4:]
    assert models.get("Identity").name == "Identity"
    sys.modules.pop("bench.models.architectures.new")


def test_import_without_torch():
    code = "import sys; from bench import models; assert 'torch' not in sys.modules"
    subprocess.run([sys.executable, "-c", code], check=True, cwd=Path(models.__file__).parents[1])
