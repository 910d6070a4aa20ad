"""Why memory changed: what grew and shrank between two compositions."""

from hypothesis import given
from hypothesis import strategies as st

from bench.records import Composition
from bench.regression.growth import ALLOCATORS, why


def composition(size_bytes, places=None):
    peak_bytes = sum(size for of_category in size_bytes.values() for size in of_category.values())
    return Composition(
        batch=2,
        peak_allocated_bytes=peak_bytes,
        peak_reserved_bytes=peak_bytes,
        size_bytes=size_bytes,
        places=places or {},
    )


def test_what_grew_and_where():
    before = composition({"saved activations": {"net, relu": 100, "net, norm": 40}, "rounding": {"in all": 5}})
    after = composition(
        {"saved activations": {"net, relu": 160, "net, norm": 40}, "batch": {"rand": 8}, "rounding": {"in all": 900}},
        {"saved activations": {"net, relu": ["net.py:3"], "net, norm": ["net.py:4"]}},
    )
    told = why(before, after)
    assert [tuple(growth) for growth in told.growths] == [
        ("saved activations", "net, relu", 100, 160, ("net.py:3",)),
        ("batch", "rand", 0, 8, ()),
        ("rounding", "in all", 5, 900, ()),
    ]
    assert told.reserved_bytes == (145, 1108)
    assert told.largest(grew=True).what == "net, relu"
    assert told.largest(grew=False) is None
    assert why(after, before).largest(grew=False).what == "net, relu"


def test_one_byte_is_growth():
    told = why(composition({"batch": {"rand": 8}}), composition({"batch": {"rand": 9}}))
    assert told.largest(grew=True) == told.growths[0] and told.largest(grew=False) is None


def test_modules_that_differ_in_numbers_grow_together():
    before = composition({"saved activations": {"blocks.0, relu": 10, "blocks.1, relu": 10, "blocks.2, relu": 10}})
    after = composition(
        {"saved activations": {"blocks.0, relu": 15, "blocks.1, relu": 16, "blocks.2, relu": 10}},
        {"saved activations": {"blocks.0, relu": ["net.py:3"], "blocks.1, relu": ["net.py:3", "net.py:4"]}},
    )
    (growth,) = why(before, after).growths
    assert tuple(growth) == ("saved activations", "blocks.*, relu", 20, 31, ("net.py:3", "net.py:4"))


sizes = st.dictionaries(
    st.sampled_from(["saved activations", "temporaries", *ALLOCATORS]),
    st.dictionaries(st.sampled_from("abc"), st.integers(0, 9), max_size=3),
)


@given(sizes, sizes)
def test_the_changes_add_up_and_nothing_else_is_told(before, after):
    told = why(composition(before), composition(after))
    old, new = told.reserved_bytes
    assert sum(growth.change_bytes for growth in told.growths) == new - old
    assert all(growth.change_bytes for growth in told.growths)
    back = why(composition(after), composition(before))
    assert {(g.category, g.what, -g.change_bytes) for g in back.growths} == {
        (g.category, g.what, g.change_bytes) for g in told.growths
    }
    assert not why(composition(before), composition(before)).growths
