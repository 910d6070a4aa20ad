"""Histories read and held against recordings: one that PyTorch wrote on the virtual card, and ones made by hand."""

import builtins
import gzip
import json
import pickle
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch

from bench.errors import UsageError
from bench.fitting.user_step import load_step
from bench.histories import on_card, reading
from bench.histories.matching import match
from bench.histories.pickles import NotPlainError, plain_data
from bench.histories.reading import read
from bench.memory import CARDS
from bench.memory.allocator.caching import round_size
from bench.memory.recording.on_cuda import on_cuda
from bench.memory.recording.recorder import events_of
from bench.memory.search import Probe
from bench.memory.trace import Workspace, constant

sys.path.insert(0, str(Path(__file__).parents[1]))

from fidelity import transformer
from fidelity.snapshot_step import BATCH, make_step

TESTS = Path(__file__).parents[1]
SNAPSHOT = TESTS / "golden" / "virtual" / "snapshot-2.14.pickle"
STEP = TESTS / "fidelity" / "snapshot_step.py"
REAL = TESTS.parents[1] / "shared" / "golden" / "real_gpu"
CARD = CARDS["RTX 3080"]
PEAKS = (93_737_984, 150_994_944)  # of torch.cuda.memory_stats there


@pytest.fixture
def snapshot():
    return plain_data(SNAPSHOT.read_bytes())


@pytest.fixture
def written(tmp_path):
    """A file with this in it."""

    def write(data, protocol=4):
        path = tmp_path / "snapshot.pickle"
        path.write_bytes(data if isinstance(data, bytes) else pickle.dumps(data, protocol))
        return path

    return write


def test_a_snapshot_is_the_recording_to_the_byte():
    """Written by PyTorch 2.14.1 on the virtual RTX 3080: two steps, construction before them."""
    history = read(SNAPSHOT)
    assert history.peaks() == PEAKS
    found = match(history, make_step, BATCH, CARD)
    assert (found.real, found.recorded) == (PEAKS, PEAKS)
    assert (found.matched, found.events, found.recorded_events) == (132, 132, 132)
    assert (found.steps, found.from_the_first, found.left, found.share) == (2, True, (), 1.0)


@pytest.fixture
def card_that_fits(monkeypatch):
    """A virtual card that does what the recording does; True or False says whether the step fits it."""

    def put(fits):
        class Engine:
            def __init__(self, make_step, card, steps):
                self.make_step, self.card, self.steps = make_step, card, steps

            def probe(self, batch):
                assert (self.make_step.skipped, self.steps) == (0, 2)
                return Probe(batch, True, *PEAKS, 0)

            def watch(self, batch):
                trace = constant(events_of(self.make_step, batch, self.steps)).on(self.card)
                return SimpleNamespace(fits=fits, events=tuple(trace.at(batch, Workspace.LOW)), emptyings=())

        monkeypatch.setattr(on_card, "VirtualEngine", Engine)

    return put


def test_the_step_itself_on_the_virtual_card(card_that_fits):
    card_that_fits(True)
    found = match(read(SNAPSHOT), make_step, BATCH, CARD, on_card=True)
    assert (found.real, found.recorded, found.other) == (PEAKS, PEAKS, "virtual card")
    assert (found.matched, found.events, found.steps, found.from_the_first, found.left) == (132, 132, 2, True, ())


def test_what_the_virtual_card_alone_allocates_is_told(card_that_fits):
    def with_more(batch, device):
        step = make_step(batch, device)

        def longer():
            step()
            torch.empty(12_345, dtype=torch.uint8, device=device)

        return longer

    card_that_fits(True)
    found = match(read(SNAPSHOT), with_more, BATCH, CARD, on_card=True)
    assert found.left == (("virtual card", "", "", 12_345, 2),)


def test_a_step_that_does_not_fit_the_virtual_card_is_one_sentence(card_that_fits):
    card_that_fits(False)
    with pytest.raises(UsageError, match="the step does not fit RTX 3080 at batch 6, as the history's did its card"):
        match(read(SNAPSHOT), make_step, BATCH, CARD, on_card=True)


def test_the_virtual_card_has_to_be_named(bench):
    result = bench(
        *("validate", "--snapshot", SNAPSHOT, "--step", f"{STEP}:make_step", "--batch", BATCH, "--engine", "virtual")
    )
    assert (result.returncode, result.stdout) == (2, "")
    assert result.stderr == "bench: --engine virtual: name the history's card with --gpu, such as --gpu 'RTX 3080'\n"


@pytest.mark.parametrize("protocol", [2, 3, 4, 5])
def test_every_protocol_is_read(snapshot, written, protocol):
    assert read(written(snapshot, protocol)) == read(SNAPSHOT)


def test_one_later_step_alone(snapshot, written):
    """What the second step allocates and frees, from what the first left."""
    entries = snapshot["device_traces"][0]
    zero_grad = make_step.__code__.co_firstlineno + 8
    begin = next(
        place
        for place, entry in enumerate(entries)
        if any(frame["line"] == zero_grad and frame["filename"].endswith(STEP.name) for frame in entry["frames"])
    )
    snapshot["device_traces"][0] = entries[begin:]
    found = match(read(written(snapshot)), make_step, BATCH, CARD)
    assert (found.steps, found.from_the_first, found.share, found.events) == (1, False, 1.0, 62)


def test_what_one_side_alone_has_is_told_with_its_line(snapshot, written):
    entries = snapshot["device_traces"][0]
    first = next(place for place, entry in enumerate(entries) if entry["action"] == "alloc")
    frames = [
        {"filename": "/site-packages/torch/nn.py", "line": 1, "name": "forward"},
        {"filename": "/home/me/train.py", "line": 12, "name": "step"},
    ]
    entries[first:first] = [
        {"action": "alloc", "addr": 2**40, "size": 3000, "stream": 0, "frames": frames},
        {"action": "free_completed", "addr": 2**40, "size": 3000, "stream": 0},
    ]
    found = match(read(written(snapshot)), make_step, BATCH, CARD)
    assert found.left == (("history", "", "train.py:12", 3000, 1),)
    assert (found.matched, found.events) == (132, 134)

    def other_step(batch, device):
        step = make_step(batch, device)

        def more():
            torch.ones(1234, device=device)
            return step()

        return more

    found = match(read(SNAPSHOT), other_step, BATCH, CARD)
    (left,) = found.left
    assert (left.where, left.op, left.size_bytes, left.times) == ("recording", "ones", 4936, 2)
    assert left.place.endswith(f"{Path(__file__).name}:{other_step.__code__.co_firstlineno + 4}")


class Malicious:
    """A pickle of it calls a function when it is read."""

    def __reduce__(self):
        return builtins.exec, ("raise SystemExit('it ran')",)


@pytest.mark.parametrize("protocol", range(6))
def test_a_pickle_runs_nothing(written, protocol):
    content = pickle.dumps({"segments": [], "device_traces": [Malicious()]}, protocol)
    with pytest.raises(NotPlainError, match=r"wants to import (builtins|__builtin__)\.exec"):
        plain_data(content)
    with pytest.raises(UsageError, match="is no memory snapshot of PyTorch's"):
        read(written(content))


@pytest.mark.parametrize(
    "content",
    [b"", b"\x80", b"not a pickle", b"\x80\x04]", b"\x80\x04K\x01", b"I1\nQ.", b"(ib\nB\n.", b"\x80\x02cos\nsystem\n."],
)
def test_damaged_pickles_are_refused(content):
    with pytest.raises(NotPlainError):
        plain_data(content)


@pytest.mark.parametrize("place", range(0, 20_000, 997))
def test_a_snapshot_cut_short_is_refused(written, place):
    with pytest.raises(UsageError, match="is no memory snapshot of PyTorch's"):
        read(written(SNAPSHOT.read_bytes()[:place]))


def without_history(data):
    data["device_traces"] = [[]]


def of_two_devices(data):
    data["device_traces"] *= 2


def expandable(data):
    data["device_traces"][0][0]["action"] = "segment_map"


def without_segments(data):
    del data["segments"]


def without_sizes(data):
    del data["device_traces"][0][0]["size"]


def negative(data):
    next(entry for entry in data["device_traces"][0] if entry["action"] == "alloc")["size"] = -4


def endless(data):
    data["device_traces"][0][0]["size"] = float("inf")


def twice(data):
    entries = data["device_traces"][0]
    place = next(place for place, entry in enumerate(entries) if entry["action"] == "alloc")
    entries.insert(place, entries[place])


def outside(data):
    for segment in data["segments"]:
        segment["total_size"] = 512


def from_the_middle(data):
    entries = data["device_traces"][0]
    data["device_traces"][0] = entries[30:]


@pytest.mark.parametrize(
    ("change", "says"),
    [
        (without_history, "has no history, only a state: call torch.cuda.memory._record_memory_history() before"),
        (of_two_devices, "is of several devices (0, 1), expected one"),
        (expandable, "was recorded with expandable_segments"),
        (without_segments, "is no memory snapshot of PyTorch's (it has no segments and device_traces)"),
        (without_sizes, "is no memory snapshot of PyTorch's: KeyError 'size'"),
        (negative, "contradicts itself at entry 1: alloc of -4 bytes at "),
        (endless, "is no memory snapshot of PyTorch's: OverflowError"),
        (twice, "contradicts itself at entry "),
        (outside, "contradicts itself: at its beginning, blocks are outside of all segments, or in several"),
    ],
)
def test_what_cannot_be_used_is_said(bench, snapshot, written, change, says):
    change(snapshot)
    result = bench("validate", "--snapshot", written(snapshot), "--step", f"{STEP}:make_step", "--batch", "6")
    assert (result.returncode, result.stdout) == (2, "")
    assert says in result.stderr and result.stderr.count("\n") == 1


def test_a_history_that_began_too_late(snapshot, written):
    from_the_middle(snapshot)
    with pytest.raises(UsageError, match="does not have the beginning of the step"):
        match(read(written(snapshot)), make_step, BATCH, CARD)


def test_another_batch_is_told():
    with pytest.raises(UsageError, match="the history is of batch 6, the step was recorded at 5: give --batch 6"):
        match(read(SNAPSHOT), make_step, 5, CARD)


def test_another_step_is_told():
    def other(batch, device):
        images = torch.ones(batch, 3, 50, 50, device=device)
        return lambda: images.exp().sin().sum()

    with pytest.raises(UsageError, match="the history is not of this step: of its 132 events the recording has"):
        match(read(SNAPSHOT), other, BATCH, CARD)


def test_another_torch_is_told(tmp_path):
    golden = TESTS / "golden" / "allocator" / "net_8g_default_torch2.12.0.json.gz"
    history = read(golden)
    assert history.torch == "2.12.0"
    if not torch.__version__.startswith("2.12."):
        with pytest.raises(UsageError, match=r"the history is of torch 2\.12\.0, the recording would be of"):
            match(history, make_step, BATCH, CARD)


@pytest.mark.parametrize("name", ["net_8g_default_torch2.13.0", "small_0.1g_max_split_size_mb_torch2.13.0"])
def test_sequences_of_the_allocator_are_histories(name):
    golden = TESTS / "golden" / "allocator" / f"{name}.json.gz"
    told = json.loads(gzip.decompress(golden.read_bytes()))
    history = read(golden)
    live = [happening for happening in history.happenings if happening.action == "alloc"]
    freed = [happening for happening in history.happenings if happening.action == "free"]
    blocks = sum(round_size(each.size_bytes) for each in live) - sum(round_size(each.size_bytes) for each in freed)
    allocated, *_ = next(answer for answer in reversed(told["expected"]) if answer)
    assert 0 <= allocated - blocks < len(live) * 2**20  # blocks that are not split are larger


def test_files_that_are_none(tmp_path, monkeypatch):
    with pytest.raises(UsageError, match=r"cannot read .*: No such file"):
        read(tmp_path / "none")
    with pytest.raises(UsageError, match=r"cannot read .*: not a regular file"):
        read(tmp_path)
    for content in (b"\x1f\x8b", gzip.compress(b"{"), gzip.compress(b"\xff"), gzip.compress(b"[" * 100_000)):
        (tmp_path / "damaged").write_bytes(content)
        with pytest.raises(UsageError, match="is no memory history: it is damaged, or no compressed JSON"):
            read(tmp_path / "damaged")
    monkeypatch.setattr(reading, "LARGEST_BYTES", 1000)
    (tmp_path / "small").write_bytes(gzip.compress(b" " * 1001))
    with pytest.raises(UsageError, match=r"small has more than 1000 B in it once it is decompressed"):
        read(tmp_path / "small")
    for content in (b"{}", b"[]", b'{"initial": {}}'):
        (tmp_path / "other").write_bytes(gzip.compress(content))
        with pytest.raises(UsageError, match="is no memory"):
            read(tmp_path / "other")


def test_the_tables(bench):
    result = bench(
        *("validate", "--snapshot", SNAPSHOT, "--step", f"{STEP}:make_step", "--batch", "6", "--gpu", "rtx3080"),
    )
    assert (result.returncode, result.stderr) == (0, "")
    assert "| allocated | 93,737,984 B  | 93,737,984 B  | +0 B         | +0.00%  |" in result.stdout
    assert "132 of 132 events of the history are in the recording, in order (100.00%)" in result.stdout
    assert "and the kernels of RTX 3080: 2 steps, the first included." in result.stdout


@pytest.mark.parametrize(
    ("options", "says"),
    [
        (["--snapshot", SNAPSHOT], "a history is validated with --snapshot FILE --step FILE.py:FUNCTION --batch B"),
        (["--batch", 3], "a history is validated with --snapshot FILE --step FILE.py:FUNCTION --batch B"),
        (["--gpu-cap", "8GB"], "--snapshot goes with --step, --batch, --gpu, --engine and --config alone"),
        (["--gpu", "RTX 1"], "unknown card 'RTX 1'"),
        (["--step", "none.py:make_step"], "there is no file none.py"),
    ],
)
def test_options_that_do_not_go_together(bench, options, says):
    given = {"--snapshot": SNAPSHOT, "--step": f"{STEP}:make_step", "--batch": 6} if len(options) == 2 else {}
    if options[0] in ("--snapshot", "--batch"):
        given = {}
    given |= dict([options])
    result = bench("validate", *[each for pair in given.items() for each in pair])
    assert (result.returncode, result.stdout) == (2, "")
    assert says in result.stderr and result.stderr.count("\n") == 1


@pytest.mark.parametrize(
    ("code", "says"),
    [
        ("    return 'five'", "step.py:1: make_step returned 'five': it must return one training step"),
        ("    raise KeyError('lost')", "step.py:make_step fails: KeyError: 'lost' (step.py:2, in make_step: "),
        ("    return lambda: device + batch", "fails: TypeError: unsupported operand type(s)"),
        ("    import torch\n    return lambda: torch.ones(2) + torch.ones(3)", "fails: RuntimeError: The size of"),
    ],
)
def test_a_step_that_fails_is_told_in_one_sentence(bench, tmp_path, code, says):
    (tmp_path / "step.py").write_text(f"def make_step(batch, device):\n{code}\n")
    result = bench("validate", "--snapshot", SNAPSHOT, "--step", "step.py:make_step", "--batch", "6")
    assert (result.returncode, result.stdout) == (2, "")
    assert says in result.stderr and result.stderr.count("\n") == 1


# Events, and by how much the recorded peaks are larger: where other steps had been run before, blocks of theirs were
# still in the card's cache.
REAL_STEPS = {
    "transformer_forward": (transformer.forward_128, 3213, 0, 0),
    "memory_ctx512_forward_mixed": (transformer.forward_512_mixed, 4116, 0, 0),
    "memory_ctx128_fullstep": (transformer.full_step_128, 12665, 0, 0),
    "memory_ctx256_fullstep_": (transformer.full_step_256_alone, 12663, 360_448, 10_485_760),
    "memory_ctx512_fullstep_": (transformer.full_step_512_alone, 12663, 0, 232_783_872),
}


@pytest.mark.parametrize("name", REAL_STEPS)
def test_steps_that_strangers_recorded(name):
    """A transformer of 2.7 billion parameters on cards of compute capability 9.0."""
    path = REAL / f"{name}.json.gz"
    if not path.exists():
        pytest.skip(f"{path} is not there: recorded traces are not part of the repository")
    make_step, events, allocated_bytes, reserved_bytes = REAL_STEPS[name]
    card = CARDS["H100 SXM"]
    with on_cuda(card):
        found = match(read(path), make_step, transformer.BATCH, card)
    assert (found.matched, found.events, found.recorded_events) == (events, events, events)
    assert found.recorded.allocated_bytes - found.real.allocated_bytes == allocated_bytes
    assert found.recorded.reserved_bytes - found.real.reserved_bytes == reserved_bytes


USER_STEPS = """
import helper

def make_step(batch, device):
    return helper.value

def _private(batch, device):
    pass
"""


@pytest.fixture
def users(tmp_path, monkeypatch):
    """A folder with a step of a user's own."""
    (tmp_path / "helper.py").write_text("value = 5\n")
    (tmp_path / "users.py").write_text(USER_STEPS)
    (tmp_path / "broken.py").write_text("x = 1\ny = undefined\n")
    (tmp_path / "wrong.py").write_text("def f(:\n")
    (tmp_path / "lacking.py").write_text("import not_installed_anywhere\n")
    monkeypatch.chdir(tmp_path)
    before = set(sys.modules)
    monkeypatch.setattr(sys, "path", [*sys.path])
    yield tmp_path
    for name in set(sys.modules) - before:
        del sys.modules[name]


@pytest.mark.parametrize("name", ["users.py:make_step", "./users.py:make_step", "users:make_step"])
def test_a_step_of_the_users_own(users, name):
    assert load_step(name)(1, None) == 5


@pytest.mark.parametrize(
    ("name", "says"),
    [
        ("users.py", "'users.py' names no step: expected FILE.py:FUNCTION or MODULE:FUNCTION"),
        ("users.py:", "'users.py:' names no step"),
        (":f", "':f' names no step"),
        ("none.py:f", "there is no file none.py"),
        ("none:f", "there is no module none: not in the working folder, and none is installed"),
        ("users.none:f", "there is no module users.none"),
        ("users.py:step", "users.py has no function step: it has make_step"),
        ("helper.py:value", "helper.py:value: value is no function: it is int"),
        ("broken.py:f", "broken.py cannot be imported: NameError: name 'undefined' is not defined (broken.py:2: `"),
        ("broken:f", "broken cannot be imported: NameError: name 'undefined' is not defined (broken.py:2: `"),
        ("wrong.py:f", "wrong.py cannot be imported: SyntaxError"),
        ("lacking.py:f", "No module named 'not_installed_anywhere' (lacking.py:1: `"),
        ("lacking:f", "No module named 'not_installed_anywhere' (lacking.py:1: `"),
    ],
)
def test_steps_that_cannot_be_had(users, name, says):
    with pytest.raises(UsageError) as error:
        load_step(name)
    assert says in str(error.value) and "\n" not in str(error.value)
