"""An operator repeated: the same numbers and gradients, computed as often as it says."""

import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode

from bench.operators.blur import GaussianBlur
from bench.operators.repeated import Repeated

SHAPE = (2, 6, 5)


class Convolutions(TorchDispatchMode):
    count = 0

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        self.count += "convolution" in str(function)
        return function(*args, **(kwargs or {}))


@pytest.mark.parametrize("times", [1, 2, 7])
def test_results_and_gradients_are_those_of_one_application_and_the_work_that_of_many(times):
    blur = GaussianBlur(SHAPE, kernel_size=3, dtype=torch.float64)
    repeated = Repeated(blur, times)
    x, y = torch.rand(2, 3, *SHAPE, dtype=torch.float64).unbind()
    found = []
    for operator in (blur, repeated):
        image = x.clone().requires_grad_()
        with Convolutions() as computed:
            descent = operator.descent(image, y)
            descent.square().sum().backward()
        found.append((descent.detach(), image.grad, computed.count))
        assert (operator.calls.forward, operator.calls.adjoint) == (2, 2)
        operator.calls.reset()
    (plain, gradient, once), (again, gradient_again, often) = found
    assert torch.equal(plain, again) and torch.equal(gradient, gradient_again)
    assert (once, often) == (4, 4 * times)
    assert torch.equal(repeated.initial_estimate(y), y)
    assert repeated.frozen_parameters == blur.frozen_parameters == 18


@pytest.mark.parametrize("times", [0, 1001])
def test_other_numbers_are_refused(times):
    with pytest.raises(ValueError, match=f"Repeated got times {times}, expected 1 to 1,000"):
        Repeated(GaussianBlur(SHAPE), times)
