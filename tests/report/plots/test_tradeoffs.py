import pytest
from handmade import accuracy, diverged, memory, timing, training

from bench.report.plots import style, tradeoffs
from bench.report.plots.tradeoffs import Point, pareto
from bench.units import MiB


def test_the_front_is_what_nothing_betters_in_both():
    points = [Point("a", 1, 30), Point("b", 2, 29), Point("c", 2, 31), Point("d", 3, 31), Point("e", 4, 32)]
    assert [point.method for point in pareto(points, more_is_better=True)] == ["a", "c", "e"]
    assert [point.method for point in pareto(points, more_is_better=False)] == ["a", "b"]


def points_of(axes, *methods):
    """Lines by their labels; points by the names that they say."""
    found = {line.get_label(): (*line.get_xdata(), *line.get_ydata()) for line in axes.lines}
    for line in axes.lines:
        if said := line.get_gid():
            found[said.removeprefix("tip:").partition(" on ")[0]] = (*line.get_xdata(), *line.get_ydata())
    return [found.get(method) for method in methods]


def names(axes):
    return sorted(text.get_text() for text in axes.texts)


def test_psnr_against_memory_joins_the_stages_and_leaves_out_what_diverged():
    records = [
        *(
            timing(name, per_image=size * MiB, task="mri")
            for name, size in (("LU-DnCNN", 600), ("DEQ4IP", 100), ("LUSER-SW", 200))
        ),
        accuracy("LU-DnCNN", training((30.0, 32.0)), training((33.0, 33.0), seed=1), task="mri-4x"),
        accuracy("DEQ4IP", training((34.0, 34.0)), task="mri-4x"),
        accuracy("LUSER-SW", diverged(), task="mri-4x"),
        accuracy("initialisation", training((20.0, 22.0)), task="mri-4x"),
    ]
    with style.style():
        figure = tradeoffs.psnr_against_memory(records)
    (axes,) = figure.axes
    assert points_of(axes, "LU-DnCNN", "DEQ4IP", "LUSER-SW") == [(600, 32), (100, 34), None]
    assert points_of(axes, "Pareto front") == [(100, 34)]
    assert points_of(axes, "initialisation") == [(0, 1, 21, 21)]  # a line from side to side
    assert names(axes) == ["DEQ4IP", "LU-DnCNN"]
    assert axes.get_ylabel() == "test PSNR, dB\n(preset demo, cpu)"


def test_times_are_per_image():
    records = [timing("DEQ4IP", 8.0, 1.0, batch=4, per_image=100 * MiB), accuracy("DEQ4IP", training())]
    with style.style():
        against_memory, psnr = tradeoffs.time_against_memory(records), tradeoffs.psnr_against_time(records)
    assert points_of(against_memory.axes[0], "DEQ4IP") == [(100, 2)]
    assert points_of(psnr.axes[0], "DEQ4IP") == [(2, 31)]


@pytest.mark.parametrize(
    "draw", [tradeoffs.psnr_against_memory, tradeoffs.psnr_against_time, tradeoffs.time_against_memory]
)
def test_nothing_is_drawn_where_a_stage_is_missing(draw):
    assert draw([memory("DEQ4IP", MiB)]) is None
    assert draw([accuracy("DEQ4IP", training())]) is None
    assert draw([timing("DEQ4IP", 1.0, 1.0), memory("DEQ4IP", MiB)]) is None


def test_a_point_is_one_networks():
    """The memory of a network of other sizes, options or loss makes no point, and without points there is no front."""
    larger = {"image_shape": (1, 64, 64)}
    small = timing("DEQ4IP", per_image=MiB, **larger), accuracy("DEQ4IP", training())
    assert tradeoffs.psnr_against_memory(small) is None and tradeoffs.psnr_against_time(small) is None
    records = [timing("DEQ4IP", per_image=MiB, **larger), accuracy("DEQ4IP", training(), **larger)]
    with style.style():
        assert points_of(tradeoffs.psnr_against_memory(records).axes[0], "DEQ4IP") == [(1, 31)]
    other = records[1].model_copy(update={"settings": records[1].settings | {"model": {"stages": 2}}})
    assert tradeoffs.psnr_against_memory([records[0], other]) is None


def test_an_infinite_psnr_stands_on_the_upper_edge():
    inf = float("inf")
    records = [timing(name, per_image=MiB) for name in ("LU-DnCNN", "DEQ4IP")]
    records += [accuracy("LU-DnCNN", training((inf, 30.0))), accuracy("DEQ4IP", training((30.0, 30.0)))]
    records += [accuracy("initialisation", training((inf, inf)))]
    with style.style():
        (axes,) = tradeoffs.psnr_against_memory(records).axes
    assert points_of(axes, "_infinite", "DEQ4IP", "initialisation (inf)") == [(1, 1), (1, 30), (0, 1, 1, 1)]
    assert points_of(axes, "Pareto front") == [()]


def test_arms_reach_over_the_quartiles_and_over_the_seeds():
    spread = timing("DEQ4IP", 8.0, 1.0, batch=4)
    steps = spread.timing.model_copy(update={"training_step_seconds": [4.0, 6.0, 8.0, 12.0, 40.0]})
    records = [spread.model_copy(update={"timing": steps})]
    records.append(accuracy("DEQ4IP", training((30.0, 30.0)), training((34.0, 34.0), seed=1)))
    with style.style():
        (axes,) = tradeoffs.psnr_against_time(records).axes
    ((_, _, arms),) = axes.containers
    along, up = [arm.get_segments()[0].tolist() for arm in arms]
    assert along == [[1.5, 32.0], [3.0, 32.0]]  # quartiles of a step, over a batch of 4
    assert up == [[2.0, 30.0], [2.0, 34.0]]
