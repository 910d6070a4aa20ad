"""HUMUS-Net: its Swin blocks pixel by pixel and against timm's, its parameters, and what sides it takes."""

from dataclasses import replace
from math import erf, sqrt

import pytest
import torch
from toys import LiveBytes, difference

from bench import models
from bench.models.architectures.humus_net import HUMUSOptions
from bench.models.humus_block import HumusBlock
from bench.models.swin import PatchExpanding, PatchMerging, ResidualSwin, SwinBlock, unwindowed, windowed
from bench.operators.blur import GaussianBlur
from bench.operators.mri import MRI
from bench.operators.radon import Radon

SMALL = HUMUSOptions(width=4, depths=(1, 2), heads=(2, 2), bottleneck_depth=1, bottleneck_heads=4, window=2)


def build(operator, own=SMALL, **options):
    torch.manual_seed(0)
    model = models.get("HUMUS-Net")(operator, replace(models.Options(), **{"stages": 2, "humus_net": own} | options))
    return model.double(), torch.rand(2, *operator.measurement_shape, dtype=torch.float64)


def randomised(module):
    torch.manual_seed(0)
    for parameter in module.parameters():
        torch.nn.init.normal_(parameter, std=0.4)
    return module.double()


def layer_norm(x, norm):
    return (x - x.mean()) / (x.var(correction=0) + 1e-5).sqrt() * norm.weight + norm.bias


def pixel_by_pixel(block, image, heads):
    """A Swin block from its definition: which pixels see which, and each of their weights; (H, W, C) -> the same."""
    height, width, channels = image.shape
    window, shift, attention = block.window, block.shift, block.attention
    size = channels // heads
    normalised = torch.stack([layer_norm(pixel, block.norm1) for pixel in image.flatten(0, 1)]).view(image.shape)
    qkv = normalised @ attention.qkv.weight.T + attention.qkv.bias
    mixed = torch.empty_like(image)
    for row in range(height):
        for column in range(width):
            r, c = (row - shift) % height, (column - shift) % width
            seen = []
            for other_r in range(r // window * window, (r // window + 1) * window):
                for other_c in range(c // window * window, (c // window + 1) * window):
                    other = (other_r + shift) % height, (other_c + shift) % width
                    apart = abs(other[0] - row) >= window or abs(other[1] - column) >= window  # beyond the border
                    if not apart:
                        seen.append((*other, r - other_r, c - other_c))
            parts = []
            for head in range(heads):
                at = slice(head * size, (head + 1) * size)
                q = qkv[row, column, :channels][at] / sqrt(size)
                keys = torch.stack([qkv[i, j, channels : 2 * channels][at] for i, j, _, _ in seen])
                values = torch.stack([qkv[i, j, 2 * channels :][at] for i, j, _, _ in seen])
                offsets = [(dr + window - 1) * (2 * window - 1) + dc + window - 1 for _, _, dr, dc in seen]
                weights = (keys @ q + attention.bias[offsets, head]).softmax(0)
                parts.append(weights @ values)
            mixed[row, column] = attention.out.weight @ torch.cat(parts) + attention.out.bias
    x = image + mixed
    first, _, second = block.mlp
    result = torch.empty_like(x)
    for row in range(height):
        for column in range(width):
            inner = first.weight @ layer_norm(x[row, column], block.norm2) + first.bias
            inner = torch.stack([value * 0.5 * (1 + erf(value / sqrt(2))) for value in inner])
            result[row, column] = x[row, column] + second.weight @ inner + second.bias
    return result


@pytest.mark.parametrize("shifted", [False, True])
@pytest.mark.parametrize(("sides", "window"), [((8, 4), 4), ((4, 8), 2), ((12, 8), 4)])
def test_a_swin_block_is_what_its_definition_says(sides, window, shifted):
    block = randomised(SwinBlock(6, sides, window, 3, 2.0, shifted=shifted))
    assert block.shift == (window // 2 if shifted and min(sides) > window else 0)
    x = torch.randn(2, *sides, 6, dtype=torch.float64)
    with torch.no_grad():
        found = block(x.flatten(1, 2))
        expected = torch.stack([pixel_by_pixel(block, each, 3) for each in x]).flatten(1, 2)
    torch.testing.assert_close(found, expected)


@pytest.mark.parametrize("shifted", [False, True])
def test_a_swin_block_is_timms(shifted):
    timm = pytest.importorskip("timm.models.swin_transformer")
    ours = randomised(SwinBlock(12, (16, 24), 8, 3, 2.0, shifted=shifted))
    theirs = timm.SwinTransformerBlock(12, (16, 24), 3, window_size=8, shift_size=4 * shifted, mlp_ratio=2.0).double()
    modules = {"norm1": "norm1", "norm2": "norm2", "attention.qkv": "attn.qkv", "attention.out": "attn.proj"}
    modules |= {"mlp.0": "mlp.fc1", "mlp.2": "mlp.fc2"}
    names = {f"{one}.{kind}": f"{other}.{kind}" for one, other in modules.items() for kind in ("weight", "bias")}
    names["attention.bias"] = "attn.relative_position_bias_table"
    parameters = dict(theirs.named_parameters())
    assert {names[name] for name, _ in ours.named_parameters()} == set(parameters)
    with torch.no_grad():
        for name, parameter in ours.named_parameters():
            parameters[names[name]].copy_(parameter)
        x = torch.randn(2, 16, 24, 12, dtype=torch.float64)
        torch.testing.assert_close(ours(x.flatten(1, 2)), theirs(x).flatten(1, 2))


def test_windows_are_cut_and_joined():
    x = torch.arange(2 * 4 * 6 * 3.0).view(2, 4, 6, 3)
    cut = windowed(x, 2)
    assert cut.shape == (2 * 2 * 3, 4, 3)
    assert torch.equal(cut[4], x[0, 2:4, 2:4].reshape(4, 3))
    assert torch.equal(unwindowed(cut, 2, 4, 6), x)


def test_pixels_are_merged_and_expanded_where_they_lie():
    merging, expanding = randomised(PatchMerging(2, (4, 6))), randomised(PatchExpanding(4, (2, 3)))
    x = torch.randn(1, 4, 6, 2, dtype=torch.float64)
    at = x[0, 2:4, 4:6]  # the last of 2 x 3
    four = torch.cat((at[0, 0], at[1, 0], at[0, 1], at[1, 1]))
    merged = merging(x.flatten(1, 2))
    torch.testing.assert_close(merged[0, -1], merging.reduction.weight @ layer_norm(four, merging.norm))
    expanded = expanding(merged, x.flatten(1, 2)).view(1, 4, 6, 2)
    pixel = (expanding.expand.weight @ merged[0, -1]).view(2, 2, 2)[1, 0]
    mixed = expanding.mix.weight @ torch.cat((pixel, x[0, 3, 4]))
    torch.testing.assert_close(expanded[0, 3, 4], layer_norm(mixed, expanding.norm))
    pixel = (expanding.expand.weight @ merged[0, 1]).view(2, 2, 2)[1, 0]  # the second of the first row
    mixed = expanding.mix.weight @ torch.cat((pixel, x[0, 1, 2]))
    torch.testing.assert_close(expanded[0, 1, 2], layer_norm(mixed, expanding.norm))


def swin_parameters(width, heads, depth, window=8, ratio=2):
    norms, attention = 4 * width, 4 * width**2 + 4 * width + (2 * window - 1) ** 2 * heads
    mlp = 2 * ratio * width**2 + (ratio + 1) * width
    return depth * (norms + attention + mlp) + 9 * width**2 + width


def block_parameters(channels, width=66, depths=(2, 2, 2), heads=(3, 6, 12), bottleneck=(2, 24)):
    half, last = width // 2, width << len(depths)
    convolutions = 9 * channels * half + half + 9 * half * channels + channels  # first and last
    convolutions += 9 * half * width + 9 * width**2 + 4 * width**2  # before, down
    convolutions += 9 * width**2 + width + 4 * width * half + 9 * width * half + 9 * half**2  # up and after
    transformer = 2 * width + 2 * width + 2 * last + swin_parameters(last, bottleneck[1], bottleneck[0])
    for scale, (depth, head) in enumerate(zip(depths, heads, strict=True)):
        wide = width << scale
        transformer += 2 * swin_parameters(wide, head, depth)
        transformer += 8 * wide + 8 * wide**2  # merging
        transformer += 8 * wide**2 + 2 * wide**2 + 2 * wide  # expanding: 2w -> 4w, 2w -> w, LN
    return convolutions + transformer


def test_parameters_are_those_of_the_formula():
    """The published network has 109 million: with what estimates sensitivities, a U-net of 16 channels, 1.9 million."""
    with torch.device("meta"):
        model = models.get("HUMUS-Net")(MRI((2, 320, 320), device="meta"), models.Options())
        of_slices = HumusBlock(6, (384, 384), 66, (2, 2, 2), (3, 6, 12), (2, 24), 8, 2.0)
    assert model.trainable_parameters == 8 * (block_parameters(2) + 1) == 107_310_744
    assert sum(p.numel() for p in of_slices.parameters()) == block_parameters(6)
    assert model.margins == (64, 64)


OPERATORS = {
    "deblurring": lambda: GaussianBlur((3, 16, 24), dtype=torch.float64),
    "ct": lambda: Radon(image_size=11, detectors=16, angles=8, dtype=torch.float64),
    "mri": lambda: MRI((2, 10, 13), dtype=torch.float64),
}


@pytest.mark.parametrize("task", OPERATORS)
def test_a_checkpoint_changes_no_gradient_and_keeps_the_iterates_alone(task):
    gradients, held = [], []
    for is_checkpointed in (False, True):
        model, y = build(OPERATORS[task](), checkpoint=is_checkpointed)
        with LiveBytes() as live:
            image = model(y).image
            held.append(live.now / image.nbytes)
        image.square().sum().backward()
        gradients.append([p.grad for p in model.parameters()])
    assert all(each.norm() > 0 for each in gradients[0] if each.numel() > 4)
    assert difference(gradients[1], gradients[0]) < 1e-12
    assert held[1] < 8 < 50 < held[0]


@pytest.mark.parametrize("task", OPERATORS)
def test_a_cascade_is_a_step_less_what_is_denoised_of_the_image_made_larger(task):
    operator = OPERATORS[task]()
    model, y = build(operator, stages=1, initial_step=0.7)
    x = operator.initial_estimate(y)
    _, height, width = operator.image_shape
    sides = [-(-side // 16) * 16 for side in (height, width)]
    rows, columns = (torch.arange(to).clamp(max=side - 1) for to, side in zip(sides, (height, width), strict=True))
    image = x[:, :, rows][:, :, :, columns]
    expected = x - 0.7 * operator.adjoint(operator(x) - y) - model.denoisers[0](image)[:, :, :height, :width]
    torch.testing.assert_close(model(y).image, expected)


def test_a_block_is_what_it_says():
    """From its parts, after each of which stands what the paper's figure has there."""
    block = randomised(HumusBlock(3, (8, 16), 6, (1,), (2,), (1, 2), 2, 2.0))
    image = 3 + torch.randn(2, 3, 8, 16, dtype=torch.float64) * torch.tensor([1.0, 5.0, 9.0])[:, None, None]

    def instance_norm(x):
        mean, variance = x.mean((2, 3), keepdim=True), x.var((2, 3), correction=0, keepdim=True)
        x = (x - mean) / (variance + 1e-5).sqrt()
        return torch.where(x > 0, x, 0.2 * x)

    def twice(convolutions, x):
        return instance_norm(convolutions.second(instance_norm(convolutions.first(x))))

    with torch.no_grad():
        mean, deviation = image.mean((2, 3), keepdim=True), image.std((2, 3), keepdim=True)
        x = (image - mean) / deviation
        first = block.first(x)
        inner = block.transformer(instance_norm(block.down(twice(block.before, first))))
        outer = torch.cat((instance_norm(block.up(block.after_transformer(inner))), first), 1)
        expected = (x + block.last(twice(block.after, outer))) * deviation + mean
        torch.testing.assert_close(block(image), expected)


def test_blocks_are_shifted_by_turns_and_their_sum_is_the_inputs():
    stack = randomised(ResidualSwin(4, (8, 12), 5, 2, 4, 2.0))
    assert [block.shift for block in stack.blocks] == [0, 2, 0, 2, 0]
    x = torch.randn(2, 96, 4, dtype=torch.float64)
    with torch.no_grad():
        image = x
        for block in stack.blocks:
            image = block(image)
        mixed = stack.conv(image.view(2, 8, 12, 4).permute(0, 3, 1, 2)).permute(0, 2, 3, 1)
        torch.testing.assert_close(stack(x), x + mixed.reshape(2, 96, 4))


def test_what_a_block_starts_with_and_stores():
    """Linear maps and biases of positions with a deviation of 0.02, other biases with 0; and no index or mask."""
    torch.manual_seed(0)
    block = HumusBlock(1, (16, 16), 16, (2,), (4,), (2, 4), 4, 2.0)
    started = {name: p.detach() for name, p in block.named_parameters()}
    linear = [f"{name}." for name, module in block.named_modules() if isinstance(module, torch.nn.Linear)]
    assert len(linear) == 3 * (2 * 4) + 1 + 2
    positions = [name for name in started if name.endswith("attention.bias")]
    weights = [started[name] for name in [f"{each}weight" for each in linear] + positions]
    assert all(float(each.std()) == pytest.approx(0.02, rel=0.2) for each in weights if each.numel() > 150)
    assert all(float(each.abs().max()) < 0.12 for each in weights)
    assert not any(started[f"{each}bias"].any() for each in linear if f"{each}bias" in started)
    assert set(block.state_dict()) == set(started)
    assert any(name.endswith("mask") for name, _ in block.named_buffers())


def test_a_constant_image_is_left_alone_and_not_divided_by_its_deviation():
    model, y = build(OPERATORS["ct"]())
    image = model(torch.zeros_like(y)).image
    assert torch.isfinite(image).all()


@pytest.mark.parametrize(
    ("own", "sentence"),
    [
        (
            replace(HUMUSOptions(), pads=False),
            "it halves images 4 times into windows of 8 pixels, so that sides must be multiples of 128, got 362 x 362; "
            "choose pads = true or images of 384 x 384",
        ),
        (
            replace(SMALL, pads=False),
            "it halves images 3 times into windows of 2 pixels, so that sides must be multiples of 16, got 362 x 362; "
            "choose pads = true or images of 368 x 368",
        ),
    ],
)
def test_sides_that_do_not_divide_are_refused_unless_they_are_padded(own, sentence):
    with pytest.raises(ValueError, match=f"^{sentence}$"):
        models.get("HUMUS-Net")(Radon(device="meta"), replace(models.Options(), humus_net=own))
    build(GaussianBlur((3, 128, 16), dtype=torch.float64), replace(SMALL, pads=False))


def test_layers_are_not_checkpointed_again():
    with pytest.raises(ValueError, match=r"no layers to checkpoint again inside a cascade; choose checkpoint alone$"):
        build(OPERATORS["ct"](), checkpoint=True, checkpoint_layers=4)
