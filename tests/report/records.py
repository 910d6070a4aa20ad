"""Records made up for tables: no measurement, no torch."""

from bench.records import Record

SETTINGS = {"model": {"stages": 8, "solver": {"max_evaluations": 50}}, "task": {"operator": "Radon"}}
CREATED = "2026-01-02T03:04:05+00:00"
GIGABYTES = 2**30


def record(stage, architecture="LU-DnCNN", task="ct", *, created=CREATED, torch="2.13.0", settings=SETTINGS, **given):
    values = {
        "key": "k",
        "stage": stage,
        "preset": None,
        "architecture": architecture,
        "task": task,
        "paper_task": task,
        "settings": settings,
        "status": "ok",
        "seconds": 1.5,
        "provenance": {
            "bench": "0.1.0",
            "source": "abc",
            "commit": "0123456789ab",
            "torch": torch,
            "python": "3.11.7",
            "platform": "Linux x86_64",
            "created": created,
        },
    }
    return Record.model_validate(values | given)


def memory(architecture="LU-DnCNN", task="ct", batches=(7, 9), cards=("8GB", "10GB"), parameters=558580, **given):
    edge = {"peak_allocated_bytes": 1, "peak_reserved_bytes": 2, "retries": 0, "fallbacks": 0, "not_fitting": []}
    answers = [
        {
            "card": card,
            "total_bytes": int(card.removesuffix("GB")) * GIGABYTES,
            "context_bytes": 0,
            "usable_bytes": GIGABYTES,
            "cudnn": None,
            "edges": {"high": edge | {"largest_batch": batch, "monotone": True}},
        }
        for card, batch in zip(cards, batches, strict=True)
    ]
    results = {
        "engine": "simulated",
        "recorded_steps": 2,
        "recorded_evaluations": None,
        "events": 1,
        "operator_bytes": 0,
        "parameter_bytes": 4,
        "peak_bytes_per_image": {"high": 2**30 // batches[0] if batches[0] else 2**33},
        "cards": answers,
    }
    return record(
        "memory",
        architecture,
        task,
        parameters={"trainable": parameters, "paper": parameters},
        memory=results,
        **given,
    )


def timing(architecture="LU-DnCNN", task="ct", seconds=(0.5, 0.4, 0.6), **given):
    results = {
        "device": "CPU",
        "threads": 1,
        "batch": 4,
        "batch_chosen": "stated",
        "training_step_seconds": seconds,
        "evaluation_seconds": seconds,
        "training_calls": {"forward": 7, "adjoint": 8},
        "evaluation_calls": {"forward": 4, "adjoint": 5},
        "solver_evaluations": None,
        "backward_evaluations": None,
    }
    return record("timing", architecture, task, preset="demo", image_shape=(1, 48, 48), timing=results, **given)


def failed(stage="memory", architecture="LU-DnCNN", task="ct", **given):
    return record(stage, architecture, task, status="failed", reason="it broke", **given)
