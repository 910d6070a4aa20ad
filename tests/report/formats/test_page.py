"""The page as a reader has it: of real records, in a real browser, as wide as a desk and as a phone, light and dark.

Needs Chromium, playwright and axe-core: pip install '.[browser]'.
"""

import shutil
from io import BytesIO

import pytest
from PIL import Image

RECORDS = "results/demo"
CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser")
sync_api = pytest.importorskip("playwright.sync_api")
axe = pytest.importorskip("axe_playwright_python.sync_playwright")
pytestmark = pytest.mark.skipif(CHROMIUM is None, reason="Chromium is not installed (Debian: chromium)")

MOST_BYTES = 1_500_000
SIZES = [(1440, "light"), (1440, "dark"), (390, "light"), (390, "dark")]


@pytest.fixture(scope="module")
def file(tmp_path_factory, request):
    from typer.testing import CliRunner

    from bench.commands.verbs import app

    folder = tmp_path_factory.mktemp("page")
    records = str(request.config.rootpath / RECORDS)
    done = CliRunner().invoke(app, ["report", "--records", records, "--formats", "html", "--output", str(folder)])
    assert done.exit_code == 0, done.output
    return folder / "report.html"


@pytest.fixture(scope="module")
def browser():
    with sync_api.sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        yield browser
        browser.close()


@pytest.fixture
def opened(browser, file, request):
    width, scheme = request.param
    context = browser.new_context(viewport={"width": width, "height": 900}, color_scheme=scheme, offline=True)
    page = context.new_page()
    said = []
    page.on("console", lambda message: said.append(message.text))
    page.goto(file.as_uri())
    yield page
    assert not said
    context.close()


everywhere = pytest.mark.parametrize(
    "opened", SIZES, indirect=True, ids=[f"{width}-{scheme}" for width, scheme in SIZES]
)


def test_the_page_of_the_demo_is_small(file):
    assert file.stat().st_size <= MOST_BYTES


@everywhere
def test_axe_finds_nothing(opened):
    found = axe.Axe().run(opened)
    assert found.violations_count == 0, found.generate_report()


OVERLAPS = """() => {
  const found = [];
  for (const svg of document.querySelectorAll(".panel svg")) {
    const texts = [...svg.querySelectorAll("text")].filter((text) => text.textContent.trim());
    const boxes = texts.map((text) => text.getBoundingClientRect());
    for (let i = 0; i < boxes.length; i++) for (let j = 0; j < i; j++) {
      const [a, b] = [boxes[i], boxes[j]];
      const width = Math.min(a.right, b.right) - Math.max(a.left, b.left);
      const height = Math.min(a.bottom, b.bottom) - Math.max(a.top, b.top);
      const least = Math.min(a.width * a.height, b.width * b.height);
      if (width > 0 && height > 0 && width * height > 0.25 * least) {
        found.push([svg.getAttribute("aria-label"), texts[i].textContent, texts[j].textContent]);
      }
    }
  }
  return found;
}"""


@everywhere
def test_nothing_lies_over_anything_and_nothing_sticks_out(opened):
    assert opened.evaluate("document.documentElement.scrollWidth - document.documentElement.clientWidth") == 0
    assert opened.evaluate(OVERLAPS) == []


CELLS = """() => {
  const found = [];
  for (const cell of document.querySelectorAll("table.grouped td, table.grouped th")) {
    if (cell.checkVisibility() && cell.scrollWidth > cell.clientWidth + 1) found.push(cell.textContent);
  }
  return found;
}"""


@everywhere
def test_every_cell_holds_its_text(opened):
    assert opened.evaluate(CELLS) == []


@pytest.mark.parametrize("opened", [(1440, "light"), (390, "dark")], indirect=True, ids=["desk", "phone"])
def test_the_answer_is_on_the_first_screen(opened):
    answer = opened.locator("#table3 tbody tr td.best").first.bounding_box()
    assert answer["y"] + answer["height"] < 900


@pytest.mark.parametrize("opened", [(1440, "light")], indirect=True, ids=["desk"])
def test_a_shape_says_its_number_under_the_pointer(opened):
    shape = opened.locator("#largest-batch g:has(> title)").first
    assert shape.locator("title").text_content() == "LU-DnCNN on deblurring, 8GB: 7 images"
    shape.hover()
    assert float(shape.evaluate("each => getComputedStyle(each).opacity")) < 1


@pytest.mark.parametrize(("opened", "ground"), [((1440, "light"), 255), ((1440, "dark"), 28)], indirect=["opened"])
def test_pictures_follow_the_colour_scheme(opened, ground):
    panel = opened.locator("#composition .panel").first
    with Image.open(BytesIO(panel.screenshot())) as picture:
        red, _, _ = picture.convert("RGB").getpixel((12, 12))
    assert red == ground
