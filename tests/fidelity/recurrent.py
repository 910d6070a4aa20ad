"""Layers that cuDNN runs along a sequence, each in a step of its own: make_step(batch, device), by name in STEPS."""

import copy
from functools import partial

import torch
from torch import nn

IN, WIDTH, LENGTH = 64, 96, 12
STEPS = {}


def of(make_step):
    """Register a step."""
    STEPS[make_step.__name__] = make_step
    return make_step


def of_layer(
    batch, device, *, kind, width=WIDTH, length=LENGTH, dtype=torch.float32, training=True, autocast=False, **options
):
    """A step of one module: forward and, in training, backward."""
    net = kind(IN, width, **options).to(device, dtype).train(training)
    shape = (batch, length, IN) if options.get("batch_first") else (length, batch, IN)

    def step():
        net.zero_grad()
        x = torch.rand(shape, device=device, dtype=dtype)
        with torch.set_grad_enabled(training), torch.autocast("cuda", torch.float16, enabled=autocast):
            loss = net(x)[0].square().mean()
        if training:
            loss.backward()

    return step


KINDS = {"lstm": nn.LSTM, "gru": nn.GRU, "rnn": nn.RNN}
PRECISIONS = {"": torch.float32, "_in_half": torch.float16}
WAYS = {
    "": {},
    "_evaluated": {"training": False},
    "_wide": {"width": 512},
    "_wide_evaluated": {"width": 512, "training": False},
    "_deep": {"num_layers": 3, "dropout": 0.3, "bidirectional": True, "batch_first": True},
    "_deep_evaluated": {"num_layers": 3, "dropout": 0.3, "bidirectional": True, "training": False},
}
STEPS |= {
    f"{name}{way}{precision}": partial(of_layer, kind=kind, dtype=dtype, **options)
    for name, kind in KINDS.items()
    for way, options in WAYS.items()
    for precision, dtype in PRECISIONS.items()
}
STEPS |= {
    "lstm_projected": partial(of_layer, kind=nn.LSTM, proj_size=32),
    "lstm_in_double": partial(of_layer, kind=nn.LSTM, dtype=torch.float64),
    "lstm_without_bias": partial(of_layer, kind=nn.LSTM, bias=False),
    "lstm_under_autocast": partial(of_layer, kind=nn.LSTM, autocast=True, num_layers=2, dropout=0.1),
    "lstm_in_bfloat16": partial(of_layer, kind=nn.LSTM, dtype=torch.bfloat16),
    "gru_both_ways_without_bias": partial(of_layer, kind=nn.GRU, bias=False, bidirectional=True, batch_first=True),
    "rnn_of_relu_in_bfloat16": partial(
        of_layer, kind=nn.RNN, nonlinearity="relu", num_layers=2, dtype=torch.bfloat16, batch_first=True
    ),
    "lstm_projected_under_autocast": partial(of_layer, kind=nn.LSTM, autocast=True, proj_size=48),
    "gru_under_autocast": partial(of_layer, kind=nn.GRU, autocast=True, width=256, length=100),
}


@of
def lstm_of_packed_sequences(batch, device):
    """Sequences of different lengths."""
    net = nn.LSTM(IN, WIDTH, 2).to(device)
    x = torch.rand(LENGTH, batch, IN, device=device)
    lengths = torch.arange(LENGTH, LENGTH - batch, -1)

    def step():
        net.zero_grad()
        net(nn.utils.rnn.pack_padded_sequence(x, lengths))[0].data.sum().backward()

    return step


@of
def lstm_language_model(batch, device):
    """Words from words before them, with clipped gradients."""
    vocabulary = 2000
    words, net, head = nn.Embedding(vocabulary, IN), nn.LSTM(IN, 256, 2, dropout=0.2), nn.Linear(256, vocabulary)
    model = nn.ModuleList([words, net, head]).to(device)
    optimizer = torch.optim.SGD(model.parameters(), lr=1.0)

    def step():
        optimizer.zero_grad()
        text = torch.zeros(36, batch, dtype=torch.long, device=device)
        told = head(net(words(text[:-1]))[0])
        nn.functional.cross_entropy(told.flatten(0, 1), text[1:].flatten()).backward()
        nn.utils.clip_grad_norm_(model.parameters(), 0.25)
        optimizer.step()

    return step


@of
def gru_from_learned_states(batch, device):
    """Begins with states that are learned, and ends in a loss of the last ones alone."""
    net = nn.GRU(IN, WIDTH, 2, batch_first=True).to(device)
    first = nn.Parameter(torch.zeros(2, 1, WIDTH, device=device))

    def step():
        net.zero_grad()
        first.grad = None
        x = torch.rand(batch, LENGTH, IN, device=device, requires_grad=True)
        net(x, first.expand(-1, batch, -1).contiguous())[1].square().mean().backward()

    return step


@of
def lstm_seeded_in_each_step(batch, device):
    """After a seed the random states of dropout are made anew."""
    net = nn.LSTM(IN, WIDTH, 2, dropout=0.5).to(device)

    def step():
        net.zero_grad()
        torch.manual_seed(0)
        net(torch.rand(LENGTH, batch, IN, device=device))[1][1].sum().backward()

    return step


@of
def frozen_lstm(batch, device):
    """Without gradients of weights: features are learned before it."""
    before, net = nn.Linear(IN, IN).to(device), nn.LSTM(IN, WIDTH).to(device).requires_grad_(False)

    def step():
        before.zero_grad()
        net(before(torch.rand(LENGTH, batch, IN, device=device)))[0].square().mean().backward()

    return step


@of
def lstm_called_itself(batch, device):
    """torch.lstm without its layer's own call, its last options by name."""
    net = nn.LSTM(IN, WIDTH).to(device)

    def step():
        net.zero_grad()
        x, states = (torch.rand(*shape, device=device) for shape in ((LENGTH, batch, IN), (1, batch, WIDTH)))
        ways = {"train": True, "bidirectional": False, "batch_first": False}
        torch.lstm(x, (states, states), net._flat_weights, True, 1, 0.0, **ways)[0].square().mean().backward()

    return step


@of
def rnns_called_themselves(batch, device):
    """torch.gru of a packed sequence and torch.rnn_tanh, of weights that lie one by one."""
    gru, rnn = ([torch.rand(n * WIDTH, *more) for more in ((IN,), (WIDTH,), (), ())] for n in (3, 1))
    gru, rnn = ([weight.to(device).requires_grad_() for weight in weights] for weights in (gru, rnn))
    sizes = torch.full((LENGTH,), batch)

    def step():
        x, states = (torch.rand(*shape, device=device) for shape in ((LENGTH * batch, IN), (1, batch, WIDTH)))
        of_gru, _ = torch.gru(x, sizes, states, gru, True, 1, 0.0, True, False)
        of_rnn, _ = torch.rnn_tanh(x.view(LENGTH, batch, IN), states, rnn, True, 1, 0.0, True, False, False)
        (of_gru.mean() + of_rnn.mean()).backward()

    return step


@of
def copied_gru(batch, device):
    """A copy, whose weights lie one by one."""
    net = copy.deepcopy(nn.GRU(IN, WIDTH, 2).to(device))

    def step():
        net.zero_grad()
        net(torch.rand(LENGTH, batch, IN, device=device))[0].square().mean().backward()

    return step


@of
def copied_and_moved_gru(batch, device):
    """A copy on the host, which lies in one block once it is moved."""
    net = copy.deepcopy(nn.GRU(IN, WIDTH, 2)).to(device)
    average = copy.deepcopy(net).requires_grad_(False)

    def step():
        net.zero_grad()
        x = torch.rand(LENGTH, batch, IN, device=device)
        with torch.no_grad():
            wanted = average(x)[0]
        nn.functional.mse_loss(net(x)[0], wanted).backward()

    return step
