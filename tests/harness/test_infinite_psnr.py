"""Images that are reconstructed exactly: run, record, report, compare and plot."""

import json
import warnings

import pytest

SUITE = """
[suite]
stages = ["accuracy"]
architectures = ["LU-DnCNN"]
tasks = ["exact"]

[accuracy]
classical = ["initialisation", "gradient descent"]

[preset.demo.model]
stages = 2

[preset.demo.accuracy]
steps = 2
batch = 2
validate_every = 1
checkpoint_every = 2
validation_images = 2
test_images = 3

[task.exact]
operator = "GaussianBlur"
options = { image_shape = [3, 16, 16], kernel_size = 1 }
data = "photographs"
"""


@pytest.mark.filterwarnings("error::RuntimeWarning")
def test_from_the_run_to_the_plots(bench, tmp_path):
    """A blur of one pixel without noise measures the image itself."""
    (tmp_path / "bench.toml").write_text(SUITE)
    with warnings.catch_warnings():
        ran = bench("run", "--output", "out", "--jobs", "1")
    assert ran.returncode == 0, ran.stderr
    stored = {path: json.loads(path.read_text()) for path in (tmp_path / "out/records").glob("*.json")}
    values = {
        record["architecture"]: [each["psnr_db"] for each in record["accuracy"]["trainings"]]
        for record in stored.values()
    }
    assert values["initialisation"] == values["gradient descent"] == [["Infinity"] * 3]
    assert "| initialisation" in ran.stdout and " inf " in ran.stdout
    again = bench("run", "--output", "out", "--jobs", "1")
    assert again.returncode == 0 and "damaged" not in again.stderr
    before = {path: path.read_bytes() for path in stored}
    assert before == {path: path.read_bytes() for path in (tmp_path / "out/records").glob("*.json")}
    same = bench("compare", "out", "out")
    assert (same.returncode, same.stderr) == (0, "")
    assert "3 cells: 3 same." in same.stdout
    formats = "terminal,markdown,csv,latex,html"
    reported = bench("report", "--records", "out", "--formats", formats, "--output", "report")
    assert reported.returncode == 0, reported.stderr
    assert "inf" in (tmp_path / "report/table2.csv").read_text()
    plotted = bench("plot", "--records", "out", "--select", "training-curves,figure-2")
    assert plotted.returncode == 0, plotted.stderr
    for path, record in stored.items():  # the same, worse by a little
        for training in record["accuracy"]["trainings"]:
            training["psnr_db"] = [90.0 if value == "Infinity" else value for value in training["psnr_db"]]
        (tmp_path / "worse/records").mkdir(parents=True, exist_ok=True)
        (tmp_path / "worse/records" / path.name).write_text(json.dumps(record))
    for pair in (("out", "worse"), ("worse", "out")):
        result = bench("compare", *pair, "--allow-improvement")
        assert result.returncode == 1
        assert "3 cells: 2 worse, 1 same." in result.stdout
