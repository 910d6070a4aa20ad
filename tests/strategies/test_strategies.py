"""Strategies by name: what they set, what they exclude, who takes them, and the cells they make."""

import pytest

from bench import config, models, strategies
from bench.cells import suite
from bench.errors import UsageError

DEFAULT = config.load(config.default_path())


def cells(*names, architectures=()):
    settings = DEFAULT.model_copy(update={"suite": DEFAULT.suite.model_copy(update={"strategies": names})})
    return suite.cells(settings, architectures, ["ct"])


def test_a_plain_cell_is_what_it_was_before_there_were_strategies():
    (cell,) = cells("plain", architectures=["LUSER-SW"])
    assert cell.architecture == cell.network == "LUSER-SW"
    assert set(cell.settings["training"]) == {"loss", "learning_rate", "clip_gradient_norm"}
    assert set(cell.settings["model"]) == {
        *("stages", "gradient", "checkpoint", "solver", "backward_solver", "inplace", "initial_step"),
        "initial_residual_scale",
    }


def test_a_strategy_changes_name_key_and_options_of_a_cell():
    plain, other = cells("plain", "bf16+recomputed", architectures=["LUSER-SW"])
    assert other.architecture == "LUSER-SW + " + strategies.combination("recomputed+bf16").name
    assert other.network == "LUSER-SW"
    assert other.asked != plain.asked
    assert (other.config.model.gradient, other.config.training.autocast) == ("recomputed", "bfloat16")
    assert other.settings["training"]["autocast"] == "bfloat16"


def test_every_strategy_sets_something_that_the_configuration_has():
    for strategy in strategies.known():
        laid = strategies.combination(strategy.name).laid_on(DEFAULT)
        assert laid != DEFAULT, strategy
        for section, options in strategy.changes.items():
            assert all(getattr(getattr(laid, section), key) == value for key, value in options.items())


def test_the_order_of_names_makes_no_other_combination():
    assert strategies.combination("BF16+checkpoint") == strategies.combination("checkpoint+bf16")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("nope", "unknown strategy 'nope': known are plain, "),
        ("recomputed+two-graph", "exclude each other, as both set [model] gradient: choose one of them"),
        ("lean+lean-half", "exclude each other, as both set [model] kept_share: choose one of them"),
    ],
)
def test_what_is_no_combination(text, message):
    with pytest.raises(ValueError) as refused:
        strategies.combination(text)
    assert message in str(refused.value)


@pytest.mark.parametrize(
    ("architecture", "strategy", "message"),
    [
        ("LUSER-SW", "checkpoint", "LUSER-SW cannot be trained with checkpoint: it has no stages of layers to"),
        (
            "LU-DnCNN",
            "recomputed",
            "LU-DnCNN cannot be trained with recomputed: it has no fixed point; choose checkpoint",
        ),
        ("DEQ4IP", "lean", "choose 'recomputed' (as a strategy: recomputed+lean)"),
    ],
)
def test_what_an_architecture_cannot_take(architecture, strategy, message):
    with pytest.raises(UsageError) as refused:
        cells(strategy, architectures=[architecture])
    assert message in str(refused.value)


@pytest.mark.parametrize("strategy", ["checkpoint", "recomputed", "lean"])
def test_what_is_lean_already_is_not_sent_from_one_strategy_to_the_next(strategy):
    with pytest.raises(UsageError) as refused:
        cells(strategy, architectures=["i-RIM"])
    assert str(refused.value) == (
        f"i-RIM cannot be trained with {strategy}: its layers are made again from what they give in any case; "
        "choose plain"
    )


def test_of_several_architectures_those_that_can_take_it_are_left():
    assert [cell.architecture for cell in cells("plain", "checkpoint")] == [
        *("LU-DnCNN", "LU-DnCNN + checkpoint", "DEQ4IP", "LUSER-SW", "LUSER-DW"),
    ]


def test_names_of_cells_are_names_of_files():
    longest = max(
        (strategies.named(each, "recomputed+lean-quarter+bf16+expandable") for each in models.names()), key=len
    )
    assert len(longest) <= 64
    assert strategies.split(longest) == (longest.split(" + ")[0], "recomputed+lean-quarter+bf16+expandable")
