"""What architectures say of themselves, their options, and which of these they refuse."""

import json
import pickle
from dataclasses import asdict, fields, replace
from math import inf, nan
from pathlib import Path

import pytest
import torch

from bench import models
from bench.models.architectures.base import ModelOptions
from bench.models.architectures.deq4ip import EquilibriumOptions
from bench.models.architectures.humus_net import HUMUSOptions
from bench.models.architectures.irim import IRIMOptions
from bench.models.architectures.luser import LuserOptions
from bench.models.architectures.mdeq import MDEQOptions
from bench.models.dncnn import DnCNN
from bench.models.luser_block import LuserBlock
from bench.operators.blur import GaussianBlur
from bench.operators.mri import MRI
from bench.operators.radon import Radon
from bench.operators.seismic import Seismic

ROOT = Path(__file__).parents[2]
FIXED_POINTS = ["DEQ4IP", "LUSER-SW", "LUSER-DW"]


@pytest.mark.parametrize(
    ("name", "column", "true"),
    [
        ("LU-DnCNN", 1, {"counts_frozen_operator", "has_iterates", "can_checkpoint", "trains_step", "can_be_lean"}),
        ("DEQ4IP", 2, {"counts_frozen_operator", "trains_step", "has_fixed_points", "can_be_lean"}),
        ("LUSER-SW", 3, {"counts_frozen_operator", "has_iterates", "trains_step", "has_fixed_points", "can_be_lean"}),
        ("LUSER-DW", 4, {"has_iterates", "trains_step", "has_fixed_points", "can_be_lean"}),
        ("i-RIM", 5, {"counts_frozen_operator", "has_iterates", "lean_already"}),
        ("MDEQ", 6, {"counts_frozen_operator", "has_iterates", "trains_step", "has_fixed_points"}),
        ("HUMUS-Net", 7, {"counts_frozen_operator", "has_iterates", "can_checkpoint", "trains_step"}),
    ],
)
def test_what_an_architecture_says_of_itself(name, column, true):
    architecture = models.get(name)
    told = {
        *("counts_frozen_operator", "has_iterates", "can_checkpoint", "lean_already"),
        *("trains_step", "has_fixed_points", "can_be_lean"),
    }
    assert architecture.table_column == column
    assert {each for each in told if getattr(architecture, each)} == true
    assert architecture.name == name
    assert architecture.__base__.table_column == 1000  # of whatever says nothing


def test_the_defaults_are_those_of_the_published_baseline():
    """What the paper leaves open decides every number there."""
    cells = json.loads((ROOT / "results" / "baseline.json").read_text(encoding="utf-8"))["cells"]
    assert cells
    assert all(cell["conditions"]["model"] == ModelOptions().told() for cell in cells)


@pytest.mark.parametrize(
    "default",
    [
        EquilibriumOptions(normalises=True, anchor=0.0, clamp=0.0, trains_step=True, initial_residual_scale=None),
        IRIMOptions(channels=64, hidden=(24, 24, 24, 24, 24), strides=(1, 2, 4, 2, 1), invertible=True),
        MDEQOptions(branches=2, width=24, expansion=5, groups=8),
        HUMUSOptions(66, (2, 2, 2), (3, 6, 12), bottleneck_depth=2, bottleneck_heads=24, window=8, mlp_ratio=2.0),
    ],
    ids=lambda each: type(each).__name__,
)
def test_the_defaults_of_own_options(default):
    assert type(default)() == default


def test_options_that_came_later_and_say_nothing_new_are_not_told():
    later = {"checkpoint_layers": 3, "kept_share": 0.5, "spectral": "convolution", "initial": "fbp"}
    plain = models.Options().told()
    assert plain == {name: value for name, value in asdict(ModelOptions()).items() if name not in later}
    assert replace(models.Options(), **later).told() == plain | later


@pytest.fixture
def anew(monkeypatch):
    """The class of all options is made again, for one test."""
    made = models._options.__wrapped__()
    monkeypatch.setattr(models, "_options", lambda: made)


def test_an_architectures_own_options_decide_its_cells_alone(anew):
    assert {each.name for each in fields(models.Options)} - {each.name for each in fields(ModelOptions)} == {
        *("deq4ip", "luser", "i_rim", "mdeq", "humus_net")
    }
    assert models.Options().told(models.get("DEQ4IP")) == ModelOptions().told()
    own = replace(models.Options(), deq4ip=EquilibriumOptions(anchor=0.5))
    assert own.told(models.get("DEQ4IP"))["deq4ip"]["anchor"] == 0.5
    assert own.told(models.get("LUSER-SW")) == ModelOptions().told()
    assert models.get("DEQ4IP").own_of(ModelOptions()) == EquilibriumOptions()
    assert pickle.loads(pickle.dumps(own)) == own


def test_both_lusers_have_one_table(anew, monkeypatch):
    slopes, relu = set(), torch.nn.functional.leaky_relu
    monkeypatch.setattr(
        torch.nn.functional,
        "leaky_relu",
        lambda x, negative_slope, inplace: slopes.add(negative_slope) or relu(x, negative_slope, inplace),
    )
    own = replace(models.Options(), luser=LuserOptions(group_norm_groups=2, leaky_slope=0.1))
    for name in ("LUSER-SW", "LUSER-DW"):
        assert own.told(models.get(name)) == ModelOptions().told() | {
            "luser": {"group_norm_groups": 2, "leaky_slope": 0.1}
        }
        network = models.get(name)(MRI((2, 16, 16)), own)
        assert {each.num_groups for each in network.modules() if isinstance(each, torch.nn.GroupNorm)} == {2}
        network(torch.zeros(1, *network.operator.measurement_shape))
        assert slopes == {0.1}
    assert own.told(models.get("DEQ4IP")) == ModelOptions().told()


@pytest.mark.parametrize(
    ("kind", "options", "sentence"),
    [
        (ModelOptions, {"stages": 0}, "stages must be at least 1 and at most 1,000, got 0"),
        (ModelOptions, {"stages": 1001}, "stages must be at least 1 and at most 1,000, got 1001"),
        (LuserOptions, {"group_norm_groups": 5}, "group_norm_groups must divide 32, got 5"),
        (LuserOptions, {"group_norm_groups": 0}, "group_norm_groups must divide 32, got 0"),
        (LuserOptions, {"leaky_slope": 1.5}, "leaky_slope must lie between 0 and 1, got 1.5"),
        (LuserOptions, {"leaky_slope": 1.0}, "leaky_slope must lie between 0 and 1, got 1.0"),
        (LuserOptions, {"leaky_slope": 0.0}, "leaky_slope must lie between 0 and 1, got 0.0"),
        (ModelOptions, {"initial_step": inf}, "initial_step must be finite, got inf"),
        (ModelOptions, {"initial_residual_scale": nan}, "initial_residual_scale must be finite, got nan"),
        (ModelOptions, {"checkpoint_layers": -1}, "checkpoint_layers must be at least 0 and at most 1,000, got -1"),
        (ModelOptions, {"checkpoint_layers": 1001}, "checkpoint_layers must be at least 0 and at most 1,000, got 1001"),
        (ModelOptions, {"kept_share": 0.0}, "kept_share must be more than 0 and at most 1, got 0.0"),
        (ModelOptions, {"kept_share": 1.5}, "kept_share must be more than 0 and at most 1, got 1.5"),
        (ModelOptions, {"spectral": "kernel"}, "unknown spectral 'kernel'; known: matrix, convolution"),
        (ModelOptions, {"initial": "zero"}, "unknown initial 'zero'; known: adjoint, fbp"),
        (EquilibriumOptions, {"anchor": -0.1}, "anchor must be at least 0 and less than 1, got -0.1"),
        (EquilibriumOptions, {"anchor": 1.0}, "anchor must be at least 0 and less than 1, got 1.0"),
        (EquilibriumOptions, {"clamp": -0.1}, "clamp must be finite and not negative, got -0.1"),
        (EquilibriumOptions, {"clamp": inf}, "clamp must be finite and not negative, got inf"),
        (EquilibriumOptions, {"initial_residual_scale": nan}, "initial_residual_scale must be finite, got nan"),
        (IRIMOptions, {"channels": 7}, "channels must be even, at least 2 and at most 4,096, got 7"),
        (IRIMOptions, {"channels": 0}, "channels must be even, at least 2 and at most 4,096, got 0"),
        (IRIMOptions, {"channels": 4098}, "channels must be even, at least 2 and at most 4,096, got 4098"),
        (
            IRIMOptions,
            {"hidden": (4,)},
            "hidden and strides need an entry for each layer, got (4,) and (1, 2, 4, 2, 1)",
        ),
        (IRIMOptions, {"hidden": (), "strides": ()}, "hidden and strides need an entry for each layer, got () and ()"),
        (
            IRIMOptions,
            {"hidden": (4, 0), "strides": (1, 1)},
            "hidden must be at least 1 and at most 65,536, got (4, 0)",
        ),
        (
            IRIMOptions,
            {"hidden": (65537, 9), "strides": (1, 1)},
            "hidden must be at least 1 and at most 65,536, got (65537, 9)",
        ),
        (IRIMOptions, {"hidden": (4, 4), "strides": (1, 0)}, "strides must be at least 1, got (1, 0)"),
        (MDEQOptions, {"branches": 0}, "branches must be at least 1 and at most 8, got 0"),
        (MDEQOptions, {"branches": 9}, "branches must be at least 1 and at most 8, got 9"),
        (MDEQOptions, {"width": 4097}, "width must be at least 1 and at most 4,096, got 4097"),
        (MDEQOptions, {"expansion": 65}, "expansion must be at least 1 and at most 64, got 65"),
        (MDEQOptions, {"groups": 4097}, "groups must be at least 1 and at most 4,096, got 4097"),
        (MDEQOptions, {"groups": 0}, "groups must be at least 1 and at most 4,096, got 0"),
        (MDEQOptions, {"groups": 7}, "groups must divide the width, 24, got 7"),
        (HUMUSOptions, {"depths": (2,)}, "depths and heads need an entry for each scale, got (2,) and (3, 6, 12)"),
        (HUMUSOptions, {"depths": (), "heads": ()}, "depths and heads need an entry for each scale, got () and ()"),
        (
            HUMUSOptions,
            {"depths": (1,) * 9, "heads": (1,) * 9},
            f"depths and heads need an entry for each scale, got {(1,) * 9} and {(1,) * 9}",
        ),
        (HUMUSOptions, {"width": 65}, "width must be even, at least 2 and at most 4,096, got 65"),
        (HUMUSOptions, {"width": 0}, "width must be even, at least 2 and at most 4,096, got 0"),
        (HUMUSOptions, {"width": 4098}, "width must be even, at least 2 and at most 4,096, got 4098"),
        (HUMUSOptions, {"window": 0}, "window must be at least 1 and at most 64, got 0"),
        (HUMUSOptions, {"window": 65}, "window must be at least 1 and at most 64, got 65"),
        (HUMUSOptions, {"heads": (3, 5, 12)}, "heads must divide the channels of their scale, 132, got 5"),
        (HUMUSOptions, {"heads": (0, 6, 12)}, "heads must divide the channels of their scale, 66, got 0"),
        (HUMUSOptions, {"bottleneck_heads": 0}, "heads must divide the channels of their scale, 528, got 0"),
        (HUMUSOptions, {"mlp_ratio": 0.0}, "mlp_ratio must be more than 0 and at most 64, got 0.0"),
        (HUMUSOptions, {"mlp_ratio": 64.5}, "mlp_ratio must be more than 0 and at most 64, got 64.5"),
        (HUMUSOptions, {"depths": (2, 0, 2)}, "depths must be at least 1 and at most 1,000, got (2, 0, 2), 2"),
        (HUMUSOptions, {"depths": (2, 1001, 2)}, "depths must be at least 1 and at most 1,000, got (2, 1001, 2), 2"),
        (HUMUSOptions, {"bottleneck_depth": 0}, "depths must be at least 1 and at most 1,000, got (2, 2, 2), 0"),
        (HUMUSOptions, {"bottleneck_depth": 1001}, "depths must be at least 1 and at most 1,000, got (2, 2, 2), 1001"),
    ],
)
def test_bad_options(kind, options, sentence):
    with pytest.raises(ValueError) as refusal:
        kind(**options)
    assert str(refusal.value) == sentence


def test_options_at_their_limits():
    ModelOptions(stages=1, checkpoint_layers=0, kept_share=1.0)
    ModelOptions(stages=1000, checkpoint_layers=1000, kept_share=0.001)
    LuserOptions(group_norm_groups=1, leaky_slope=0.01)
    LuserOptions(group_norm_groups=32, leaky_slope=0.99)
    EquilibriumOptions(anchor=0.99, clamp=1e30, initial_residual_scale=-3.0)
    IRIMOptions(channels=2, hidden=(1,), strides=(1,))
    IRIMOptions(channels=4096, hidden=(65536,), strides=(999,))
    MDEQOptions(branches=1, width=1, expansion=1, groups=1)
    MDEQOptions(branches=8, width=4096, expansion=64, groups=4096)
    HUMUSOptions(2, (1,), (1,), bottleneck_depth=1, bottleneck_heads=1, window=1, mlp_ratio=0.01)
    HUMUSOptions(4096, (1000,) * 8, (1,) * 8, bottleneck_depth=1000, bottleneck_heads=4096, window=64, mlp_ratio=64)


@pytest.mark.parametrize("name", FIXED_POINTS)
def test_checkpoint_is_refused_where_it_would_do_nothing(name):
    sentence = f"{name} has no stages to checkpoint; choose gradient='recomputed' instead"
    assert models.get(name).refusal_of(ModelOptions(checkpoint=True)) == sentence
    with pytest.raises(ValueError, match=f"^{sentence}$"):
        models.get(name)(GaussianBlur((3, 16, 16)), ModelOptions(checkpoint=True))


@pytest.mark.parametrize("name", models.names())
@pytest.mark.parametrize("gradient", ["one-graph", "two-graph", "jacobian-free", "phantom", "recomputed"])
def test_who_can_make_outputs_again_and_with_which_gradient(name, gradient):
    refusal = models.get(name).refusal_of(ModelOptions(kept_share=0.5, gradient=gradient))
    if name in ("i-RIM", "MDEQ", "HUMUS-Net"):
        assert refusal == f"{name} has no layers whose outputs can be made again; leave kept_share out"
    elif name != "LU-DnCNN" and gradient in ("one-graph", "two-graph"):
        assert refusal == (
            f"{name} cannot solve for its gradient through layers that are made again with gradient={gradient!r}, "
            "which would make those of the weights each time; choose 'recomputed' (as a strategy: recomputed+lean)"
        )
    else:
        assert refusal is None
    assert models.get(name).refusal_of(ModelOptions(gradient=gradient)) is None


def test_layers_that_are_made_again_have_to_normalise():
    free = replace(models.Options(), gradient="recomputed", deq4ip=EquilibriumOptions(normalises=False))
    deq4ip = models.get("DEQ4IP")
    assert deq4ip.refusal_of(free) is None
    assert deq4ip.refusal_of(replace(free, kept_share=0.5)) == (
        "DEQ4IP with deq4ip.normalises = false makes no outputs again; leave kept_share out"
    )
    assert deq4ip.refusal_of(replace(free, kept_share=0.5, deq4ip=EquilibriumOptions())) is None


@pytest.mark.parametrize("operator", [GaussianBlur, MRI])
def test_fbp_is_refused_where_there_is_none(operator):
    options = ModelOptions(initial="fbp")
    sentence = f"{operator.__name__} has no filtered backprojection to start from; choose initial = 'adjoint'"
    assert models.get("LUSER-SW").refusal_for(options, operator, lambda: pytest.fail("it asks for a shape")) == sentence
    with pytest.raises(ValueError, match=f"^{sentence}$"):
        models.get("LUSER-SW")(operator((2, 16, 16)), options)
    assert models.get("LUSER-SW").refusal_for(options, Radon, lambda: (1, 8, 8)) is None


def refusal(name, operator, shape, **options):
    return models.get(name).refusal_for(replace(models.Options(), **options), operator, lambda: shape)


def test_what_images_and_operators_i_rim_takes():
    own = IRIMOptions(channels=6, hidden=(4, 4), strides=(1, 8))
    assert refusal("i-RIM", GaussianBlur, (3, 8, 8), i_rim=own) is None
    assert (
        refusal("i-RIM", GaussianBlur, (3, 7, 9), i_rim=own)
        == refusal("i-RIM", MRI, (3, 9, 7), i_rim=own)
        == ("strides of 8 pixels step over images of 7; choose smaller strides")
    )
    assert refusal("i-RIM", GaussianBlur, (4, 8, 8), i_rim=own) == (
        "images of 4 channels need channels of at least 8, got 6"
    )
    assert refusal("i-RIM", Seismic, (1, 8, 8), i_rim=own) == (
        "its backward pass needs a linear operator, and Seismic is none; choose LUSER-SW, LUSER-DW, DEQ4IP, LU-DnCNN "
        "or MDEQ"
    )


@pytest.mark.parametrize(("branches", "side"), [(1, 2), (2, 4), (3, 8)])
def test_what_images_mdeq_takes(branches, side):
    own = MDEQOptions(branches=branches)
    assert refusal("MDEQ", MRI, (2, side, side), mdeq=own) is None
    for shape in ((2, side - 1, 50), (2, 50, side - 1), (99, side - 1, 50)):
        assert refusal("MDEQ", MRI, shape, mdeq=own) == (
            f"{branches} branches need sides of at least {side} pixels, got {side - 1}; choose fewer branches"
        )


def test_what_images_humus_net_takes_without_padding():
    own = HUMUSOptions(4, (1,), (1,), bottleneck_depth=1, bottleneck_heads=1, window=2, pads=False)
    assert own.multiple == 8
    assert refusal("HUMUS-Net", MRI, (2, 16, 8), humus_net=own) is None
    assert refusal("HUMUS-Net", MRI, (2, 9, 12), humus_net=replace(own, pads=True)) is None
    for height, width, near in ((16, 12, "16 x 16"), (17, 8, "24 x 8"), (9, 12, "16 x 16")):
        assert refusal("HUMUS-Net", MRI, (2, height, width), humus_net=own) == (
            f"it halves images 2 times into windows of 2 pixels, so that sides must be multiples of 8, got {height} x "
            f"{width}; choose pads = true or images of {near}"
        )


@pytest.mark.parametrize("name", models.names())
def test_every_architecture_asks_for_the_filtered_backprojection(name):
    told = refusal(name, MRI, (2, 128, 128), initial="fbp")
    assert told == "MRI has no filtered backprojection to start from; choose initial = 'adjoint'"
    assert refusal(name, Radon, (1, 128, 128), initial="fbp") is None


def test_blocks_and_activations_are_as_many_and_as_sparing_as_told():
    blur = GaussianBlur((3, 16, 16))
    options = replace(models.Options(), stages=3)
    assert [len(models.get(f"LUSER-{kind}")(blur, options).blocks) for kind in ("SW", "DW")] == [1, 3]
    mdeq = models.get("MDEQ")(blur, options)
    assert [each.inplace for each in mdeq.inject if isinstance(each, torch.nn.ReLU)] == [True, True]
    for network in (DnCNN(1, features=2, depth=4), LuserBlock(1)):
        stacks = [each for each in network.modules() if isinstance(each, torch.nn.ModuleList)]
        inplace = [layer.activation.keywords["inplace"] for each in stacks for layer in each if layer.activation]
        assert inplace and all(inplace)


@pytest.mark.parametrize(("name", "is_trained"), [("i-RIM", False), ("MDEQ", True)])
def test_a_step_that_is_not_trained_is_no_weight(name, is_trained):
    model = models.get(name)(GaussianBlur((3, 16, 16)), models.Options(initial_step=0.75))
    assert float(model.step.detach()) == 0.75
    assert model.step.requires_grad is ("step" in model.state_dict()) is is_trained


def scales(layers):
    """What each norm of a stack starts with, None where there is none; of all channels the same."""
    norms = [None if layer.norm is None else layer.norm.weight.detach().unique() for layer in layers]
    assert all(each is None or each.numel() == 1 for each in norms)
    return [None if each is None else pytest.approx(float(each)) for each in norms]


@pytest.mark.parametrize(("scale", "expected"), [(None, 1.0), (0.25, 0.25)])
def test_the_last_norm_alone_starts_at_the_residual_scale(scale, expected):
    options = {} if scale is None else {"residual_scale": scale}
    assert scales(DnCNN(1, features=4, depth=5, **options).layers) == [None, 1.0, 1.0, expected, None]
    block = LuserBlock(1, **options)
    assert scales(block.mix) == [1.0, expected, None]
    assert scales(block.data) == [1.0, 1.0]


@pytest.mark.parametrize(
    ("name", "last"),
    [("LU-DnCNN", "denoiser.layers.15"), ("DEQ4IP", "denoiser.layers.15"), ("LUSER-DW", "blocks.1.mix.1")],
)
def test_options_reach_the_network(name, last):
    def made(**options):
        return models.get(name)(GaussianBlur((3, 16, 16)), replace(models.Options(), stages=2, **options))

    model = made(initial_step=0.75, initial_residual_scale=0.5)
    assert float(model.step.detach()) == 0.75 and model.step.requires_grad
    assert model.get_submodule(last).norm.weight.unique().tolist() == [0.5]
    assert made().get_submodule(last).norm.weight.unique().tolist() == [pytest.approx(0.01)]
    for inplace in (True, False):
        activation = made(inplace=inplace).get_submodule(last).activation
        assert activation.keywords["inplace"] is inplace
    if name == "DEQ4IP":
        own = made(deq4ip=EquilibriumOptions(trains_step=False, initial_residual_scale=0.3))
        assert not own.step.requires_grad and isinstance(own.step, torch.nn.Parameter)
        assert own.get_submodule(last).norm.weight.unique().tolist() == [pytest.approx(0.3)]
