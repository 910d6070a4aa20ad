"""The pytest plugin as its user meets it: whole test files, exact outcomes, what a failure says."""

from fnmatch import fnmatch
from functools import partial
from pathlib import Path

import pytest
import torch
from torch import nn

import bench.step_memory  # noqa: F401 - imported before runs inside this process, which forget what they import
from bench.memory import NotRecordableError, record
from bench.memory.simulated import installed_release
from bench.step_memory import StepMemory
from bench.units import MiB

pytest_plugins = ["pytester"]

EXAMPLES = Path(__file__).parents[2] / "docs" / "examples"
USABLE_MIB = 8 * 1024 - 500  # of 8GB, beside the assumed CUDA context

ONE_MIB_EACH = """
import pytest
import torch

def one_mib_each(batch, device):
    return lambda: torch.empty(batch, 2**20, dtype=torch.uint8, device=device)
"""

NETWORK = """
import pytest
import torch
from torch import nn

def make_step(batch, device):
    network = nn.Sequential(nn.Conv2d(1, 4, 3, padding=1, bias=False), nn.ReLU(), nn.Conv2d(4, 1, 3, padding=1))
    network.to(device)
    optimizer = torch.optim.Adam(network.parameters())

    def step():
        image = torch.rand(batch, 1, 64, 64, device=device)
        optimizer.zero_grad()
        (network(image) - image).square().mean().backward()
        optimizer.step()

    return step
"""


@pytest.fixture
def run(pytester, monkeypatch):
    """Run pytest on one test file with this plugin alone, wherever it is installed."""
    monkeypatch.setenv("PYTEST_DISABLE_PLUGIN_AUTOLOAD", "1")
    monkeypatch.delenv("CI", raising=False)
    monkeypatch.setenv("COLUMNS", "200")

    def run(*parts, arguments=()):
        pytester.makepyfile(test_it="\n".join(parts))
        plugins = ("-p", "bench.pytest_plugin", "-p", "no:cacheprovider")
        return pytester.runpytest(*plugins, "--strict-markers", *arguments)

    return run


def one_mib_each(batch, device):
    return lambda: torch.empty(batch, 2**20, dtype=torch.uint8, device=device)


def test_answers_counted_by_hand():
    step = StepMemory(one_mib_each)
    assert step.largest_batch(cap="8GB") == USABLE_MIB
    assert step.largest_batch(cap="500.5MiB") == 0
    peak = step.peak(8)
    assert (peak.peak_allocated_bytes, peak.peak_reserved_bytes) == (8 * MiB, 20 * MiB)  # a segment for up to 10 MiB
    assert step.peak(10**6).peak_reserved_bytes == 10**6 * MiB  # more than any card has
    step.assert_peak_below("21MiB", batch=8)
    with pytest.raises(AssertionError, match=r"batch 8 reserves 20\.00 MiB \(20,971,520 bytes\) at its peak"):
        step.assert_peak_below("20MiB", batch=8)
    with pytest.raises(ValueError, match="a batch is at least 1, got 0"):
        step.peak(0)


def test_marks_that_hold_and_marks_that_do_not(run):
    result = run(
        ONE_MIB_EACH,
        f"""
@pytest.mark.max_batch(cap="8GB", at_least={USABLE_MIB})
def test_just_fits(record_step):
    record_step(one_mib_each)

@pytest.mark.max_batch(cap="8GB", at_least={USABLE_MIB + 1})
def test_one_too_many(record_step):
    record_step(one_mib_each)

@pytest.mark.max_batch(gpu="rtx 3080", at_least=9000)
@pytest.mark.max_batch(cap="10GB", at_least=9000)
@pytest.mark.max_batch(cap="9GB", at_least=9000)
def test_several_cards(record_step):
    record_step(one_mib_each)

@pytest.mark.max_batch(cap="8GB", at_least=5000)
def test_every_step(record_step):
    record_step(one_mib_each)
    record_step(lambda batch, device: one_mib_each(2 * batch, device))

@pytest.mark.xfail(strict=True)
@pytest.mark.max_batch(cap="8GB", at_least=10000)
def test_expected_to_fail(record_step):
    record_step(one_mib_each)
""",
    )
    result.assert_outcomes(passed=1, failed=3, xfailed=1)
    result.stdout.fnmatch_lines(
        [
            "the largest batch that fits 8GB is 7692, at least 7693 was asked for",
            "8GB is 8,589,934,592 bytes: 8,065,646,592 are usable, 524,288,000 taken by the CUDA context",
            "batch 7693 does not fit: empty.memory_format at test_it.py:5 (step 1, forward) asks for 7.51 GiB of "
            "temporaries, and 7.51 GiB are not reserved yet",
            "the largest batch that fits 9GB is 8716, at least 9000 was asked for",
            "the largest batch that fits 8GB is 3846, at least 5000 was asked for",
            "FAILED test_it.py::test_one_too_many - Failed: the largest batch that fits 8GB is 7692, *",
        ]
    )


def test_marks_of_a_module_and_of_a_class(run):
    result = run(
        ONE_MIB_EACH,
        """
pytestmark = pytest.mark.max_batch(cap="8GB", at_least=7000)

def test_in_module(record_step):
    record_step(one_mib_each)

@pytest.mark.max_batch(cap="4GB", at_least=7000)
class TestInClass:
    def test_it(self, record_step):
        record_step(one_mib_each)
""",
    )
    result.assert_outcomes(passed=1, failed=1)
    result.stdout.fnmatch_lines(["the largest batch that fits 4GB is 3596, at least 7000 was asked for"])


def test_a_failure_shows_what_the_memory_is_taken_by(run):
    batch = 100_000
    result = run(
        NETWORK,
        f"""
@pytest.mark.max_batch(cap="8GB", at_least={batch})
def test_mark(record_step):
    record_step(make_step)

def test_assertion(record_step):
    record_step(make_step).assert_peak_below("1MiB", batch=16)
""",
    )
    result.assert_outcomes(failed=2)
    parameters = 4 * (4 * 9 + 4 * 9 + 1)
    image = 4 * 64 * 64 * 16
    result.stdout.re_match_lines(
        [
            r"the largest batch that fits 8GB is \d+, at least 100000 was asked for",
            r"8GB is 8,589,934,592 bytes: 8,065,646,592 are usable, 524,288,000 taken by the CUDA context",
            r"batch \d+ does not fit: \w+ at test_it\.py:\d+ \(step [12], \w+\) asks for .* GiB of \w+, and",
            rf"\| parameters +\| {parameters} ",
            r"\| card +\| 8,589,934,592 .*100\.0%",
            r"Batch \d+, 8GB\. Where memory runs out: step [12], \w+, \w+ at test_it\.py:13\. ",
            r"\| saved activations +\| \* +\| test_it\.py:13 +\| relu +\| 1 ",
            r">       record_step\(make_step\)\.assert_peak_below\(\"1MiB\", batch=16\)",
            r"E +AssertionError: batch 16 reserves \d.* MiB .* at its peak on any known card, less than 1MiB ",
            rf"E +\| parameters +\| {parameters} ",
            rf"E +\| optimiser state +\| {2 * parameters} ",
            rf"E +\| batch +\| {image:,} ",
            rf"E +\| saved activations +\| {4 * image + 4:,} ",  # four channels, and the loss
            r"E +\| free +\| 0 ",
            r"E +Batch 16, a card that just holds it\. At its peak: step 2, backward, convolution_backward at ",
        ]
    )


def test_a_step_that_cannot_be_watched_still_fails_with_its_numbers():
    calls = 0

    def make_step(batch, device):
        nonlocal calls
        calls += 1
        extra = 1 if calls > 6 else 0  # recorded at three batches, for longer, at the answer and beyond it
        return lambda: torch.empty(batch + extra, 2**20, dtype=torch.uint8, device=device)

    with pytest.raises(AssertionError, match=r"is 7692, (?s:.)*taken by cannot be told: the step allocates something"):
        StepMemory(make_step).assert_largest_batch(at_least=8000, cap="8GB")


def test_a_mark_without_a_step_fails_in_one_sentence(run):
    result = run(
        ONE_MIB_EACH,
        """
@pytest.mark.max_batch(cap="8GB", at_least=1)
def test_nothing():
    pass

@pytest.mark.max_batch(cap="8GB", at_least=1)
def test_not_called(record_step):
    pass

@pytest.mark.max_batch(cap="8GB", at_least=1)
def test_fails_by_itself():
    assert 1 + 1 == 3

@pytest.mark.max_batch(cap="8GB", at_least=1)
def test_skipped(record_step):
    pytest.skip("not today")
""",
    )
    result.assert_outcomes(failed=3, skipped=1)
    sentence = "marked max_batch, but recorded no training step: take the fixture record_step, call *(make_step)"
    result.stdout.fnmatch_lines(["*_ test_nothing _*", sentence, "*_ test_not_called _*", sentence])
    result.stdout.fnmatch_lines(["E       assert (1 + 1) == 3"])


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ('cap="8 apples", at_least=1', "'8 apples' is not a memory size: expected a number and a unit, such as 8GB"),
        ("cap=8, at_least=1", "'8' is not a memory size: expected a number and a unit, such as 8GB"),
        ('cap="100MB", at_least=1', "a cap of 100MB leaves nothing to train in"),
        ('gpu="GTX 1", at_least=1', "unknown card 'GTX 1': none is near (see `bench list`); or give a capacity"),
        ('gpu="H200", cap="8GB", at_least=1', 'a bound is on one card: give cap="8GB" or gpu="RTX 3080", got both'),
        ("at_least=1", 'a bound is on one card: give cap="8GB" or gpu="RTX 3080", got neither'),
        ('cap="8GB"', "max_batch() missing 1 required keyword-only argument: 'at_least'"),
        ('cap="8GB", at_most=1', "max_batch() * keyword*argument*"),
        ('"8GB", at_least=1', "max_batch() takes 0 positional arguments but 1 *"),
        ('cap="8GB", at_least=0', "at_least is a whole number from 1 to 1,048,576, got 0"),
        ('cap="8GB", at_least=1.5', "at_least is a whole number from 1 to 1,048,576, got 1.5"),
        ('cap="8GB", at_least=True', "at_least is a whole number from 1 to 1,048,576, got True"),
    ],
)
def test_wrong_marks_are_errors_in_one_sentence_that_name_the_test(run, arguments, words):
    result = run(
        f"""
import pytest

@pytest.mark.max_batch({arguments})
def test_wrong(record_step):
    raise AssertionError("must not run")

def test_other():
    pass
"""
    )
    result.assert_outcomes(errors=1, passed=1)
    (line,) = [line for line in result.outlines if line.startswith("wrong mark max_batch: ")]
    assert fnmatch(line, f"*: {words}*".replace("[", "[[]"))


def test_steps_that_cannot_be_recorded_fail_in_one_sentence(run):
    result = run(
        ONE_MIB_EACH,
        """
def differs_by_value(batch, device):
    def step():
        image = torch.rand(batch, 3, device=device)
        print(torch.unique(image).mean())
    return step

def on_the_host(batch, device):
    return lambda: torch.rand(batch, 3)

def forgets_to_return(batch, device):
    torch.rand(batch, 3, device=device)

@pytest.mark.max_batch(cap="8GB", at_least=1)
@pytest.mark.parametrize("make_step", [differs_by_value, on_the_host, forgets_to_return])
def test_it(record_step, make_step):
    record_step(make_step)

def test_own_error(record_step):
    def broken(batch, device):
        return lambda: torch.rand(batch, 3, device=device)[no_such_name]
    record_step(broken)
""",
    )
    result.assert_outcomes(failed=4)
    prefix = "the training step cannot be recorded: "
    value, host, nothing = (line for line in result.outlines if line.startswith(prefix))
    assert value.startswith(f"{prefix}the step needs the value of a tensor")
    assert "(at test_it.py:11, in step: `" in value
    assert host.startswith(f"{prefix}nothing that the step allocates on `device` grows with the batch: ")
    assert nothing == f"{prefix}test_it.py:17: forgets_to_return returned None: it must return one training step"
    result.stdout.fnmatch_lines(["E*NameError: name 'no_such_name' is not defined"])


@pytest.mark.parametrize("has_gpu", [False, True])
def test_mixed_precision_is_not_taken_for_float32(has_gpu, monkeypatch):
    monkeypatch.setattr(torch.cuda.amp.common, "amp_definitely_not_available", lambda: not has_gpu)
    monkeypatch.setattr(torch.cuda, "is_bf16_supported", lambda: True)

    def make_step(batch, device):
        def step():
            with torch.autocast("cuda", dtype=torch.bfloat16):
                torch.rand(batch, 3, device=device)

        return step

    with pytest.raises(NotRecordableError, match=r"torch\.autocast has no effect on tensors without data"):
        record(make_step)  # as it is, and not as on a GPU


def test_mixed_precision_is_recorded_as_on_a_gpu():
    def perceptron(batch, device, is_mixed):
        layer = nn.Linear(1024, 1024, bias=False, device="cuda")

        def step():
            with torch.autocast("cuda", dtype=torch.bfloat16, enabled=is_mixed):
                return layer(torch.rand(batch, 1024, device=device)).dtype

        return step

    full, mixed = (StepMemory(partial(perceptron, is_mixed=is_mixed)).peak(4096) for is_mixed in (False, True))
    image = 4096 * 1024 * 4
    weight = 1024 * 1024 * 4
    workspace = full.peak_allocated_bytes - 2 * image - weight
    assert mixed.peak_allocated_bytes == image + weight + (2 * image + weight) // 2 + workspace


def attends(batch, device):
    def step():
        query = torch.rand(batch, 4, 512, 32, device="cuda", dtype=torch.float16, requires_grad=True)
        nn.functional.scaled_dot_product_attention(query, query, query).sum().backward()

    return step


def test_attention_is_recorded_for_each_kind_of_card():
    step = StepMemory(attends)
    peaks = {gpu: step.peak(8, gpu=gpu).peak_allocated_bytes for gpu in ("RTX 3080", "RTX 4090", "T4", "H100 SXM")}
    # As the virtual card has them; on a T4 torch 2.14 keeps a seed and its place, 512 B each, where nothing is dropped.
    on_t4 = 10_621_952 if installed_release() < (2, 14) else 10_622_976
    assert peaks == {"RTX 3080": 9_570_304, "RTX 4090": 9_570_304, "T4": on_t4, "H100 SXM": 8_522_240}


def language_model(batch, device):
    """Embedding, one transformer layer with a causal mask and dropout, cross entropy, AdamW."""
    with device:
        embedding, head = nn.Embedding(100, 32), nn.Linear(32, 100)
        layer = nn.TransformerEncoderLayer(32, 4, 64, batch_first=True)
    network = nn.ModuleList([embedding, layer, head])
    optimizer = torch.optim.AdamW(network.parameters())
    mask = nn.Transformer.generate_square_subsequent_mask(16, device=device)

    def step():
        tokens = torch.randint(100, (batch, 16), device=device)
        optimizer.zero_grad()
        logits = head(layer(embedding(tokens), src_mask=mask, is_causal=True))
        nn.functional.cross_entropy(logits.flatten(0, 1), tokens.flatten()).backward()
        nn.utils.clip_grad_norm_(network.parameters(), 1.0)
        optimizer.step()

    return step


def test_an_ordinary_transformer():
    step = StepMemory(language_model)
    largest = step.largest_batch(cap="8GB")
    step.assert_largest_batch(at_least=largest, cap="8GB")
    with pytest.raises(AssertionError, match=r"self_attn") as failure:
        step.assert_largest_batch(at_least=largest + 1, cap="8GB")
    parameters = sum(p.numel() * 4 for p in nn.TransformerEncoderLayer(32, 4, 64).parameters()) + 4 * (3200 + 3300)
    rows = [[cell.strip() for cell in line.split("|")[1:3]] for line in str(failure.value).splitlines()]
    assert ["parameters", f"{parameters:,}"] in rows
    assert ["optimiser state", f"{2 * parameters:,}"] in rows


def test_the_example(pytester, run):
    pytester.copy_example(str(EXAMPLES / "test_memory.py"))
    run("", arguments=("test_memory.py",)).assert_outcomes(passed=2)


def test_who_does_not_use_it_does_not_pay_for_it(pytester, monkeypatch):
    monkeypatch.setenv("PYTEST_DISABLE_PLUGIN_AUTOLOAD", "1")
    pytester.makepyfile(
        "import sys\n\ndef test_it():\n    assert not {'torch', 'numpy', 'pandas', 'rich'} & set(sys.modules)"
    )
    pytester.runpytest_subprocess("-p", "bench.pytest_plugin").assert_outcomes(passed=1)


def test_the_mark_is_documented(run):
    run("", arguments=("--markers",)).stdout.fnmatch_lines(["@pytest.mark.max_batch(*, at_least, cap or gpu): *"])


def test_pytest_finds_it_where_bench_is_installed():
    declared = (Path(__file__).parents[2] / "pyproject.toml").read_text()
    assert '[project.entry-points.pytest11]\nbench = "bench.pytest_plugin"\n' in declared


def test_the_trace_of_a_step_is_that_of_its_recording():
    def make_step(batch, device):
        return lambda: torch.rand(batch, 256, device=device).sum()

    step = StepMemory(make_step)
    assert step.trace.sizes(7).max() == 7 * 256 * 4
    step.peak(9)
    assert step.trace.of(9) is step.trace  # the fit holds there
