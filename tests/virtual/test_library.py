"""The library itself, built with this machine's C compiler and called as CUDA's callers do: no CUDA needed."""

import ctypes
import platform
import shutil
import threading
from ctypes import byref, c_char, c_float, c_int, c_int64, c_size_t, c_void_p

import pytest
import torch

from bench.memory.gpus import CARDS, card_of_capacity
from bench.units import GiB, MiB
from bench.virtual import library as built
from bench.virtual.figures import figures
from bench.virtual.worker import tell

pytestmark = pytest.mark.skipif(
    f"{platform.system()} {platform.machine()}" != "Linux x86_64" or not any(map(shutil.which, ("cc", "gcc", "clang"))),
    reason="needs Linux on x86_64 and a C compiler",
)
OUT_OF_MEMORY, NOT_SUPPORTED = 2, 801
STUBS = {"cublasCreate_v2", "cusolverDnSpotrf_bufferSize", "cudaIpcGetMemHandle", "cublasSgemm_v2"}


@pytest.fixture(scope="module")
def folders(tmp_path_factory):
    """Where the library is, as each CUDA has it."""
    made = {major: tmp_path_factory.mktemp("built") for major in built.CUDA_MAJORS}
    for major, folder in made.items():
        built.build(folder, STUBS, major)
    return made


@pytest.fixture
def card(folders, tmp_path, monkeypatch):
    """A fresh copy of the library that is an RTX 3080 of which 1 GiB is left."""
    path = shutil.copy(folders["13"] / built.DRIVER, tmp_path / "card.so")
    loaded = ctypes.CDLL(str(path))
    monkeypatch.setattr(ctypes, "CDLL", lambda name: loaded)
    tell(figures(card_of_capacity("2GiB", context_bytes=GiB)))
    return loaded


def malloc(card, size):
    pointer = c_void_p(1)
    status = card.cudaMalloc(byref(pointer), c_size_t(size))
    return status, pointer.value


def free_bytes(card):
    free, total = c_size_t(), c_size_t()
    assert card.cudaMemGetInfo(byref(free), byref(total)) == 0
    assert total.value == 2 * GiB
    return free.value


def test_memory_is_counted_to_the_byte(card):
    assert free_bytes(card) == GiB
    status, first = malloc(card, GiB - 1)
    assert status == 0 and free_bytes(card) == 1
    assert malloc(card, 2) == (OUT_OF_MEMORY, None)
    status, second = malloc(card, 1)
    assert status == 0 and free_bytes(card) == 0
    assert second == first + GiB  # addresses rise, in pages of 2 MiB
    card.cudaFree(c_void_p(first))
    card.cudaFree(c_void_p(first))  # no more than once
    card.cudaFree(None)
    assert free_bytes(card) == GiB - 1
    assert malloc(card, 2 * MiB)[1] == second + 2 * MiB  # no address is given twice


def test_many_allocations_and_frees(card):
    for _ in range(70_000):  # more than the library's table has places
        status, pointer = malloc(card, MiB)
        assert status == 0
        card.cudaFree(c_void_p(pointer))
    assert free_bytes(card) == GiB


def test_address_ranges_are_free_and_pieces_are_not(card):
    address, piece, size = c_size_t(), c_size_t(), c_size_t()
    assert card.cuMemAddressReserve(byref(address), c_size_t(64 * GiB), c_size_t(0), c_size_t(0), c_size_t(0)) == 0
    assert card.cuMemGetAllocationGranularity(byref(size), None, 0) == 0 and size.value == 2 * MiB
    assert free_bytes(card) == GiB
    assert card.cuMemCreate(byref(piece), c_size_t(GiB + 1), None, c_size_t(0)) == OUT_OF_MEMORY
    assert card.cuMemCreate(byref(piece), c_size_t(20 * MiB), None, c_size_t(0)) == 0
    assert free_bytes(card) == GiB - 20 * MiB
    assert card.cuMemRelease(piece) == 0
    assert free_bytes(card) == GiB


def test_what_comes_from_the_device_is_zeros_and_counted(card):
    _, device = malloc(card, 64)
    host = (c_char * 64)(*[b"x"] * 64)
    card.cudaMemcpy(c_void_p(device), host, c_size_t(64), 1)
    assert card.virtual_card_values_read() == 0
    card.cudaMemcpyAsync(host, c_void_p(device), c_size_t(60), 2, None)
    assert host.raw == bytes(60) + b"xxxx"
    assert card.virtual_card_values_read() == 1


def test_what_is_told_comes_from_the_device_until_the_step_goes_its_own_way(card):
    _, device = malloc(card, 64)
    card.virtual_card_tell(b"\x07\0\0\0", c_size_t(4))
    card.virtual_card_tell(None, c_size_t(4))
    card.virtual_card_tell(b"12345678", c_size_t(8))
    card.virtual_card_tell(b"9", c_size_t(1))

    def read(size_bytes):
        host = (c_char * 8)(*[b"x"] * 8)
        card.cudaMemcpyAsync(host, c_void_p(device), c_size_t(size_bytes), 2, None)
        return host.raw[:size_bytes], card.virtual_card_values_read(), card.virtual_card_strays()

    assert read(4) == (b"\x07\0\0\0", 0, 0)
    assert read(4) == (bytes(4), 1, 0)
    assert read(0) == (b"", 1, 0)
    assert read(8) == (b"12345678", 1, 0)
    assert read(2) == (bytes(2), 2, 1)
    assert read(1) == (bytes(1), 3, 2)


NOTHING_SENT = bytes(8), 1


@pytest.mark.parametrize(
    ("between", "read"),
    [
        (lambda card, a, b: a, (b"12345678", 0)),
        (lambda card, a, b: b, NOTHING_SENT),
        (lambda card, a, b: card.cudaMemcpyAsync(b, a, c_size_t(8), 3, None) or b, (b"12345678", 0)),
        (lambda card, a, b: card.cudaMemcpyAsync(b, a, c_size_t(4), 3, None) or b, NOTHING_SENT),
        (lambda card, a, b: card.cudaMemcpyAsync(a, b, c_size_t(8), 3, None) or a, NOTHING_SENT),
        (lambda card, a, b: card.cudaMemcpy(b, b"abcdefgh", c_size_t(8), 1) or a, NOTHING_SENT),
        (lambda card, a, b: card.cudaMemcpy(b, b"abcdefgh", c_size_t(8), 1) or b, (b"abcdefgh", 0)),
        (lambda card, a, b: card.ncclAllGather(a, b, c_size_t(2), 2, None, None) or b, (b"12345678", 0)),
        (lambda card, a, b: card.ncclAllGather(a, b, c_size_t(2), 4, None, None) or b, NOTHING_SENT),
        (lambda card, a, b: card.ncclBroadcast(a, a, c_size_t(1), 4, 0, None, None) or a, (b"12345678", 0)),
        (lambda card, a, b: card.ncclAllReduce(a, b, c_size_t(1), 8, 0, None, None) or b, (b"12345678", 0)),
        (lambda card, a, b: card.cudaLaunchKernel(None) or a, NOTHING_SENT),
        (lambda card, a, b: card.cuLaunchKernel() or a, NOTHING_SENT),
        (lambda card, a, b: card.cublasSgemm_v2() or a, NOTHING_SENT),
        (lambda card, a, b: card.cudnnBackendExecute() or a, NOTHING_SENT),
    ],
)
def test_what_the_host_sent_is_known_where_it_is_copied_until_something_computes(card, between, read):
    a, b = (c_void_p(malloc(card, 8)[1]) for _ in range(2))
    card.cudaMemcpyAsync(a, b"12345678", c_size_t(8), 1, None)
    place = between(card, a, b)
    host = (c_char * 8)(*[b"x"] * 8)
    card.cudaMemcpyAsync(host, place, c_size_t(8), 2, None)
    assert (host.raw, card.virtual_card_values_read()) == read


@pytest.mark.parametrize("where", ["device", "pinned", "plain"])
def test_where_a_pointer_points(card, where):
    pinned, plain = c_void_p(), (c_char * 8)()
    card.cudaHostAlloc(byref(pinned), c_size_t(8), 0)
    pointer = {"device": malloc(card, 8)[1], "pinned": pinned.value, "plain": ctypes.addressof(plain)}[where]
    attributes = (c_int * 24)()
    assert card.cudaPointerGetAttributes(attributes, c_void_p(pointer)) == 0
    assert attributes[0] == {"plain": 0, "pinned": 1, "device": 2}[where]


@pytest.mark.parametrize("name", [name for name, card in CARDS.items() if not card.refusal])
def test_properties_and_attributes_are_the_cards(folders, tmp_path, monkeypatch, name):
    loaded = ctypes.CDLL(shutil.copy(folders["13"] / built.DRIVER, tmp_path / "card.so"))
    monkeypatch.setattr(ctypes, "CDLL", lambda path: loaded)
    tell(figures(CARDS[name]))
    properties = (c_int * 252)()  # 1,008 bytes, as in driver_types.h of CUDA 13
    assert loaded.cudaGetDeviceProperties(properties, 0) == 0
    major, minor = CARDS[name].compute_capability
    assert (properties[90], properties[91], properties[96]) == (major, minor, CARDS[name].multiprocessors)
    assert ctypes.string_at(properties).decode() == CARDS[name].chip.device_names[0]
    assert c_int64.from_buffer(properties, 288).value == CARDS[name].total_bytes
    value = c_int()
    for attribute, expected in {75: major, 76: minor, 16: CARDS[name].multiprocessors, 10: 32, 9999: 0}.items():
        assert loaded.cudaDeviceGetAttribute(byref(value), attribute, 0) == 0
        assert value.value == expected
    threads = {75: 1024, 80: 2048, 86: 1536, 89: 1536, 90: 2048, 120: 1536}[10 * major + minor]
    loaded.cudaDeviceGetAttribute(byref(value), 39, 0)
    assert value.value == threads == properties[604 // 4]


# What an RTX 3080 has in cudaDeviceProp, and where: bytes in driver_types.h of CUDA 12 and of CUDA 13.
PLACES = {
    "totalConstMem": (65536, 352, 352),
    "major": (8, 360, 360),
    "multiProcessorCount": (68, 388, 384),
    "canMapHostMemory": (1, 400, 392),
    "surfaceAlignment": (512, 568, 552),
    "memoryBusWidth": (320, 612, 592),
    "l2CacheSize": (5 * MiB, 616, 596),
    "maxThreadsPerMultiProcessor": (1536, 624, 604),
    "regsPerMultiprocessor": (65536, 648, 632),
    "cooperativeLaunch": (1, 688, 668),
    "sharedMemPerBlockOptin": (101376, 696, 672),
    "maxBlocksPerMultiProcessor": (16, 712, 688),
    "reservedSharedMemPerBlock": (1024, 720, 696),
}


@pytest.mark.parametrize(
    ("major", "function", "size_bytes"),
    [("12", "cudaGetDeviceProperties_v2", 1032), ("13", "cudaGetDeviceProperties", 1008)],
)
def test_properties_are_where_each_cuda_has_them(folders, tmp_path, monkeypatch, major, function, size_bytes):
    loaded = ctypes.CDLL(shutil.copy(folders[major] / built.DRIVER, tmp_path / "card.so"))
    monkeypatch.setattr(ctypes, "CDLL", lambda path: loaded)
    tell(figures(CARDS["RTX 3080"]))
    properties = ctypes.create_string_buffer(b"x" * (size_bytes + 4))
    assert getattr(loaded, function)(properties, 0) == 0
    assert properties.raw[size_bytes - 4 :] == bytes(4) + b"xxxx\0"
    values = {name: places[built.CUDA_MAJORS.index(major)] for name, (_, *places) in PLACES.items()}
    found = {name: c_int.from_buffer(properties, place).value for name, place in values.items()}
    assert found == {name: value for name, (value, *_) in PLACES.items()}
    version = c_int()
    loaded.cudaRuntimeGetVersion(byref(version))
    assert version.value == int(major) * 1000


@pytest.mark.parametrize(
    ("major", "function", "arguments"),
    [("12", "cudaStreamGetCaptureInfo_v2", 6), ("13", "cudaStreamGetCaptureInfo", 7)],
)
def test_no_stream_is_captured_with_as_many_arguments_as_each_cuda_has(folders, major, function, arguments):
    """The last is how many nodes it depends on."""
    status, count = c_int(7), c_size_t(7)
    loaded = ctypes.CDLL(str(folders[major] / built.DRIVER))
    between = [None] * (arguments - 3)
    assert getattr(loaded, function)(None, byref(status), *between, byref(count)) == 0
    assert (status.value, count.value) == (0, 0)


def test_occupancy_follows_threads_registers_and_shared_memory(card):
    blocks = c_int()
    for threads, shared, expected in [(32, 0, 16), (512, 0, 3), (1024, 0, 1), (256, 49152, 2), (256, 99 * 1024, 1)]:
        card.cudaOccupancyMaxActiveBlocksPerMultiprocessor(byref(blocks), None, threads, c_size_t(shared))
        assert blocks.value == expected


def test_a_function_that_is_not_known_leaves_its_name(card):
    page = ctypes.create_string_buffer(16)
    card.virtual_card_report_to(page, 16)
    assert card.cublasSgemm_v2() == 0 and page.value == b""
    assert card.cudaIpcGetMemHandle() == NOT_SUPPORTED
    assert card.cudaMallocAsync(None, c_size_t(1), None) == NOT_SUPPORTED
    assert page.value == b"cudaIpcGetMemHa"  # the first, as far as there is room


def test_sizes_that_are_not_known_are_noted_once(card):
    assert card.virtual_card_lower_bounds() == b""
    size = c_int(7)
    for _ in range(2):
        card.cusolverDnSpotrf_bufferSize(None, 0, 5, None, 5, byref(size))
    assert size.value == 0
    assert card.virtual_card_lower_bounds() == b"cusolverDnSpotrf_bufferSize"


REAL, REAL_IN_DOUBLE, COMPLEX, COMPLEX_IN_HALF = 0, 1, 4, 6


@pytest.mark.parametrize(
    ("from_", "to", "most"),
    [
        (COMPLEX, COMPLEX, 2 * 3 * 10 * 8 * 8),
        (REAL, COMPLEX, 2 * 3 * 10 * 5 * 8),
        (COMPLEX, REAL, 2 * 3 * 10 * 5 * 8),
        (REAL_IN_DOUBLE, 5, 2 * 3 * 10 * 5 * 16),
        (COMPLEX_IN_HALF, COMPLEX_IN_HALF, 2 * 3 * 10 * 8 * 4),
    ],
)
def test_work_areas_of_cufft_are_nothing_or_twice_the_larger_of_input_and_output(card, from_, to, most):
    """Of three transforms of 10 x 8 numbers: the half of the spectrum of real numbers has 10 x 5."""
    sizes, size = (c_int64 * 2)(10, 8), c_size_t(7)
    here, there = (None, c_int64(1), c_int64(0), from_), (None, c_int64(1), c_int64(0), to)
    assert card.cufftXtMakePlanMany(1, 2, sizes, *here, *there, c_int64(3), byref(size), from_) == 0
    bounds = card.virtual_card_lower_bounds, card.virtual_card_upper_bounds
    assert (size.value, bounds[0](), bounds[1]()) == (most, b"", b"cufftXtMakePlanMany")
    card.virtual_card_set(b"fft_work_times", c_int64(0))
    assert card.cufftXtMakePlanMany(1, 2, sizes, *here, *there, c_int64(3), byref(size), from_) == 0
    assert (size.value, card.virtual_card_lower_bounds()) == (0, b"cufftXtMakePlanMany")


def test_kernels_that_select_by_value_are_counted(card):
    plain, selects = c_void_p(64), c_void_p(128)
    card.__getattr__("__cudaRegisterFunction")(None, plain, None, b"_Z10add_kernel")
    card.__getattr__("__cudaRegisterFunction")(None, selects, None, b"_ZN3cub23DeviceSelectSweepKernel")
    for kernel in (plain, selects, plain, selects):
        card.cudaLaunchKernel(kernel)
    assert card.virtual_card_selections() == 2


def test_the_drivers_hidden_tables_are_left_alone(card):
    function = c_void_p(1)
    assert card.cuGetExportTable(byref(function), None) != 0 and function.value is None
    assert card.cuGetProcAddress(b"cuInit", byref(function), 13000, c_size_t(0)) != 0 and function.value is None


def test_events_tell_the_time_between_them(card):
    card.cudaEventRecord.argtypes = [c_void_p, c_void_p]
    start, end, milliseconds = (ctypes.create_string_buffer(64), ctypes.create_string_buffer(64), c_float(-1))
    card.cudaEventRecord(ctypes.addressof(start), None)
    card.cudaEventRecord(ctypes.addressof(end), None)
    card.cudaEventElapsedTime(byref(milliseconds), start, end)
    assert 0 <= milliseconds.value < 1000


def test_built_once_by_whoever_is_first(cuda_build, monkeypatch):
    answers = []
    threads = [threading.Thread(target=lambda: answers.append(built.environment())) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(answers) == 4 and all(answer == answers[0] for answer in answers)
    (folder,) = cuda_build.iterdir()  # nothing half done is left
    assert answers[0]["LD_PRELOAD"] == f"{folder}/libcuda.so.1:{folder}/libnvidia-ml.so.1"
    monkeypatch.setenv("CC", "/nowhere/cc")  # is not called again
    assert built.environment() == answers[0]


def test_another_build_of_pytorch_gets_another_library(cuda_build, monkeypatch):
    first = built.environment()
    monkeypatch.setattr(torch, "__version__", "2.99.0+cu130")
    assert built.environment() != first


TRIED = built._TRIAL.replace("import torch", "")


def test_the_library_is_tried_where_it_is_preloaded(cuda_build, monkeypatch):
    monkeypatch.setattr(built, "_TRIAL", TRIED)
    assert built.environment()["LD_PRELOAD"]
