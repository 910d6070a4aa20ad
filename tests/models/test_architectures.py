from dataclasses import replace
from pathlib import Path

import pytest
import torch
from small_networks import small
from toys import LiveBytes, Ops, difference

from bench import models
from bench.models import spectral
from bench.models.anderson import SolverOptions
from bench.models.architectures.base import ModelOptions
from bench.models.architectures.deq4ip import EquilibriumOptions
from bench.models.dncnn import DnCNN
from bench.models.implicit import GRADIENTS
from bench.models.layers import BatchNorm
from bench.operators.blur import GaussianBlur
from bench.operators.mri import MRI
from bench.operators.radon import Radon

try:
    import tomllib
except ModuleNotFoundError:
    import tomli as tomllib

TASKS = {
    "deblurring": lambda **kw: GaussianBlur((3, 16, 16), **kw),
    "ct": lambda **kw: Radon(image_size=16, detectors=24, angles=12, **kw),
    "mri": lambda **kw: MRI((2, 16, 16), **kw),
}
QUICK = ModelOptions(stages=2, solver=SolverOptions(max_evaluations=7, tolerance=0))
ROOT = Path(__file__).parents[2]
PAPER = tomllib.loads((ROOT / "bench" / "paper_tables.toml").read_text())["parameters"]
FIXED_POINTS = ["DEQ4IP", "LUSER-SW", "LUSER-DW"]


def build(name, options=QUICK, task="deblurring", **kw):
    torch.manual_seed(0)
    operator = TASKS[task](**kw)
    model = models.get(name)(operator, small(options))
    return model.to(**kw) if "dtype" in kw else model


def measure(model, batch=2):
    """An image batch and its measurement; on the meta device, if the model is there."""
    torch.manual_seed(1)
    like = model.step
    channels, height, width = model.operator.image_shape
    x = torch.rand(batch, channels, height + 4, width + 4, dtype=like.dtype).to(like.device)
    x = 6 * torch.nn.functional.avg_pool2d(x, 5, stride=1) - 3  # smooth, in about [-1, 1]
    return x, model.operator(x)


def step(model, x, y):
    (model(y).image - x).square().mean().backward()


@pytest.mark.parametrize("task", TASKS)
@pytest.mark.parametrize("name", PAPER["ct"])
def test_parameter_counts_are_the_papers(name, task):
    model = build(name, ModelOptions(), task)
    assert model.paper_parameters == PAPER[task][name]
    kernel = 243 if task == "deblurring" and name != "LUSER-DW" else 0
    assert model.trainable_parameters == PAPER[task][name] - kernel


@pytest.mark.parametrize("task", TASKS)
@pytest.mark.parametrize("name", models.names())
def test_training_lowers_the_loss(name, task):
    solver = SolverOptions(max_evaluations=8)
    model = build(name, ModelOptions(stages=2, gradient="recomputed", solver=solver), task)
    x, y = measure(model)
    optimiser = torch.optim.Adam(model.parameters(), lr=1e-3)
    losses = []
    for _ in range(60 if name == "i-RIM" else 10):
        optimiser.zero_grad()
        loss = (model(y).image - x).square().mean()
        loss.backward()
        optimiser.step()
        losses.append(loss.item())
    assert losses[-1] < 0.95 * losses[0]


@pytest.mark.parametrize("name", ["LUSER-SW", "LUSER-DW"])
def test_fixed_points_are_found_from_the_start(name):
    model = build(name, ModelOptions(stages=3))
    _, y = measure(model)
    with torch.no_grad():
        assert all((solve.residuals <= 1e-3).all() for solve in model(y).solves)


# Without data, PyTorch's convolution forgets channels that lie last, as a transformer leaves them; recordings do not:
# tests/harness/test_workload.py.
@pytest.mark.parametrize("gradient", GRADIENTS)
@pytest.mark.parametrize("name", [name for name in models.names() if name != "HUMUS-Net"])
def test_same_operations_on_the_meta_device(name, gradient):
    recorded = []
    for device in ("cpu", "meta"):
        with torch.device(device):
            model = build(name, replace(QUICK, gradient=gradient, checkpoint=name == "LU-DnCNN"), device=device)
        x, y = measure(model)
        with Ops() as ops:
            step(model, x, y)
        recorded.append(ops.names)
    assert recorded[0] == recorded[1]


@pytest.mark.parametrize("name", FIXED_POINTS)
def test_default_solver_runs_on_the_meta_device(name):
    with torch.device("meta"):
        model = build(name, ModelOptions(stages=1), device="meta")
    x, y = measure(model)
    step(model, x, y)
    assert all(p.grad is not None for p in model.parameters())


@pytest.mark.parametrize("name", FIXED_POINTS)
def test_recomputed_gradient_is_the_one_graph_gradient(name):
    found = {}
    for gradient in ("one-graph", "recomputed"):
        model = build(name, replace(QUICK, gradient=gradient), dtype=torch.float64)
        x, y = measure(model)
        step(model, x, y)
        found[gradient] = [p.grad for p in model.parameters()]
        buffers = [b.clone() for b in model.buffers()]
        found[gradient] += buffers if gradient == "one-graph" else list(model.buffers())
    compared = [(a, b) for a, b in zip(*found.values(), strict=True) if b.numel() and b.norm() > 0]
    assert difference([b for _, b in compared], [a for a, _ in compared]) < 1e-10


@pytest.mark.parametrize("name", models.names())
def test_gradient_reaches_every_parameter_and_nothing_of_the_operator(name):
    model = build(name)
    x, y = measure(model)
    step(model, x, y)
    assert all(torch.isfinite(p.grad).all() for p in model.parameters())
    assert not list(model.operator.parameters())
    assert all(b.grad is None for b in model.operator.buffers())


@pytest.mark.parametrize("name", PAPER["ct"])
def test_iterates_and_solves(name):
    model = build(name)
    _, y = measure(model)
    plain = model(y)
    assert plain.iterates == []
    result = model(y, all_iterates=True)
    stages = 1 if name == "DEQ4IP" else 2
    assert len(result.iterates) == stages
    assert result.iterates[-1] is result.image
    assert result.image.shape == (2, *model.operator.image_shape)
    assert len(result.solves) == (0 if name == "LU-DnCNN" else stages)
    for solve in result.solves:
        assert solve.evaluations.tolist() == [7, 7]
        assert torch.isfinite(solve.residuals).all()


@pytest.mark.parametrize("name", models.names())
def test_evaluation_mode_treats_samples_one_by_one_and_changes_nothing(name):
    model = build(name, dtype=torch.float64).eval()
    _, y = measure(model)
    before = [b.clone() for b in model.buffers()]
    with torch.no_grad():
        together = model(y).image
        alone = torch.cat([model(y[i : i + 1]).image for i in range(2)])
    torch.testing.assert_close(together, alone, rtol=1e-6, atol=1e-8)
    assert all(torch.equal(a, b) for a, b in zip(before, model.buffers(), strict=True))


@pytest.mark.parametrize("name", FIXED_POINTS)
def test_weights_are_normalised_once_per_forward_pass(name, monkeypatch):
    calls = []
    original = spectral.SpectralConv2d.normalised_weight

    def counted(conv):
        calls.append(conv)
        return original(conv)

    monkeypatch.setattr(spectral.SpectralConv2d, "normalised_weight", counted)
    model = build(name, replace(QUICK, gradient="recomputed"))
    x, y = measure(model)
    step(model, x, y)
    convolutions = [m for m in model.modules() if isinstance(m, spectral.SpectralConv2d)]
    assert len(convolutions) == {"DEQ4IP": 17, "LUSER-SW": 7, "LUSER-DW": 14}[name]
    assert sorted(map(id, calls)) == sorted(map(id, convolutions))


@pytest.mark.parametrize("name", ["LUSER-SW", "LUSER-DW"])
def test_each_stage_of_luser_adds_a_fixed_point_to_a_gradient_step(name):
    solver = SolverOptions(max_evaluations=60, tolerance=1e-12)
    model = build(name, replace(QUICK, solver=solver), dtype=torch.float64).eval()
    _, y = measure(model)
    with torch.no_grad():
        x = model.initial_estimate(y)
        for stage, after in enumerate(model(y, all_iterates=True).iterates):
            d = model.gradient_step(x, y, model.step)
            block = model.blocks[stage % len(model.blocks)]
            r = after - d
            assert r.norm() > 1e-4
            assert difference([block.equilibrium(d, *block.weights())(r)], [r]) < 1e-9
            x = after


def running_averages(model):
    norms = [m for m in model.modules() if isinstance(m, BatchNorm)]
    return [b.clone() for norm in norms for b in (norm.running_mean, norm.running_var)]


@pytest.mark.parametrize("gradient", GRADIENTS)
def test_deq4ip_updates_running_averages_once_at_the_solution(gradient):
    model = build("DEQ4IP", replace(QUICK, gradient=gradient), dtype=torch.float64)
    x, y = measure(model)
    before = running_averages(model)
    result = model(y)
    after = running_averages(model)
    (result.image - x).square().mean().backward()
    assert all(torch.equal(a, b) for a, b in zip(after, running_averages(model), strict=True))

    with torch.no_grad():  # the same single update, made by hand with another network
        model.eval()  # no power iteration: the weights of the pass above
        other = DnCNN(3, spectral="matrix", momentum=0.1).double()
        weights = model.denoiser.weights()
        other(model.gradient_step(result.image, y, model.step), weights)
    expected = running_averages(other)
    assert difference(after, expected) < 1e-12
    assert not any(torch.equal(a, b) for a, b in zip(after, before, strict=True))


def test_deq4ip_solves_and_differentiates_one_fixed_map():
    model = build("DEQ4IP", dtype=torch.float64)
    _, y = measure(model)
    f = model.equilibrium(y, model.step, *model.denoiser.weights())
    z = torch.randn(2, 3, 16, 16, dtype=torch.float64)
    with torch.no_grad():
        values = [f(z) for _ in range(3)]
    before = running_averages(model)
    values += [f(z), f(z.requires_grad_())]
    assert all(torch.equal(v, values[0]) for v in values)
    assert all(torch.equal(a, b) for a, b in zip(before, running_averages(model), strict=True))


@pytest.mark.parametrize("means", [{"clamp": 0.5}, {"anchor": 0.2}, {"clamp": 0.5, "anchor": 0.3}])
def test_the_map_of_deq4ip_is_clamped_then_anchored(means):
    plain = build("DEQ4IP", dtype=torch.float64)
    own = replace(models.Options(**vars(QUICK)), deq4ip=EquilibriumOptions(**means))
    model = build("DEQ4IP", own, dtype=torch.float64)
    _, y = measure(model)
    z = torch.randn(2, 3, 16, 16, dtype=torch.float64)
    image, found = (each.equilibrium(y, each.step, *each.denoiser.weights())(z) for each in (plain, model))
    bound, anchor = means.get("clamp", torch.inf), means.get("anchor", 0.0)
    assert image.min() < -0.5 and image.max() > 0.5
    expected = anchor * model.operator.initial_estimate(y) + (1 - anchor) * image.clamp(-bound, bound)
    torch.testing.assert_close(found, expected, rtol=1e-12, atol=1e-12)


def test_running_averages_stay_where_nothing_normalises_or_nothing_is_trained():
    still = replace(models.Options(**vars(QUICK)), deq4ip=EquilibriumOptions(normalises=False))
    for model in (build("DEQ4IP", still), build("DEQ4IP").eval()):
        _, y = measure(model)
        model.operator.calls.reset()
        model(y)
        assert all(each.eq(each[0]).all() for each in running_averages(model))
        assert model.operator.calls.forward == 8  # of the solver, and the image; no evaluation more


def test_what_a_proximal_network_makes_of_a_noisy_image():
    model = build("DEQ4IP").eval()
    noisy = torch.rand(2, 3, 16, 16)
    assert torch.equal(model.denoise(noisy), model.denoiser(noisy, model.denoiser.weights()))
    assert not torch.equal(model.denoise(noisy), noisy)
    assert build("LUSER-SW").denoise(noisy) is None


def test_checkpointing_changes_neither_gradient_nor_running_averages():
    found = []
    for checkpoint in (False, True):
        model = build("LU-DnCNN", replace(QUICK, checkpoint=checkpoint), dtype=torch.float64)
        x, y = measure(model)
        step(model, x, y)
        found.append([p.grad for p in model.parameters()] + running_averages(model))
    assert difference(found[1], found[0]) < 1e-12


def test_checkpointing_does_not_apply_the_operator_again():
    counts = []
    for checkpoint in (False, True):
        model = build("LU-DnCNN", replace(QUICK, checkpoint=checkpoint))
        x, y = measure(model)
        model.operator.calls.reset()
        step(model, x, y)
        counts.append(model.operator.calls)
    assert counts[0] == counts[1]


def footprint(name, options):
    """Bytes alive after the forward pass and at the peak of a step, in 1-channel images of the batch."""
    model = build(name, options, task="ct")
    x, y = measure(model)
    step(model, x, y)  # parameters' gradients and the operator's caches exist from here on
    for p in model.parameters():
        p.grad.zero_()
    with LiveBytes() as live:
        result = model(y)
        held = live.now
        (result.image - x).square().mean().backward()
    return held / x.nbytes, live.peak / x.nbytes


def per_stage(name, options):
    """Increase per stage of both figures."""
    few, many = (footprint(name, replace(options, stages=k)) for k in (2, 6))
    return [(b - a) / 4 for a, b in zip(few, many, strict=True)]


# Channels that one f-graph of LUSER keeps: data 2 x (32 + 32), concatenation 64, mix 2 x (64 + 64); injection 2 x 32.
F_GRAPH, INJECTION = 448, 64


@pytest.mark.parametrize(
    ("gradient", "graphs"), [("two-graph", 2), ("one-graph", 1), ("jacobian-free", 1), ("recomputed", 0)]
)
def test_f_graphs_alive_per_stage(gradient, graphs):
    expected = graphs * F_GRAPH + INJECTION * (graphs > 0)
    held, peak = per_stage("LUSER-SW", replace(QUICK, gradient=gradient))
    assert expected <= held < expected + 16  # d_k, r*, the operator's part of the gradient step
    assert expected <= peak < expected + 16


def test_recomputed_holds_one_f_graph_for_the_whole_network():
    held, peak = footprint("LUSER-SW", replace(QUICK, gradient="recomputed"))
    parameters = 96_000 / 256 / 2
    assert held < 32 + parameters
    assert F_GRAPH + INJECTION < peak < 1.5 * (F_GRAPH + INJECTION) + 4 * parameters


def test_f_graphs_alive_in_deq4ip():
    held = {g: footprint("DEQ4IP", replace(QUICK, gradient=g))[0] for g in GRADIENTS}
    f_graph = 64 + 15 * 2 * 64
    assert f_graph <= held["one-graph"] - held["recomputed"] < f_graph + 16
    assert f_graph <= held["two-graph"] - held["one-graph"] < f_graph + 16
    assert held["jacobian-free"] <= held["one-graph"]


def test_checkpoint_holds_one_network_of_activations():
    network = 64 + 15 * 2 * 64
    plain, checkpointed = (per_stage("LU-DnCNN", replace(QUICK, checkpoint=c)) for c in (False, True))
    assert network <= plain[1] < network + 16
    assert checkpointed[1] < 16


@pytest.mark.parametrize("name", models.names())
def test_no_graph_outlives_its_output_when_backward_never_runs(name):
    for gradient in GRADIENTS:
        model = build(name, replace(QUICK, gradient=gradient))
        _, y = measure(model)
        model(y)
        with LiveBytes() as live:
            result = model(y)
            assert live.now > 0
            del result
        assert live.now == 0


@pytest.mark.parametrize("name", models.names())
def test_iterates_are_given_if_they_are_asked_for(name):
    model = build(name)
    _, y = measure(model)
    assert model(y).iterates == []
    result = model(y, all_iterates=True)
    iterates = result.iterates
    assert iterates[-1] is result.image
    assert len(iterates) == (1 if name == "DEQ4IP" else 2)
    torch.testing.assert_close(iterates[-1], model(y).image, rtol=1e-3, atol=1e-3)


def test_trainable_parameters_are_the_networks_that_are_not_frozen():
    model = build("DEQ4IP")
    count = model.trainable_parameters
    model.operator.register_parameter("gain", torch.nn.Parameter(torch.ones(3)))
    assert model.trainable_parameters == count
    model.step.requires_grad_(False)
    assert model.trainable_parameters == count - 1


def test_running_averages_move_by_a_tenth_at_the_solution():
    """As torch.nn.BatchNorm2d's do by default: a second pass of the same weights leaves 0.1 + 0.9 * 0.1 of the mean."""
    model = build("DEQ4IP")
    _, y = measure(model)
    means = []
    for _ in range(2):
        model(y)
        means.append(torch.cat([each.clone() for name, each in model.named_buffers() if name.endswith("running_mean")]))
    assert means[0].abs().max() > 1e-3
    torch.testing.assert_close(means[1], 1.9 * means[0], rtol=1e-4, atol=1e-7)


@pytest.mark.parametrize("name", ["LU-DnCNN", "DEQ4IP", "LUSER-SW"])
def test_fbp_is_where_a_reconstruction_starts_if_asked(name, monkeypatch):
    model = build(name, replace(QUICK, initial="fbp"), "ct", dtype=torch.float64).eval()
    _, y = measure(model)
    start = model.initial_estimate(y)
    assert torch.equal(start, model.operator.filtered_backprojection(y))
    assert (start - model.operator.adjoint(y)).norm() > 0.1 * start.norm()
    by_fbp = model(y).image
    monkeypatch.setattr(model.operator, "initial_estimate", lambda y: pytest.fail("it started at the adjoint"))
    assert torch.equal(model(y).image, by_fbp)
    monkeypatch.undo()
    assert (by_fbp - build(name, QUICK, "ct", dtype=torch.float64).eval()(y).image).norm() > 1e-6
