"""Finding operators by name."""

from __future__ import annotations

import subprocess
import sys

import pytest

from bench import operators
from bench.operators.base import Operator


def test_names_and_classes():
    assert {"GaussianBlur", "Lorenz96", "MRI", "Radon", "Seismic"} <= set(operators.names())
    assert operators.names() == sorted(operators.names())
    for name in operators.names():
        assert issubclass(operators.get(name), Operator)
        assert operators.get(name).__name__ == name


def test_unknown_name_lists_the_known_ones():
    with pytest.raises(KeyError) as error:
        operators.get("Sobel")
    assert str(error.value) == f"unknown operator 'Sobel'; known: {', '.join(operators.names())}"


def test_importing_the_package_does_not_import_torch():
    code = "import sys; from bench import operators; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
