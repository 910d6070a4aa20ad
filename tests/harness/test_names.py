"""Names that become parts of files' names."""

import pytest
from pydantic import TypeAdapter, ValidationError

from bench.names import Key, check_name


@pytest.mark.parametrize(
    "name", ["ct", "mri-4x", "DEQ4IP", "total variation", "a.b_c+d", "1", "x" * 64, "CONSOLE", "com", "v1.nul"]
)
def test_names_of_letters_digits_and_little_else_are_good(name: str) -> None:
    assert check_name(name) == name


@pytest.mark.parametrize(
    ("name", "why"),
    [(name, "is made of") for name in ("", "..", "../x", "a/b", "a\\b", "a\0", "a\n", "a--b", " a", "a ", "a.", "a-")]
    + [(name, "is made of") for name in ("-a", ".a", "a:b", "é", "$x$", "<b>", "=1", "~", "a\ud800")]
    + [(name, "for a device") for name in ("CON", "nul", "aux.txt", "LPT1", "com0.x.y", "prn .x")]
    + [("x" * 65, "at most 64 characters, and this one 65")],
)
def test_other_names_are_refused_with_the_reason(name: str, why: str) -> None:
    with pytest.raises(ValueError, match=why):
        check_name(name)


@pytest.mark.parametrize("key", ["", "a b", "../x", "a--b", "a\n", "a" * 65])
def test_a_key_is_letters_and_digits(key: str) -> None:
    assert TypeAdapter(Key).validate_python("0123456789abcdef") == "0123456789abcdef"
    with pytest.raises(ValidationError):
        TypeAdapter(Key).validate_python(key)
