import numpy as np
import pytest
from handmade import DATA, accuracy, training
from safetensors.numpy import save_file

from bench.report.plots import figure2, style


def kept(folder, name, truth, noise, *, task="ct", data_range=1.0):
    """A record whose reconstructions are off by `noise[n]` in every pixel of image n; the initialisation by 0.5."""
    off = np.array(noise, np.float32)[:, None, None, None]
    tensors = {"truth": truth, "initialisation": truth + 0.5, "reconstruction": truth + off}
    save_file({key: np.ascontiguousarray(value) for key, value in tensors.items()}, folder / f"{task}-{name}")
    data = DATA.model_copy(update={"data_range": data_range})
    return accuracy(name, training(), task=task, data=data, reconstructions=f"{task}-{name}")


@pytest.mark.parametrize("metric", ["image", "real", "magnitude"])
def test_psnr_is_of_what_the_records_is(tmp_path, metric):
    """3 + 4i is off by 0.1 in both parts of every pixel: of the magnitude by 0.14."""
    mri = np.stack([np.full((1, 8, 8), 3.0), np.full((1, 8, 8), 4.0)], axis=1).astype(np.float32)
    record = kept(tmp_path, "LU-DnCNN", mri, [0.1], task="mri-4x")
    data = record.accuracy.data.model_copy(update={"metric": metric})
    record = record.model_copy(update={"accuracy": record.accuracy.model_copy(update={"data": data})})
    (panel,) = figure2.panels([record], tmp_path)
    off = np.hypot(3.1, 4.1) - 5
    assert panel.psnr_db["LU-DnCNN"] == pytest.approx(-20 * np.log10(off) if metric == "magnitude" else 20, abs=1e-3)


def images(count=3, channels=1, size=16):
    return np.random.default_rng(0).random((count, channels, size, size), np.float32)


def test_the_image_of_median_psnr_is_shown_with_its_psnr(tmp_path):
    (panel,) = figure2.panels([kept(tmp_path, "LU-DnCNN", images(), [0.001, 0.1, 0.01])], tmp_path)
    assert panel.image_number == 2
    assert list(panel.psnr_db) == ["initialisation", "LU-DnCNN"]
    assert panel.psnr_db["LU-DnCNN"] == pytest.approx(40, abs=1e-3)  # 20 log10(1 / 0.01)
    assert panel.psnr_db["initialisation"] == pytest.approx(6.0206, abs=1e-3)  # 20 log10(1 / 0.5)


def test_the_detail_is_where_the_truth_varies_most(tmp_path):
    truth = np.zeros((1, 1, 16, 16), np.float32)
    truth[0, 0, 9:12:2, 6:8] = 1
    (panel,) = figure2.panels([kept(tmp_path, "LU-DnCNN", truth, [0.1])], tmp_path)
    (row, column), side = panel.start, panel.side
    assert side == 4
    assert row <= 9 < 12 <= row + side
    assert column <= 6 < 8 <= column + side


def test_mri_is_its_magnitude_and_photographs_keep_their_colours(tmp_path):
    mri = np.zeros((1, 2, 8, 8), np.float32)
    mri[0, :, 2, 2] = 3, 4
    photograph = 2 * images(1, 3, 8) - 1
    ct, deblurring = figure2.panels(
        [
            kept(tmp_path, "LU-DnCNN", mri, [0.1], task="mri-4x"),
            kept(tmp_path, "LU-DnCNN", photograph, [0.1], task="deblurring", data_range=2.0),
        ],
        tmp_path,
    )[::-1]
    assert ct.truth.shape == (8, 8)
    assert ct.truth[2, 2] == 1.0  # the largest magnitude, 5, is white
    np.testing.assert_allclose(deblurring.truth, (np.moveaxis(photograph[0], 0, -1) + 1) / 2)


def test_every_method_has_its_picture_error_detail_and_psnr(tmp_path):
    records = [kept(tmp_path, name, images(1), [0.1]) for name in ("LU-DnCNN", "DEQ4IP")]
    records.append(kept(tmp_path, "LU-DnCNN", images(1), [0.2], task="mri-8x"))
    with style.style():
        figure = figure2.draw(records, tmp_path)
    assert [axes.get_title("center") for axes in figure.axes[:4]] == ["initialisation", "LU-DnCNN", "DEQ4IP", "truth"]
    above = figure.axes[:4]
    assert [len(axes.images) for axes in above] == [1] * 4
    assert [len(axes.patches) for axes in above] == [1] * 4  # the box
    assert [len(axes.child_axes[0].images) for axes in above] == [1] * 4  # the detail
    assert [axes.texts[0].get_text() for axes in above[1:]] == ["20.00 dB", "20.00 dB", "test image 0"]
    assert figure.axes[8 + 2].texts[0].get_text() == "none"  # DEQ4IP was not trained on mri-8x


def test_missing_reconstructions(tmp_path):
    record = kept(tmp_path, "LU-DnCNN", images(), [0.1] * 3)
    (tmp_path / "ct-LU-DnCNN").unlink()
    with pytest.raises(FileNotFoundError):
        figure2.panels([record], tmp_path)


@pytest.mark.parametrize("content", [b"", b"nonsense" * 100])
def test_damaged_reconstructions(tmp_path, content):
    record = kept(tmp_path, "LU-DnCNN", images(), [0.1] * 3)
    (tmp_path / "ct-LU-DnCNN").write_bytes(content)
    with pytest.raises(ValueError, match="ct-LU-DnCNN is damaged"):
        figure2.panels([record], tmp_path)


def test_a_tensor_is_missing(tmp_path):
    record = kept(tmp_path, "LU-DnCNN", images(), [0.1] * 3)
    save_file({"truth": images()}, tmp_path / "ct-LU-DnCNN")
    with pytest.raises(ValueError, match=r"is damaged \('initialisation'\)"):
        figure2.panels([record], tmp_path)


def test_other_images_are_not_put_side_by_side(tmp_path):
    records = [kept(tmp_path, "LU-DnCNN", images(), [0.1] * 3), kept(tmp_path, "DEQ4IP", images() / 2, [0.1] * 3)]
    with pytest.raises(ValueError, match="DEQ4IP on ct was tested on other images than LU-DnCNN"):
        figure2.panels(records, tmp_path)


@pytest.mark.filterwarnings("error")
def test_a_black_image_and_one_that_is_reconstructed_exactly(tmp_path):
    with style.style():
        figure = figure2.draw([kept(tmp_path, "LU-DnCNN", np.zeros((1, 1, 16, 16), np.float32), [0.0])], tmp_path)
    assert "inf dB" in [text.get_text() for axes in figure.axes for text in axes.texts]
