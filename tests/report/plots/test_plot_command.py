import re

import pytest
from handmade import ARCHITECTURES, accuracy, memory, points, profile, stored, timing, training

from bench.report.plots import catalogue, style
from bench.units import MiB


@pytest.fixture
def folder(tmp_path):
    stored(
        tmp_path / "records",
        *(memory(name, 400 * MiB) for name in ARCHITECTURES),
        *(timing(name, 1, 1, per_image=400 * MiB) for name in ARCHITECTURES),
    )
    return tmp_path


def test_what_was_measured_is_plotted_and_what_was_not_is_named(bench, folder):
    done = bench("plot", "--records", folder)
    code, said = done.returncode, done.stderr
    assert code == 0
    assert {path.name for path in (folder / "plots").iterdir()} == {
        *("largest-batch.png", "memory-by-batch.png", "time-against-memory.png"),
    }
    assert "bench: timeline left out: `bench run --stages profile` measures what it shows\n" in said
    assert "bench: figure-2 left out: `bench run --stages accuracy` measures what it shows\n" in said
    assert "psnr-against-time left out: `bench run --stages timing,accuracy`" in said


def test_selected_plots_in_every_format(bench, folder):
    output = folder / "elsewhere"
    arguments = (
        "--records",
        folder / "records",
        "--output",
        output,
        "--select",
        "largest-batch",
        "--formats",
        "png,svg,pdf",
    )
    assert bench("plot", *arguments).returncode == 0
    starts = {path.suffix: path.read_bytes()[:5] for path in output.iterdir()}
    assert starts == {".png": b"\x89PNG\r", ".svg": b"<?xml", ".pdf": b"%PDF-"}


def test_nothing_is_overwritten_without_force(bench, folder):
    (folder / "plots").mkdir()
    there = folder / "plots" / "largest-batch.png"
    there.write_text("mine")
    done = bench("plot", "--records", folder)
    code, said = done.returncode, done.stderr
    assert (code, there.read_text(), list((folder / "plots").iterdir())) == (2, "mine", [there])
    assert re.fullmatch(r"bench: \S*largest-batch.png exists: give --force .*; nothing written\n", said)
    assert bench("plot", "--records", folder, "--force", "--select", "largest-batch").returncode == 0
    assert there.read_bytes().startswith(b"\x89PNG")


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (
            ["--select", "largest-batch,pie"],
            "--select: unknown plot 'pie': known are largest-batch, memory-by-batch, composition, timeline, ",
        ),
        (["--formats", "png,bmp"], "--formats: unknown format 'bmp': known are png, svg, pdf"),
        (["--records", "empty"], "there is no folder empty: give the output folder of `bench run`"),
    ],
)
def test_arguments_that_cannot_be_used(bench, folder, arguments, sentence):
    records = () if "--records" in arguments else ("--records", folder)
    done = bench("plot", *records, *arguments)
    code, said = done.returncode, done.stderr
    assert code == 2
    assert said.startswith(f"bench: {sentence}")
    assert said.count("\n") == 1


def test_a_damaged_record(bench, folder):
    (folder / "records" / "x.json").write_text("{")
    done = bench("plot", "--records", folder)
    code, said = done.returncode, done.stderr
    assert code == 0
    assert "bench: left out: " in said and "x.json is damaged" in said
    assert (folder / "plots/largest-batch.png").exists()


def test_damaged_reconstructions_cost_figure_2_alone(bench, folder):
    stored(folder / "records", accuracy("DEQ4IP", training(), reconstructions="x.safetensors"))
    (folder / "x.safetensors").write_text("nonsense")
    done = bench("plot", "--records", folder, "--select", "figure-2,largest-batch")
    left_out, wrote = done.stderr.splitlines()
    assert done.returncode == 0
    assert left_out.startswith(f"bench: figure-2 left out: {folder / 'x.safetensors'} is damaged")
    assert wrote.endswith("largest-batch.png")
    assert [path.name for path in (folder / "plots").iterdir()] == ["largest-batch.png"]


def test_a_folder_in_place_of_reconstructions_costs_figure_2_alone(bench, folder):
    stored(folder / "records", accuracy("DEQ4IP", training(), reconstructions="x.safetensors"))
    (folder / "x.safetensors").mkdir()
    done = bench("plot", "--records", folder, "--select", "figure-2,largest-batch")
    assert done.returncode == 0
    assert done.stderr.startswith(f"bench: figure-2 left out: cannot read {folder / 'x.safetensors'}: ")


def test_missing_reconstructions_cost_figure_2_alone(bench, folder):
    stored(folder / "records", accuracy("DEQ4IP", training(), reconstructions="x.safetensors"))
    done = bench("plot", "--records", folder, "--select", "figure-2,largest-batch")
    code, said = done.returncode, done.stderr
    assert code == 0
    assert "x.safetensors is not there" in said


def test_nothing_to_plot(bench, folder):
    done = bench("plot", "--records", folder, "--select", "training-curves,figure-2")
    code, said = done.returncode, done.stderr
    assert code == 4
    assert said.splitlines()[-1].startswith("bench: nothing to plot: ")
    assert not (folder / "plots").exists()


def test_the_same_records_give_the_same_bytes():
    curve = [point.model_copy(update={"validation_psnr_db": 30.0}) for point in points([1.0] * 5)]
    records = [
        memory("DEQ4IP", 400 * MiB),
        profile("DEQ4IP"),
        timing("DEQ4IP", 1, 1, per_image=400 * MiB),
        accuracy("DEQ4IP", training(curve=curve)),
    ]
    for name in ("largest-batch", "timeline", "psnr-against-memory", "training-curves"):
        first, second = (catalogue.files(name, records, None, style.FORMATS) for _ in range(2))
        assert first == second
        assert set(first) == set(style.FORMATS)


def test_methods_look_different_without_colour():
    with style.style():
        looks = style.looks([*ARCHITECTURES, "A", "B", "C", "D"]).values()
    assert len({look.marker for look in looks}) == len({str(look.linestyle) for look in looks}) == 8
    assert len({look.color for look in looks}) == 8


def test_a_method_looks_the_same_whichever_others_there_are():
    with style.style():
        assert style.looks(["LUSER-DW"])["LUSER-DW"] == style.looks(ARCHITECTURES)["LUSER-DW"]
        assert style.looks(["A", "LUSER-DW"])["A"] not in style.looks(ARCHITECTURES).values()
