"""The virtual card itself, in a python that has a CUDA build of PyTorch and bench: named by BENCH_CUDA_PYTHON.

BENCH_CUDA_PYTHON=.venv-cuda/bin/python pytest tests/virtual/test_cuda_build.py
"""

import json
import os
import shlex
import subprocess
import textwrap
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PYTHON = os.environ.get("BENCH_CUDA_PYTHON", "")
pytestmark = pytest.mark.skipif(not PYTHON, reason="BENCH_CUDA_PYTHON names no python with a CUDA build of PyTorch")

STEPS = """
import os
import torch
from torch import nn
F = nn.functional
PROCESS = os.getpid()

def alone(size, device):
    '''A step that allocates what is asked for.'''
    return lambda: torch.empty(size, dtype=torch.uint8, device=device)

def small_net(batch, device):
    net = nn.Sequential(nn.Conv2d(3, 64, 3, padding=1), nn.BatchNorm2d(64), nn.ReLU(), nn.Conv2d(64, 3, 3)).to(device)
    optimizer = torch.optim.Adam(net.parameters())
    def step():
        optimizer.zero_grad()
        net(torch.rand(batch, 3, 128, 128, device=device)).square().mean().backward()
        optimizer.step()
    return step

def narrow(batch, device):
    weight, x = (torch.rand(count, 128, size, size, device=device) for count, size in ((128, 3), (batch, 64)))
    return lambda: F.conv2d(x, weight, padding=1)

def amp(batch, device):
    net = nn.TransformerEncoderLayer(256, 4, 1024, batch_first=True).to(device)
    optimizer = torch.optim.AdamW(net.parameters())
    scaler = torch.amp.GradScaler("cuda")
    def step():
        optimizer.zero_grad(set_to_none=True)
        with torch.autocast("cuda", torch.float16):
            loss = net(torch.rand(batch, 256, 256, device=device)).square().mean()
        scaler.scale(loss).backward()
        scaler.unscale_(optimizer)
        nn.utils.clip_grad_norm_(net.parameters(), 1.0)
        scaler.step(optimizer)
        scaler.update()
        assert loss.item() == 0 and not torch.isnan(loss)
    return step

def by_value(batch, device):
    x = torch.rand(1000, device=device)
    return lambda: x[x > 0.5].sum()

def by_mask(batch, device):
    weight = torch.rand(256, device="cuda", requires_grad=True)
    def step():
        rows = torch.rand(batch, 64, 256, device="cuda")
        mask = (torch.arange(64, device="cuda") % 4 > 0).expand(batch, 64)
        if torch.ones(5, device="cuda").all():
            (rows * weight)[mask].square().mean().backward()
    return step

def by_counts(batch, device):
    rows = torch.rand(batch, 2048, device="cuda", requires_grad=True)
    def step():
        counts = torch.arange(batch, device="cuda") % 3 + 1
        rows.repeat_interleave(counts, dim=0).square().mean().backward()
        rows.repeat_interleave(torch.randint(1, 9, (batch,), device="cuda"), dim=0).square().mean().backward()
    return step

def of_objects(batch, device):
    from torch import distributed
    if not distributed.is_initialized():
        distributed.init_process_group("nccl", store=distributed.HashStore(), rank=0, world_size=1)
    def step():
        gathered = [None]
        distributed.all_gather_object(gathered, {"lost": 1.5, "rows": batch})
        torch.rand(gathered[0]["rows"], 2**20, device="cuda").square().mean()
    return step

def reduction(batch, device):
    x = torch.empty(10000, 2048, device=device).t()
    return lambda: x.max(dim=-1)

def graph(batch, device):
    def step():
        with torch.cuda.graph(torch.cuda.CUDAGraph()):
            torch.ones(1, device=device)
    return step

def loaded():
    import sys
    from pathlib import Path
    lines = Path("/proc/self/maps").read_text().splitlines()
    return {*sys.modules, *(line.split("/")[-1] for line in lines if ".so" in line)}

def late(batch, device):
    import gc
    before, is_frozen = loaded(), gc.get_freeze_count() > 100_000
    learn = small_net(batch, device)
    def step():
        learn()
        torch.linalg.cholesky(torch.ones(8, 8, device=device))
        new = sorted(name for name in loaded() - before if name.startswith("lib") or "gluon" in name)
        raise ValueError(f"loaded {new}, {is_frozen}, {PROCESS == os.getpid()}")
    return step

def leaving(batch, device):
    return lambda: os._exit(0)

def stopping(batch, device):
    return lambda: exit(3)

def in_batches(batch, device):
    a = torch.rand(batch, 32, 32, device=device)
    def step():
        b = torch.rand(batch, 32, 4, device=device)
        torch.linalg.qr(a), torch.linalg.lstsq(a, b), torch.lu_solve(b, *torch.linalg.lu_factor(a))
        torch.cuda.list_gpu_processes(), torch.cuda.utilization()
        assert torch.cuda.clock_rate() == 1710, torch.cuda.clock_rate()
    return step

def on_another(batch, device):
    return lambda: torch.ones(1, device="cuda:1")

def wrong(batch, device):
    return lambda: torch.ones(2, device=device) + torch.ones(3, device=device)

def samples(count):
    return torch.zeros(count, 3, 8, 8), torch.zeros(count, dtype=torch.long)

def loader(batch, **options):
    from torch.utils.data import DataLoader, TensorDataset
    return DataLoader(TensorDataset(*samples(5 * batch)), batch, num_workers=2, pin_memory=True, **options)

def fed_by(next_batch, device):
    net = nn.Sequential(nn.Conv2d(3, 4096, 1), nn.ReLU(), nn.AdaptiveMaxPool2d(1), nn.Flatten(), nn.Linear(4096, 10))
    net.to(device)
    def step():
        images, classes = next_batch()
        assert images.is_pinned() and classes.is_pinned()
        F.cross_entropy(net(images.to(device, non_blocking=True)), classes.to(device, non_blocking=True)).backward()
    return step

def of_workers(batch, device):
    batches = loader(batch)
    return fed_by(lambda: next(iter(batches)), device)

def of_persistent_workers(batch, device):
    batches = iter(loader(batch, persistent_workers=True))
    return fed_by(lambda: next(batches), device)

def of_no_workers(batch, device):
    batch = [each.pin_memory() for each in samples(batch)]
    return fed_by(lambda: batch, device)

def distributed(batch, device):
    from torch import distributed
    distributed.init_process_group("nccl", store=distributed.HashStore(), rank=0, world_size=1)
    net = nn.Sequential(*(layer for _ in range(4) for layer in (nn.Linear(1024, 1024), nn.GELU()))).to("cuda")
    net = nn.parallel.DistributedDataParallel(net, device_ids=[0])
    optimizer = torch.optim.AdamW(net.parameters(), lr=1e-4)
    def step():
        optimizer.zero_grad(set_to_none=True)
        net(torch.randn(batch, 64, 1024, device="cuda")).square().mean().backward()
        optimizer.step()
        distributed.all_reduce(torch.zeros(2**18, device="cuda"))
        distributed.barrier()
    return step

def of_two_ranks(batch, device):
    from torch import distributed
    store = distributed.HashStore()
    distributed.init_process_group("nccl", store=store, rank=0, world_size=2, device_id=torch.device("cuda:0"))
    return lambda: None

def by_length(batch, device):
    def step():
        lengths = torch.full((batch,), 5, device=device)
        return torch.ones(batch, int(lengths.max())).max()
    return step
"""


@pytest.fixture
def asked(tmp_path):
    """Run code with bench, its tools and STEPS at hand in the CUDA build's python; what it leaves in `answer`."""
    (tmp_path / "steps.py").write_text(STEPS)

    def asked(code, **environment):
        before = (
            "import json, dataclasses, steps\n"
            "from bench.memory import *\n"
            "from bench.memory.measuring.cuda import ProbeFailedError\n"
            "from bench.virtual import *\n"
            "import torch\n"
            "RELEASE = '.'.join(torch.__version__.split('.')[:2])\n"
        )
        (tmp_path / "asked.py").write_text(before + textwrap.dedent(code) + "\nprint('ANSWER', json.dumps(answer))\n")
        done = subprocess.run(
            [PYTHON, "asked.py"],
            cwd=tmp_path,
            env=os.environ | {"OMP_NUM_THREADS": "1", "PYTHONPATH": str(ROOT)} | environment,
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == 0, done.stderr
        return json.loads(done.stdout.split("ANSWER")[1])

    return asked


def test_the_card_is_full_to_the_byte(asked):
    """Segments are of 2 MiB, expandable ones of 20 MiB: what is left of the card fits, and a byte more does not."""
    answer = asked("""
        card = CARDS["RTX 3080"]
        answer = []
        for conf, page in (("", 2 * 2**20), ("expandable_segments:True", 20 * 2**20)):
            engine = VirtualEngine(steps.alone, card, alloc_conf=conf, steps=1)
            most = card.usable_bytes // page * page
            answer.append([engine.probe(most).fits, engine.probe(most + 1).fits])
            answer.append(engine.probes[most].peak_reserved_bytes == most)
        seen = engine.measurements[most]
        answer += [seen.device, seen.limit_bytes == card.usable_bytes]
    """)
    assert answer == [[True, False], True, [True, False], True, "NVIDIA GeForce RTX 3080", True]


def test_probes_know_nothing_of_each_other(asked):
    answer = asked("""
        engine = VirtualEngine(steps.small_net, CARDS["RTX 3080"])
        answer = [engine.probe(batch).peak_reserved_bytes for batch in (4, 100000, 4, 8, 4)]
    """)
    assert answer[0] == answer[2] == answer[4] < answer[3]


def test_a_probe_finds_loaded_what_a_step_needs_but_for_the_users_own(asked):
    """Parts of cuDNN, linear algebra, Triton; and the collector passes over what was there before."""
    answer = asked("""
        try:
            VirtualEngine(steps.late, CARDS["RTX 3080"]).probe(1)
        except ProbeFailedError as error:
            answer = str(error)
    """)
    assert "ValueError: loaded [], True, True" in answer


def test_a_convolution_takes_cudnns_workspaces_and_falls_back(asked):
    """The recording, which asks the same cuDNN, agrees to the byte, allocated and reserved."""
    answer = asked("""
        from bench.memory.cudnn.heuristics import workspaces
        card = CARDS["RTX 3080"]
        engine = VirtualEngine(steps.small_net, card)
        simulated = SimulatedEngine(record(steps.small_net), card, workspaces=workspaces(card))
        answer = [[dataclasses.astuple(e.probe(batch)) for batch in (2, 3)] for e in (engine, simulated)]
    """)
    virtual, recorded = answer
    assert virtual == recorded


def test_plans_that_do_not_fit_are_counted_as_pytorch_counts_them(asked):
    """cuDNN has several plans of the same size, and PyTorch tries, and counts, every one."""
    answer = asked("""
        from bench.memory.cudnn.heuristics import workspaces
        of_chip = CARDS["RTX 3080"]
        trace, known = record(steps.narrow), workspaces(of_chip)
        ((_, (call,)), counts) = trace.with_calls(8), []
        for mib in (36, 52, 80):
            card = dataclasses.replace(of_chip, total_bytes=of_chip.context_bytes + mib * 2**20)
            engines = VirtualEngine(steps.narrow, card), SimulatedEngine(trace, card, workspaces=known)
            counts.append([(probe.retries, probe.fallbacks) for probe in (engine.probe(8) for engine in engines)])
        answer = counts, len(set(known.candidates(call)))
    """)
    (tight, narrow, wide), sizes = answer
    assert [on_card for on_card, _ in (tight, narrow, wide)] == [recorded for _, recorded in (tight, narrow, wide)]
    assert tight[0][1] > sizes > 1 and wide == [[0, 0], [0, 0]]


def test_a_step_under_amp_runs_as_it_is(asked):
    answer = asked("""
        engine = VirtualEngine(steps.amp, CARDS["H200"])
        probe = engine.probe(4)
        seen = engine.measurements[4]
        answer = [probe.fits, probe.peak_allocated_bytes > 2**20, seen.values_read > 0, seen.selections]
    """)
    assert answer == [True, True, True, 0]


def test_reductions_stage_as_on_a_real_card(asked):
    """A history of a card of compute capability 9.0 with 132 multiprocessors has these bytes."""
    answer = asked("""
        from bench.memory.measuring.cuda import Trial
        card = CARDS["H200"]
        trial = Trial(steps.reduction, 1, 1, card.usable_bytes, 0, "", True, False, card.cublas_workspace_config, True)
        answer = [size for _, size in VirtualDevice(card).measure(trial).events if isinstance(size, int)]
    """)
    assert 553_648_128 in answer and 64 in answer


def test_shapes_that_depend_on_values_are_noticed(asked):
    answer = asked("""
        engine = VirtualEngine(steps.by_value, CARDS["RTX 3080"])
        engine.probe(1)
        answer = engine.measurements[1].selections
    """)
    assert answer == 1  # in a step


def test_the_card_is_told_what_a_recording_knows(asked):
    """Of 64 rows 48 are selected, as a mask says, and a value of a tensor of ones is 1: the engines do the same."""
    answer = asked("""
        from bench.fitting import OnDevice, Recorded
        from bench.memory.forms import as_make_step
        from bench.fitting.named_step import NamedStep
        recorded = Recorded(as_make_step(steps.by_mask))
        card = CARDS["RTX 3080"]
        told = OnDevice(VirtualEngine, NamedStep("steps.py:by_mask"), recorded=recorded)
        probes = [engine.probe(card, 300) for engine in (recorded, told, OnDevice(VirtualEngine, steps.by_mask))]
        answer = [(probe.peak_allocated_bytes, probe.peak_reserved_bytes) for probe in probes]
    """)
    assert answer[0] == answer[1]
    assert answer[1][0] - answer[2][0] > 300 * 48 * 256 * 4


@pytest.mark.parametrize("step", ["by_counts", "of_objects"])
def test_the_card_repeats_and_gathers_what_a_recording_knows(asked, step):
    answer = asked(f"""
        from bench.fitting import OnDevice, Recorded
        from bench.fitting.named_step import NamedStep
        from bench.fitting.user_step import load_make_step
        recorded, card = Recorded(load_make_step("steps.py:{step}")), CARDS["RTX 3080"]
        told = OnDevice(VirtualEngine, NamedStep("steps.py:{step}"), recorded=recorded)
        probes = [engine.probe(card, 300) for engine in (recorded, told)]
        answer = [(probe.peak_allocated_bytes, probe.peak_reserved_bytes) for probe in probes]
    """)
    recorded, told = answer
    assert recorded == told


def line_of(text):
    """Of STEPS."""
    return STEPS[: STEPS.index(text)].count("\n") + 1


NOT_KNOWN = ", which the virtual card does not know: use --engine simulated"
ZEROS = "; the step uses values of the card before, which has none: they are zeros, and selections empty"


WHAT_CANNOT_BE = {
    "graph": ("the step calls cudaStreamBeginCapture (", "with torch.cuda.graph", NOT_KNOWN),
    "of_two_ranks": (
        "the step calls ncclCommInitRankConfig of several ranks (",
        'distributed.init_process_group("nccl", store=store',
        NOT_KNOWN,
    ),
    "wrong": ("RuntimeError: The size of tensor a (2) must match the size of tensor b (3)", "torch.ones(2", ")"),
    "stopping": ("SystemExit: 3 (", "lambda: exit(3)", ")"),
    "on_another": ("AcceleratorError: CUDA error: invalid device ordinal", "cuda:1", ")"),
    "by_length": ("RuntimeError: max(): Expected reduction dim to be specified", "torch.ones(batch, int", ZEROS),
}


@pytest.mark.parametrize("step", WHAT_CANNOT_BE)
def test_what_cannot_be_is_said_by_name_and_line(asked, step):
    says, line, ends = WHAT_CANNOT_BE[step]
    answer = asked(f"""
        try:
            VirtualEngine(steps.{step}, CARDS["RTX 3080"]).probe(1)
        except ProbeFailedError as error:
            answer = str(error)
    """)
    assert answer.startswith(f"the probe of batch 1 under RTX 3080 failed: {says}")
    assert f"(steps.py:{line_of(line)}, in " in answer
    assert answer.endswith(ends)


def test_a_step_that_leaves_its_process_is_said_at_once(asked):
    answer = asked("""
        try:
            VirtualEngine(steps.leaving, CARDS["RTX 3080"]).probe(1)
        except ProbeFailedError as error:
            answer = str(error)
    """)
    assert answer == "the probe of batch 1 under RTX 3080 failed: its process died (exit code 0)"


def test_what_libraries_tell_the_host_beside_memory(asked):
    """That arguments of batched solvers are right, and what else runs on the card: nothing."""
    answer = asked("answer = VirtualEngine(steps.in_batches, CARDS['RTX 3080']).probe(2).fits")
    assert answer


@pytest.mark.parametrize("step", WHAT_CANNOT_BE)
def test_the_command_says_it_too(tmp_path, step):
    """In one line, but for PyTorch's own warnings, with exit code 2; no recording knows the values of `randint`."""
    (tmp_path / "steps.py").write_text(STEPS.replace("torch.full((batch,), 5,", "torch.randint(1, 5, (batch,),"))
    says, line, ends = WHAT_CANNOT_BE[step]
    done = run(tmp_path, f"fit steps.py:{step} --engine virtual --gpu 'RTX 3080' --batch 1")
    assert (done.returncode, done.stdout) == (2, "")
    (said,) = (line for line in done.stderr.splitlines() if not line.startswith("[W"))
    assert says in said and f"(steps.py:{line_of(line)}, in " in said and said.endswith(ends)


def test_a_gpu_is_neither_seen_nor_hidden(asked):
    answer = asked(
        """
        import os, torch
        answer = [VirtualEngine(steps.small_net, CARDS["RTX 3080"]).probe(2).fits, torch.cuda.is_initialized(),
                  "LD_PRELOAD" in os.environ]
        """,
        CUDA_VISIBLE_DEVICES="",
    )
    assert answer == [True, False, False]


@pytest.mark.parametrize("architecture", ["DEQ4IP", "LU-DnCNN"])
def test_constants_without_values_change_no_event(asked, architecture):
    """The Radon transform's matrices are built only where something is computed."""
    answer = asked(f"""
        from bench import config
        from bench.cells import suite
        from bench.memory.measuring.cuda import Trial
        card = CARDS["H200"]
        (cell,) = suite.cells(config.load(config.default_path()), [{architecture!r}], ["ct"])
        events = []
        for workload in (cell.workload.for_recording(), cell.workload.for_recording().without_values()):
            trial = Trial(
                workload.make_step, 2, 2, card.usable_bytes, 0, "", True, False, card.cublas_workspace_config, True
            )
            events.append(VirtualDevice(card).measure(trial).events)
        answer = [events[0] == events[1], len(events[0])]
    """)
    are_same, number = answer
    assert are_same and number > 5000


def test_the_recording_and_the_virtual_card_agree_on_a_cell(tmp_path):
    """From the command: the largest batch is the same with both engines."""
    records = {}
    for engine in ("virtual", "simulated"):
        command = (
            f"run --engine {engine} --gpu 'RTX 3080' --stages memory --architecture DEQ4IP --task ct --jobs 1 --json"
        )
        done = subprocess.run(
            [PYTHON, "-m", "bench", *shlex.split(command), "--output", tmp_path / engine],
            env=os.environ | {"OMP_NUM_THREADS": "1", "PYTHONPATH": str(ROOT)},
            cwd=tmp_path,
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == 0, done.stderr
        (record,) = json.loads(done.stdout)
        records[engine] = record["memory"]
    virtual, simulated = (records[engine]["cards"][0] for engine in ("virtual", "simulated"))
    assert records["virtual"]["engine"] == "virtual"
    assert virtual["cudnn"] == simulated["cudnn"]
    assert virtual["edges"]["exact"]["largest_batch"] == simulated["edges"]["exact"]["largest_batch"]


KEPT_KINDS = ["foreign", "gradients", "histories", "histories-ampere", "histories-turing", "modules", "recurrent"]


@pytest.mark.parametrize("kind", KEPT_KINDS)
def test_the_card_answers_what_is_kept(asked, kind):
    """Every event of every step, where the release is one that goldens are kept of."""
    path = ROOT / f"tests/golden/virtual/{kind}-{asked('answer = RELEASE')}.json.xz"
    if not path.exists():
        pytest.skip(f"no {path.name}")
    answer = asked(f"""
        from pathlib import Path
        from bench.virtual.goldens import read, same
        from tools.virtual_goldens.kinds import KINDS
        from tools.virtual_goldens.steps import made
        kept = read(Path({str(path)!r}))
        answer = same(kept, made(KINDS[{kind!r}], kept))
    """)
    assert answer


def run(tmp_path, command):
    """bench COMMAND in that python."""
    return subprocess.run(
        [PYTHON, "-m", "bench", *shlex.split(command)],
        env=os.environ | {"OMP_NUM_THREADS": "1", "PYTHONPATH": str(ROOT)},
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=False,
    )


CELL = "--engine virtual --gpu 'RTX 3080' --architecture LU-DnCNN --task deblurring"


@pytest.mark.parametrize("step", ["of_workers", "of_persistent_workers"])
def test_batches_of_worker_processes_in_pinned_memory(tmp_path, step):
    """A step whose batches come from a DataLoader takes what it takes with batches made beforehand."""
    (tmp_path / "steps.py").write_text(STEPS)
    answers = []
    for name in (step, "of_no_workers"):
        done = run(tmp_path, f"fit steps.py:{name} --engine virtual --gpu-cap 1GB --json")
        assert done.returncode == 0, done.stderr
        answers.append(json.loads(done.stdout))
    assert [answer.pop("step") for answer in answers] == [f"steps.py:{step}", "steps.py:of_no_workers"]
    (told,) = answers[0]["cards"]
    assert answers[0]["engine"] == "virtual" and 100 < told["largest_batch"] < 1000
    assert answers[0]["cards"] == answers[1]["cards"]


def test_distributed_data_parallel_in_one_process(asked):
    """NCCL's own process group of one rank; the recording of its buckets has these bytes (tests/memory)."""
    answer = asked("""
        engine = VirtualEngine(steps.distributed, CARDS["RTX 3080"])
        probe = engine.probe(100)
        answer = [probe.fits, probe.peak_allocated_bytes, probe.peak_reserved_bytes]
    """)
    assert answer == [True, 453_329_920, 497_025_024]


def test_validation_on_the_card(tmp_path):
    done = run(tmp_path, f"validate {CELL}")
    assert done.returncode == 0, done.stderr
    (row,) = json.loads((tmp_path / "results/validation/virtual-card.json").read_text())["rows"]
    assert row["predicted_batch"] == row["measured_batch"] == 9
    assert row["events"] == {
        "same": 7491,
        "temporaries": 0,
        "largest_of_temporaries": 0,
        "on_card": 0,
        "largest_of_on_card": 0,
        "recorded": 0,
        "largest_of_recorded": 0,
    }
    assert "1 of 1 equal; largest error of peak reserved 0.00%" in done.stdout


@pytest.mark.parametrize("batch", [9, 10])
def test_both_engines_explain_the_same(tmp_path, batch):
    """All of the peak that fits, and of where memory runs out, category by category."""
    told = {}
    for engine in ("virtual", "simulated"):
        cell = CELL.replace("--engine virtual", f"--engine {engine}")
        done = run(tmp_path, f"explain {cell} --batch {batch} --json")
        assert done.returncode == 0, done.stderr
        told[engine] = json.loads(done.stdout)
    assert told["virtual"]["fits"] == (batch == 9)
    for what in ("categories", "rows", "peak_allocated_bytes", "peak_reserved_bytes"):
        assert told["virtual"][what] == told["simulated"][what]


def test_somebodys_script_runs_unchanged(tmp_path):
    script = tmp_path / "train.py"
    script.write_text(
        "import os, sys, torch\n"
        "net = torch.nn.Linear(1024, 1024).to('cuda')\n"
        "net(torch.rand(8, 1024, device='cuda')).sum().backward()\n"
        "print(torch.cuda.get_device_name(), sys.argv[1:], 'LD_PRELOAD' in os.environ)\n"
        "sys.exit(7)\n"
    )
    done = subprocess.run(
        [PYTHON, "-m", "bench.virtual", "H200", script, "--epochs", "3"], capture_output=True, text=True, check=False
    )
    assert (done.returncode, done.stdout) == (7, "NVIDIA H200 ['--epochs', '3'] False\n"), done.stderr
