"""Networks for words, series and decisions: transformers, recurrent cells, policies, graphs."""

import copy
import math

import torch
from torch import nn
from torch.nn import functional as F

from tests.fidelity.everyday.training import registered, trained

STEPS = {}
of = registered(STEPS)


class Heads(nn.Module):
    """x (N, L, W) to the same; `masks` are given on to attention, `shared` heads of queries have one of keys."""

    def __init__(self, width, heads, shared=1):
        super().__init__()
        self.heads, self.of_keys = heads, heads // shared
        self.query, self.out = nn.Linear(width, width), nn.Linear(width, width)
        self.key, self.value = (nn.Linear(width, width // shared) for _ in range(2))

    def forward(self, x, **masks):
        query = self.query(x).unflatten(-1, (self.heads, -1)).transpose(1, 2)
        key, value = (each(x).unflatten(-1, (self.of_keys, -1)).transpose(1, 2) for each in (self.key, self.value))
        mixed = F.scaled_dot_product_attention(query, key, value, enable_gqa=self.of_keys < self.heads, **masks)
        return self.out(mixed.transpose(1, 2).flatten(2))


@of
def words_with_tied_weights(batch, device):
    """A causal transformer in bfloat16, its embedding is its head, decay for matrices alone, clipping."""
    embedding, places = nn.Embedding(1000, 128), nn.Embedding(64, 128)
    blocks = nn.ModuleList(
        nn.ModuleDict(
            {
                "one": nn.LayerNorm(128),
                "heads": Heads(128, 4),
                "two": nn.LayerNorm(128),
                "mlp": nn.Sequential(nn.Linear(128, 512), nn.GELU(approximate="tanh"), nn.Linear(512, 128)),
            }
        )
        for _ in range(2)
    )
    net = nn.ModuleList([embedding, places, blocks, nn.LayerNorm(128)]).to(device)
    head = nn.Linear(128, 1000, bias=False).to(device)
    head.weight = embedding.weight
    decayed = [each for each in net.parameters() if each.dim() > 1]
    others = [each for each in net.parameters() if each.dim() < 2]
    groups = [{"params": decayed, "weight_decay": 0.1}, {"params": others, "weight_decay": 0.0}]
    optimizer = torch.optim.AdamW(groups, 3e-4, fused=True)

    def step():
        text = torch.randint(1000, (batch, 65), device=device)
        with torch.autocast("cuda", torch.bfloat16):
            x = embedding(text[:, :-1]) + places(torch.arange(64, device=device))
            for block in blocks:
                x = x + block["heads"](block["one"](x), is_causal=True)
                x = x + block["mlp"](block["two"](x))
            logits = head(net[3](x))
            loss = F.cross_entropy(logits.view(-1, 1000), text[:, 1:].reshape(-1), ignore_index=0)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(net.parameters(), 1.0)
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)

    return step


@of
def encoder_with_padding(batch, device):
    layer = nn.TransformerEncoderLayer(64, 4, 256, dropout=0.1, batch_first=True)
    net = nn.Sequential(nn.Embedding(500, 64, padding_idx=0), nn.TransformerEncoder(layer, 2), nn.Linear(64, 3))
    net.to(device)

    def loss():
        words = torch.randint(1, 500, (batch, 40), device=device)
        words[:, 30:] = 0
        mask = words == 0
        hidden = net[1](net[0](words), src_key_padding_mask=mask)
        pooled = hidden.masked_fill(mask.unsqueeze(-1), 0).sum(1) / (~mask).sum(1, keepdim=True)
        return F.cross_entropy(net[2](pooled), torch.randint(3, (batch,), device=device))

    return trained(net, loss)


@of
def translation(batch, device):
    """Encoder and decoder of torch.nn, each with its masks."""
    body = nn.Transformer(64, 4, 2, 2, 128, 0.1)
    net = nn.ModuleList([nn.Embedding(300, 64), nn.Embedding(300, 64), body, nn.Linear(64, 300)]).to(device)

    def loss():
        source, target = (torch.randint(300, (n, batch), device=device) for n in (20, 17))
        mask = nn.Transformer.generate_square_subsequent_mask(16, device=device)
        padding = (source == 0).T
        hidden = body(
            *(net[0](source) * math.sqrt(64), net[1](target[:-1]) * math.sqrt(64)),
            tgt_mask=mask,
            src_key_padding_mask=padding,
            memory_key_padding_mask=padding,
        )
        return F.cross_entropy(net[3](hidden).flatten(0, 1), target[1:].flatten())

    return trained(net, loss)


def _grouped(batch, device, dtype):
    net = nn.Sequential(nn.Linear(32, 128), Heads(128, 8, shared=4), nn.Linear(128, 1)).to(device, dtype)
    return trained(net, lambda: net(torch.rand(batch, 48, 32, device=device, dtype=dtype)).square().mean())


@of
def grouped_heads(batch, device):
    return _grouped(batch, device, torch.float32)


@of
def grouped_heads_in_bfloat16(batch, device):
    return _grouped(batch, device, torch.bfloat16)


@of
def attention_with_slopes(batch, device):
    """A bias of distances, added to the scores; a mask of booleans for each sample beside it."""
    net = nn.ModuleList([nn.Linear(16, 64), Heads(64, 4), Heads(64, 4)]).to(device)
    apart = torch.arange(50, device=device)[None] - torch.arange(50, device=device)[:, None]
    slopes = 2.0 ** -torch.arange(1, 5, device=device)
    bias = (slopes[:, None, None] * apart).masked_fill(apart > 0, float("-inf"))

    def loss():
        x = net[0](torch.rand(batch, 50, 16, device=device))
        x = net[1](x, attn_mask=bias)
        sees = torch.rand(batch, 1, 1, 50, device=device) > 0.2
        sees[..., 0] = True
        return net[2](x, attn_mask=sees, dropout_p=0.1).square().mean()

    return trained(net, loss)


@of
def attention_with_a_learned_bias(batch, device):
    net = nn.ModuleList([nn.Linear(16, 64), Heads(64, 4), nn.Embedding(32, 4)]).to(device)
    apart = torch.arange(50)[None] - torch.arange(50)[:, None]
    buckets = apart.clamp(-16, 15).add(16).to(device)

    def loss():
        x = net[0](torch.rand(batch, 50, 16, device=device))
        bias = net[2](buckets).permute(2, 0, 1)[None].expand(batch, -1, -1, -1)
        return net[1](x, attn_mask=bias).square().mean()

    return trained(net, loss)


@of
def attention_written_down(batch, device):
    """Scores, a causal mask, softmax in float32, dropout: all in half precision otherwise."""
    inward, out = nn.Linear(64, 192).to(device).half(), nn.Linear(64, 64).to(device).half()
    net = nn.ModuleList([inward, out])
    mask = torch.tril(torch.ones(40, 40, device=device)).view(1, 1, 40, 40)

    def loss():
        x = torch.rand(batch, 40, 64, device=device, dtype=torch.half)
        query, key, value = inward(x).split(64, dim=2)
        query, key, value = (each.view(batch, 40, 4, 16).transpose(1, 2) for each in (query, key, value))
        scores = (query @ key.transpose(-2, -1)) * (1.0 / math.sqrt(16))
        scores = scores.masked_fill(mask[:, :, :40, :40] == 0, float("-inf"))
        weights = F.dropout(F.softmax(scores, dim=-1, dtype=torch.float32).to(query.dtype), 0.1)
        y = (weights @ value).transpose(1, 2).contiguous().view(batch, 40, 64)
        return out(y).float().pow(2).mean()

    return trained(net, loss, torch.optim.SGD, momentum=0.9)


@of
def attention_of_the_library(batch, device):
    """nn.MultiheadAttention with weights, keys of another width, and both masks."""
    attention = nn.MultiheadAttention(48, 4, dropout=0.1, kdim=32, vdim=24, batch_first=True)
    net = nn.ModuleList([attention, nn.MultiheadAttention(48, 4, bias=False, add_zero_attn=True)]).to(device)
    mask = torch.triu(torch.ones(10, 14, dtype=torch.bool, device=device), 5)

    def loss():
        query, key, value = (torch.rand(batch, *shape, device=device) for shape in ((10, 48), (14, 32), (14, 24)))
        padding = torch.zeros(batch, 14, dtype=torch.bool, device=device)
        padding[:, -1] = True
        y, weights = attention(query, key, value, key_padding_mask=padding, attn_mask=mask)
        again, _ = net[1](y.transpose(0, 1), y.transpose(0, 1), y.transpose(0, 1), need_weights=False)
        return again.square().mean() + weights.mean()

    return trained(net, loss)


@of
def turned_positions(batch, device):
    """Rotations as complex numbers, RMS normalisation, gated layers, no bias."""
    query, key, value, out = (nn.Linear(64, 64, bias=False) for _ in range(4))
    gate, up, down = nn.Linear(64, 160, bias=False), nn.Linear(64, 160, bias=False), nn.Linear(160, 64, bias=False)
    net = nn.ModuleList([query, key, value, out, gate, up, down, nn.RMSNorm(64), nn.RMSNorm(64)]).to(device)
    angles = torch.outer(torch.arange(32, device=device), 1e4 ** (-torch.arange(0, 16, 2, device=device) / 16))
    turns = torch.polar(torch.ones_like(angles), angles)[None, :, None]

    def turned(x):
        pairs = torch.view_as_complex(x.float().reshape(*x.shape[:-1], -1, 2))
        return torch.view_as_real(pairs * turns).flatten(3).type_as(x)

    def loss():
        x = torch.rand(batch, 32, 64, device=device)
        y = net[7](x)
        q, k, v = (each(y).view(batch, 32, 4, 16) for each in (query, key, value))
        q, k = turned(q), turned(k)
        mixed = F.scaled_dot_product_attention(*(each.transpose(1, 2) for each in (q, k, v)), is_causal=True)
        x = x + out(mixed.transpose(1, 2).reshape(batch, 32, 64))
        y = net[8](x)
        return (x + down(F.silu(gate(y)) * up(y))).square().mean()

    return trained(net, loss, torch.optim.Adafactor)


@of
def linear_attention(batch, device):
    """Sums along the sequence in place of scores, by einsum, baddbmm and cumsum."""
    net = nn.Sequential(nn.Linear(32, 96), nn.Linear(32, 32)).to(device)

    def loss():
        query, key, value = net[0](torch.rand(batch, 64, 32, device=device)).view(batch, 64, 3, 2, 16).unbind(2)
        query, key = F.elu(query) + 1, F.elu(key) + 1
        products = torch.einsum("nlhd,nlhm->nlhdm", key, value).cumsum(dim=1)
        norm = 1 / torch.einsum("nlhd,nlhd->nlh", query, key.cumsum(1))
        y = torch.einsum("nlhd,nlhdm,nlh->nlhm", query, products, norm).flatten(2)
        z = torch.baddbmm(y, y.new_zeros(batch, 64, 8), y.new_zeros(batch, 8, 32), beta=0.5)
        return net[1](z).square().mean() + torch.bmm(y, y.transpose(1, 2)).mean()

    return trained(net, loss)


@of
def experts(batch, device):
    """Two of eight experts for each token; what they give is added where it belongs."""
    router = nn.Linear(32, 8)
    each = nn.ModuleList(nn.Sequential(nn.Linear(32, 64), nn.SiLU(), nn.Linear(64, 32)) for _ in range(8))
    net = nn.ModuleList([router, each]).to(device)

    def loss():
        x = torch.rand(batch * 40, 32, device=device)
        chances = F.softmax(router(x), dim=1, dtype=torch.float)
        weights, chosen = torch.topk(chances, 2, dim=-1)
        weights = weights / weights.sum(dim=-1, keepdim=True)
        total = torch.zeros_like(x)
        gates = torch.zeros_like(chances).scatter(1, chosen, weights)
        for number, expert in enumerate(each):
            total = total + gates[:, number, None] * expert(x)
        load = F.one_hot(chosen, 8).float().mean((0, 1))
        return total.square().mean() + 0.01 * (load * chances.mean(0)).sum() * 8

    return trained(net, loss)


@of
def bags_of_words(batch, device):
    """Embeddings whose norms are bounded, sums and means of bags, and a table for classes."""
    net = nn.ModuleList(
        [
            nn.Embedding(400, 32, padding_idx=3, max_norm=1.0),
            nn.EmbeddingBag(400, 32, mode="sum"),
            nn.EmbeddingBag(400, 32, mode="mean", padding_idx=0),
            nn.Embedding(400, 32, scale_grad_by_freq=True),
        ]
    ).to(device)

    def loss():
        words = torch.randint(1, 400, (batch, 30), device=device)
        starts = torch.arange(0, batch * 30, 30, device=device)
        pooled = net[1](words.flatten(), starts) + net[2](words) + net[0](words).max(1).values + net[3](words).mean(1)
        return pooled.square().mean()

    return trained(net, loss, torch.optim.Adagrad)


@of
def words_near_words(batch, device):
    """Sparse gradients, and the optimiser for them."""
    inward, outward = nn.Embedding(2000, 64, sparse=True), nn.Embedding(2000, 64, sparse=True)
    net = nn.ModuleList([inward, outward]).to(device)

    def loss():
        words, near = (torch.randint(2000, (batch * 16,), device=device) for _ in range(2))
        others = torch.randint(2000, (batch * 16, 5), device=device)
        x = inward(words)
        good = F.logsigmoid((x * outward(near)).sum(1))
        bad = F.logsigmoid(-torch.bmm(outward(others), x.unsqueeze(2)).squeeze(2)).sum(1)
        return -(good + bad).mean()

    return trained(net, loss, torch.optim.SparseAdam)


@of
def cells_with_attention(batch, device):
    """A decoder of GRU cells that looks at an encoder of LSTM cells, with its own words or the given ones."""
    encoder, decoder = nn.LSTMCell(32, 48), nn.GRUCell(32 + 48, 48)
    layers = [encoder, decoder, nn.Embedding(100, 32), nn.Linear(96, 48), nn.Linear(48, 1), nn.Linear(48, 100)]
    net = nn.ModuleList(layers).to(device)

    def loss():
        source, target = (torch.randint(100, (batch, 9), device=device) for _ in range(2))
        hidden, cell = torch.zeros(batch, 48, device=device), torch.zeros(batch, 48, device=device)
        seen = []
        for word in net[2](source).unbind(1):
            hidden, cell = encoder(word, (hidden, cell))
            seen.append(hidden)
        seen = torch.stack(seen, dim=1)
        total, word = 0, target[:, 0]
        for place in range(1, 9):
            score = net[4](torch.tanh(net[3](torch.cat([seen, hidden[:, None].expand_as(seen)], -1)))).squeeze(-1)
            context = (score.softmax(1)[:, :, None] * seen).sum(1)
            hidden = decoder(torch.cat([net[2](word), context], -1), hidden)
            logits = net[5](hidden)
            total = total + F.cross_entropy(logits, target[:, place])
            word = target[:, place] if place % 2 else logits.argmax(-1).detach()
        return total / 8

    return trained(net, loss)


@of
def tagger_with_transitions(batch, device):
    """A conditional random field over what a bidirectional layer says."""
    lstm, head = nn.LSTM(16, 24, batch_first=True, bidirectional=True), nn.Linear(48, 7)
    net = nn.ModuleList([lstm, head])
    net.register_parameter("moves", nn.Parameter(torch.zeros(7, 7)))
    net.to(device)

    def loss():
        scores = head(lstm(torch.rand(batch, 15, 16, device=device))[0])
        tags = torch.randint(7, (batch, 15), device=device)
        forward = scores[:, 0]
        for place in range(1, 15):
            forward = torch.logsumexp(forward.unsqueeze(2) + net.moves, dim=1) + scores[:, place]
        of_tags = scores.gather(2, tags.unsqueeze(2)).squeeze(2).sum(1)
        of_moves = net.moves[tags[:, :-1], tags[:, 1:]].sum(1)
        return (forward.logsumexp(1) - of_tags - of_moves).mean()

    return trained(net, loss)


@of
def series_with_a_hidden_state(batch, device):
    """A linear recurrence, unrolled, with a window that moves and a loss of quantiles."""
    net = nn.ModuleList([nn.Linear(1, 16), nn.Linear(16, 3)]).to(device)
    net.register_parameter("decay", nn.Parameter(torch.zeros(16, device=device)))
    levels = torch.tensor([0.1, 0.5, 0.9], device=device)

    def loss():
        series = torch.rand(batch, 60, device=device)
        windows = series.unfold(1, 12, 4)
        x = net[0](windows.unsqueeze(-1))
        state = x.new_zeros(*x.shape[:2], 16)
        states = []
        for place in range(x.shape[2]):
            state = torch.sigmoid(net.decay) * state + x[:, :, place]
            states.append(state)
        told = net[1](torch.stack(states, 2))
        error = windows.unsqueeze(-1) - told
        pinball = torch.maximum(levels * error, (levels - 1) * error)
        return pinball.mean() + torch.log(torch.cumsum(windows.exp(), -1)).mean() * 0

    return trained(net, loss)


@of
def preferences(batch, device):
    """Two answers held against each other, by a network and by its copy that does not learn."""
    net = nn.Sequential(nn.Embedding(200, 32), nn.Linear(32, 64), nn.ReLU(), nn.Linear(64, 200)).to(device)
    reference = copy.deepcopy(net).eval()

    def of_labels(model, words):
        logs = model(words[:, :-1]).log_softmax(-1)
        mask = words[:, 1:] != 0
        return (torch.gather(logs, 2, words[:, 1:].unsqueeze(2)).squeeze(2) * mask).sum(-1)

    def loss():
        better, worse = (torch.randint(200, (batch, 24), device=device) for _ in range(2))
        ours = of_labels(net, better) - of_labels(net, worse)
        with torch.no_grad():
            theirs = of_labels(reference, better) - of_labels(reference, worse)
        return -F.logsigmoid(0.1 * (ours - theirs)).mean()

    return trained(net, loss)


@of
def clipped_policy(batch, device):
    """Several passes over what was played, in parts; advantages, entropy, values."""
    net = nn.ModuleList([nn.Linear(8, 64), nn.Linear(64, 4), nn.Linear(64, 1)]).to(device)
    optimizer = torch.optim.Adam(net.parameters(), eps=1e-5)

    def told(states):
        hidden = torch.tanh(net[0](states))
        return torch.distributions.Categorical(logits=net[1](hidden)), net[2](hidden).squeeze(-1)

    def step():
        states, rewards = torch.rand(16, batch, 8, device=device), torch.rand(16, batch, device=device)
        with torch.no_grad():
            policy, values = told(states)
            actions = policy.sample()
            logs = policy.log_prob(actions)
            advantages, last = torch.zeros_like(rewards), 0
            for place in reversed(range(16)):
                following = values[place + 1] if place < 15 else torch.zeros_like(values[0])
                last = rewards[place] + 0.99 * following - values[place] + 0.95 * last
                advantages[place] = last
            returns = advantages + values
        order = torch.randperm(16 * batch, device=device)
        flat = [each.flatten(0, 1)[order] for each in (states, actions, logs, advantages, returns)]
        for part in zip(*(each.chunk(2) for each in flat), strict=True):
            now, chosen, before, advantage, target = part
            policy, value = told(now)
            ratio = (policy.log_prob(chosen) - before).exp()
            advantage = (advantage - advantage.mean()) / (advantage.std() + 1e-8)
            gain = torch.min(ratio * advantage, torch.clamp(ratio, 0.8, 1.2) * advantage)
            loss = -gain.mean() + 0.5 * (value - target).pow(2).mean() - 0.01 * policy.entropy().mean()
            optimizer.zero_grad()
            loss.backward()
            nn.utils.clip_grad_norm_(net.parameters(), 0.5)
            optimizer.step()

    return step


@of
def values_of_actions(batch, device):
    """A target network that follows slowly, by lists of tensors."""
    net = nn.Sequential(nn.Linear(8, 64), nn.ReLU(), nn.Linear(64, 4)).to(device)
    target = copy.deepcopy(net)
    optimizer = torch.optim.RAdam(net.parameters())

    def step():
        states, following = (torch.rand(32 * batch, 8, device=device) for _ in range(2))
        actions, ends = torch.randint(4, (32 * batch, 1), device=device), torch.rand(32 * batch, device=device) < 0.1
        with torch.no_grad():
            best = net(following).argmax(1, keepdim=True)
            wanted = 1 + 0.99 * target(following).gather(1, best).squeeze(1) * (~ends)
        optimizer.zero_grad()
        F.huber_loss(net(states).gather(1, actions).squeeze(1), wanted).backward()
        nn.utils.clip_grad_value_(net.parameters(), 10.0)
        optimizer.step()
        with torch.no_grad():
            torch._foreach_lerp_(list(target.parameters()), list(net.parameters()), 0.005)

    return step


@of
def soft_actor(batch, device):
    """Three optimisers, squashed samples, two critics of which the smaller counts, a temperature that learns."""
    actor = nn.Sequential(nn.Linear(6, 32), nn.ReLU(), nn.Linear(32, 4)).to(device)
    critics = nn.ModuleList(nn.Sequential(nn.Linear(8, 32), nn.ReLU(), nn.Linear(32, 1)) for _ in range(2)).to(device)
    slow = copy.deepcopy(critics).requires_grad_(False)
    log_alpha = torch.zeros(1, requires_grad=True, device=device)
    of_actor, of_critics, of_alpha = (
        torch.optim.Adam(each, 3e-4) for each in (actor.parameters(), critics.parameters(), [log_alpha])
    )

    def acted(states):
        mean, log_std = actor(states).chunk(2, -1)
        policy = torch.distributions.Normal(mean, log_std.clamp(-5, 2).exp())
        raw = policy.rsample()
        action = torch.tanh(raw)
        logs = policy.log_prob(raw) - torch.log(1 - action.pow(2) + 1e-6)
        return action, logs.sum(-1, keepdim=True)

    def step():
        states, following = (torch.rand(16 * batch, 6, device=device) for _ in range(2))
        actions, rewards = torch.rand(16 * batch, 2, device=device), torch.rand(16 * batch, 1, device=device)
        with torch.no_grad():
            action, logs = acted(following)
            least = torch.min(*(each(torch.cat([following, action], 1)) for each in slow))
            wanted = rewards + 0.99 * (least - log_alpha.exp() * logs)
        loss = sum(F.mse_loss(each(torch.cat([states, actions], 1)), wanted) for each in critics)
        of_critics.zero_grad()
        loss.backward()
        of_critics.step()
        action, logs = acted(states)
        least = torch.min(*(each(torch.cat([states, action], 1)) for each in critics))
        of_actor.zero_grad()
        (log_alpha.exp().detach() * logs - least).mean().backward()
        of_actor.step()
        of_alpha.zero_grad()
        (-(log_alpha * (logs.detach() - 2))).mean().backward()
        of_alpha.step()
        for kept, weight in zip(slow.parameters(), critics.parameters(), strict=True):
            kept.data.mul_(0.995).add_(weight.data, alpha=0.005)

    return step


@of
def messages_along_edges(batch, device):
    """Attention over a graph's edges: softmax by scatter, sums and means of what arrives."""
    net = nn.ModuleList([nn.Linear(16, 32), nn.Linear(64, 1), nn.Linear(32, 32), nn.Linear(32, 4)]).to(device)

    def loss():
        nodes, edges = 50 * batch, 200 * batch
        x = net[0](torch.rand(nodes, 16, device=device))
        source, target = torch.randint(nodes, (2, edges), device=device)
        score = F.leaky_relu(net[1](torch.cat([x[source], x[target]], 1)).squeeze(1))
        most = score.new_full((nodes,), float("-inf")).scatter_reduce(0, target, score, "amax")
        weight = (score - most[target]).exp()
        total = weight.new_zeros(nodes).scatter_add_(0, target, weight)
        weight = weight / (total[target] + 1e-16)
        arrived = torch.zeros_like(x).index_add(0, target, weight.unsqueeze(1) * x.index_select(0, source))
        x = F.relu(net[2](arrived) + x)
        degrees = torch.zeros(nodes, device=device).scatter_add_(0, target, torch.ones(edges, device=device))
        graph = torch.arange(batch, device=device).repeat_interleave(50)
        pooled = x.new_zeros(batch, 32).scatter_reduce(0, graph[:, None].expand(-1, 32), x, "mean", include_self=False)
        return F.cross_entropy(net[3](pooled), torch.randint(4, (batch,), device=device)) + 0 * degrees.sum()

    return trained(net, loss)


@of
def ranked_lists(batch, device):
    """Gains by sorted scores, a list's likelihood, and medians."""
    net = nn.Sequential(nn.Linear(20, 32), nn.ReLU(), nn.Linear(32, 1)).to(device)

    def loss():
        x, relevance = torch.rand(batch, 60, 20, device=device), torch.randint(5, (batch, 60), device=device).float()
        scores = net(x).squeeze(-1)
        ordered, which = scores.sort(dim=1, descending=True)
        gains = (2 ** relevance.gather(1, which) - 1) / torch.log2(torch.arange(2, 62, device=device).float())
        ideal = relevance.sort(1, descending=True)[0]
        by_truth = scores.gather(1, relevance.argsort(1, descending=True))
        likelihood = torch.logcumsumexp(by_truth.flip(1), 1).flip(1) - by_truth
        pairs = (relevance[:, :, None] > relevance[:, None]).float()
        pairwise = F.softplus(-(scores[:, :, None] - scores[:, None])) * pairs
        middle = scores.median(1).values + scores.kthvalue(3, 1).values
        return likelihood.mean() + pairwise.mean() + 0 * (gains.sum() + ideal.sum() + ordered.mean() + middle.mean())

    return trained(net, loss)
