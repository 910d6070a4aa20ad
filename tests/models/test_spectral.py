import pytest
import torch
import torch.nn.functional as F

from bench.models.spectral import GRID, SpectralConv2d, held


def test_sigma_is_the_largest_singular_value():
    torch.manual_seed(0)
    conv = SpectralConv2d(6, 10, 3).double()
    start = torch.linalg.matrix_norm(conv.weight.flatten(1), ord=2)
    torch.testing.assert_close(conv.u @ conv.weight.flatten(1) @ conv.v, start, rtol=1e-6, atol=0)
    with torch.no_grad():
        conv.weight.add_(torch.randn_like(conv.weight))
    for _ in range(500):
        conv.iterate()
    exact = torch.linalg.matrix_norm(conv.weight.flatten(1), ord=2)
    conv.eval()
    torch.testing.assert_close(conv.normalised_weight(), conv.weight / exact, rtol=1e-10, atol=0)


def periodic_matrix(weight):
    """The convolution on periodic images of GRID x GRID, column by column."""
    pixels = torch.eye(weight.shape[1] * GRID * GRID, dtype=weight.dtype).view(-1, weight.shape[1], GRID, GRID)
    return F.conv2d(F.pad(pixels, (1, 1, 1, 1), mode="circular"), weight).flatten(1).T


def test_the_norm_of_the_convolution_itself_is_that_of_its_dense_matrix():
    torch.manual_seed(0)
    conv = SpectralConv2d(3, 4, 3, norm="convolution").double().eval()
    weight = conv.weight.detach()
    matrix = periodic_matrix(weight)
    exact = torch.linalg.matrix_norm(matrix, ord=2)
    torch.testing.assert_close(conv.normalised_weight().detach(), weight / exact, rtol=1e-6, atol=0)
    torch.testing.assert_close(matrix.T @ conv.u.flatten(), exact * conv.v.flatten(), rtol=0, atol=1e-6)
    as_matrix = torch.linalg.matrix_norm(weight.flatten(1), ord=2)
    assert exact > 1.3 * as_matrix  # what the usual norm leaves
    with torch.no_grad():
        conv.weight.add_(torch.randn_like(weight))
    for _ in range(500):
        conv.iterate()
    exact = torch.linalg.matrix_norm(periodic_matrix(conv.weight.detach()), ord=2)
    torch.testing.assert_close(conv.normalised_weight(), conv.weight / exact, rtol=1e-10, atol=0)


def test_between_the_frequencies_of_the_grid_the_norm_is_little_more():
    """On images of 24 x 24, whose frequencies are three times as dense, at most 1 / cos(pi / 8)^2 = 1.17 times."""
    torch.manual_seed(0)
    for _ in range(5):
        weight = SpectralConv2d(5, 6, 3, norm="convolution").eval().normalised_weight().detach()
        gains = torch.linalg.svdvals(torch.fft.fft2(weight, (24, 24)).permute(2, 3, 0, 1))
        assert 1 - 1e-5 <= float(gains.max()) <= 1.1716


def test_one_power_iteration_per_call_in_training_and_none_in_evaluation():
    torch.manual_seed(0)
    conv = SpectralConv2d(3, 4, 3)
    conv.u.copy_(torch.ones(4) / 2)  # away from the exact start
    u = conv.u.clone()
    conv.normalised_weight()
    assert not torch.equal(conv.u, u)
    conv.eval()
    u = conv.u.clone()
    first, second = conv.normalised_weight(), conv.normalised_weight()
    assert torch.equal(conv.u, u)
    assert torch.equal(first, second)


def test_gradient_reaches_the_weight_with_singular_vectors_held():
    torch.manual_seed(0)
    conv = SpectralConv2d(2, 3, 3, bias=False).double().eval()
    u, v = conv.u.clone(), conv.v.clone()

    def normalise(weight):
        return weight / (u @ weight.flatten(1) @ v)

    torch.testing.assert_close(conv.normalised_weight(), normalise(conv.weight))
    direction = torch.randn_like(conv.weight)
    (found,) = torch.autograd.grad((conv.normalised_weight() * direction).sum(), conv.weight)
    (expected,) = torch.autograd.grad((normalise(conv.weight) * direction).sum(), conv.weight)
    torch.testing.assert_close(found, expected)
    assert abs((found * conv.weight).sum()) < 1e-10  # scaling the weight changes nothing


def test_two_forward_passes_before_backward():
    conv = SpectralConv2d(2, 3, 3)
    (conv.normalised_weight().sum() + conv.normalised_weight().sum()).backward()
    assert torch.isfinite(conv.weight.grad).all()


def test_adds_buffers_but_no_parameters_and_works_on_the_meta_device():
    plain, spectral = torch.nn.Conv2d(3, 4, 3), SpectralConv2d(3, 4, 3)
    assert [p.shape for p in plain.parameters()] == [p.shape for p in spectral.parameters()]
    assert sum(b.numel() for b in spectral.buffers()) == 4 + 27
    with torch.device("meta"):
        conv = SpectralConv2d(3, 4, 3)
    assert conv(torch.empty(2, 3, 8, 8, device="meta")).shape == (2, 4, 8, 8)
    assert spectral(torch.zeros(2, 3, 8, 8)).shape == (2, 4, 8, 8)


def test_what_is_held_does_not_move():
    torch.manual_seed(0)
    model = torch.nn.Sequential(SpectralConv2d(3, 4, 3), torch.nn.ReLU(), SpectralConv2d(4, 3, 3, norm="convolution"))
    convs = [model[0], model[2]]

    def moved():
        """Which of the two singular vectors a pass moves that starts away from the leading ones."""
        before = []
        for conv in convs:
            conv.u.copy_(torch.ones_like(conv.u) / conv.u.numel() ** 0.5)
            before.append(conv.u.clone())
        model(torch.zeros(1, 3, 8, 8))
        return [not torch.equal(conv.u, u) for conv, u in zip(convs, before, strict=True)]

    assert moved() == [True, True]
    with held(model):
        assert moved() == [False, False]
    assert moved() == [True, True]
    with pytest.raises(RuntimeError), held(model):
        raise RuntimeError
    assert moved() == [True, True]


@pytest.mark.parametrize("norm", ["matrix", "convolution"])
@pytest.mark.parametrize("kernel_size", [1, 3, 5, 7])
def test_an_image_keeps_its_size(kernel_size, norm):
    torch.manual_seed(0)
    conv = SpectralConv2d(2, 3, kernel_size, norm=norm).eval()
    x = torch.rand(2, 2, 9, 8)
    assert conv(x).shape == (2, 3, 9, 8)
    torch.testing.assert_close(conv(x), F.conv2d(x, conv.normalised_weight(), conv.bias, padding=kernel_size // 2))


@pytest.mark.parametrize("kernel_size", [3, 5])
def test_singular_fields_without_values_have_their_sizes(kernel_size):
    shapes = []
    for device in ("cpu", "meta"):
        with torch.device(device):
            conv = SpectralConv2d(3, 5, kernel_size, norm="convolution")
            conv(torch.zeros(2, 3, 8, 8))
        shapes.append([(buffer.device.type, buffer.shape) for buffer in (conv.u, conv.v)])
    assert shapes == [[(device, (1, 5, GRID, GRID)), (device, (1, 3, GRID, GRID))] for device in ("cpu", "meta")]
