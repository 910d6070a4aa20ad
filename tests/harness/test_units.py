import pytest
from hypothesis import given
from hypothesis import strategies as st

from bench.units import GiB, format_bytes, parse_bytes


@pytest.mark.parametrize(
    ("text", "size_bytes"),
    [
        ("8GB", 8 * 1024**3),  # as cards are sold
        ("8GiB", 8 * 1024**3),
        ("8 gb", 8 * 1024**3),
        ("8000MB", 8_000_000_000),
        ("512MiB", 512 * 1024**2),
        ("1.5GB", 1536 * 1024**2),
        ("1TB", 1024**4),
    ],
)
def test_sizes(text, size_bytes):
    assert parse_bytes(text) == size_bytes


@pytest.mark.parametrize("text", ["8XB", "-1GB", "0GB", "", "GB", "8", "8 8GB", "nan GB", "1e9B", "0.0000000000001KB"])
def test_refused(text):
    with pytest.raises(ValueError, match="not a memory size") as refusal:
        parse_bytes(text)
    assert repr(text) in str(refusal.value)


@given(st.integers(1, 10**6))
def test_whole_gibibytes_come_back(number):
    assert parse_bytes(format_bytes(number * GiB)) == number * GiB
