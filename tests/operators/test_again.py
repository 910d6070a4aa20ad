"""Functions that keep their arguments and run again: how much they keep, and gradients of what they do not use."""

import torch
from torch import Tensor
from torch.autograd.graph import saved_tensors_hooks

from bench.operators.again import run_again


def kept(program):
    """How many tensors autograd keeps while a program runs."""
    tensors = []
    with saved_tensors_hooks(lambda tensor: tensors.append(tensor) or tensor, lambda tensor: tensor):
        program()
    return len(tensors)


def sine(x: Tensor) -> tuple[Tensor, ...]:
    return (x.sin(),)


def test_a_backward_pass_keeps_what_the_function_keeps_when_it_runs():
    """No graph of the gradient, which nobody differentiates before it is made again."""
    x = torch.ones(3, requires_grad=True)
    (y,) = run_again(sine, x)
    of_function = kept(lambda: sine(x))
    assert of_function == 1
    assert kept(lambda: torch.autograd.grad(y, x, torch.ones(3))) == of_function


def test_the_gradient_of_an_argument_without_effect_is_zero():
    x, unused = (torch.ones(3, requires_grad=True) for _ in range(2))
    (y,) = run_again(lambda x, unused: (2 * x,), x, unused)
    gradients = torch.autograd.grad(y, [x, unused], torch.ones(3))
    assert [each.tolist() for each in gradients] == [[2.0] * 3, [0.0] * 3]
