from handmade import failed, profile

from bench.report.tables import profile as table
from bench.report.tables import tables
from bench.units import GiB, MiB


def rows(*records):
    arranged = table.arranged(table.tidy(records))
    return {row[""]: row for row in arranged.to_dict("records")}, arranged


def test_all_rows_of_a_cell_are_what_is_reserved():
    frame = table.tidy([profile("DEQ4IP"), profile("LU-DnCNN", 8 * GiB)])
    for _, cell in frame.groupby("architecture"):
        assert cell["size_bytes"].sum() == cell["reserved_bytes"].iloc[0]


def test_categories_with_their_share_and_what_holds_most():
    found, arranged = rows(profile("LU-DnCNN", 8 * GiB), profile("DEQ4IP"))
    assert list(arranged.columns) == ["task", "", "LU-DnCNN", "DEQ4IP"]
    assert list(found) == [
        *("largest batch, 24GB", "parameters, MiB", "saved activations, MiB", "fragmentation, MiB"),
        *("reserved, MiB", "most of it"),
    ]
    assert (found["largest batch, 24GB"]["LU-DnCNN"], found["largest batch, 24GB"]["DEQ4IP"]) == ("2", "23")
    reserved = 16 * 1024 + 3 + 20
    assert found["saved activations, MiB"]["LU-DnCNN"] == f"16,384.0 ({16 * 1024 / reserved:.1%})"
    assert found["fragmentation, MiB"]["LU-DnCNN"] == f"20.0 ({20 / reserved:.1%})"
    assert found["reserved, MiB"]["LU-DnCNN"] == f"{reserved:,}.0"
    assert found["most of it"]["DEQ4IP"] == "67% net.*, convolution"


def test_cells_that_failed_or_do_not_fit():
    found, _ = rows(profile("LU-DnCNN", 30 * GiB, fits=False), failed("profile", "DEQ4IP"))
    assert {row["DEQ4IP"] for row in found.values()} == {"failed"}
    assert found["largest batch, 24GB"]["LU-DnCNN"] == "-"
    assert table.caption(table.tidy([failed("profile", "DEQ4IP")])) == "No cell was profiled."
    assert "the most that kernels can take" in table.caption(table.tidy([profile("DEQ4IP", MiB)]))
    _, arranged = rows(failed("profile", "DEQ4IP"))
    assert arranged["DEQ4IP"].unique().tolist() == ["failed"]


def test_of_profiles_on_several_cards_the_newest_is_shown():
    old = profile("DEQ4IP", total_bytes=8 * GiB)
    new = profile("DEQ4IP", created="2026-01-02T00:00:00+00:00")
    (made,) = tables([old, new], ["profile"])
    assert made.arranged[""][0] == "largest batch, 24GB"
    assert made.tidy["size_bytes"].sum() == new.profile.composition.peak_reserved_bytes
    assert "Not shown: 1 older records of these cells" in made.caption
