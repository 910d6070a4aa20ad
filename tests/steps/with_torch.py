"""Steps of plain PyTorch: recurrent networks, speech, a small GPT, and what PyTorch has to save memory."""

import math
import os
import socket

import torch
from torch import nn
from torch.nn import functional
from torch.utils.checkpoint import checkpoint

from tests.steps.training import updating

WORDS = 10_000


class LanguageModel(nn.Module):
    def __init__(self, width=200):
        super().__init__()
        self.embedding, self.dropout = nn.Embedding(WORDS, width), nn.Dropout(0.2)
        self.lstm = nn.LSTM(width, width, 2, dropout=0.2, batch_first=True)
        self.words = nn.Linear(width, WORDS)

    def forward(self, tokens):
        states, _ = self.lstm(self.dropout(self.embedding(tokens)))
        return self.words(self.dropout(states))


def lstm_language_model(batch):
    model = LanguageModel().to("cuda")
    optimizer = torch.optim.SGD(model.parameters(), lr=20.0)

    def step():
        tokens = torch.randint(0, WORDS, (batch, 36), device="cuda")
        optimizer.zero_grad()
        logits = model(tokens[:, :-1])
        functional.cross_entropy(logits.flatten(0, 1), tokens[:, 1:].flatten()).backward()
        nn.utils.clip_grad_norm_(model.parameters(), 0.25)
        optimizer.step()

    return step


def packed_gru(batch):
    embedding = nn.Embedding(1000, 64).cuda()
    gru, head = nn.GRU(64, 64, batch_first=True).cuda(), nn.Linear(64, 2).cuda()
    lengths = torch.full((batch,), 40)

    def loss():
        tokens = torch.randint(0, 1000, (batch, 50), device="cuda")
        packed = nn.utils.rnn.pack_padded_sequence(embedding(tokens), lengths, batch_first=True, enforce_sorted=False)
        states, _ = nn.utils.rnn.pad_packed_sequence(gru(packed)[0], batch_first=True)
        return functional.cross_entropy(head(states[:, -1]), torch.zeros(batch, dtype=torch.long, device="cuda"))

    return updating(nn.ModuleList([embedding, gru, head]), loss)


def ctc_speech(batch):
    model = nn.Sequential(
        *(nn.Conv1d(80, 128, 5, 2, 2), nn.BatchNorm1d(128), nn.ReLU()),
        *(nn.Conv1d(128, 128, 5, 1, 2), nn.BatchNorm1d(128), nn.ReLU()),
        nn.Conv1d(128, 29, 1),
    ).cuda()

    def loss():
        spectrograms = torch.randn(batch, 80, 400, device="cuda")
        targets = torch.randint(1, 29, (batch, 40), device="cuda")
        scores = model(spectrograms).permute(2, 0, 1).log_softmax(-1)
        frames, letters = torch.full((batch,), 200), torch.full((batch,), 40)
        return functional.ctc_loss(scores, targets, frames, letters)

    return updating(model, loss)


class Block(nn.Module):
    def __init__(self, width, heads):
        super().__init__()
        self.heads, self.norm1, self.norm2 = heads, nn.LayerNorm(width), nn.LayerNorm(width)
        self.qkv, self.out = nn.Linear(width, 3 * width), nn.Linear(width, width)
        self.mlp = nn.Sequential(nn.Linear(width, 4 * width), nn.GELU(), nn.Linear(4 * width, width), nn.Dropout(0.1))

    def forward(self, x):
        parts = [each.unflatten(-1, (self.heads, -1)).transpose(1, 2) for each in self.qkv(self.norm1(x)).chunk(3, -1)]
        mixed = functional.scaled_dot_product_attention(*parts, is_causal=True, dropout_p=0.1 if self.training else 0)
        x = x + self.out(mixed.transpose(1, 2).flatten(2))
        return x + self.mlp(self.norm2(x))


class GPT(nn.Module):
    def __init__(self, width=192, heads=6, layers=4, context=256, recomputes=False):
        super().__init__()
        self.recomputes = recomputes
        self.tokens, self.places = nn.Embedding(WORDS, width), nn.Embedding(context, width)
        self.blocks = nn.ModuleList(Block(width, heads) for _ in range(layers))
        self.norm, self.head = nn.LayerNorm(width), nn.Linear(width, WORDS, bias=False)
        self.head.weight = self.tokens.weight

    def forward(self, tokens):
        x = self.tokens(tokens) + self.places(torch.arange(tokens.shape[1], device=tokens.device))
        for block in self.blocks:
            x = checkpoint(block, x, use_reentrant=False) if self.recomputes else block(x)
        return self.head(self.norm(x))


def gpt_loss(model, batch):
    tokens = torch.randint(0, WORDS, (batch, 257), device="cuda")
    return functional.cross_entropy(model(tokens[:, :-1]).flatten(0, 1), tokens[:, 1:].flatten())


def nano_gpt(batch):
    model = GPT().cuda()
    return updating(model, lambda: gpt_loss(model, batch))


def nano_gpt_amp(batch):
    """Flash attention with dropout, bfloat16, gradients accumulated over two micro-batches and clipped."""
    model = GPT().to("cuda")
    optimizer = torch.optim.AdamW(model.parameters(), lr=3e-4, betas=(0.9, 0.95), fused=True)

    def step():
        for _ in range(2):
            with torch.autocast("cuda", dtype=torch.bfloat16):
                loss = gpt_loss(model, batch) / 2
            loss.backward()
        if not math.isfinite(loss.item()):
            raise RuntimeError("the loss is not finite")
        nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)

    return step


def nano_gpt_checkpointed(batch):
    model = GPT(recomputes=True).cuda()
    return updating(model, lambda: gpt_loss(model, batch))


def saved_on_the_host(batch):
    """Activations wait in the host's memory for the backward pass."""
    model = nn.Sequential(*(layer for _ in range(4) for layer in (nn.Linear(1024, 1024), nn.GELU()))).cuda()

    def loss():
        with torch.autograd.graph.save_on_cpu(pin_memory=True):
            return model(torch.randn(batch, 64, 1024, device="cuda")).square().mean()

    return updating(model, loss)


def distributed(batch):
    """DistributedDataParallel in one process."""
    if not torch.distributed.is_initialized():
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            port = free.getsockname()[1]
        os.environ.update(MASTER_ADDR="127.0.0.1", MASTER_PORT=str(port))
        torch.distributed.init_process_group("nccl", rank=0, world_size=1)
    model = nn.Sequential(*(layer for _ in range(4) for layer in (nn.Linear(1024, 1024), nn.GELU()))).cuda()
    model = nn.parallel.DistributedDataParallel(model, device_ids=[0])
    return updating(model, lambda: model(torch.randn(batch, 64, 1024, device="cuda")).square().mean())


def encoder_with_padding(batch):
    layer = nn.TransformerEncoderLayer(256, 4, 1024, batch_first=True)
    model = nn.TransformerEncoder(layer, 3, enable_nested_tensor=False).cuda()

    def loss():
        padding = torch.zeros(batch, 128, dtype=torch.bool, device="cuda")
        padding[:, 100:] = True
        return model(torch.randn(batch, 128, 256, device="cuda"), src_key_padding_mask=padding).square().mean()

    return updating(model, loss)


def masked_loss(batch):
    """A loss of some elements only, chosen by a mask that is known."""
    model = nn.Sequential(nn.Linear(256, 512), nn.ReLU(), nn.Linear(512, 256)).cuda()

    def loss():
        rows = torch.randn(batch, 64, 256, device="cuda")
        mask = (torch.arange(64, device="cuda") % 4 > 0).expand(batch, 64)
        return functional.mse_loss(model(rows)[mask], rows[mask])

    return updating(model, loss)
