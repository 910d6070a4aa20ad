"""Graph networks of PyTorch Geometric: https://github.com/pyg-team/pytorch_geometric."""

import torch
import torch_geometric.nn as pyg
from torch import nn
from torch.nn import functional

from tests.steps.training import updating

NODES, EDGES = 200, 1000  # of a sample


def of_nodes(convolution, batch):
    layers = nn.ModuleList([convolution(64, 64), convolution(64, 10)]).to("cuda")

    def loss():
        nodes = NODES * batch
        values = torch.randn(nodes, 64, device="cuda")
        edges = torch.randint(0, nodes, (2, EDGES * batch), device="cuda")
        hidden = functional.relu(layers[0](values, edges))
        return functional.cross_entropy(layers[1](hidden, edges), torch.randint(0, 10, (nodes,), device="cuda"))

    return updating(layers, loss)


def sage(batch):
    return of_nodes(pyg.SAGEConv, batch)


def gcn(batch):
    return of_nodes(pyg.GCNConv, batch)


def gat(batch):
    return of_nodes(pyg.GATConv, batch)


def gin_of_graphs(batch):
    mlp = nn.Sequential(nn.Linear(16, 64), nn.ReLU(), nn.Linear(64, 64))
    model = nn.ModuleList([pyg.GINConv(mlp), nn.Linear(64, 2)]).to("cuda")

    def loss():
        values = torch.randn(30 * batch, 16, device="cuda")
        edges = torch.randint(0, 30 * batch, (2, 64 * batch), device="cuda")
        graphs = torch.arange(batch, device="cuda").repeat_interleave(30)
        pooled = pyg.global_add_pool(model[0](values, edges), graphs)
        return functional.cross_entropy(model[1](pooled), torch.zeros(batch, dtype=torch.long, device="cuda"))

    return updating(model, loss)
