import pytest
import torch
from torch._subclasses.fake_tensor import FakeTensorMode
from toys import LiveBytes, Ops

from bench.models.anderson import SolverOptions, _weights, solve

TIGHT = SolverOptions(tolerance=1e-12, max_evaluations=400, check_every=1)


def linear(rates, size=12, seed=0):
    """z -> M z + b for each sample, M symmetric with spectral radius `rates[sample]`; and the solutions."""
    torch.manual_seed(seed)
    basis, _ = torch.linalg.qr(torch.randn(len(rates), size, size, dtype=torch.float64))
    spectrum = torch.linspace(-1, 1, size, dtype=torch.float64) * torch.tensor(rates).unsqueeze(1)
    m = basis @ torch.diag_embed(spectrum) @ basis.mT
    b = torch.randn(len(rates), size, dtype=torch.float64)
    exact = torch.linalg.solve(torch.eye(size, dtype=torch.float64) - m, b)
    return m, b, exact


def affine(m, b):
    return lambda z: torch.bmm(m, z.unsqueeze(2)).squeeze(2) + b


@pytest.mark.parametrize("beta", [1.0, 0.7])
@pytest.mark.parametrize("memory", [2, 5, 8])
def test_finds_the_fixed_point_of_a_linear_contraction(memory, beta):
    m, b, exact = linear([0.5, 0.9])
    options = SolverOptions(tolerance=1e-12, max_evaluations=1000, memory=memory, beta=beta)
    z, statistics = solve(affine(m, b), torch.zeros_like(b), options)
    torch.testing.assert_close(z, exact, rtol=1e-9, atol=1e-9)
    assert (statistics.residuals <= 1e-12).all()


def test_needs_fewer_evaluations_than_plain_iteration():
    m, b, _ = linear([0.9, 0.97])
    counts = {}
    for method in ("anderson", "plain"):
        options = SolverOptions(method=method, tolerance=1e-8, max_evaluations=2000)
        _, statistics = solve(affine(m, b), torch.zeros_like(b), options)
        assert (statistics.residuals <= 1e-8).all()
        counts[method] = statistics.evaluations
    assert (2 * counts["anderson"] < counts["plain"]).all()


def test_plain_method_is_plain_iteration():
    m, b, _ = linear([0.9])
    f, z = affine(m, b), torch.zeros_like(b)
    for _ in range(6):
        z = f(z)
    found, _ = solve(f, torch.zeros_like(b), SolverOptions(method="plain", max_evaluations=7, tolerance=0))
    torch.testing.assert_close(found, z)


@pytest.mark.parametrize(("memory", "beta", "ridge"), [(2, 1.0, 0.0), (3, 1.0, 0.3), (3, 0.7, 0.3), (9, 0.4, 1e-3)])
def test_iterates_are_those_of_the_equations(memory, beta, ridge):
    """The minimiser under sum(alpha) = 1, from the bordered system, of each sample and the last `memory` iterates."""
    m, b, _ = linear([0.9, 0.6])
    f, seen = affine(m, b), []

    def watched(z):
        seen.append(z)
        return f(z)

    options = SolverOptions(memory=memory, beta=beta, ridge=ridge, max_evaluations=7, tolerance=0)
    solve(watched, torch.ones_like(b), options)
    assert len(seen) == 7
    images = [f(z) for z in seen]
    for k in range(6):
        held = range(max(0, k + 1 - memory), k + 1)
        for sample in range(2):
            F = torch.stack([images[i][sample] for i in held])
            G = F - torch.stack([seen[i][sample] for i in held])
            bordered = torch.ones(len(held) + 1, len(held) + 1, dtype=torch.float64)
            bordered[0, 0] = 0
            bordered[1:, 1:] = G @ G.T + ridge * torch.diag((G * G).sum(1))
            right = torch.zeros(len(held) + 1, dtype=torch.float64)
            right[0] = 1
            alpha = torch.linalg.solve(bordered, right)[1:]
            expected = alpha @ (F - (1 - beta) * G)
            torch.testing.assert_close(seen[k + 1][sample], expected, rtol=1e-8, atol=1e-8)


def test_each_sample_stops_by_itself_and_does_not_depend_on_its_neighbours():
    rates = [0.1, 0.6, 0.95]
    m, b, _ = linear(rates)
    together, statistics = solve(affine(m, b), torch.zeros_like(b), TIGHT)
    assert statistics.evaluations.unique().numel() == 3
    for i in range(len(rates)):
        f = affine(m[i : i + 1], b[i : i + 1])
        alone, own = solve(f, torch.zeros_like(b[:1]), TIGHT)
        torch.testing.assert_close(together[i : i + 1], alone, rtol=1e-11, atol=1e-11)
        assert abs(statistics.evaluations[i] - own.evaluations[0]) <= 1  # the last bits may differ


def test_does_not_depend_on_scale():
    m, b, _ = linear([0.9])
    _, one = solve(affine(m, b), torch.zeros_like(b), TIGHT)
    _, small = solve(affine(m, b * 2.0**-30), torch.zeros_like(b), TIGHT)
    assert torch.equal(one.evaluations, small.evaluations)


def test_returns_the_best_iterate():
    seen = []

    def expanding(z):  # leaves its fixed point 0
        seen.append(z.clone())
        return -3 * z.abs() ** 1.5 - 0.1 * z

    options = SolverOptions(max_evaluations=20, tolerance=1e-12)
    z, statistics = solve(expanding, torch.full((1, 3), 0.5, dtype=torch.float64), options)
    residuals = [((expanding(s) - s).norm() / expanding(s).norm()).item() for s in list(seen)]
    assert statistics.residuals.item() == pytest.approx(min(residuals))
    assert any(torch.equal(z, s) for s in seen)


def test_start_that_is_a_fixed_point_takes_one_evaluation():
    start = torch.randn(2, 3, 4, 4)
    z, statistics = solve(lambda z: z.clone(), start, SolverOptions())
    assert torch.equal(z, start)
    assert statistics.evaluations.tolist() == [1, 1]
    assert statistics.residuals.tolist() == [0, 0]
    z, statistics = solve(torch.zeros_like, torch.zeros(2, 3), SolverOptions())  # 0 / 0 is no trouble
    assert statistics.residuals.tolist() == [0, 0]


@pytest.mark.parametrize("ridge", [0.0, 1e-4])
def test_history_of_equal_residuals_stays_finite(ridge):
    shift = torch.tensor([[1.0, 2.0]], dtype=torch.float64)
    seen = []

    def translate(z):
        seen.append(z)
        return z + shift

    solve(translate, torch.zeros_like(shift), SolverOptions(ridge=ridge, max_evaluations=8, tolerance=0))
    assert torch.isfinite(torch.cat(seen)).all()
    if ridge == 0:  # singular with either ridge: plain iteration
        assert torch.equal(torch.cat(seen), torch.arange(8, dtype=torch.float64).unsqueeze(1) * shift)


def test_weights_fall_back_to_the_larger_ridge_and_then_to_the_latest_iterate():
    good = torch.tensor([[4.0, 0.0], [0.0, 1.0]], dtype=torch.float64)
    singular = torch.ones(2, 2, dtype=torch.float64)
    eye = torch.eye(2, dtype=torch.float64)
    latest = eye[1]
    gram = torch.stack((good, singular, 0 * good, singular / 0))

    none = torch.stack((1 + 0 * eye, 1 + 0 * eye)).unsqueeze(1)
    expected = torch.tensor([[0.2, 0.8], [0, 1], [0, 1], [0, 1]], dtype=torch.float64)
    torch.testing.assert_close(_weights(gram, none, latest), expected)

    too_large = torch.where(eye == 1, torch.inf, 0.0)  # weights of 0, and 64 whose sum is infinite
    torch.testing.assert_close(_weights(too_large.unsqueeze(0), none, latest), latest.unsqueeze(0))
    many = torch.eye(64, dtype=torch.float64)
    alike = torch.ones(2, 1, 64, 64, dtype=torch.float64)
    torch.testing.assert_close(_weights(1e-307 * many.unsqueeze(0), alike, many[3]), many[3:4])

    larger = torch.stack((1 + 0 * eye, 1 + 0.5 * eye)).unsqueeze(1)
    expected[1] = 0.5
    torch.testing.assert_close(_weights(gram, larger, latest), expected)


def test_a_hundredfold_ridge_is_tried_where_the_ridge_is_lost_in_rounding():
    """Residuals are all 1: 1 + 5e-17 and 1 + 1e-16 are 1, 1 + 5e-15 is not, and the mean of both images is next."""
    seen = []

    def translate(z):
        seen.append(z.item())
        return z + 1

    solve(translate, torch.zeros(1, 1, dtype=torch.float64), SolverOptions(ridge=5e-17, max_evaluations=3, tolerance=0))
    assert seen == [0, 1, pytest.approx(1.5, abs=0.02)]


def test_not_a_number_is_reported_and_does_not_spread():
    m, b, exact = linear([0.5, 0.5])
    b = b.clone()
    b[0] = torch.nan
    start = torch.zeros_like(b)
    z, statistics = solve(affine(m, b), start, TIGHT)
    assert torch.equal(z[0], start[0])
    assert statistics.residuals[0] == torch.inf
    torch.testing.assert_close(z[1], exact[1], rtol=1e-9, atol=1e-9)


def test_number_lost_on_the_way_leaves_the_best_iterate_before():
    def breaks(z):
        return torch.where(z > 2, torch.nan, 1.5 * z + 1)

    z, statistics = solve(breaks, torch.zeros(1, 2), SolverOptions(method="plain", check_every=1))
    assert torch.isfinite(z).all()
    assert torch.isfinite(statistics.residuals).all()
    assert statistics.evaluations.item() < 6


def test_looks_at_the_device_only_now_and_then():
    m, b, _ = linear([0.3])
    calls = 0

    def counted(z):
        nonlocal calls
        calls += 1
        return affine(m, b)(z)

    with Ops() as ops:
        _, statistics = solve(counted, torch.zeros_like(b), SolverOptions(tolerance=1e-6, check_every=4))
    assert calls % 4 == 0
    assert 0 < calls - statistics.evaluations.item() < 4
    assert ops.names.count("aten._local_scalar_dense.default") == calls // 4

    with Ops() as ops:
        solve(counted, torch.zeros_like(b), SolverOptions(tolerance=0))
    assert "aten._local_scalar_dense.default" not in ops.names


def test_of_equal_residuals_the_first_iterate_is_returned():
    start = torch.tensor([[1.0, 2.0]])
    z, statistics = solve(lambda z: -z, start, SolverOptions(method="plain", max_evaluations=2))
    assert torch.equal(z, start)
    assert statistics.residuals.tolist() == [2.0]


def test_a_residual_that_is_the_tolerance_is_within_it():
    _, statistics = solve(lambda z: 2 * z, torch.ones(1, 1), SolverOptions(method="plain", tolerance=0.5))
    assert statistics.evaluations.tolist() == [1]


def test_nothing_is_mixed_that_nobody_needs():
    """After the last evaluation nothing; of one iterate, itself; G only where beta is not 1."""
    counts = []
    for options in ({"max_evaluations": 1}, {"max_evaluations": 2}, {"max_evaluations": 3, "beta": 0.5}):
        with Ops() as ops:
            solve(lambda z: 0.5 * z + 1, torch.zeros(2, 3), SolverOptions(tolerance=0, **options))
        names = ("bmm", "linalg_cholesky_ex", "baddbmm_")
        counts.append([sum(name == f"aten.{wanted}.default" for name in ops.names) for wanted in names])
    assert counts == [[1, 0, 0], [3, 0, 0], [5, 1, 2]]


def test_a_solve_holds_its_history_and_two_iterates():
    """2 m tensors as large as the start, the iterate and the best one; what is small beside them is left out."""
    size, memory, held = 100_000, 3, []

    def watched(z):
        held.append(live.now / (4 * size))
        return 0.5 * z + 1

    start = torch.zeros(1, size)
    with LiveBytes() as live:
        solve(watched, start, SolverOptions(memory=memory, max_evaluations=6, tolerance=0))
    assert [round(each, 2) for each in held] == [6, 8, 8, 8, 8, 8]


def test_without_values_every_evaluation_is_made():
    calls = []

    def counted(z):
        calls.append(z)
        return 0.5 * z + 1

    solve(counted, torch.zeros(2, 3, device="meta"), SolverOptions())
    assert len(calls) == 50
    with FakeTensorMode():
        solve(counted, torch.zeros(2, 3), SolverOptions())
    assert len(calls) == 100


def test_same_operations_on_the_meta_device():
    recorded = []
    for device in ("cpu", "meta"):
        with Ops() as ops:
            start = torch.zeros(2, 3, 4, device=device)
            solve(lambda z: 0.5 * z + 1, start, SolverOptions(tolerance=0, max_evaluations=9))
        recorded.append(ops.names)
    assert recorded[0] == recorded[1]
    _, statistics = solve(lambda z: 0.5 * z + 1, torch.zeros(2, 3, device="meta"), SolverOptions())
    assert statistics.evaluations.is_meta


def test_runs_on_fake_tensors():
    with FakeTensorMode():
        z, _ = solve(lambda z: 0.5 * z + 1, torch.zeros(2, 3), SolverOptions())
    assert z.shape == (2, 3)


def test_low_precision():
    start = torch.zeros(2, 50, dtype=torch.bfloat16)
    z, _ = solve(lambda z: 0.5 * z + 1, start, SolverOptions(tolerance=1e-2))
    assert z.dtype == torch.bfloat16
    torch.testing.assert_close(z, torch.full_like(z, 2.0), rtol=2e-2, atol=0)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"method": "newton"}, "unknown solver method 'newton'; known methods: anderson, plain"),
        ({"memory": 0}, "memory must be at least 1 and at most 10,000, got 0"),
        ({"max_evaluations": 0}, "max_evaluations must be at least 1 and at most 10,000, got 0"),
        ({"check_every": 0}, "check_every must be at least 1 and at most 10,000, got 0"),
        ({"memory": 10_001}, "memory must be at least 1 and at most 10,000, got 10001"),
        ({"tolerance": float("inf")}, "tolerance must be finite and not negative, got inf"),
        ({"beta": 1.5}, r"beta must be in \(0, 1\], got 1.5"),
        ({"tolerance": -1.0}, "tolerance must be finite and not negative, got -1.0"),
        ({"ridge": float("nan")}, "ridge must be finite and not negative, got nan"),
        ({"beta": 0.0}, r"beta must be in \(0, 1\], got 0.0"),
    ],
)
def test_bad_options(options, message):
    with pytest.raises(ValueError, match=message):
        SolverOptions(**options)


def test_options_at_their_limits_and_by_default():
    SolverOptions(memory=1, max_evaluations=1, check_every=1, ridge=0, tolerance=0, beta=1)
    SolverOptions(memory=10_000, max_evaluations=10_000, check_every=10_000)
    assert SolverOptions() == SolverOptions("anderson", 5, 1.0, 1e-4, 50, 1e-3, 5)
