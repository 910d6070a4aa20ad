"""bench baseline, check and compare as a user types them: what they print and write, and their exact exit codes."""

import json
import subprocess
import sys
from xml.etree import ElementTree as ET

import pytest
from handmade import stored, timing
from in_process import exit_code_of

from bench.models.architectures import lu_dncnn
from bench.models.dncnn import DnCNN
from bench.regression import fresh

SMALL = """
[suite]
stages = ["memory"]
architectures = ["LU-DnCNN", "DEQ4IP"]
tasks = ["blur"]
gpu_caps = ["1GB"]

[model]
stages = 2

[model.solver]
memory = 1
max_evaluations = 2

[check]
baseline = "baseline.json"

[task.blur]
operator = "GaussianBlur"
options = { image_shape = [3, 32, 32] }

[task.small]
operator = "GaussianBlur"
options = { image_shape = [3, 16, 16] }
"""

RENEWAL = "`bench baseline update` accepts the numbers of today"
NOT_IN_WHOLE = (
    f"bench: {{}} of 2 cells cannot be compared, or not in whole: {RENEWAL}, --allow-incomparable accepts it once; "
    "the first: "
)


class Hoarding(DnCNN):
    """Keeps what it returned, as if somebody wanted to look at it later."""

    def forward(self, d, weights, kept_share=None):
        result = super().forward(d, weights, kept_share)
        self.kept = [*getattr(self, "kept", [])[-3:], result.sigmoid()]
        return result


@pytest.fixture(scope="module")
def baseline(tmp_path_factory):
    """The small suite's baseline, made once."""
    folder = tmp_path_factory.mktemp("baseline")
    with pytest.MonkeyPatch.context() as patch:
        (folder / "bench.toml").write_text(SMALL)
        patch.chdir(folder)
        assert exit_code_of(patch, "baseline", "update", "--jobs", "1") == 0
    return (folder / "baseline.json").read_bytes()


@pytest.fixture
def bench(bench, tmp_path, monkeypatch, baseline):
    """Run `bench ...` in a folder that holds the small suite and its baseline."""
    (tmp_path / "bench.toml").write_text(SMALL)
    (tmp_path / "baseline.json").write_bytes(baseline)
    for name in ("GITHUB_ACTIONS", "GITHUB_STEP_SUMMARY"):
        monkeypatch.delenv(name, raising=False)
    return bench


def change_suite(tmp_path, old, new):
    assert old in SMALL
    (tmp_path / "bench.toml").write_text(SMALL.replace(old, new))


def one_sentence(text):
    """Exactly one line on stderr, ours."""
    assert text.startswith("bench: "), text
    assert text.count("\n") == 1, text
    return text


def test_nothing_changed(bench):
    result = bench("check")
    assert (result.returncode, result.stderr) == (0, "")
    assert "2 cells: 2 same." in result.stdout


def test_a_second_update_leaves_the_file_byte_for_byte(bench, tmp_path, baseline):
    result = bench("baseline", "update")
    assert (result.returncode, result.stdout) == (0, "")
    assert "nothing changed" in one_sentence(result.stderr)
    assert (tmp_path / "baseline.json").read_bytes() == baseline


def test_an_output_of_another_name(bench, tmp_path, baseline):
    change_suite(tmp_path, '["LU-DnCNN", "DEQ4IP"]', '["LU-DnCNN"]')
    assert bench("baseline", "update", "--output", "other.json").returncode == 0
    assert json.loads((tmp_path / "other.json").read_bytes())["cells"] == json.loads(baseline)["cells"][1:]
    assert (tmp_path / "baseline.json").read_bytes() == baseline


def test_a_compositions_parts_add_up_to_its_peak(baseline):
    for cell in json.loads(baseline)["cells"]:
        composition = cell["composition"]
        parts = [size for of_category in composition["size_bytes"].values() for size in of_category.values()]
        assert sum(parts) == composition["peak_reserved_bytes"]


def test_an_activation_kept_needlessly_turns_the_check_red(bench, tmp_path, monkeypatch):
    """The demonstration: the module and its category are named, everywhere a reader may look."""
    monkeypatch.setattr(lu_dncnn, "DnCNN", Hoarding)
    monkeypatch.setenv("GITHUB_ACTIONS", "true")
    monkeypatch.setenv("GITHUB_STEP_SUMMARY", str(tmp_path / "summary.md"))
    result = bench("check", "--junit", "check.xml")
    assert result.returncode == 1
    assert "2 cells: 1 worse, 1 same." in result.stdout
    annotation, sentence = result.stderr.splitlines()
    assert sentence.startswith("bench: 1 of 2 cells worse; the first: LU-DnCNN on blur, memory: worse")
    assert "saved activations of denoiser, sigmoid at models/architectures/lu_dncnn.py:" in sentence
    assert annotation.startswith("::error file=")
    assert "test_check_command.py,line=" in annotation
    assert "title=bench check%3A LU-DnCNN on blur worse::" in annotation
    summary = (tmp_path / "summary.md").read_text()
    assert summary.startswith("## bench check\n\n2 cells: 1 worse, 1 same.")
    suite = ET.parse(tmp_path / "check.xml").getroot().find("testsuite")
    told = {case.get("name"): case.find("failure") for case in suite}
    assert told["DEQ4IP"] is None
    for text in (result.stdout, summary, told["LU-DnCNN"].text):
        assert "denoiser, sigmoid" in text
        assert "test_check_command.py:" in text
    growth = json.loads(bench("check", "--json").stdout)["verdicts"][1]["why"]["growths"][0]
    batch = json.loads((tmp_path / "baseline.json").read_text())["cells"][1]["composition"]["batch"]
    images = growth["after_bytes"] / (batch * 3 * 32 * 32 * 4)
    assert growth["before_bytes"] == 0
    assert images == 4


def test_an_improvement_asks_for_a_new_baseline(bench, tmp_path, monkeypatch):
    change_suite(tmp_path, '["LU-DnCNN", "DEQ4IP"]', '["LU-DnCNN"]')
    with monkeypatch.context() as patch:
        patch.setattr(lu_dncnn, "DnCNN", Hoarding)
        assert bench("baseline", "update").returncode == 0
    result = bench("check")
    assert result.returncode == 1
    assert "`bench baseline update`" in one_sentence(result.stderr)
    assert "1 cell: 1 better." in result.stdout
    assert bench("check", "--allow-improvement").returncode == 0


def test_records_are_checked_and_explained(bench, monkeypatch, tmp_path):
    assert bench("run", "--output", "before").returncode == 0
    assert bench("check", "--records", "before").returncode == 0
    monkeypatch.setattr(lu_dncnn, "DnCNN", Hoarding)
    assert bench("run", "--output", "after").returncode == 0
    result = bench("check", "--records", "after")
    assert result.returncode == 1
    assert "denoiser, sigmoid" in result.stdout
    assert bench("compare", "before", "before").returncode == 0
    assert bench("compare", "baseline.json", "before").returncode == 0
    assert bench("compare", "before", "after").returncode == 1


def cases(path):
    """What a CI system shows of each cell: failure, error, skipped or None, with the message."""
    suite = ET.parse(path).getroot().find("testsuite")
    told = {case.get("name"): [(result.tag, result.get("message")) for result in case] for case in suite}
    return {name: results[0] if results else None for name, results in told.items()}


@pytest.mark.parametrize("options", [(), ("--allow-incomparable",)])
def test_a_check_that_compares_nothing_is_never_green(bench, tmp_path, options):
    change_suite(tmp_path, "stages = 2", "stages = 3")
    result = bench("check", "--junit", "check.xml", "--jobs", "1", *options)
    first = "DEQ4IP on blur, memory: not comparable, model.stages: 2, now 3"
    assert (result.returncode, result.stderr) == (
        4,
        f"bench: none of 2 cells can be compared: {RENEWAL}; the first: {first}\n",
    )
    assert "model.stages: 2, now 3" in result.stdout
    assert cases(tmp_path / "check.xml") == {
        "DEQ4IP": ("error", first),
        "LU-DnCNN": ("error", first.replace("DEQ4IP", "LU-DnCNN")),
    }


def test_a_cell_that_is_gone_turns_the_check_red_unless_that_is_accepted(bench, tmp_path, monkeypatch):
    monkeypatch.setenv("GITHUB_ACTIONS", "true")
    change_suite(tmp_path, '["LU-DnCNN", "DEQ4IP"]', '["LU-DnCNN", "LUSER-SW"]')
    gone = "DEQ4IP on blur, memory: gone"
    result = bench("check", "--junit", "check.xml")
    annotation, sentence = result.stderr.splitlines()
    assert (result.returncode, sentence) == (4, NOT_IN_WHOLE.format(1) + gone)
    assert annotation == f"::error title=bench check%3A DEQ4IP on blur gone::{gone}"
    assert "3 cells: 1 same, 1 new, 1 gone." in result.stdout
    new = ("skipped", "LUSER-SW on blur, memory: new")
    assert cases(tmp_path / "check.xml") == {"DEQ4IP": ("error", gone), "LU-DnCNN": None, "LUSER-SW": new}
    accepted = bench("check", "--allow-incomparable", "--junit", "check.xml", "--force")
    assert (accepted.returncode, accepted.stdout) == (0, result.stdout)
    assert accepted.stderr.splitlines() == [annotation.replace("error", "warning")]
    assert cases(tmp_path / "check.xml") == {"DEQ4IP": ("skipped", gone), "LU-DnCNN": None, "LUSER-SW": new}


def test_a_suite_without_the_baselines_task(bench, tmp_path):
    change_suite(tmp_path, 'tasks = ["blur"]', 'tasks = ["small"]')
    result = bench("check")
    assert (result.returncode, result.stderr) == (
        4,
        f"bench: none of 2 cells can be compared: {RENEWAL}; the first: DEQ4IP on blur, memory: gone\n",
    )


def test_new_cells_are_fine(bench, tmp_path):
    change_suite(tmp_path, 'tasks = ["blur"]', 'tasks = ["blur", "small"]')
    result = bench("check", "--junit", "check.xml")
    assert (result.returncode, result.stderr) == (0, "")
    assert "4 cells: 2 same, 2 new." in result.stdout


def test_records_of_a_part_of_the_baseline(bench, tmp_path):
    """A shard, and records under other settings, leave cells without an answer."""
    assert bench("run", "--architecture", "LU-DnCNN", "--output", "records").returncode == 0
    result = bench("check", "--records", "records")
    assert (result.returncode, result.stderr) == (4, NOT_IN_WHOLE.format(1) + "DEQ4IP on blur, memory: gone\n")
    change_suite(tmp_path, "stages = 2", "stages = 3")
    assert bench("run", "--output", "records").returncode == 0
    result = bench("check", "--records", "records")
    first = "DEQ4IP on blur, memory: not comparable, model.stages: 2, now 3"
    assert (result.returncode, result.stderr) == (4, f"{NOT_IN_WHOLE.format(1)}{first}\n")
    assert "3 cells: 1 same, 1 new, 1 not comparable." in result.stdout
    assert bench("compare", "baseline.json", "records").returncode == 0


def test_an_empty_set_of_records(bench, tmp_path, baseline):
    (tmp_path / "records").mkdir()
    for arguments in (("check", "--records", "records"), ("compare", "records", "baseline.json")):
        result = bench(*arguments)
        assert (result.returncode, result.stdout) == (4, "")
        assert one_sentence(result.stderr).startswith("bench: no records in records: ")


def test_records_without_memory(bench, tmp_path):
    (tmp_path / "records").mkdir()
    stored(tmp_path / "records", timing("LU-DnCNN", 1.0, 1.0, task="blur"))
    result = bench("check", "--records", "records")
    assert (result.returncode, result.stdout) == (4, "")
    assert result.stderr == "bench: no records of the stage memory in records: `bench run` makes them\n"


def test_a_cell_that_fails_now_is_worse_and_makes_no_baseline(bench, tmp_path, monkeypatch, baseline):
    def broken(self, d, weights, kept_share=None):
        raise RuntimeError("broken")

    monkeypatch.setattr(Hoarding, "forward", broken)
    monkeypatch.setattr(lu_dncnn, "DnCNN", Hoarding)
    result = bench("check")
    assert result.returncode == 1
    assert "fails now: RuntimeError: broken" in one_sentence(result.stderr)
    assert bench("run", "--output", "records").returncode == 3
    of_records = bench("check", "--records", "records")
    assert (of_records.returncode, of_records.stderr) == (1, result.stderr)
    result = bench("baseline", "update")
    assert result.returncode == 3
    assert "LU-DnCNN on blur: RuntimeError: broken" in one_sentence(result.stderr)
    assert (tmp_path / "baseline.json").read_bytes() == baseline


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("check", "--baseline", "missing.json"), "no baseline at missing.json: `bench baseline update` makes it"),
        (("check", "--baseline", "newer.json"), "newer.json is a baseline of format 2, and this bench reads format 1"),
        (("check", "--baseline", "damaged.json"), "damaged.json is no baseline (Invalid JSON"),
        (("check", "--baseline", "list.json"), "list.json is no baseline (Input should be an object"),
        (("check", "--baseline", "empty.json"), "the baseline empty.json has no cells"),
        (("check", "--baseline", "twice.json"), "the baseline twice.json has DEQ4IP on blur 2 times"),
        (("check", "--records", "missing"), "there is no folder missing"),
        (("check", "--junit", "bench.toml"), "bench.toml exists: give --force to overwrite it"),
        (("check", "--junit", "missing/check.xml"), "cannot write missing/check.xml: there is no folder missing"),
        (("compare", "baseline.json", "missing"), "there is no missing: give a folder of records"),
        (("baseline", "update", "--output", "bench.toml"), "bench.toml exists: give --force to overwrite it"),
        (("baseline", "update", "--config", "nowhere.toml"), "cannot make the folder of bench.toml/baseline.json"),
        (("baseline", "update", "--config", "cuda.toml"), 'a baseline is simulated, got engine = "cuda"'),
        (("check", "--config", "wrong.toml"), "check.limits.sped: unknown key"),
    ],
)
def test_bad_input_is_one_sentence_and_exit_code_2(bench, tmp_path, baseline, arguments, words):
    values = json.loads(baseline)
    files = {
        "newer.json": json.dumps(values | {"format": 2, "more": []}),
        "damaged.json": baseline.decode()[:1000],
        "list.json": "[]",
        "empty.json": json.dumps(values | {"cells": []}),
        "twice.json": json.dumps(values | {"cells": [values["cells"][0]] * 2}),
        "nowhere.toml": SMALL.replace('"baseline.json"', '"bench.toml/baseline.json"'),
        "cuda.toml": SMALL + '\n[memory]\nengine = "cuda"\n',
        "wrong.toml": SMALL + "\n[check.limits]\nsped = { absolute = 1 }\n",
    }
    for name, content in files.items():
        (tmp_path / name).write_text(content)
    before = {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()}
    result = bench(*arguments)
    assert (result.returncode, result.stdout) == (2, "")
    assert words in one_sentence(result.stderr)
    assert {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()} == before


def test_an_interrupted_check(bench, monkeypatch):
    def interrupted(cell):
        raise KeyboardInterrupt

    monkeypatch.setattr(fresh, "measure", interrupted)
    result = bench("check", "--jobs", "1")
    assert (result.returncode, one_sentence(result.stderr)) == (130, "bench: interrupted: nothing was written\n")


def test_a_card_without_an_answer_turns_the_check_red(bench, tmp_path):
    """Though the cells' other numbers are the same."""
    content = (tmp_path / "baseline.json").read_text()
    (tmp_path / "baseline.json").write_text(content.replace('"context_bytes": 524288000', '"context_bytes": 500'))
    result = bench("check", "--junit", "check.xml", "--jobs", "1")
    reason = "at other context_bytes: 500, now 524288000"
    lost = "; ".join(f"largest_batch (1GB, {bound}) {reason}" for bound in ("low", "high"))
    first = f"DEQ4IP on blur, memory: same in part, not compared: {lost}"
    assert (result.returncode, result.stderr) == (4, f"{NOT_IN_WHOLE.format(2)}{first}\n")
    assert f"not compared: {lost}" in result.stdout
    assert "2 cells: 2 same in part." in result.stdout
    told = {"DEQ4IP": ("error", first), "LU-DnCNN": ("error", first.replace("DEQ4IP", "LU-DnCNN"))}
    assert cases(tmp_path / "check.xml") == told
    accepted = bench("check", "--allow-incomparable", "--junit", "check.xml", "--force", "--jobs", "1")
    assert (accepted.returncode, accepted.stdout, accepted.stderr) == (0, result.stdout, "")
    assert cases(tmp_path / "check.xml") == dict.fromkeys(told)


def test_a_baseline_of_cards_that_nobody_knows_compares_nothing(bench, tmp_path):
    content = (tmp_path / "baseline.json").read_text()
    (tmp_path / "baseline.json").write_text(content.replace('"1GB', '"a forgotten card'))
    for options in ((), ("--allow-incomparable",)):
        result = bench("check", "--jobs", "1", *options)
        assert result.returncode == 4
        assert "none of 2 cells can be compared" in result.stderr
        assert "largest_batch (a forgotten card, low) is gone" in one_sentence(result.stderr)


def test_a_baseline_that_matches_nothing(bench, tmp_path):
    values = json.loads((tmp_path / "baseline.json").read_text())
    for cell in values["cells"]:
        cell["conditions"]["torch"] = "1.0.0"
    (tmp_path / "old.json").write_text(json.dumps(values))
    result = bench("check", "--baseline", "old.json")
    assert result.returncode == 4
    assert 'torch: "1.0.0", now ' in one_sentence(result.stderr)


def test_help_needs_neither_torch_nor_pandas():
    code = (
        "import sys; from bench.commands.verbs import app; app([sys.argv[1], '--help'], standalone_mode=False); "
        "sys.exit(bool({'torch', 'pandas', 'scipy'} & set(sys.modules)))"
    )
    for verb in ("check", "compare", "baseline"):
        assert subprocess.run([sys.executable, "-c", code, verb], capture_output=True, check=False).returncode == 0
