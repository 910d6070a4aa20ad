"""Trainings: the same from the same seed, resumed to the bit, watched and stopped where they diverge."""

import math
from dataclasses import replace
from itertools import pairwise

import pytest
import torch
from small_networks import small

from bench import config, models
from bench.accuracy import splits as splits_of
from bench.accuracy.checkpoint import Checkpoint
from bench.accuracy.training import DivergedError, Trainer
from bench.cells.workload import Workload
from bench.config import Task
from bench.data.base import seed_of
from bench.errors import StorageError, UsageError

DEFAULT = config.load(config.default_path())
TASK = Task(
    operator="GaussianBlur",
    options={"image_shape": [3, 16, 16]},
    data="photographs",
    noise={"sigma": 0.01},
)
OPTIONS = DEFAULT.accuracy.model_copy(
    update={
        "steps": 6,
        "batch": 2,
        "validate_every": 3,
        "checkpoint_every": 2,
        "validation_images": 2,
        "test_images": 3,
        "schedule": "cosine",
    }
)
CPU = torch.device("cpu")


@pytest.fixture(scope="module")
def splits():
    return splits_of.load("blur", TASK, OPTIONS)


def trainer(folder, splits, architecture="LUSER-SW", seed=0, learning_rate=1e-3, **options):
    solver = replace(DEFAULT.model.solver, max_evaluations=4)
    training = DEFAULT.training.model_copy(update={"learning_rate": learning_rate, "clip_gradient_norm": 1.0})
    workload = Workload(architecture, replace(small(DEFAULT.model), stages=2, solver=solver), TASK, training)
    checkpoint = Checkpoint(folder / "one.pt", {"architecture": architecture, "seed": seed})
    return Trainer(workload, OPTIONS.model_copy(update=options), splits, seed, CPU, checkpoint)


def quiet(step, status):
    """Hear of progress and do nothing."""


def interrupted_at(stop):
    def tell(step, status):
        if step == stop:
            raise KeyboardInterrupt

    return tell


def assert_same(one, other):
    first, second = one.model.state_dict(), other.model.state_dict()
    assert first.keys() == second.keys() and all(torch.equal(first[name], second[name]) for name in first)
    assert one.curve == other.curve


@pytest.mark.parametrize("architecture", models.names())
def test_an_interrupted_training_ends_as_if_it_had_not_been(tmp_path, splits, architecture):
    straight = trainer(tmp_path / "straight", splits, architecture)
    start = {name: tensor.clone() for name, tensor in straight.model.state_dict().items()}
    straight.run(quiet)
    assert all(not torch.equal(start[name], p) for name, p in straight.model.named_parameters() if p.requires_grad)
    with pytest.raises(KeyboardInterrupt):
        trainer(tmp_path / "resumed", splits, architecture).run(interrupted_at(5))
    torch.rand(17)  # whatever else happens in between
    resumed = trainer(tmp_path / "resumed", splits, architecture)
    assert resumed.step == 4
    resumed.run(quiet)
    assert_same(straight, resumed)
    assert_same(straight, trainer(tmp_path / "resumed", splits, architecture))


def test_the_curve_has_every_step_and_the_validations(tmp_path, splits):
    done = trainer(tmp_path, splits)
    done.run(quiet)
    assert [point.step for point in done.curve] == [1, 2, 3, 4, 5, 6]
    assert [point.step for point in done.curve if point.validation_psnr_db is not None] == [3, 6]
    assert all(math.isfinite(value) for p in done.curve for value in (p.loss, p.gradient_norm, p.solver_residual))
    assert all(1 <= point.solver_evaluations <= 4 for point in done.curve)
    plain = trainer(tmp_path / "plain", splits, "LU-DnCNN", steps=1)
    plain.run(quiet)
    assert plain.curve[0].solver_evaluations is None and plain.curve[0].solver_residual is None


def test_the_gradient_norm_is_that_before_clipping(tmp_path, splits):
    done = trainer(tmp_path, splits, steps=1, validate_every=1)
    done.run(quiet)
    again = trainer(tmp_path / "again", splits)
    image, measurement = splits_of.batch_of(splits.train, again.indices(0))
    loss, _ = again.workload.loss(again.model, image, measurement)
    loss.backward()
    norm = math.sqrt(sum(float(p.grad.double().square().sum()) for p in again.model.parameters()))
    assert done.curve[0].gradient_norm == pytest.approx(norm, rel=1e-5)
    assert done.curve[0].loss == pytest.approx(loss.item())


def test_another_seed_is_another_network_and_another_order(tmp_path, splits):
    one, other = trainer(tmp_path, splits, seed=0), trainer(tmp_path, splits, seed=1)
    assert one.indices(0) != other.indices(0)
    assert not torch.equal(one.model.blocks[0].mix[0].conv.weight, other.model.blocks[0].mix[0].conv.weight)


def test_every_epoch_sees_every_image_once(tmp_path, splits):
    some = trainer(tmp_path, splits, batch=3)
    images = len(splits.train)
    seen = [index for step in range(2 * images // 3 + 1) for index in some.indices(step)]
    epochs = seen[:images], seen[images : 2 * images]
    assert sorted(epochs[0]) == sorted(epochs[1]) == list(range(images))
    assert epochs[0] != epochs[1]
    assert trainer(tmp_path, splits, batch=3).indices(500) == some.indices(500)


def test_learning_rates(tmp_path, splits):
    cosine = trainer(tmp_path, splits, learning_rate=0.005, steps=4)
    assert [cosine.learning_rate(step) for step in range(4)] == pytest.approx(
        [0.005, 0.004268, 0.0025, 0.000732], abs=1e-6
    )
    assert trainer(tmp_path, splits, learning_rate=0.5, schedule="constant").learning_rate(3) == 0.5
    cosine.run(quiet)
    assert cosine.optimizer.param_groups[0]["lr"] == pytest.approx(cosine.learning_rate(3))
    rates = [cosine.learning_rate(step) for step in range(5)]
    assert all(earlier > later for earlier, later in pairwise(rates)) and rates[-1] == 0


def test_deq4ips_denoiser_can_be_trained_beforehand(tmp_path, splits):
    """Three steps of it by hand, on images with the noise's standard deviation; other architectures stay as built."""
    trained = trainer(tmp_path, splits, "DEQ4IP", denoiser_steps=3, denoiser_sigma=0.3)
    byhand = trainer(tmp_path / "hand", splits, "DEQ4IP")
    optimizer = torch.optim.Adam(byhand.model.parameters(), lr=1e-3)
    generator = torch.Generator().manual_seed(seed_of("denoiser", 0))
    for step in range(3):
        image = torch.stack([splits.train.images[index] for index in byhand.indices(step)])
        noisy = image + 0.3 * torch.randn(image.shape, generator=generator)
        denoiser = byhand.model.denoiser
        optimizer.zero_grad()
        torch.nn.functional.mse_loss(denoiser(noisy, denoiser.weights()), image).backward()
        torch.nn.utils.clip_grad_norm_(byhand.model.parameters(), 1.0)
        optimizer.step()
    first, second = trained.model.state_dict(), byhand.model.state_dict()
    for name in first:
        torch.testing.assert_close(first[name], second[name], rtol=1e-4, atol=1e-5)
    assert trained.step == 0 and trained.seconds > 0
    untrained = trainer(tmp_path / "none", splits, "DEQ4IP").model.state_dict()
    kernel = "denoiser.layers.3.conv.weight"
    assert not torch.allclose(first[kernel], untrained[kernel], rtol=0, atol=1e-4)
    assert_same(trainer(tmp_path, splits), trainer(tmp_path, splits, denoiser_steps=3))


@pytest.mark.parametrize("bad", [float("nan"), float("inf")])
def test_a_loss_that_is_not_finite_ends_a_training(tmp_path, splits, bad, monkeypatch):
    failing = trainer(tmp_path, splits)
    loss_of = Workload.loss

    def loss(self, model, image, measurement):
        loss, reconstruction = loss_of(self, model, image, measurement)
        return loss * (bad if failing.step == 4 else 1), reconstruction

    monkeypatch.setattr(Workload, "loss", loss)
    with pytest.raises(DivergedError, match=f"loss {bad:g}.*at step 5"):
        failing.run(quiet)
    assert [point.step for point in failing.curve] == [1, 2, 3, 4]
    assert trainer(tmp_path, splits).step == 4  # no checkpoint of what came after


def without(state, name):
    return {key: value for key, value in state.items() if key != name}


FOREIGN = {
    "empty": lambda state: {},
    "no dictionary": lambda state: [],
    "no random state": lambda state: without(state, "random"),
    "no tensors": lambda state: state | {"model": {"weight": 1}},
    "another network": lambda state: state | {"model": {"x": torch.ones(2)}},
    "optimiser": lambda state: state | {"optimizer": {}},
    "a text for a step": lambda state: state | {"step": "x"},
    "a step too many": lambda state: state | {"step": 10**6},
    "a curve of something": lambda state: state | {"curve": [{"step": 1}]},
    "seconds": lambda state: state | {"seconds": float("nan")},
    "random": lambda state: state | {"random": torch.ones(2)},
}


@pytest.mark.parametrize("change", FOREIGN.values(), ids=FOREIGN)
def test_a_checkpoint_with_another_state_is_refused_in_one_sentence(tmp_path, splits, change):
    made = trainer(tmp_path, splits, steps=2)
    made.checkpoint.save(change(made._state()))
    with pytest.raises(StorageError, match=r"one\.pt is of another network, or of none: move it away") as refused:
        trainer(tmp_path, splits, steps=2)
    assert "\n" not in str(refused.value)


def test_a_loss_that_explodes_ends_a_training(tmp_path, splits):
    exploding = trainer(tmp_path, splits, "LU-DnCNN", learning_rate=50.0, schedule="constant", steps=20)
    with pytest.raises(DivergedError, match=r"over 100 times the first step's|nan|inf"):
        exploding.run(quiet)
    assert len(exploding.curve) < 20


def test_long_trainings_keep_a_thousand_points_and_every_validation(tmp_path, splits, monkeypatch):
    monkeypatch.setattr("bench.accuracy.training.CURVE_POINTS", 3)
    done = trainer(tmp_path, splits)
    done.run(quiet)
    assert [point.step for point in done.curve] == [2, 3, 4, 6]


def test_images_are_spread_over_the_subjects():
    assert splits_of.spread(10, 4) == [0, 2, 5, 7]
    assert splits_of.spread(3, 500) == [0, 1, 2]


def test_what_the_splits_hold(splits):
    described = splits.described
    assert (described.name, described.metric, described.data_range) == ("photographs", "image", 2.0)
    assert (described.train_images, described.train_subjects) == (1024, 4)
    assert (described.validation_images, described.test_images, described.test_subjects) == (2, 3, 1)
    assert [len(image) for image, _ in splits.test] == [2, 1]


def test_a_task_without_images_cannot_be_trained():
    with pytest.raises(UsageError, match=r"task mri has no images.*\[task.mri\]"):
        splits_of.load("mri", DEFAULT.task["mri"], OPTIONS)


@pytest.mark.parametrize(("psnr_db", "ends"), [(math.inf, False), (math.nan, True), (-math.inf, True)])
def test_a_perfect_validation_is_no_divergence(tmp_path, splits, monkeypatch, psnr_db, ends):
    monkeypatch.setattr("bench.accuracy.training.mean_psnr_db", lambda *_: psnr_db)
    watched = trainer(tmp_path, splits, steps=3)
    if ends:
        with pytest.raises(DivergedError, match="validation PSNR"):
            watched.run(quiet)
        return
    watched.run(quiet)
    assert watched.curve[-1].validation_psnr_db == math.inf
    assert trainer(tmp_path, splits, steps=3).curve == watched.curve  # also from its checkpoint


def test_a_first_loss_of_zero_lets_nothing_explode(tmp_path, splits, monkeypatch):
    exact = trainer(tmp_path, splits)
    loss_of = Workload.loss

    def loss(self, model, image, measurement):
        loss, reconstruction = loss_of(self, model, image, measurement)
        return loss * (0 if exact.step == 0 else 1), reconstruction

    monkeypatch.setattr(Workload, "loss", loss)
    exact.run(quiet)
    assert exact.curve[0].loss == 0
