"""bench report as a user types it: files, exact exit codes, and one sentence for every bad input."""

import re

import html5lib
import pytest
from handmade import accuracy, memory, stored, timing, training

from bench.units import MiB


@pytest.fixture
def runs(tmp_path):
    """The default folder of records."""
    folder = tmp_path / "results/runs"
    stored(
        folder / "records",
        memory("LU-DnCNN", 300 * MiB),
        timing("LU-DnCNN", 1.0, 2.0, per_image=100 * MiB),
        accuracy("LU-DnCNN", training()),
    )
    return folder


def contents(folder):
    return {path.name: path.read_bytes() for path in folder.iterdir()} if folder.exists() else {}


def refused(done, code, *words):
    """One sentence on stderr that has the words, nothing on stdout."""
    assert done.returncode == code, done.stderr
    assert done.stderr.startswith("bench: ") and done.stderr.count("\n") == 1, done.stderr
    for word in words:
        assert word in done.stderr
    assert done.stdout == ""


def test_by_default_the_tables_are_printed_and_the_page_is_written(bench, runs, tmp_path):
    done = bench("report")
    assert done.returncode == 0, done.stderr
    for title in ("Table 2", "Table 3", "Table 4", "Time"):
        assert title in done.stdout
    assert list(contents(tmp_path / "results/report")) == ["report.html"]
    assert done.stderr == "bench: wrote report.html into results/report\n"


def test_the_page_holds_the_plots_of_what_was_measured(bench, runs, tmp_path):
    assert bench("report", "--formats", "html").returncode == 0
    page = (tmp_path / "results/report/report.html").read_text()
    html5lib.HTMLParser(strict=True).parse(page)
    assert page.count("<svg") == page.count("<figure ") >= 4
    ids = re.findall(r'\bid="([^"]+)"', page)
    assert len(ids) == len(set(ids))
    assert set(re.findall(r'(?:href="#|url\(#)([^")]+)', page)) <= set(ids)


def test_the_same_records_give_the_same_page_with_plots(bench, runs, tmp_path):
    for folder in ("one", "two"):
        assert bench("report", "--formats", "html", "--output", folder).returncode == 0
    assert contents(tmp_path / "one") == contents(tmp_path / "two")


def test_plots_of_other_tables_than_those_selected_are_left_out(bench, runs, tmp_path):
    assert bench("report", "--formats", "html", "--select", "timing").returncode == 0
    page = (tmp_path / "results/report/report.html").read_text()
    assert page.count("<svg") == 1 and "largest-batch" not in page


def test_more_tasks_than_a_plot_has_room_for(bench, tmp_path):
    stored(tmp_path / "results/runs/records", *(timing("DEQ4IP", 1.0, 2.0, task=f"task {place}") for place in range(9)))
    done = bench("report", "--formats", "html")
    assert done.returncode == 0
    assert "no figures: they have a panel per task, and 9 are more than 8" in done.stderr


def test_every_format_in_a_folder_of_choice(bench, runs, tmp_path):
    pytest.importorskip("pyarrow")
    done = bench(
        "report", "--formats", "markdown,csv,parquet,latex,html", "--output", "out", "--select", "table3,timing"
    )
    assert done.returncode == 0 and done.stdout == ""
    each = {
        f"{name}{end}"
        for name in ("table3", "timing")
        for end in (".csv", "-arranged.csv", ".parquet", "-arranged.parquet", ".tex")
    }
    assert set(contents(tmp_path / "out")) == each | {"report.md", "report.tex", "report.html"}


def test_the_terminal_alone_writes_nothing(bench, runs, tmp_path):
    done = bench("report", "--formats", "terminal", "--select", "table3")
    assert done.returncode == 0 and done.stderr == ""
    assert "Table 3" in done.stdout and "Time" not in done.stdout
    assert not (tmp_path / "results/report").exists()


def test_records_of_several_folders(bench, runs, tmp_path):
    stored(tmp_path / "more/records", memory("DEQ4IP", 100 * MiB))
    done = bench(
        "report", "--records", "results/runs", "--records", "more", "--formats", "terminal", "--select", "table3"
    )
    assert "LU-DnCNN" in done.stdout and "DEQ4IP" in done.stdout


def test_an_output_of_other_content_stands_until_force(bench, runs, tmp_path):
    out = tmp_path / "out"
    out.mkdir()
    (out / "table3.tex").write_text("mine")
    options = ("report", "--formats", "terminal,latex,csv", "--output", "out")
    refused(bench(*options), 2, "out has another table3.tex", "--force")
    assert contents(out) == {"table3.tex": b"mine"}
    assert bench(*options, "--force").returncode == 0
    assert b"toprule" in (out / "table3.tex").read_bytes()
    written = contents(out)
    assert bench(*options).returncode == 0  # the same report again
    assert contents(out) == written


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (["--formats", "html,word"], ["unknown format 'word'", "terminal, markdown, csv, parquet, latex, html"]),
        (["--formats", ""], ["--formats: got '', expected at least one name"]),
        (
            ["--select", "table5"],
            ["unknown table 'table5'", "known are table3, strategies, profile, timing, table2, table4"],
        ),
        (["--records", "nowhere"], ["there is no folder nowhere: give the output folder of `bench run`"]),
        (["--output", "file"], ["cannot write to the output folder file"]),
    ],
)
def test_options_that_cannot_be(bench, runs, tmp_path, options, words):
    (tmp_path / "file").write_text("mine")
    refused(bench("report", *options), 2, *words)
    assert not (tmp_path / "results/report").exists()


@pytest.mark.parametrize(
    ("content", "words"),
    [
        ("{", ["1-damaged.json is damaged"]),
        ('{"format": 99}', ["1-damaged.json is a record of format 99", "update bench"]),
    ],
)
def test_a_record_that_cannot_be_read(bench, runs, tmp_path, content, words):
    (runs / "records" / "1-damaged.json").write_text(content)
    done = bench("report")
    assert done.returncode == 0 and "LU-DnCNN" in done.stdout
    assert all(f"bench: left out: results/runs/records/{word}" in done.stderr for word in words[:1])
    assert all(word in done.stderr for word in words)
    for path in (runs / "records").iterdir():
        path.write_text(content)
    refused(bench("report", "--force"), 4, "no record in results/runs can be used: ", "(and 3 more)")


def test_an_empty_set_of_records(bench, tmp_path):
    (tmp_path / "empty/records").mkdir(parents=True)
    refused(
        bench("report", "--records", "empty"),
        4,
        "no records in empty: give the output folder of `bench run`, which makes them",
    )


def test_records_that_fill_none_of_the_tables(bench, tmp_path):
    stored(tmp_path / "runs/records", timing("DEQ4IP", 1.0, 2.0))
    refused(bench("report", "--records", "runs", "--select", "table2,table3"), 4, "fill none of table2, table3")


def test_parquet_without_its_library(bench, runs, tmp_path, monkeypatch):
    def missing(name):
        raise ModuleNotFoundError(f"No module named {name!r}", name="pyarrow")

    monkeypatch.setattr("bench.report.formats.format_named", missing)
    refused(bench("report", "--formats", "parquet"), 2, "parquet needs pyarrow", "pip install pyarrow")
    assert not (tmp_path / "results/report").exists()
