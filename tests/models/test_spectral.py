import torch
import torch.nn.functional as F

from bench.models.spectral import GRID, SpectralConv2d


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
