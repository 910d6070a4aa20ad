"""Records written by hand, with numbers that can be checked by heart."""

from bench.records import (
    FULL_SIZE,
    Accuracy,
    Calls,
    CardResult,
    Composition,
    DataSets,
    Edge,
    Memory,
    Parameters,
    Point,
    Profile,
    Provenance,
    Record,
    Span,
    StepTimeline,
    Timing,
    Training,
)
from bench.units import GiB, MiB

MEMORY_SETTINGS = {"engine": "simulated", "steps": 2, "alloc_conf": ""}
ARCHITECTURES = ("LU-DnCNN", "DEQ4IP", "LUSER-SW", "LUSER-DW")


def record(stage, architecture="LU-DnCNN", task="ct", *, loss="final", preset="demo", steps=150, **given):
    """Names are not checked: what shows records stands any text."""
    provenance = {"bench": "0", "source": "s", "commit": None, "torch": "2.13.0", "python": "3.11", "platform": "x"}
    values = {
        "key": "0123456789",
        "stage": stage,
        "preset": None if stage in FULL_SIZE else preset,
        "image_shape": (1, 48, 48),
        "architecture": "x",
        "task": "x",
        "paper_task": "mri" if task.startswith("mri") else task,
        "settings": {
            "model": {"stages": 4, "gradient": "one-graph", "solver": {"max_evaluations": 8}},
            "task": {"operator": "Radon"},
            "training": {"loss": loss},
            "accuracy": {"steps": steps, "batch": 4},
            **({"memory": MEMORY_SETTINGS} if stage in FULL_SIZE else {}),
        },
        "status": "ok",
        "seconds": 1.0,
        "provenance": Provenance(created=given.pop("created", "2026-01-01T00:00:00+00:00"), **provenance),
    }
    valid = Record.model_validate(values | given)
    return valid.model_copy(update={"architecture": architecture, "task": task})


def stored(folder, *records):
    """Put records into a folder, under their names."""
    folder.mkdir(parents=True, exist_ok=True)
    for each in records:
        (folder / f"{'--'.join((*each.cell, each.key))}.json").write_text(each.model_dump_json())


def failed(stage, *names, **given):
    return record(stage, *names, status="failed", reason="out of luck", **given)


DATA = DataSets(
    name="ct-phantoms",
    train_images=2000,
    train_subjects=2000,
    validation_images=8,
    test_images=2,
    test_subjects=2,
    data_range=1.0,
    metric="image",
)


def training(
    psnr_db=(30.0, 32.0), ssim=(0.8, 0.9), *, seed=0, curve=(), seconds=100.0, evaluation_seconds=1.0, **given
):
    return Training(
        seed=seed,
        status="ok",
        curve=list(curve),
        psnr_db=list(psnr_db),
        ssim=list(ssim),
        training_seconds=seconds,
        evaluation_seconds=evaluation_seconds,
        **given,
    )


def diverged(seed=0, curve=()):
    return Training(
        seed=seed,
        status="diverged",
        reason="the loss is not finite",
        curve=list(curve),
        psnr_db=[],
        ssim=[],
        training_seconds=1.0,
        evaluation_seconds=0.0,
    )


def accuracy(architecture, *trainings, task="ct", data=DATA, reconstructions=None, **given):
    result = Accuracy(device="cpu", threads=1, data=data, trainings=list(trainings), reconstructions=reconstructions)
    return record("accuracy", architecture, task, accuracy=result, **given)


def points(norms, *, loss=1.0, evaluations=None, residual=None, **given):
    return [
        Point(
            step=step, loss=loss, gradient_norm=norm, solver_evaluations=evaluations, solver_residual=residual, **given
        )
        for step, norm in enumerate(norms, 1)
    ]


def timing(
    architecture,
    step_seconds=1.0,
    evaluation_seconds=1.0,
    *,
    task="ct",
    batch=1,
    per_image=None,
    parameters=None,
    **given,
):
    result = Timing(
        device="cpu",
        threads=2,
        batch=batch,
        batch_chosen="stated",
        training_step_seconds=[step_seconds] * 3,
        evaluation_seconds=[evaluation_seconds] * 3,
        training_calls=Calls(forward=1, adjoint=1),
        evaluation_calls=Calls(forward=1, adjoint=1),
        solver_evaluations=None,
        backward_evaluations=None,
        peak_bytes_per_image={"low": per_image - 1, "high": per_image} if per_image else None,
    )
    counted = Parameters(trainable=parameters, paper=parameters) if parameters else None
    return record("timing", architecture, task, timing=result, parameters=counted, **given)


def edge(batch, per_image):
    peak = batch * per_image or None
    return Edge(
        largest_batch=batch,
        peak_allocated_bytes=peak,
        peak_reserved_bytes=peak and peak + 20 * MiB,
        retries=0,
        fallbacks=0,
        not_fitting=[batch + 1],
        monotone=True,
    )


def card(name, total_bytes, per_image, bounds=("high", "low")):
    usable = total_bytes - 500 * MiB
    return CardResult(
        card=name,
        total_bytes=total_bytes,
        context_bytes=500 * MiB,
        usable_bytes=usable,
        cudnn=None,
        edges={bound: edge(usable // per_image, per_image) for bound in bounds},
    )


def memory(architecture, per_image, parameters=500_000, *, task="ct", cards=("8GB", "24GB"), **given):
    result = Memory(
        engine="simulated",
        recorded_steps=2,
        recorded_evaluations=10,
        events=1000,
        operator_bytes=100 * MiB,
        parameter_bytes=4 * parameters,
        peak_bytes_per_image={"low": per_image - 1, "high": per_image},
        cards=[card(name, int(name.removesuffix("GB")) * GiB, per_image) for name in cards],
    )
    return record(
        "memory",
        architecture,
        task,
        memory=result,
        parameters=Parameters(trainable=parameters, paper=parameters),
        **given,
    )


def made_of(batch, convolutions, normalisations, *, parameters=3 * MiB, fragmentation=20 * MiB):
    """The composition of a peak: so many bytes of each."""
    saved = {"net.0, convolution": convolutions // 2, "net.1, convolution": convolutions - convolutions // 2}
    return Composition(
        batch=batch,
        peak_allocated_bytes=parameters + convolutions + normalisations,
        peak_reserved_bytes=parameters + convolutions + normalisations + fragmentation,
        size_bytes={
            "parameters": {"net": parameters},
            "saved activations": saved | {"net.0.norm, native_batch_norm": normalisations},
            "fragmentation": {"in all": fragmentation},
        },
    )


def profile(architecture, per_image=GiB, *, task="ct", total_bytes=24 * GiB, fits=True, **given):
    """Of a step that saves so much per image, two thirds of it convolutions."""
    usable = total_bytes - 500 * MiB
    batch = usable // per_image if fits else 1
    saved = batch * per_image
    names = ("parameters", "saved activations", "fragmentation")
    result = Profile(
        card=f"{total_bytes // GiB}GB",
        total_bytes=total_bytes,
        context_bytes=500 * MiB,
        usable_bytes=usable,
        workspace="high",
        fits=fits,
        composition=made_of(batch, 2 * saved // 3, saved - 2 * saved // 3),
        timeline=StepTimeline(
            step=2,
            events=10,
            at=[0, 4, 9],
            size_bytes=dict(zip(names, ([3, 3, 3], [0, saved, 0], [saved, 0, saved]), strict=True)),
            phases=[Span(phase="forward", start=0, stop=5), Span(phase="backward", start=5, stop=10)],
            moment=4,
            operation="convolution",
            place="net.py:1 > layers.py:2",
        ),
        reference=made_of(16, 2 * GiB, GiB),
    )
    return record("profile", architecture, task, profile=result, **given)
