"""The page: valid, self-contained, safe whatever a record says, and alive in a real browser."""

import base64
import hashlib
import html
import itertools
import json
import re
import shutil
import subprocess
from urllib.parse import unquote
from xml.etree import ElementTree

import html5lib
import pytest
from handmade import ARCHITECTURES, accuracy, failed, memory, record, timing, training

from bench.report.chosen import cards_of, joined
from bench.report.formats import Figure, Report, format_named
from bench.report.formats.html import _shorter, inline
from bench.report.provenance import provenance
from bench.report.summary import found
from bench.report.tables import tables
from bench.units import MiB

EVIL = "<script>alert(1)</script>"
XHTML = "{http://www.w3.org/1999/xhtml}"
SVG = """<?xml version="1.0" encoding="utf-8"?>
<!DOCTYPE svg PUBLIC "-//W3C//DTD SVG 1.1//EN" "http://www.w3.org/Graphics/SVG/1.1/DTD/svg11.dtd">
<svg xmlns:xlink="http://www.w3.org/1999/xlink" width="10pt" height="10pt" viewBox="0 0 10 10" xmlns="http://www.w3.org/2000/svg">
<metadata><x/></metadata>
<defs><clipPath id="p1"><rect x="0" y="0" width="10" height="10"/></clipPath><path id="m1" d="M 0 0 L 1 1"/></defs>
<g id="axes_1" clip-path="url(#p1)" style="clip-path: url(#p1)"><use xlink:href="#m1" href="#m1"/></g>
</svg>"""


def page(records, figures=()):
    chosen = joined(records)
    answer = found(chosen, cards_of(chosen), "high")
    report = Report(tables(chosen), list(figures), provenance(chosen), answer)
    return format_named("html").files(report)["report.html"].decode()


def suite():
    batches = {"LU-DnCNN": 900, "DEQ4IP": 90, "LUSER-SW": 700, "LUSER-DW": 8000}  # MiB per image; the last fits nowhere
    records = [failed("memory", EVIL), failed("timing", "DEQ4IP", "mri")]
    for task in ("deblurring", "ct"):
        for place, architecture in enumerate(ARCHITECTURES):
            records.append(memory(architecture, batches[architecture] * MiB, 1000 * (place + 1), task=task))
            records.append(timing(architecture, (3, 20, 1, 100)[place], 0.25, task=task))
            records.append(accuracy(architecture, training((30.0 + place, 32.0)), task=task))
    return records


def parsed(text):
    """The page as a tree; any error of its HTML is an error here."""
    return html5lib.HTMLParser(strict=True).parse(text)


def text_of(element):
    return "".join(element.itertext())


def table(tree, name):
    section = next(each for each in tree.iter() if each.get("id") == name)
    rows = section.find(f".//{XHTML}table").iter(f"{XHTML}tr")
    return [[text_of(cell).strip() for cell in row] for row in rows]


@pytest.fixture(scope="module")
def shown():
    panels = {"deblurring": SVG, "ct": SVG}
    return page(suite(), [Figure("largest-batch", "Largest batch", panels), Figure("two", "Second", {"ct": SVG})])


def test_valid_html_with_every_table_in_the_papers_arrangement(shown):
    tree = parsed(shown)
    rows = table(tree, "table3")
    assert rows[0] == ["task", "", *ARCHITECTURES, EVIL]
    assert [row[:2] for row in rows[1:5]] == [
        ["deblurring", name] for name in ("parameters", "8GB", "24GB", "MiB per image")
    ]
    assert rows[2][2:5] == ["8 / 8 / 1", "85 / 84 / 16", "10 / 10 / 10"]


def test_the_answer_comes_first_and_each_figure_stands_with_its_table(shown):
    tree = parsed(shown)
    assert [each.get("id") for each in tree.iter(f"{XHTML}section")] == [
        *("largest-training-batch", "time", "quality", "properties", "more", "provenance"),
    ]
    first = next(tree.iter(f"{XHTML}section"))
    assert [each.get("id") for each in first if each.get("id")] == ["table3", "largest-batch"]
    assert text_of(next(tree.iter(f"{XHTML}p"))).startswith("Largest batch: 8GB 85 (DEQ4IP on deblurring), 24GB 267")


def test_headings_go_down_one_level_at_a_time(shown):
    levels = [int(each.tag[-1]) for each in parsed(shown).iter() if re.fullmatch(f"{XHTML}h[1-6]", str(each.tag))]
    assert levels[0] == 1 and levels.count(1) == 1
    assert all(later <= sooner + 1 for sooner, later in itertools.pairwise(levels))


def test_title_and_heading_say_what_when_and_from_which_commit():
    made = memory("DEQ4IP", MiB)
    made = made.model_copy(update={"provenance": made.provenance.model_copy(update={"commit": "6e387df9bd25"})})
    tree = parsed(page([made]))
    (title,) = tree.iter(f"{XHTML}title")
    (heading,) = tree.iter(f"{XHTML}h1")
    assert text_of(title) == text_of(heading) == "bench report · ct · 2026-01-01 · 6e387df9bd25"


def test_pictures_have_names_for_those_who_do_not_see_them(shown):
    pictures = [each for each in parsed(shown).iter() if str(each.tag).endswith("}svg")]
    assert [(each.get("role"), each.get("aria-label")) for each in pictures] == [
        ("img", "Largest batch: deblurring"),
        ("img", "Largest batch: ct"),
        ("img", "Second: ct"),
    ]


def test_ids_are_unique_and_references_between_them_hold(shown):
    ids = re.findall(r'\bid="([^"]+)"', shown)
    assert len(ids) == len(set(ids))
    assert set(re.findall(r'(?:href="#|url\(#)([^")]+)', shown)) <= set(ids)
    assert {"largest-batch-0-p1", "largest-batch-1-p1", "two-0-p1"} <= set(ids)


def test_an_inlined_picture_is_still_one():
    text = inline(SVG, "one", '"<First>"')
    element = ElementTree.fromstring(text)
    assert element.tag == "{http://www.w3.org/2000/svg}svg"
    assert element.get("aria-label") == '"<First>"'
    assert "one-p1" in text and "metadata" not in text


def test_a_path_is_the_same_to_a_tenth_of_a_point():
    path = "M 1.04 2 \nL 1.06 3.0 L 2 3 L 3.3333 3 L 4 3 L 4 5.55 z"
    assert _shorter(path) == "M1 2L1.1 3L4 3L4 5.5z"  # what lies between two points of one height says nothing


def test_nothing_is_loaded_and_only_our_script_may_run(shown):
    tree = parsed(shown)
    references = [
        value
        for element in tree.iter()
        for name, value in element.attrib.items()
        if str(name).split("}")[-1] in ("src", "href", "srcset", "action", "data")
    ]
    assert references and all(value.startswith(("#", "data:text/csv;charset=utf-8,")) for value in references)
    assert "@import" not in shown and not re.search(r"url\((?!#)", shown)
    (script,) = tree.iter(f"{XHTML}script")
    digest = base64.b64encode(hashlib.sha256(text_of(script).encode()).digest()).decode()
    policy = next(each.get("content") for each in tree.iter(f"{XHTML}meta") if each.get("http-equiv"))
    assert policy == f"default-src 'none'; img-src data:; style-src 'unsafe-inline'; script-src 'sha256-{digest}'"


def test_text_of_records_stays_text():
    evil = memory("DEQ4IP", MiB).settings | {EVIL: EVIL}
    made = [
        memory(EVIL, 300 * MiB, task=f'"{EVIL}', settings=evil),
        record("timing", EVIL, EVIL, status="failed", reason=EVIL, settings=evil),
    ]
    text = page(made)
    tree = parsed(text)
    assert len(list(tree.iter(f"{XHTML}script"))) == 1
    assert EVIL not in text
    assert table(tree, "table3")[0][2] == EVIL
    assert f"failed: {EVIL}" in [cell for row in table(tree, "provenance") for cell in row]


def test_the_whole_numbers_are_in_the_link_to_the_csv(shown):
    chosen = joined(suite())
    for made in tables(chosen):
        links = re.findall(rf'href="data:text/csv;charset=utf-8,([^"]+)" download="{made.name}.csv"', shown)
        assert [unquote(html.unescape(link)) for link in links] == [made.tidy.to_csv(index=False)]


def test_the_best_of_each_row_is_marked(shown):
    section = shown.split('id="table3"')[1].split("</table>")[0]
    best = re.findall(r'<td class="[^"]*best"[^>]*>([^<]*)<', section)
    assert best == [*("1,000", "85", "267", "90.0") * 2]


def luminance(color):
    channels = [int(color[place : place + 2], 16) / 255 for place in (1, 3, 5)]
    linear = [c / 12.92 if c <= 0.03928 else ((c + 0.055) / 1.055) ** 2.4 for c in channels]
    return sum(weight * c for weight, c in zip((0.2126, 0.7152, 0.0722), linear, strict=True))


@pytest.mark.parametrize("mode", [0, 1], ids=["light", "dark"])
@pytest.mark.parametrize(
    ("ink", "ground"),
    [
        *[("ink", ground) for ground in ("page", "surface", "head", "hover")],
        *[("muted", ground) for ground in ("page", "surface", "head", "hover")],
        *[("link", ground) for ground in ("page", "head")],
        ("best-ink", "best"),
    ],
)
def test_contrast_is_that_of_wcag_aa(shown, mode, ink, ground):
    colors = {name: both for name, *both in re.findall(r"--([\w-]+): light-dark\((#\w{6}), (#\w{6})\)", shown)}
    light, dark = sorted((luminance(colors[name][mode]) for name in (ink, ground)), reverse=True)
    assert (light + 0.05) / (dark + 0.05) >= 4.5


# --- in a browser ---------------------------------------------------------------------------------------------------

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser")
in_a_browser = pytest.mark.skipif(CHROMIUM is None, reason="Chromium is not installed (Debian: chromium)")


def chromium(tmp_path, text, *options):
    """Open a page in a browser without network. Its document afterwards, and what it wrote to its console."""
    path = tmp_path / "page.html"
    path.write_text(text, encoding="utf-8")
    command = [
        *(CHROMIUM, "--headless", "--no-sandbox", "--disable-gpu", "--enable-logging=stderr"),
        *("--host-resolver-rules=MAP * ~NOTFOUND", f"--user-data-dir={tmp_path}/profile"),
        *("--virtual-time-budget=2000", *options, path.as_uri()),
    ]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr[-2000:]
    return done.stdout, [line for line in done.stderr.splitlines() if "CONSOLE" in line]


def with_script(text, script):
    """A copy of the page in which another script runs after its own; its result is written into the title."""
    text = re.sub(r'<meta http-equiv="Content-Security-Policy"[^>]*>', "", text)
    return text.replace("</body>", f"<script>document.title = JSON.stringify((() => {{{script}}})())</script></body>")


def result_of(tmp_path, text, script, *options):
    document, console = chromium(tmp_path, with_script(text, script), "--dump-dom", *options)
    assert not console
    return json.loads(html.unescape(re.search(r"<title>(.*?)</title>", document, re.DOTALL)[1]))


@in_a_browser
def test_the_page_runs_without_a_word_on_the_console(tmp_path, shown):
    document, console = chromium(tmp_path, shown, "--dump-dom")
    assert not console
    assert re.search(r'<html[^>]* data-theme="light"', document)
    assert document.count('aria-sort="none"') == document.count("<button") - 1  # a button in every header
    assert '<option value="8GB">8GB</option>' in document


@in_a_browser
def test_the_test_would_notice_a_script_that_is_not_ours_and_a_page_that_is_loaded(tmp_path, shown):
    text = shown.replace(
        "</body>", '<script>document.title = "theirs"</script><img src="http://localhost/x.png"></body>'
    )
    document, console = chromium(tmp_path, text, "--dump-dom")
    assert "<title>bench report · deblurring" in document
    assert len(console) == 2 and all("Content Security Policy" in line for line in console)


CLICKS = """
const table = document.querySelector("#table3 table");
return [0, 5].map((place) => {
  const head = table.tHead.rows[0].cells[place];
  const button = head.querySelector("button");
  const column = () => [...table.tBodies[0].rows].map((row) => row.cells[place].innerText);
  const steps = [["none", column()]];
  for (let i = 0; i < 3; i++) {
    button.focus();
    document.activeElement.click();
    steps.push([head.getAttribute("aria-sort"), column()]);
  }
  return steps;
});
"""


@in_a_browser
def test_a_click_sorts_by_the_first_number_and_the_third_restores(tmp_path, shown):
    tasks, architecture = result_of(tmp_path, shown, CLICKS)
    for steps in (tasks, architecture):
        assert [direction for direction, _ in steps] == ["none", "ascending", "descending", "none"]
        assert steps[0][1] == steps[3][1]
    assert [names for _, names in tasks[1:3]] == [["ct"] * 4 + ["deblurring"] * 4, ["deblurring"] * 4 + ["ct"] * 4]
    (_, ascending), (_, descending) = architecture[1:3]
    assert ascending == ["3", "3", "4,000", "4,000", "8,000.0", "8,000.0", "-", "-"]  # without a number: last
    assert descending == ["8,000.0", "8,000.0", "4,000", "4,000", "3", "3", "-", "-"]


PARTS = """
const cell = [...document.querySelectorAll("#table3 td")].find((each) => each.textContent === "8 / 8 / 1");
const boxes = document.querySelectorAll("#table3 input");
const seen = [[...boxes].map((box) => box.parentElement.innerText.trim()), cell.innerText];
for (const box of boxes) { box.click(); seen.push(cell.innerText); }
return seen;
"""


@in_a_browser
def test_a_cell_shows_its_own_number_and_the_others_on_demand(tmp_path, shown):
    names, *texts = result_of(tmp_path, shown, PARTS)
    assert names == ["the paper's number", "in even numbers, as the paper counts"]
    assert texts == ["8", "8 / 1", "8 / 8 / 1"]


FILTER = """
const [task, row] = document.querySelectorAll("#table3 select");
const visible = () => [...document.querySelectorAll("#table3 tbody tr")].filter((each) => each.checkVisibility());
const said = () => visible().map((each) => [each.cells[0].innerText, each.cells[1].innerText]);
const seen = [visible().length];
const choose = (select, value) => { select.value = value; select.dispatchEvent(new Event("change")); };
choose(row, "24GB");
seen.push(said());
document.querySelector("#table3 thead button").click();
choose(task, "deblurring");
seen.push(said());
choose(row, "");
choose(task, "");
seen.push(visible().length);
return seen;
"""


@in_a_browser
def test_filters_leave_one_card_or_one_task(tmp_path, shown):
    assert result_of(tmp_path, shown, FILTER) == [
        8,
        [["deblurring", "24GB"], ["ct", "24GB"]],
        [["deblurring", "24GB"]],
        8,
    ]


THEME = """
const ground = () => getComputedStyle(document.body).backgroundColor;
const button = document.getElementById("theme");
const seen = [[button.textContent, ground()]];
for (let i = 0; i < 2; i++) { button.click(); seen.push([button.textContent, ground()]); }
return seen;
"""


@in_a_browser
@pytest.mark.parametrize("dark", [False, True], ids=["light", "dark"])
def test_light_and_dark_follow_the_system_and_the_toggle(tmp_path, shown, dark):
    options = ["--blink-settings=preferredColorScheme=0"] if dark else []
    first, second, third = result_of(tmp_path, shown, THEME, *options)
    light_ground, dark_ground = "rgb(251, 250, 247)", "rgb(21, 23, 26)"
    assert first == third == (["Light", dark_ground] if dark else ["Dark", light_ground])
    assert second == (["Dark", light_ground] if dark else ["Light", dark_ground])


@in_a_browser
def test_a_phone_shows_the_page_without_scrolling_it_sideways(tmp_path, shown):
    # A window is at least 500 px wide; a frame is not.
    beyond = "const root = document.documentElement; return root.scrollWidth - root.clientWidth"
    page = html.escape(with_script(shown, beyond))
    frame = f'<!doctype html><title></title><body><iframe style="width: 400px; border: 0" srcdoc="{page}"></iframe>'
    script = "addEventListener('load', () => document.title = frames[0].document.title)"
    document, console = chromium(tmp_path, f"{frame}<script>{script}</script>", "--dump-dom")
    assert not console
    assert re.search("<title>(.*?)</title>", document)[1] == "0"


@in_a_browser
def test_the_picture_of_the_page_is_neither_blank_nor_dark(tmp_path, shown):
    from PIL import Image

    chromium(tmp_path, shown, f"--screenshot={tmp_path}/page.png", "--window-size=1280,2000")
    with Image.open(tmp_path / "page.png") as picture:
        grey = picture.convert("L")
        shares = [count / (grey.width * grey.height) for count in grey.histogram()]
    assert sum(shares[240:]) > 0.7  # the ground
    assert sum(shares[:100]) > 0.01  # the ink
