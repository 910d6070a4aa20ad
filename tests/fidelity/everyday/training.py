"""What the steps share: how they are registered, and the plain loop."""

import torch


def registered(steps):
    """A decorator that puts a step into `steps` by its name."""

    def of(make_step):
        steps[make_step.__name__] = make_step
        return make_step

    return of


def trained(model, loss, optimizer=torch.optim.AdamW, **options):
    """A step of the optimiser on `loss()`."""
    optimizer = optimizer(model.parameters(), lr=1e-3, **options)

    def step():
        optimizer.zero_grad()
        loss().backward()
        optimizer.step()

    return step
