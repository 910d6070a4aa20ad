"""What a program reads of tensors without data: the numbers that it reads on the host, and what is taken for others."""

import math
import warnings

import pytest
import torch

from bench.memory import CARDS
from bench.memory.recording.on_cuda import on_cuda
from bench.memory.recording.recorder import events_of
from bench.memory.recording.values import MOST_NUMBERS, AssumedValue, Read, Values, reads_noted

INF = math.inf


def read_by(program, device):
    """What a program, in Python, that ends in `read = ...` reads on a device."""
    names = {"torch": torch, "d": device, "INF": INF, "MOST": MOST_NUMBERS}
    exec(program, names)
    return names["read"]


def recorded(program):
    """The same without data, and what of it was assumed."""
    found = []

    def step():
        found.append(read_by(program, "cuda"))

    with warnings.catch_warnings(record=True) as caught, on_cuda(CARDS["RTX 3080"]):
        warnings.simplefilter("always")
        events_of(lambda batch, device: step, 1, 1)
    assumed = [each.message for each in caught if isinstance(each.message, AssumedValue)]
    return found[-1], assumed


KNOWN = (
    "read = torch.arange(10, device=d).sum().item()",
    "read = torch.ones(3, 4, device=d).t().tolist()",
    "read = torch.tensor([1, 2, 3]).to(d).tolist()",
    "read = torch.equal(torch.ones(3, device=d), torch.ones(3, device=d))",
    "read = torch.equal(torch.ones(3, device=d), torch.zeros(3, device=d))",
    "read = torch.equal(torch.ones(3, device=d), torch.ones(4, device=d))",
    "read = bool(torch.arange(4, device=d)[3] == 3)",
    "x = torch.empty(5, device=d); x.zero_(); read = x.tolist()",
    "p = torch.tensor([2, 0, 1], device=d); x = torch.empty_like(p); x.scatter_(0, p, torch.arange(3, device=d)); "
    "read = x.tolist()",
    "p = torch.tensor([2, 0, 1], device=d); x = torch.empty_like(p); x.scatter_(0, p, torch.ones_like(p)); "
    "read = x.tolist()",
    "p = torch.nn.utils.rnn.pack_padded_sequence(torch.ones(3, 4, 2, device=d), torch.tensor([2, 4, 1]), True, False); "
    "read = torch.nn.utils.rnn.pad_packed_sequence(p)[1].tolist()",
    "x = torch.empty(5, device=d); x.fill_(2.5); read = x.tolist()",
    "x = torch.empty(2, 3, device=d).t(); x.fill_(7); read = x.tolist()",
    "x = torch.empty(5, device=d); x.copy_(torch.arange(5.0)); read = x.tolist()",
    "x = torch.empty(5, device=d); x.copy_(torch.arange(5.0, device=d)); read = x.tolist()",
    "x = torch.zeros(5, device=d); x[2] = 4; x[3:] += 1; read = x.tolist()",
    "x = torch.rand(5, device=d); read = torch.zeros_like(x).tolist() + torch.full_like(x, 3).tolist()",
    "x = torch.rand(5, device=d); read = x.new_ones(2).tolist() + x.new_full((2,), 5).tolist()",
    "x = torch.rand(2, 3, device=d).t(); read = torch.ones_like(x).tolist()",
    "x = torch.arange(6, device=d); a, b = x.view(2, 3).max(1); read = a.tolist() + b.tolist()",
    "x = torch.arange(6, device=d); read = [each.tolist() for each in x.split(4)]",
    "x = torch.arange(3, device=d); read = torch.cat([x, x + 1]).tolist()",
    "x = torch.arange(3, device=d); read = torch.stack([x, x * 2]).sum(0).tolist()",
    "x = torch.zeros(4, device=d); torch._foreach_add_([x], [torch.ones(4, device=d)]); read = x.tolist()",
    "x = torch.arange(3, device=d).to(torch.float16); read = x.to(torch.int32).tolist()",
    "x = torch.arange(3, device=d); read = torch.zeros(3, device=d, dtype=torch.int64).copy_(x).tolist()",
    "x = torch.arange(3, device=d); h = torch.zeros(3, dtype=torch.int64); h.copy_(x); read = h.tolist()",
    "x = torch.arange(3, device=d); read = x.cpu().tolist() + x.to('cpu', torch.float32).tolist()",
    "x = torch.arange(4, device=d); read = x.to(torch.complex64).tolist()",
    "x = torch.arange(4, device=d, dtype=torch.int16); read = x.view(torch.int8).shape[0]",
    "x = torch.zeros(MOST, device=d); x[-1] = 1; read = x.sum().item()",
    "x = torch.zeros(2 * MOST, device=d, dtype=torch.int64); x[-1] = 1; read = x.sum().item()",
    "x = torch.zeros(0, device=d); read = x.tolist()",
    "x = torch.rand(0, device=d); read = [*x.tolist(), torch.equal(x, x)]",
    "x = torch.ones(2, device=d); read = bool(torch.isfinite(x).all())",
    "x = torch.tensor([1.0, INF]).to(d); read = torch.isfinite(x).tolist()",
    "x = torch.tensor([1.0, float('nan')]).to(d); read = (x == x).tolist()",
    "x = torch.tensor([1.0, INF]).to(d); read = (x != INF).tolist()",
    "x = torch.arange(20, device=d).view(4, 5); i = torch.tensor([1, 3]).to(d); m = torch.arange(4, device=d) > 1;"
    "read = x[m, i].tolist() + x[i, torch.arange(5, device=d) > 2].tolist()",
    "x = torch.arange(5, device=d); m = x > 2; read = x[m].tolist() + m.nonzero().flatten().tolist()",
)


@pytest.mark.parametrize("program", KNOWN)
def test_what_follows_from_the_program_alone_is_known(program):
    assert recorded(program) == (read_by(program, "cpu"), [])


# A program that reads what nobody knows; what it reads; how often.
ASSUMED = (
    ("read = torch.rand(3, device=d).sum().item()", 0.0, 1),
    ("read = torch.rand(3, device=d).tolist()", [0.0] * 3, 1),
    ("read = torch.equal(torch.ones(3, device=d), torch.rand(3, device=d))", False, 1),
    ("read = torch.equal(torch.rand(3, device=d), torch.ones(3, device=d))", False, 1),
    ("read = bool(torch.rand(1, device=d))", False, 1),
    ("read = torch.empty(2, device=d).tolist()", [0.0] * 2, 1),
    ("x = torch.ones(3, device=d); x.uniform_(); read = x.tolist()", [0.0] * 3, 1),
    ("x = torch.ones(3, device=d); x += torch.rand(3, device=d); read = x.tolist()", [0.0] * 3, 1),
    ("x = torch.ones(3, device=d); x[1:].normal_(); read = x.tolist()", [0.0] * 3, 1),
    ("x = torch.ones(3, device=d); y = x[:2]; y.mul_(torch.rand(2, device=d)); read = x.tolist()", [0.0] * 3, 1),
    ("x = torch.zeros(2, device=d); y = torch.rand(2, device=d); x.copy_(y); read = x.tolist()", [0.0] * 2, 1),
    ("x = torch.zeros(MOST + 1, device=d); read = x[:2].tolist()", [0.0] * 2, 1),
    ("x = torch.zeros(MOST + 1, device=d, dtype=torch.complex64); read = x[0].item()", 0j, 1),
    ("x = torch.ones(9, device=d); y = x.expand(MOST, 9) + x; read = y[0, :2].tolist()", [0.0] * 2, 1),
    (
        "x = torch.zeros(3, device=d); torch._foreach_add_([x], [torch.rand(3, device=d)]); read = x.tolist()",
        [0.0] * 3,
        1,
    ),
    (
        "x = torch.ones(3, device=d); y = torch.ones(MOST + 1, device=d);"
        "torch._foreach_add_([x, y], [torch.rand(3, device=d), torch.rand(MOST + 1, device=d)]); read = x.tolist()",
        [0.0] * 3,
        1,
    ),
    ("x = torch.arange(3.0, device=d); read = x.clamp(min=torch.rand(3, device=d)).tolist()", [0.0] * 3, 1),
    ("i = torch.arange(3, device=d); read = i.bincount(torch.rand(3, device=d), 3).tolist()", [0.0] * 3, 1),
    ("i = torch.arange(3, device=d); read = i.bincount().tolist()", [0] * 3, 1),
    (
        "x = torch.arange(3.0, device=d); y, z = torch.ones(3, device=d), torch.rand(3, device=d);"
        "read = x.clamp(y, z).tolist()",
        [0.0] * 3,
        1,
    ),
    ("x = torch.rand(3, device=d); y = torch.rand(3, device=d); read = bool((x == y).all())", False, 1),
    ("x = torch.rand(3, device=d); read = bool((x != 0.5).all())", False, 1),
    ("x = torch.rand(3, device=d); y = torch.isfinite(x) & (x > 0.5); read = bool(y.all())", False, 1),
    ("x = torch.rand(3, device=d); y = (x > 0.5) & torch.isfinite(x); read = bool(y.all())", False, 1),
    ("x = torch.rand(3, device=d); read = bool(torch.isfinite(x).all())", True, 1),
    ("x = torch.rand(2, 3, device=d); x, y = map(torch.isfinite, x); read = bool((x & y).all())", True, 1),
    ("x = torch.rand(3, device=d); read = bool(torch._is_all_true(x > 0.5))", True, 1),
    ("x = torch.rand(3, device=d); read = bool((x > 0.5).any())", False, 1),
    (
        "p = torch.tensor([1, 1, 1], device=d); x = torch.empty_like(p);"
        "x.scatter_(0, p, torch.arange(3, device=d)); read = x.tolist()",
        [0] * 3,
        1,
    ),
    ("h = torch.ones(3); h.copy_(torch.rand(3, device=d)); read = h.tolist()", [0.0] * 3, 1),
    ("x = torch.rand(3, device=d); read = [x[0].item(), x[1].item()]", [0.0] * 2, 2),
)


@pytest.mark.parametrize(("program", "read", "times"), ASSUMED)
def test_of_what_nobody_knows_0_is_read_and_said(program, read, times):
    found, assumed = recorded(program)
    assert found == read and type(found) is type(read)
    assert len(assumed) == times
    for each in assumed:
        assert each.what.endswith("taken as 0") or each.what.endswith((" 0.0", " False", " 0j", " True"))
        assert each.place.startswith("<string>:1") or each.place.startswith("tests/memory/test_values.py:")
        assert str(each) == f"{each.what} ({each.place})"


# A distribution's checks of all numbers hold, none is wrong, and what it draws is accepted at once.
@pytest.mark.parametrize(
    ("program", "assumed"),
    [
        ("x = D.Geometric(torch.rand(3, device=d)).sample()", [True, True]),
        ("x = D.VonMises(torch.rand(3, device=d), torch.rand(3, device=d)).sample()", [True] * 4),
        (
            "i = torch.eye(3, device=d); x = D.Wishart(torch.rand(1, device=d) + 4, i).sample()",
            [False, False, True, True, True, False],
        ),
        (
            "x, y = (D.Binomial(torch.rand(3, device=d).floor(), torch.ones(3, device=d)) for _ in range(2));"
            "x = D.kl_divergence(x, y)",
            [True, True, False],
        ),
    ],
)
def test_nothing_is_wrong_with_what_a_distribution_is_given(program, assumed):
    program = f"D = torch.distributions; {program}; read = tuple(x.shape)"
    found, told = recorded(program)
    assert found == read_by(program, "cpu")
    assert [each.what.endswith("True") for each in told if "reads is taken" in each.what] == assumed


def test_an_assumption_may_have_no_place():
    assert str(AssumedValue("a value is taken as 0", "")) == "a value is taken as 0"


def test_what_is_written_over_is_known_no_more_and_what_died_is_forgotten():
    values, x = Values(), torch.empty(3, device="meta")
    address = x.untyped_storage()._cdata
    values.tell(x, torch.ones(3))
    assert torch.equal(values.of(x), torch.ones(3))
    values.follow(torch.ops.aten.uniform_.default, [x], {}, x)
    assert values.of(x) is None
    values.tell(x, torch.ones(3))
    values.forget(address)
    assert values.of(x) is None
    told = torch.empty(3, dtype=torch.bool, device="meta")
    values.follow(torch.ops.aten.eq.Tensor, [x, x], {}, told)
    assert values._holding == {told.untyped_storage()._cdata}
    values.forget(told.untyped_storage()._cdata)
    assert values._holding == set()


def test_only_all_of_a_storage_is_told():
    values = Values()
    for part in (
        torch.empty(4, device="meta")[1:],
        torch.empty(2, device="meta").expand(2, 2),
    ):
        values.tell(part, torch.ones(part.shape))
        assert values.of(part) is None
    whole = torch.empty(2, 3, device="meta").t()
    values.tell(whole, torch.arange(6.0).view(3, 2))
    assert torch.equal(values.of(whole), torch.arange(6.0).view(3, 2))
    assert values.of(whole.view(torch.int32)) is None


def test_a_storage_of_another_size_is_another_storage():
    """As a lazy module's is, once it has its shape, or one whose address another had."""
    values = Values()
    for before, after in ((0, 8), (8, 4), (4, 16)):
        x = torch.empty(before, device="meta")
        values.tell(x, torch.ones(before))
        x.resize_(after)
        x.untyped_storage().resize_(4 * after)
        assert values.of(x) is None


def test_reads_are_noted_within_their_context_alone():
    outside = Values()
    with reads_noted() as noted:
        Values().note(4, b"abcd")
        with reads_noted() as inner:
            Values().note(2, None)
        Values().note(1, b"a")
        Values().note(0, b"")
        outside.note(8, None)
    Values().note(3, None)
    assert noted == [Read(4, b"abcd"), Read(1, b"a")] and inner == [Read(2, None)]
