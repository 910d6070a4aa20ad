import gc
import weakref

import pytest
import torch
from toys import LiveBytes, Ops, contraction, difference

from bench.models.anderson import SolverOptions, solve
from bench.models.implicit import GRADIENTS, fixed_point

TIGHT = SolverOptions(tolerance=1e-14, max_evaluations=120)
BIASED = ("jacobian-free", "phantom")
EXACT = [name for name in GRADIENTS if name not in BIASED]
START = torch.zeros(3, 2, 5, 5, dtype=torch.float64)


def gradients(family, inputs, gradient, solver=TIGHT):
    z, _ = fixed_point(family, inputs, START, gradient=gradient, solver=solver)
    return z.detach(), list(torch.autograd.grad(z.square().sum(), inputs))


def unrolled(family, inputs, iterations=200):
    f, z = family(*inputs), START
    for _ in range(iterations):
        z = f(z)
    return z.detach(), list(torch.autograd.grad(z.square().sum(), inputs))


@pytest.mark.parametrize("gradient", EXACT)
def test_equals_backpropagation_through_many_iterations(gradient):
    family, inputs = contraction()
    z, found = gradients(family, inputs, gradient)
    expected, through = unrolled(family, inputs)
    assert difference([z], [expected]) < 1e-12
    assert difference(found, through) < 1e-8


def test_jacobian_free_gradient_is_biased():
    family, inputs = contraction()
    _, exact = gradients(family, inputs, "one-graph")
    _, found = gradients(family, inputs, "jacobian-free")
    assert 1e-2 < difference(found, exact) < 1


def test_phantom_gradient_is_that_of_damped_steps_from_the_solution():
    family, inputs = contraction()
    _, exact = gradients(family, inputs, "one-graph")
    _, found = gradients(family, inputs, "phantom")
    f = family(*inputs)
    z = solve(f, START, TIGHT)[0]
    for _ in range(3):
        z = (z + f(z)) / 2
    expected = torch.autograd.grad(z.square().sum(), inputs)
    assert difference(found, list(expected)) < 1e-10
    assert 1e-2 < difference(found, exact) < 1


@pytest.mark.parametrize("gradient", EXACT)
def test_exact_variants_agree(gradient):
    family, inputs = contraction(seed=1)
    _, one_graph = gradients(family, inputs, "one-graph")
    _, found = gradients(family, inputs, gradient)
    assert difference(found, one_graph) < 1e-10


def test_recomputed_is_one_graph_to_the_bit_even_far_from_convergence():
    family, inputs = contraction()
    loose = SolverOptions(tolerance=0, max_evaluations=3)
    a, b = (gradients(family, inputs, name, loose) for name in ("one-graph", "recomputed"))
    assert torch.equal(a[0], b[0])
    assert difference(b[1], a[1]) < 1e-14


def test_a_recomputed_graph_to_z_is_gone_before_that_to_the_inputs():
    """Bytes at the peak of a backward pass that solves nothing; two graphs at once would be 1,872 more."""
    family, inputs = contraction()
    once = SolverOptions(max_evaluations=1, memory=1)
    for _ in range(2):  # the second time there are gradients that are added to
        z, _ = fixed_point(family, inputs, START, gradient="recomputed", solver=once)
        with LiveBytes() as live:
            z.sum().backward()
    assert live.peak == 14_992


@pytest.mark.parametrize("gradient", GRADIENTS)
def test_inputs_without_gradient_and_unused_inputs(gradient):
    family, (d, w1, w2) = contraction()
    unused = torch.zeros(3, dtype=torch.float64, requires_grad=True)
    inputs = (d.detach(), w1, w2.detach(), unused)
    z, _ = fixed_point(lambda *i: family(*i[:3]), inputs, START, gradient=gradient, solver=TIGHT)
    z.sum().backward()
    assert w1.grad.abs().sum() > 0
    assert unused.grad is None or unused.grad.abs().sum() == 0


@pytest.mark.parametrize("gradient", GRADIENTS)
def test_nothing_that_requires_gradient(gradient):
    family, inputs = contraction()
    inputs = [x.detach() for x in inputs]
    z, _ = fixed_point(family, inputs, START, gradient=gradient, solver=TIGHT)
    torch.testing.assert_close(z, family(*inputs)(z), rtol=0, atol=1e-13)


@pytest.mark.parametrize("gradient", GRADIENTS)
def test_no_graph_outlives_its_output_when_backward_never_runs(gradient):
    family, inputs = contraction()
    alive = []

    def watched(*args):
        f = family(*args)

        def g(z):
            result = f(z)
            alive.append(weakref.ref(result))
            return result.clone()  # `result` is kept by nothing but the graph, if at all

        return g

    gc.collect()
    gc.disable()  # a reference cycle is a leak too
    try:
        with LiveBytes() as live:
            z, statistics = fixed_point(watched, inputs, START, gradient=gradient, solver=TIGHT)
            assert live.now > 0
            del z, statistics
            assert live.now == 0
    finally:
        gc.enable()
    assert all(reference() is None for reference in alive)


@pytest.mark.parametrize("gradient", GRADIENTS)
def test_backward_frees_the_graph_and_leaves_no_stray_gradient(gradient):
    family, inputs = contraction()
    start = START.clone().requires_grad_()
    points = []

    def watched(*args):
        f = family(*args)

        def g(z):
            points.append(z)
            return f(z)

        return g

    with LiveBytes() as live:
        z, statistics = fixed_point(watched, inputs, start, gradient=gradient, solver=TIGHT)
        loss = z.sum()
        del z
        loss.backward()
        for point in points:
            before = point.grad_fn and point.grad_fn.next_functions[0][0]
            leaf = point if point.is_leaf else getattr(before, "variable", None)  # phantom's later points have none
            assert leaf is None or leaf.grad is None
        points.clear()
        del point, before, leaf, statistics
        made = live.now - sum(x.grad.nbytes for x in inputs)
        assert made < 1.2 * START.nbytes  # z* and some numbers per sample, as long as the loss is held
    assert start.grad is None


@pytest.mark.parametrize("gradient", GRADIENTS)
def test_statistics_of_both_solves(gradient):
    family, inputs = contraction()
    z, statistics = fixed_point(
        family, inputs, START, gradient=gradient, solver=TIGHT, backward_solver=SolverOptions(tolerance=1e-3)
    )
    assert statistics.backward is None
    z.sum().backward()
    if gradient in BIASED:
        assert statistics.backward is None
    else:
        assert (statistics.backward.residuals < 1e-3).all()
        assert (statistics.backward.evaluations < statistics.evaluations).all()


@pytest.mark.parametrize("gradient", GRADIENTS)
def test_no_graph_without_grad_mode(gradient):
    family, inputs = contraction()
    with torch.no_grad():
        z, _ = fixed_point(family, inputs, START, gradient=gradient, solver=TIGHT)
    assert z.grad_fn is None
    with torch.inference_mode():
        fixed_point(family, inputs, START, gradient=gradient, solver=TIGHT)


def test_without_grad_mode_all_variants_are_the_solver_and_one_evaluation():
    """To the operation: nothing is made for a gradient that nobody will ask for."""
    family, inputs = contraction()
    options = SolverOptions(tolerance=0, max_evaluations=7)
    with torch.no_grad():
        with Ops() as expected:
            start = START.detach()
            f = family(*inputs)
            f(solve(f, start, options)[0])
        for gradient in GRADIENTS:
            with Ops() as ops:
                fixed_point(family, inputs, START, gradient=gradient, solver=options)
            assert ops.names == expected.names, gradient


@pytest.mark.parametrize(("gradient", "evaluations"), [("one-graph", 1), ("two-graph", 2), ("jacobian-free", 1)])
def test_evaluations_of_f(gradient, evaluations):
    calls = {True: 0, False: 0}
    injections = 0
    family, inputs = contraction()

    def counted(*args):
        nonlocal injections
        injections += 1
        f = family(*args)

        def g(z):
            calls[torch.is_grad_enabled()] += 1
            return f(z)

        return g

    solver = SolverOptions(tolerance=0, max_evaluations=7)
    z, _ = fixed_point(counted, inputs, START, gradient=gradient, solver=solver)
    z.sum().backward()
    assert calls == {False: 7, True: evaluations}
    assert injections == 1


def test_recomputed_evaluates_f_once_more_than_two_graph():
    calls = 0
    family, inputs = contraction()

    def counted(*args):
        f = family(*args)

        def g(z):
            nonlocal calls
            calls += 1
            return f(z)

        return g

    solver = SolverOptions(tolerance=0, max_evaluations=7)
    z, _ = fixed_point(counted, inputs, START, gradient="recomputed", solver=solver)
    z.sum().backward()
    assert calls == 7 + 3


@pytest.mark.parametrize("gradient", GRADIENTS)
def test_backward_twice_with_a_retained_graph(gradient):
    family, inputs = contraction()
    z, _ = fixed_point(family, inputs, START, gradient=gradient, solver=TIGHT)
    first = torch.autograd.grad(z.sum(), inputs, retain_graph=True)
    second = torch.autograd.grad(z.sum(), inputs)
    assert difference(list(second), list(first)) < 1e-12


def test_unknown_gradient():
    family, inputs = contraction()
    message = "unknown gradient 'spectral'; known gradients: one-graph, two-graph, jacobian-free, phantom, recomputed"
    with pytest.raises(ValueError, match=message):
        fixed_point(family, inputs, START, gradient="spectral", solver=TIGHT)
