"""What the steps of this folder share: one update of a model, and how often it is asked for."""

import torch


def updating(model, loss_of, optimizer=None):
    """A training step: the loss of a batch, its gradients, an update."""
    model.train()
    if optimizer is None:
        optimizer = torch.optim.AdamW([each for each in model.parameters() if each.requires_grad], lr=1e-4)

    def step():
        optimizer.zero_grad(set_to_none=True)
        loss = loss_of()
        loss.backward()
        optimizer.step()

    return step
