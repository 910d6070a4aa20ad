import pytest
from handmade import DATA, accuracy, diverged, failed, training

from bench.records import Solves
from bench.report.cells import best
from bench.report.tables import table2


def shown(*records):
    return table2.arranged(table2.tidy(records)).to_dict("records")


START = accuracy("initialisation", training((20.0, 22.0), (0.4, 0.6)))


def test_means_spreads_over_images_gains_and_the_papers_numbers():
    rows = shown(accuracy("LU-DnCNN", training((30.0, 32.0), (0.8, 0.9))), START)
    assert rows == [
        {"method": "initialisation", "loss": "", "": "PSNR, dB", "ct": "21.00 ± 1.41"},
        {"method": "", "loss": "", "": "SSIM", "ct": "0.500 ± 0.141"},
        {"method": "LU-DnCNN", "loss": "final", "": "PSNR, dB", "ct": "31.00 ± 1.41 (+10.00) / 30.59"},
        {"method": "", "loss": "", "": "SSIM", "ct": "0.850 ± 0.071 / 0.844"},
    ]


def test_the_spread_over_seeds_stands_behind_that_over_images():
    two = accuracy("total variation", training((30.0, 32.0), (0.8, 0.9)), training((33.0, 33.0), (0.9, 0.9), seed=1))
    (row,) = table2.tidy([two]).to_dict("records")
    assert row["psnr_db"] == 32.0
    assert row["psnr_db_over_seeds"] == pytest.approx(2**0.5)  # of 31 and 33
    assert row["psnr_db_over_images"] == pytest.approx(0.5**0.5)  # of 31.5 and 32.5
    assert shown(two)[0]["ct"] == "32.00 ± 0.71 ± 1.41"
    assert "over test images ± over seeds, where there are several (gain" in table2.caption(table2.tidy([two]))


def test_diverged_and_failed_methods_are_shown_as_such():
    some = accuracy("LUSER-SW", training(), diverged(seed=1))
    rows = shown(START, some, accuracy("DEQ4IP", diverged()), failed("accuracy", "LUSER-DW"))
    assert [row["ct"] for row in rows[2::2]] == [
        "diverged / 31.79",
        "31.00 ± 1.41 (+10.00) [1 of 2 diverged] / 28.82",
        "failed / 31.83",
    ]


def test_both_losses_have_rows_and_the_papers_numbers_for_each():
    rows = shown(accuracy("LUSER-SW", training()), accuracy("LUSER-SW", training((20.0, 20.0)), loss="auxiliary"))
    assert [(row["loss"], row["ct"]) for row in rows[::2]] == [
        ("final", "31.00 ± 1.41 / 28.82"),
        ("auxiliary", "20.00 ± 0.00 / 28.04"),
    ]


def test_tasks_stand_side_by_side_and_what_was_not_trained_is_empty():
    rows = shown(accuracy("LU-DnCNN", training(), task="ct"), accuracy("DEQ4IP", training(), task="mri-4x"))
    assert [(row["ct"], row["mri-4x"]) for row in rows[::2]] == [
        ("31.00 ± 1.41 / 30.59", ""),
        ("", "31.00 ± 1.41 / 29.01"),
    ]


def test_a_gain_is_over_the_initialisation_of_the_same_images_only():
    other = DATA.model_copy(update={"test_images": 3})
    frame = table2.tidy([START, accuracy("LU-DnCNN", training((30.0,) * 3, (0.8,) * 3), data=other)])
    assert frame["gain_db"].isna().all()


def test_two_presets_have_rows_of_their_own():
    rows = shown(accuracy("LU-DnCNN", training(), preset="paper"), accuracy("LU-DnCNN", training((20.0, 20.0))))
    assert [(row["preset"], row["ct"]) for row in rows[::2]] == [
        ("paper", "31.00 ± 1.41 / 30.59"),
        ("demo", "20.00 ± 0.00 / 30.59"),
    ]


def test_the_last_of_several_settings_is_shown():
    rows = shown(accuracy("LU-DnCNN", training(), steps=10), accuracy("LU-DnCNN", training((20.0, 20.0)), steps=20))
    assert [row["ct"] for row in rows[::2]] == ["20.00 ± 0.00 / 30.59"]


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"measurements": "own"}, "data range 1, with the measurements that the images come with. "),
        ({"measured_by": {"image_size": 96}}, "data range 1, measured with image_size 96. "),
    ],
)
def test_the_caption_says_what_measured(changes, says):
    caption = table2.caption(table2.tidy([accuracy("LU-DnCNN", training(), data=DATA.model_copy(update=changes))]))
    assert says in caption


def test_the_caption_says_images_subjects_data_range_and_sizes():
    data = DATA.model_copy(update={"train_subjects": 40, "test_subjects": 1, "metric": "magnitude"})
    assert table2.caption(table2.tidy([accuracy("LU-DnCNN", training(), data=data)])) == (
        "PSNR and SSIM: mean ± standard deviation over test images (gain over the initialisation, dB) / the paper's. "
        "ct: ct-phantoms, 1x48x48, trained on 2000 images of 40 subjects, tested on 2 images of 1 subject, "
        "data range 1 of the magnitude, measured with the operator that reconstructs. "
        "Sizes: preset demo (K=4, at most 8 solver evaluations, one-graph gradients, 150 steps); torch 2.13.0. "
        "Ranks methods on small data; does not compare with published numbers."
    )


@pytest.mark.parametrize(
    ("preset", "name", "compares"),
    [("paper", "LoDoPaB-CT", True), ("demo", "LoDoPaB-CT", False), ("paper", "ct-phantoms", False)],
)
def test_only_the_papers_sizes_and_images_compare_with_it(preset, name, compares):
    data = DATA.model_copy(update={"name": name})
    caption = table2.caption(table2.tidy([accuracy("LU-DnCNN", training(), preset=preset, data=data)]))
    assert ("does not compare with published numbers" not in caption) == compares


def test_nothing_trained_to_its_end():
    assert table2.caption(table2.tidy([failed("accuracy")])) == "No method was trained to its end."


@pytest.mark.filterwarnings("error")
def test_an_infinite_psnr_has_no_spread_and_no_gain_over_another():
    inf = float("inf")
    exact, some = training((inf, inf)), training((inf, 30.0), seed=1)
    assert [row["ct"] for row in shown(START, accuracy("LU-DnCNN", exact, some))[::2]] == [
        "21.00 ± 1.41",
        "inf (+inf) / 30.59",
    ]
    start = accuracy("initialisation", exact)
    assert [row["ct"] for row in shown(start, accuracy("LU-DnCNN", exact), accuracy("DEQ4IP", training()))[::2]] == [
        "inf",
        "inf / 30.59",
        "31.00 ± 1.41 / 31.79",
    ]
    assert best(["inf (+inf) / 30.59", "31.00", "infinite"], "most") == [True, False, False]


def caption(*records):
    return table2.caption(table2.tidy(records))


def test_the_caption_says_which_fixed_points_were_found_and_how_near_a_minimum_is():
    def solves(converged):
        return training(test_solves=Solves(count=4, converged=converged, worst_residual=0.1))

    found, short = accuracy("LUSER-SW", solves(4)), accuracy("DEQ4IP", solves(3), training(seed=1))
    minimised = accuracy("total variation", training(worst_gap=8e-4))
    assert "Fixed points of test images found: at least 100% of every method." in caption(found)
    told = caption(found, short, minimised)
    assert "of test images found: DEQ4IP on ct 75%. Total variation to a relative duality gap of at most 8e-04." in told
    assert "Fixed points" not in caption(minimised)


def test_the_caption_says_the_true_acceleration_and_another_range():
    other = {"acceleration": 320 / 36, "range": "volume", "metric": "magnitude", "ssim": "uniform"}
    data = DATA.model_copy(update=other)
    told = caption(accuracy("LUSER-SW", training(), task="mri-8x", data=data))
    assert "range that of each volume of the magnitude, SSIM with a uniform window, 8.89x accelerated" in told
    assert "accelerated" not in caption(accuracy("LUSER-SW", training()))
