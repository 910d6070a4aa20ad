"""Recordings without data against real runs, and against what PyTorch itself says of its storages."""

from functools import partial

import pytest
import torch
from torch import nn
from torch.utils.checkpoint import checkpoint

from bench.memory import NotRecordableError, SimulatedEngine, record
from bench.memory.allocator.caching import FREE
from bench.memory.gpus import CARDS, card_of_capacity
from bench.memory.recording.metadata import OutputCache
from bench.memory.recording.recorder import Recorder, record_events
from bench.memory.recording.refusals import DependsOnBatchError
from bench.memory.trace import Event, Workspace, agrees, constant, same_sequence
from bench.units import MiB

META, CPU = torch.device("meta"), torch.device("cpu")


def comparable_events(*args, **kwargs):
    """The events, but for a name: from torch 2.15 on a number becomes a tensor of meta by an operation that shows.

    It is lift_fresh. Before, and where the device is the host, the storage is first seen in the next one.
    """
    events = record_events(*args, **kwargs)
    return [event._replace(op="aten.zero_.default") if "lift_fresh" in event.op else event for event in events]


def small_network(device):
    with device:
        return nn.Sequential(
            nn.Conv2d(1, 4, 3, padding=1),
            nn.GroupNorm(2, 4),
            nn.LeakyReLU(0.2, inplace=True),
            nn.Conv2d(4, 4, 3, padding=1, bias=False),
            nn.BatchNorm2d(4),
            nn.ReLU(inplace=True),
            nn.Conv2d(4, 1, 3, padding=1),
        )


def training(forward=lambda network, image: network(image), image_size=12):
    def make_step(batch, device):
        network = small_network(device)
        optimizer = torch.optim.Adam(network.parameters(), foreach=True)

        def step():
            image = torch.rand(batch, 1, image_size, image_size, device=device)
            optimizer.zero_grad(set_to_none=True)
            loss = (forward(network, image) - image).square().mean()
            loss.backward()
            optimizer.step()

        return step

    return make_step


def unrolled(network, image):
    for _ in range(3):
        image = image + network(image)
    return image


def checkpointed(network, image):
    for _ in range(3):
        image = image + checkpoint(network, image, use_reentrant=False)
    return image


def spectra(network, image):
    spectrum = torch.fft.fft2(torch.complex(network(image), image))
    return torch.fft.ifft2(torch.fft.fftshift(spectrum, dim=(-2, -1))).abs()


@pytest.mark.parametrize("forward", [unrolled, checkpointed, spectra])
@pytest.mark.parametrize("batch", [1, 3])
def test_recording_without_data_equals_a_real_run_event_for_event(forward, batch):
    step = training(forward)
    assert comparable_events(step, batch, META, cache=OutputCache()) == comparable_events(step, batch, CPU)


def updating(make_optimizer, clip_in_lists):
    def make_step(batch, device):
        network = small_network(device)
        optimizer = make_optimizer(network.parameters())

        def step():
            optimizer.zero_grad()
            network(torch.rand(batch, 1, 12, 12, device=device)).square().mean().backward()
            nn.utils.clip_grad_norm_(network.parameters(), 1.0, foreach=clip_in_lists)
            optimizer.step()

        return step

    return make_step


@pytest.mark.parametrize("optimizer", [torch.optim.Adam, torch.optim.AdamW, partial(torch.optim.SGD, momentum=0.9)])
def test_optimisers_choose_their_kernels_as_on_a_gpu(optimizer):
    lists = comparable_events(updating(partial(optimizer, foreach=True), True), 2, CPU)
    assert comparable_events(updating(optimizer, None), 2, META) == lists  # the default on a GPU
    assert comparable_events(updating(partial(optimizer, foreach=False), False), 2, META) != lists


@pytest.mark.parametrize("optimizer", [torch.optim.Adam, torch.optim.AdamW])
def test_optimisers_in_one_kernel(optimizer):
    fused = updating(partial(optimizer, fused=True), True)
    assert comparable_events(fused, 2, META) == comparable_events(fused, 2, CPU)


def test_the_cache_of_outputs_changes_nothing():
    step = training(unrolled)
    assert record_events(step, 2, META, cache=OutputCache()) == record_events(step, 2, META)


def test_a_cache_that_others_filled_changes_nothing():
    step, shared = training(unrolled), OutputCache()
    for other, batch in ((training(), 2), (training(unrolled, 16), 2), (step, 3)):
        record_events(other, batch, META, cache=shared)
    assert record_events(step, 2, META, cache=shared) == record_events(step, 2, META)


def test_views_at_other_offsets_are_other_arguments():
    def make_step(batch, device):
        numbers = torch.empty(4096 * batch + 3, device=device)

        def step():
            for offset in (0, 1, 3, 1):
                numbers[offset : offset + 4096 * batch].sum()

        return step

    staged = [event.staged for event in record_events(make_step, 2, META, steps=1) if event.staged]
    starts = [each.reduction.offset for each in staged]
    each_call = len(starts) // 4
    assert starts == [offset for offset in (0, 1, 3, 1) for _ in range(each_call)]
    assert each_call


def outside_reductions(events):
    """(key, bytes or FREE) without what reductions take, which is nothing where no card is named."""
    staged = {event.key for event in events if event.staged}
    return [(event.key, FREE if event.is_free else event.size_bytes) for event in events if event.key not in staged]


def test_one_trace_tells_the_events_of_every_batch():
    step = training(unrolled)
    trace = record(step)
    assert trace.exceptions == {}
    for batch in (1, 2, 7, 16):
        assert trace.at(batch) == outside_reductions(record_events(step, batch, META))


def test_batch_one_may_take_its_own_path():
    def transposing(network, image):
        rows = network(image).flatten(1).t()  # one row is contiguous either way, two are not
        return (rows.contiguous() * 2).t().reshape(image.shape)

    trace = record(training(transposing))
    assert set(trace.exceptions) == {1}
    for batch in (1, 2, 5):
        events = record_events(training(transposing), batch, META)
        assert trace.at(batch) == outside_reductions(events)


def test_batch_one_may_allocate_more_than_two_steps_of_the_others():
    def make_step(batch, device):
        held = []
        return lambda: held.extend(torch.empty(100, device=device) for _ in range(10 if batch == 1 else 1))

    trace = record(make_step)
    assert [trace.at(batch) for batch in (1, 2)] == [[(key, 400) for key in range(count)] for count in (20, 2)]


@pytest.mark.parametrize(
    ("other", "index"),
    [
        ({}, None),
        ({"size_bytes": 700}, None),
        ({"is_free": True}, 1),
        ({"key": 7}, 1),
        ({"op": "aten.mul.Tensor"}, 1),
        ({"workspace": True}, 1),
    ],
)
def test_recordings_have_the_same_sequence_if_only_sizes_differ(other, index):
    one = [Event(key, 512, workspace=False, op="aten.add.Tensor") for key in range(3)]
    assert same_sequence(one, [one[0], one[1]._replace(**other), one[2]]) == index
    assert same_sequence(one, one[:2]) == same_sequence(one[:2], one) == 2


def test_live_bytes_end_at_what_the_caller_holds():
    held = []

    def make_step(batch, device):
        held.append(torch.empty(1000, device=device))

        def step():
            torch.empty(batch, 500, device=device)
            held.append(torch.empty(batch, 100, dtype=torch.float64, device=device))

        return step

    trace = record(make_step)
    rounded = 4096 + 2 * 5 * 1024  # 4000 B -> 8 blocks of 512; 5 * 800 B -> 8 blocks, twice
    assert trace.live_bytes(5)[-1] == 4096 + 2 * 4096 != rounded
    assert trace.peak_live_bytes(5) == 4096 + 4096 + 10240  # the second step's temporary beside one result
    assert trace.peak_bytes_per_image(5) == 800 + 2000


def test_optimiser_state_is_alive_from_the_first_step_on():
    """Adam holds two tensors per parameter on the device; its step counters stay on the host."""
    keep = []

    def make_step(batch, device):
        network = small_network(device)
        optimizer = torch.optim.Adam(network.parameters(), foreach=True)
        keep.append((network, optimizer))

        def step():
            optimizer.zero_grad(set_to_none=True)
            network(torch.rand(batch, 1, 8, 8, device=device)).sum().backward()
            optimizer.step()
            optimizer.zero_grad(set_to_none=True)

        return step

    def in_blocks(tensors):
        return sum(-(-t.untyped_storage().nbytes() // 512) * 512 for t in tensors)

    trace = record(make_step)
    network, _ = keep[-1]
    state = 3 * in_blocks(network.parameters()) + in_blocks(network.buffers())
    assert trace.live_bytes(2)[-1] == state


def test_a_resized_tensor_is_allocated_anew():
    def make_step(batch, device):
        tensor = torch.empty(batch, 128, device=device)
        return lambda: tensor.resize_(2 * batch + tensor.shape[0], 128)

    trace = record(make_step)
    sizes = [(int(base), int(slope)) for base, slope in zip(trace.base, trace.slope, strict=True)]
    assert sizes == [(0, 512), (0, 3 * 512), (0, 0), (0, 5 * 512), (0, 0)]
    assert trace.is_free.tolist() == [False, False, True, False, True]


def test_convolution_workspaces_stand_where_pytorch_takes_them():
    def make_step(batch, device):
        weight = torch.zeros(4, 2, 3, 3, device=device, requires_grad=True)

        def step():
            image = torch.zeros(batch, 2, 8, 8, device=device, requires_grad=True)
            torch.nn.functional.conv2d(image, weight, padding=1).backward(torch.zeros(batch, 4, 8, 8, device=device))
            weight.grad = None

        return step

    events = [e for e in record_events(make_step, 3, META, steps=1) if "convolution" in e.op]
    image_bytes, output_bytes, weight_bytes = 3 * 2 * 64 * 4, 3 * 4 * 64 * 4, 4 * 2 * 9 * 4
    workspace = image_bytes + output_bytes
    assert [(e.size_bytes, e.workspace) for e in events if not e.is_free] == [
        (output_bytes, False),
        (workspace, True),
        (image_bytes, False),
        (workspace, True),
        (weight_bytes, False),
        (workspace, True),
    ]
    trace = record(make_step)
    assert len(trace.at(3, Workspace.HIGH)) - len(trace.at(3, Workspace.LOW)) == 2 * 3 * 2  # steps, calls, events


@pytest.mark.parametrize(
    ("transform", "op", "most_bytes"),
    [  # of 2 x 8 x 8 numbers, float32 or complex64: twice the larger of input and output
        (lambda x: torch.fft.fft2(torch.complex(x, x)), "aten._fft_c2c.default", 2 * (2 * 8 * 8 * 8)),
        (torch.fft.rfft2, "aten._fft_r2c.default", 2 * (2 * 8 * 5 * 8)),
        (lambda x: torch.fft.irfft2(torch.complex(x, x), s=(8, 14)), "aten._fft_c2r.default", 2 * (2 * 8 * 8 * 8)),
    ],
)
def test_a_fourier_transform_takes_a_copy_and_a_work_area(transform, op, most_bytes):
    def make_step(batch, device):
        image = torch.zeros(2, 8, 8, device=device)
        return lambda: transform(image)

    events = [e for e in record_events(make_step, 1, META, steps=1) if e.op == op and not e.is_free]
    assert [(e.workspace, e.size_bytes) for e in events if e.workspace] == [(True, most_bytes)]
    copied = [2 * 8 * 8 * 8] if op == "aten._fft_c2r.default" else []  # cuFFT writes over what it is given there
    assert [e.size_bytes for e in events[1:] if not e.workspace] == copied
    assert not events[0].workspace  # the output comes first


def test_only_what_a_backward_pass_calls_is_called_in_autograd_s_thread():
    events = record_events(training(), 2, META, steps=1)
    threads = {(e.op, e.in_backward) for e in events if e.call}
    assert threads == {("aten.convolution.default", False), ("aten.convolution_backward.default", True)}
    assert not any(e.in_backward for e in events if not e.call)


def test_sizes_quadratic_in_the_batch_are_fitted():
    """As of contrastive losses, which compare every sample with every other."""

    def contrastive(batch, device):
        net = torch.nn.Linear(32, 16, device=device)

        def step():
            z = torch.nn.functional.normalize(net(torch.empty(batch, 32, device=device)), dim=1)
            torch.nn.functional.cross_entropy(z @ z.T / 0.1, torch.arange(batch, device=device)).backward()

        return step

    trace = record(contrastive)
    assert trace.curve.any()
    for batch in (1, 2, 3, 4, 5, 8, 9, 31, 100, 257):
        assert agrees(trace, batch, record_events(contrastive, batch, META))
    assert trace.peak_bytes_per_image(100) > 4 * (101**2 - 100**2)


def test_what_one_more_image_adds_to_all_pairs():
    trace = record(lambda batch, device: lambda: torch.empty(batch, batch, 1000, device=device))
    assert [trace.peak_bytes_per_image(batch) for batch in (2, 5, 40)] == [4000 * (2 * b + 1) for b in (2, 5, 40)]


def test_a_step_that_is_not_quadratic_in_the_batch_is_refused():
    def cubic(batch, device):
        return lambda: torch.empty(batch**3, 128, device=device)

    with pytest.raises(
        NotRecordableError,
        match=r"not quadratic in the batch: aten\.empty\.memory_format allocates 4096, 13824, 32768 and 64000 bytes "
        r"at batches 2 to 5",
    ):
        record(cubic)


def test_a_sequence_that_depends_on_the_batch_is_refused():
    def loop_over_images(batch, device):
        return lambda: [torch.empty(128, device=device) for _ in range(batch)]

    with pytest.raises(
        NotRecordableError,
        match=r"allocations depends on the batch: event \d+ is free at batch 2 and aten\.empty\S+ at batch 3",
    ):
        record(loop_over_images)


@pytest.mark.parametrize("quadratic", [False, True])
@pytest.mark.parametrize("batch_of_another", [4, 5])
def test_a_sequence_that_is_another_where_the_fit_is_checked_is_refused(batch_of_another, quadratic):
    """Where batch 1 goes its own way, a line is checked at 4, and a parabola, which needs the recording at 4, at 5."""

    def one_more(batch, device):
        def step():
            torch.empty(batch**2 if quadratic else batch, 1000, device=device)
            if batch in (1, batch_of_another):
                torch.zeros(7, device=device)

        return step

    if batch_of_another == 5 and not quadratic:
        assert record(one_more).sizes(6).max() == 24_000
        return
    with pytest.raises(NotRecordableError, match=f"depends on the batch: event .* at batch {batch_of_another}"):
        record(one_more)


def test_a_second_step_that_is_another_where_the_parabola_goes_through_is_refused():
    def one_more(batch, device):
        called = []

        def step():
            called.append(torch.empty(batch**2, 1000, device=device).shape)
            if batch == 1 or (batch == 4 and len(called) == 2):
                torch.zeros(7, device=device)

        return step

    with pytest.raises(DependsOnBatchError, match=r"depends on the batch: event .* at batch 4"):
        record(one_more)


def test_sizes_that_fall_for_large_batches_are_refused():
    def falling(batch, device):
        return lambda: (torch.empty(1000 * batch, device=device), torch.empty(batch * (100 - batch), device=device))

    with pytest.raises(DependsOnBatchError, match="some sizes are no function of the batch that could be fitted"):
        record(falling)


def test_a_step_may_fail_at_batch_one_alone():
    def of_several(batch, device):
        def step():
            if batch == 1:
                raise ValueError("more than one value")
            torch.empty(batch, 1000, device=device)

        return step

    trace = record(of_several)
    assert trace.impossible == {1: "the step runs at batch 2 and not at batch 1: ValueError: more than one value"}
    assert trace.sizes(5).max() == 20_000


def test_a_value_that_another_batch_asks_for_is_no_failure_of_that_batch():
    def reading(batch, device):
        return lambda: torch.zeros(batch, device=device).sum().item() if batch == 3 else torch.zeros(batch)

    with pytest.raises(NotRecordableError, match="needs the value of a tensor") as error:
        record(reading)
    assert type(error.value) is NotRecordableError


def test_a_step_must_be_a_function():
    with pytest.raises(NotRecordableError, match=r"make_step must return a function .*, got None"):
        record(lambda batch, device: None)


def test_a_number_of_the_program_stays_on_the_host():
    def make_step(batch, device):
        return lambda: torch.empty(batch, device=device).mul(torch.tensor(2.0)).add_(torch.tensor(1.0))

    for device in (META, CPU):
        events = record_events(make_step, 9, device, 1)
        assert [(event.is_free, event.size_bytes) for event in events] == [(False, 36)] * 2 + [(True, 0)] * 2


def test_what_is_made_once_a_recording_is_closed_is_no_event():
    recorder = Recorder(META)
    with recorder:
        kept = torch.empty(3, device=META)
        recorder.close()
        kept = torch.empty(5, device=META)
    assert kept.shape == (5,)
    assert [event.size_bytes for event in recorder.events] == [12]


def test_what_a_card_does_not_keep_is_no_event():
    """cuDNN's batch normalisation keeps no moments where nothing is trained."""

    def make_step(batch, device):
        image, weight = torch.empty(batch, 8, 6, 6, device=device), torch.empty(8, device=device)
        return lambda: nn.functional.batch_norm(image, weight, weight, weight, weight, training=False)

    assert [event.size_bytes for event in record_events(make_step, 2, META, 1)][:3] == [2304, 32, 2304]
    assert all(event.is_free or event.size_bytes for event in record_events(make_step, 2, META, 1))


def test_a_trace_agrees_with_what_it_begins_with_and_with_nothing_longer():
    events = record_events(training(), 5, META)
    trace = record(training())
    assert agrees(trace, 5, events) and agrees(trace, 5, events[:-1])
    assert not agrees(trace, 5, [*events, events[-1]])
    assert not agrees(trace, 4, events)


@pytest.mark.parametrize(("p", "sizes"), [(0.0, []), (0.5, [1000, 4000]), (1.0, [4, 4000])])
def test_dropout_is_one_kernel_where_it_drops_some(p, sizes):
    """As ATen/native/Dropout.cpp has it: of none the input itself, of all the input times a zero."""
    image = torch.zeros(1000, device=META)
    events = record_events(lambda batch, device: lambda: nn.functional.dropout(image, p), 2, META, steps=1)
    taken = [event.size_bytes for event in events if not event.is_free]
    if taken and p:
        taken.remove(4000)  # the image, which is met at its first use
    assert sorted(taken) == sizes


def test_what_is_recorded_at_one_batch_has_the_convolutions_of_that_batch():
    def make_step(batch, device):
        weight = torch.zeros(4, 4, 3, 3, device=device)
        return lambda: nn.functional.conv2d(torch.zeros(batch, 4, 8, 8, device=device), weight)

    _, calls = constant(record_events(make_step, 3, META)).with_calls(3)
    assert {call.input_shape for call in calls} == {(3, 4, 8, 8)}


def test_a_step_that_ends_earlier_at_another_batch_is_refused():
    def kept_for_each_image(batch, device):
        kept = []
        return lambda: kept.extend(torch.empty(128, device=device) for _ in range(batch))

    with pytest.raises(NotRecordableError, match=r"event \d+ is nothing more at batch 2 and aten\.empty\S+ at batch 3"):
        record(kept_for_each_image)


def test_a_step_that_reads_a_value_is_refused():
    def reading(batch, device):
        return lambda: torch.zeros(batch, device=device).sum().item()

    with pytest.raises(NotRecordableError, match="needs the value of a tensor"):
        record(reading)


@pytest.mark.parametrize("error", [RuntimeError("no metadata in this file"), NotImplementedError("meta.load: later")])
def test_an_error_of_the_user_that_speaks_of_meta_is_told_as_it_is(error):
    def raising(batch, device):
        def step():
            raise error

        return step

    with pytest.raises(type(error)) as told:
        record(raising)
    assert told.value is error


@pytest.mark.parametrize(
    "reading",
    [
        lambda x: x.sum().item(),
        lambda x: bool((x > 0).any()),
        lambda x: x.cpu(),
        lambda x: x.tolist(),
        lambda x: x[x > 0],
        lambda x: torch.unique(x),
        lambda x: torch.equal(x, x),
        lambda x: torch.masked_select(x, x > 0),
    ],
)
def test_every_way_to_ask_for_a_value_is_refused(reading):
    def make_step(batch, device):
        return lambda: reading(torch.zeros(3, device=device))

    with pytest.raises(NotRecordableError, match="needs the value of a tensor"):
        record(make_step)


def test_tensors_of_the_card_and_of_the_host_together_are_refused():
    with pytest.raises(NotRecordableError, match="tensors of the card and of the host together"):
        record(lambda batch, device: lambda: torch.zeros(3, device=device) + torch.zeros(3))


def test_warnings_of_the_step_that_are_errors_pass_through():
    def warning(batch, device):
        raise UserWarning("of the user's own")

    with pytest.raises(UserWarning, match="of the user's own"):
        record(warning)


def test_errors_of_the_step_itself_pass_through():
    def broken(batch, device):
        return lambda: torch.zeros(batch, 3, device=device) @ torch.zeros(4, 2, device=device)

    with pytest.raises(RuntimeError, match=r"same reduction dim|cannot be multiplied"):
        record(broken)


def test_a_tensor_made_from_python_numbers_is_seen():
    """torch.tensor(..., device="meta") reaches no dispatch mode."""

    def make_step(batch, device):
        weights = torch.tensor([1.0] * 300, device=device)
        return lambda: torch.rand(batch, 300, device=device) * weights

    trace = record(make_step)
    assert sorted(zip(trace.base.tolist(), trace.slope.tolist(), strict=True))[-1] == (1200, 0)
    assert trace.live_bytes(2)[-1] == 1536


def test_embedding_bag_allocates_its_bookkeeping_first():
    def make_step(batch, device):
        indices = torch.zeros(1000, dtype=torch.int32, device=device)
        offsets = torch.zeros(11, dtype=torch.int32, device=device)
        table = torch.zeros(50, 8, device=device)

        def step():
            with torch.no_grad():
                torch.nn.functional.embedding_bag(indices, table, offsets, mode="sum", include_last_offset=True)

        return step

    events = [e for e in record_events(make_step, 1, META, steps=1) if "embedding_bag" in e.op]
    assert [e.size_bytes for e in events] == [11 * 4, 1000 * 4, 10 * 8 * 4]  # and an empty max_indices


def test_cublas_keeps_a_workspace_for_each_of_its_threads():
    def make_step(batch, device):
        weight = torch.zeros(8, 8, device=device, requires_grad=True)

        def step():
            image = torch.zeros(batch, 8, device=device)
            (image @ weight @ weight).sum().backward()
            weight.grad = None

        return step

    trace = record(make_step)
    assert trace.is_cublas.sum() == 2  # not in the second step
    kept = {"8GB": 8_519_680, "RTX 2080": 8_519_680, "RTX 4090": 8_519_680, "RTX 5090": 32 * MiB, "H200": 32 * MiB}
    for card in (card_of_capacity("8GB"), *(CARDS[name] for name in kept if name in CARDS)):
        engine = SimulatedEngine(trace, card)
        for batch in (1, 2):
            assert engine.trace.of(batch).live_bytes(batch)[-1] == 2 * kept[card.name] + 512
            assert engine.probe(batch).peak_allocated_bytes == max(engine.trace.of(batch).live_bytes(batch))
