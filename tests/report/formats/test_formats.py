"""What every format says, and that nothing in a record can break it."""

import csv as standard_csv
import io
import re
import shutil
import subprocess

import pandas as pd
import pytest
from handmade import ARCHITECTURES, accuracy, failed, memory, timing, training

from bench.report.chosen import joined
from bench.report.formats import FORMATS, Report, format_named
from bench.report.provenance import provenance
from bench.report.tables import tables
from bench.units import MiB

EVIL = r"""<script>alert(1)</script> & 50% of #1 $x_0^2$ ~{a}\b|c`d`*e* "f" [g](h) -- é ᵀ 中"""


def made_of(*records):
    chosen = joined(records)
    return Report(tables(chosen), [], provenance(chosen))


def suite():
    records = []
    for task in ("deblurring", "ct"):
        for place, architecture in enumerate(ARCHITECTURES):
            records.append(memory(architecture, (place + 1) * 300 * MiB, 1000 * (place + 1), task=task))
            records.append(timing(architecture, 0.5 + place, 0.25, task=task))
            records.append(accuracy(architecture, training((30.0 + place, 32.0)), task=task))
    return records


@pytest.fixture(scope="module")
def report():
    return made_of(*suite())


def file(report, name, format):
    return format_named(format).files(report)[name]


@pytest.mark.parametrize("format", FORMATS)
def test_the_same_records_give_the_same_bytes(format):
    if format == "parquet":
        pytest.importorskip("pyarrow")
    records = suite()
    assert format_named(format).files(made_of(*records)) == format_named(format).files(made_of(*reversed(records)))


@pytest.mark.parametrize("arranged", [False, True])
def test_csv_and_parquet_hold_the_whole_frames(report, arranged):
    pytest.importorskip("pyarrow")
    for table in report.tables:
        name, frame = (f"{table.name}-arranged", table.arranged) if arranged else (table.name, table.tidy)
        parquet = pd.read_parquet(io.BytesIO(file(report, f"{name}.parquet", "parquet")))
        pd.testing.assert_frame_equal(parquet, frame, check_dtype=False)
        rows = list(standard_csv.DictReader(io.StringIO(file(report, f"{name}.csv", "csv").decode())))
        assert len(rows) == len(frame)
        assert list(rows[0]) == list(frame.columns)


def test_parquet_keeps_whole_numbers_whole(report):
    pytest.importorskip("pyarrow")
    frame = pd.read_parquet(io.BytesIO(file(report, "table3.parquet", "parquet")))
    assert pd.api.types.is_integer_dtype(frame["largest_batch"])


def test_markdown_has_every_table_with_the_best_in_bold(report):
    text = file(report, "report.md", "markdown").decode()
    for table in report.tables:
        assert f"## {table.title}" in text
    parameters = next(line for line in text.splitlines() if "parameters" in line and "deblurring" in line)
    assert re.findall(r"\*\*(.*?)\*\*", parameters) == ["1,000"]
    psnr = next(line for line in text.splitlines() if line.startswith("| LUSER-DW") and "PSNR" in line)
    assert re.findall(r"\*\*(.*?)\*\*", psnr) == ["32.50", "32.50"]
    step = [line for line in text.splitlines() if "[0.5, 0.5]" in line]
    assert all("**0.5** [0.5, 0.5]" in line and "**2.00**" in line for line in step)
    assert len(step) == 2


def test_markdown_of_text_that_means_something_there():
    report = made_of(memory(EVIL, 300 * MiB), memory("DEQ4IP", 300 * MiB))
    text = file(report, "report.md", "markdown").decode().split("## Table 4")[0]
    rows = [line for line in text.splitlines() if line.startswith("|")]
    assert {len(re.findall(r"(?<!\\)\|", row)) for row in rows} == {5}  # four columns
    assert "<" not in text.replace(r"\<", "") and "`" not in text.replace(r"\`", "")


def test_latex_of_text_that_means_something_there():
    text = file(made_of(memory(EVIL, 300 * MiB)), "table3.tex", "latex").decode()
    header = text.split(r"\toprule")[1].split(r"\midrule")[0].strip()
    assert header == (
        r"task &  & \textless{}script\textgreater{}alert(1)\textless{}/script\textgreater{} \& 50\% of \#1 "
        r"\$x\_0\textasciicircum{}2\$ \textasciitilde{}\{a\}\textbackslash{}b\textbar{}c{`}d{`}{*}e{*} {''}f{''} "
        r"{[}g{]}(h) {-}{-} é \textsuperscript{T} {[}U+4E2D{]} \\"
    )


def test_latex_sets_tasks_apart_and_aligns_numbers(report):
    lines = file(report, "table3.tex", "latex").decode().splitlines()
    assert lines[0] == "% bench 0, torch 2.13.0, 2026-01-01"
    assert lines[2] == r"\begin{tabular}{llrrrr}"
    assert lines.count(r"\addlinespace") == 1  # between two tasks
    assert sum(line.endswith(r"\\") for line in lines) == 1 + 2 * 4
    assert r"deblurring & parameters & \textbf{1,000} & 2,000 & 3,000 & 4,000 \\" in lines


def test_latex_floats_have_captions_and_labels(report):
    text = file(report, "report.tex", "latex").decode()
    for table in report.tables:
        assert rf"\caption{{\textbf{{{table.title}.}} " in text and rf"\label{{tab:{table.name}}}" in text
    assert text.rstrip().endswith("\\noindent bench 0, torch 2.13.0, 2026{-}01{-}01\n\\end{document}")


def test_markdown_ends_with_where_the_numbers_come_from(report):
    assert file(report, "report.md", "markdown").decode().endswith("\n\nbench 0, torch 2.13.0, 2026-01-01\n")


@pytest.mark.skipif(
    not shutil.which("pdflatex"), reason="pdflatex is not installed (Debian: texlive-latex-recommended)"
)
@pytest.mark.parametrize("records", [suite(), [memory(EVIL, 300 * MiB), timing(EVIL, 1.0, 1.0), failed("memory")]])
def test_latex_compiles_with_booktabs(tmp_path, records):
    for name, content in format_named("latex").files(made_of(*records)).items():
        (tmp_path / name).write_bytes(content)
    command = ["pdflatex", "-interaction=nonstopmode", "-halt-on-error", "report.tex"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, errors="replace")
    assert done.returncode == 0, done.stdout[-2000:]
    assert (tmp_path / "report.pdf").stat().st_size > 10_000


def test_failed_cells_are_named_so_in_every_table():
    report = made_of(failed("memory"), failed("timing"), failed("accuracy"))
    for table in report.tables:
        assert table.arranged.map(lambda text: text.startswith("failed")).any(axis=None), table.name
        assert not table.best.any(axis=None)


def test_provenance_tells_settings_that_differ_from_those_of_all_of_a_stage():
    shown = provenance([memory("DEQ4IP", MiB), memory("DEQ4IP", MiB, loss="auxiliary"), failed("timing")])
    assert list(shown.shared_settings) == ["memory", "timing, preset demo"]
    assert shown.shared_settings["memory"] == {
        "accuracy.batch": "4",
        "accuracy.steps": "150",
        "memory.alloc_conf": "",
        "memory.engine": "simulated",
        "memory.steps": "2",
        "model.gradient": "one-graph",
        "model.solver.max_evaluations": "8",
        "model.stages": "4",
        "task.operator": "Radon",
    }
    assert list(shown.records["settings that differ"]) == ["training.loss = final", "training.loss = auxiliary", ""]
    assert shown.summary["Records"] == "3, 1 failed"
    assert shown.records["status"].iloc[2] == "failed: out of luck"
