"""A training step as people write it for a GPU: docs/ANY-STEP.md asks whether it fits."""

import torch
from torch import nn
from torch.nn import functional

WIDTH, HEADS, LAYERS, CONTEXT, TOKENS = 384, 6, 6, 256, 50257
device = "cuda" if torch.cuda.is_available() else "cpu"


class Block(nn.Module):
    def __init__(self):
        super().__init__()
        self.norm1, self.norm2 = nn.LayerNorm(WIDTH), nn.LayerNorm(WIDTH)
        self.qkv, self.out = nn.Linear(WIDTH, 3 * WIDTH), nn.Linear(WIDTH, WIDTH)
        self.mlp = nn.Sequential(nn.Linear(WIDTH, 4 * WIDTH), nn.GELU(), nn.Linear(4 * WIDTH, WIDTH))

    def forward(self, x):
        heads = [t.view(*t.shape[:2], HEADS, -1).transpose(1, 2) for t in self.qkv(self.norm1(x)).chunk(3, -1)]
        x = x + self.out(functional.scaled_dot_product_attention(*heads, is_causal=True).transpose(1, 2).flatten(2))
        return x + self.mlp(self.norm2(x))


def make_step(batch):
    model = nn.Sequential(nn.Embedding(TOKENS, WIDTH), *(Block() for _ in range(LAYERS)), nn.Linear(WIDTH, TOKENS))
    model.to(device)
    optimizer = torch.optim.AdamW(model.parameters(), lr=3e-4)
    scaler = torch.amp.GradScaler("cuda")

    def step():
        tokens = torch.randint(0, TOKENS, (batch, CONTEXT + 1)).to(device, non_blocking=True)
        with torch.autocast("cuda", dtype=torch.float16):
            logits = model(tokens[:, :-1])
            loss = functional.cross_entropy(logits.flatten(0, 1), tokens[:, 1:].flatten())
        scaler.scale(loss).backward()
        scaler.unscale_(optimizer)
        nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        scaler.step(optimizer)
        scaler.update()
        optimizer.zero_grad(set_to_none=True)
        print(f"loss {loss.item():.3f}")

    return step


def wrong_width(batch):
    layer = nn.Linear(WIDTH, WIDTH).to(device)
    return lambda: layer(torch.rand(batch, 100, device=device)).sum().backward()
