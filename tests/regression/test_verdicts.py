"""Verdicts, exactly: every outcome, every limit at its edge, and what must hold for any two sets."""

import handmade
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError
from scipy.stats import mannwhitneyu

from bench.config import CheckSection, Limit, LimitsSection, load
from bench.errors import UsageError
from bench.records import Composition
from bench.regression.measured import Measured, Quantity, all_reduced, conditions, reduced
from bench.regression.verdicts import MORE_IS_BETTER, Outcome, compare, judge, rank_test
from bench.units import GiB, MiB

WORSE, BETTER, SAME, NEW, GONE, NOT_COMPARABLE = Outcome
OPPOSITE = {WORSE: BETTER, BETTER: WORSE, NEW: GONE, GONE: NEW, SAME: SAME, NOT_COMPARABLE: NOT_COMPARABLE}
EXACT = CheckSection(baseline="baseline.json", significance=0.01, limits=LimitsSection())


def limits(**given):
    return EXACT.model_copy(update={"limits": LimitsSection(**{name: Limit(**of) for name, of in given.items()})})


def cell(*quantities, architecture="LU-DnCNN", failure=None, **conditions):
    return Measured(
        task="ct",
        architecture=architecture,
        stage="memory",
        conditions={"torch": "2.13.0"} | conditions,
        failure=failure,
        quantities=quantities,
    )


def psnr(*values):
    return Quantity(name="psnr_db", value=tuple(map(float, values)))


def batch(value, **at):
    return Quantity(name="largest_batch", of="8GB, high", value=value, at=at)


def peak(value, **at):
    return Quantity(name="peak_reserved_bytes", of="8GB, high", value=value, at=at)


def seconds(*values):
    return Quantity(name="training_step_seconds", value=values)


def only(before, after, check=EXACT):
    (verdict,) = compare(before, after, check)
    return verdict


@pytest.mark.parametrize(
    ("before", "after", "outcome"),
    [
        ((batch(4),), (batch(4),), SAME),
        ((batch(4),), (batch(3),), WORSE),
        ((batch(4),), (batch(5),), BETTER),
        ((peak(100),), (peak(101),), WORSE),
        ((peak(100),), (peak(99),), BETTER),
        ((batch(4), peak(100)), (batch(5), peak(101)), WORSE),  # one worse number makes the cell worse
        ((batch(4), peak(100)), (batch(4), peak(99)), BETTER),
        ((batch(4), peak(100)), (batch(4),), SAME),  # what only one side has decides nothing
        ((batch(4),), (peak(100),), NOT_COMPARABLE),
        ((), (), NOT_COMPARABLE),
    ],
)
def test_a_cell_is_as_bad_as_its_worst_number(before, after, outcome):
    assert only([cell(*before)], [cell(*after)]).outcome is outcome


def test_new_and_gone():
    assert only([], [cell(batch(4))]).outcome is NEW
    assert only([cell(batch(4))], []).outcome is GONE
    verdicts = compare([cell(batch(4), architecture="A")], [cell(batch(4), architecture="B")], EXACT)
    assert [(verdict.architecture, verdict.outcome) for verdict in verdicts] == [("A", GONE), ("B", NEW)]


@pytest.mark.parametrize(
    ("before", "after", "reason"),
    [
        ({"torch": "2.12.0", "seed": 1}, {"seed": 2}, 'torch: "2.12.0", now "2.13.0", seed: 1, now 2'),
        ({"memory": {"engine": "simulated"}}, {"memory": {"engine": "cuda"}}, 'memory.engine: "simulated", now "cuda"'),
        ({"model": {"stages": 8}}, {"model": {"stages": 4}}, "model.stages: 8, now 4"),
        ({"preset": "demo"}, {}, 'preset: "demo", now not there'),
        ({"a": 1, "b": 1, "c": 1}, {}, "a: 1, now not there, b: 1, now not there, c: 1, now not there"),
        (
            {"a": 1, "b": 1, "c": 1, "d": 1, "e": 1},
            {},
            "a: 1, now not there, b: 1, now not there, c: 1, now not there, and 2 more",
        ),
    ],
)
def test_other_conditions_are_not_comparable_and_say_which(before, after, reason):
    verdict = only([cell(batch(4), **before)], [cell(batch(4), **after)])
    assert (verdict.outcome, verdict.reason) == (NOT_COMPARABLE, reason)


def test_equal_memory_is_compared_across_releases_of_torch_and_they_are_said():
    releases = 'torch: "2.12.0", now "2.13.0"'
    numbers = [batch(4), peak(2**30)]
    same = only([cell(*numbers, torch="2.12.0")], [cell(*numbers)])
    assert (same.outcome, same.reason, len(same.changes), same.unanswered) == (SAME, releases, 2, False)
    for other in ([batch(5), peak(2**30)], [batch(4), peak(2**30 + 1)], [batch(4)], [*numbers, seconds(1.0)]):
        verdict = only([cell(*numbers, torch="2.12.0")], [cell(*other)])
        assert (verdict.outcome, verdict.reason, verdict.changes) == (NOT_COMPARABLE, releases, ())
    failed = only([cell(failure="why", torch="2.12.0")], [cell(failure="why")])
    assert (failed.outcome, failed.reason) == (NOT_COMPARABLE, releases)


def test_a_condition_that_is_null_is_as_one_that_is_not_there():
    assert only([cell(batch(4), preset=None)], [cell(batch(4))]).outcome is SAME


def test_conditions_stand_in_the_order_of_their_keys():
    made = conditions("timing", {"seed": 1, "options": {"b": [2], "a": 1}}, "demo", "2.13.0+cpu")
    assert list(made.items()) == [
        ("options", {"a": 1, "b": [2]}),
        ("preset", "demo"),
        ("seed", 1),
        ("torch", "2.13.0+cpu"),
    ]
    assert list(made["options"]) == ["a", "b"]


def test_cells_of_one_name_are_paired_by_their_conditions():
    before = [cell(batch(4), stages=8), cell(batch(9), stages=4)]
    after = [cell(batch(9), stages=4), cell(batch(3), stages=8), cell(batch(1), stages=2)]
    assert [verdict.outcome for verdict in compare(before, after, EXACT)] == [SAME, WORSE, NEW]


def test_conditions_are_the_same_in_any_order():
    """Told apart by their text, these would be paired by what their texts begin with: stages, and seeds."""
    before = [cell(batch(9), stages=4, seed=2), cell(batch(4), stages=8, seed=1)]
    after = [cell(batch(4), seed=1, stages=8), cell(batch(9), seed=2, stages=4)]
    assert [verdict.outcome for verdict in compare(before, after, EXACT)] == [SAME, SAME]


def test_why_memory_changed_is_told_of_the_same_batch_where_it_did():
    def made_of(largest_batch, composed_at, size_bytes):
        composition = Composition(
            batch=composed_at,
            peak_allocated_bytes=size_bytes,
            peak_reserved_bytes=size_bytes,
            size_bytes={"temporaries": {"net, relu": size_bytes}},
        )
        return cell(batch(largest_batch)).model_copy(update={"composition": composition})

    before = [made_of(4, 2, 100)]
    for largest_batch, composed_at, size_bytes, is_told in ((3, 2, 160, True), (5, 2, 90, True), (3, 3, 160, False)):
        verdict = only(before, [made_of(largest_batch, composed_at, size_bytes)])
        assert (verdict.why is not None) is is_told
        if verdict.why:
            assert verdict.why.allocated_bytes == (100, size_bytes)
    assert only(before, [made_of(4, 2, 160)]).why is None  # the same
    assert only(before, [cell(batch(3))]).why is None
    assert only([cell(batch(4))], [made_of(3, 2, 160)]).why is None
    assert [verdict.why for verdict in compare([], before, EXACT)] == [None]


@pytest.mark.parametrize(
    ("before", "after", "reason"),
    [
        ({"card": "8GB", "context_bytes": 500}, {"card": "8GB", "context_bytes": 400}, "context_bytes: 500, now 400"),
        ({"cudnn": "9.19"}, {"cudnn": "9.20"}, 'cudnn: "9.19", now "9.20"'),
        ({"device": "H200"}, {"device": "A100"}, 'device: "H200", now "A100"'),
    ],
)
def test_numbers_of_other_cards_libraries_and_devices_are_not_comparable(before, after, reason):
    alone = only([cell(batch(4, **before))], [cell(batch(3, **after))])
    assert (alone.outcome, alone.reason) == (NOT_COMPARABLE, f"largest_batch (8GB, high) at other {reason}")
    beside = only([cell(batch(4, **before), peak(1))], [cell(batch(3, **after), peak(1))])
    assert (beside.outcome, beside.reason) == (SAME, alone.reason)
    assert alone.unanswered
    assert beside.unanswered


@pytest.mark.parametrize(
    ("before", "after", "unanswered", "reason"),
    [
        ((batch(4), peak(1)), (batch(4), peak(1)), False, None),
        ((batch(4),), (batch(4), peak(1)), False, None),  # a new number was never asked for
        ((batch(4), peak(1)), (batch(4),), True, "peak_reserved_bytes (8GB, high) is gone"),
        ((batch(4), peak(1)), (peak(1),), True, "largest_batch (8GB, high) is gone"),
        ((batch(4), peak(1)), (batch(0),), False, None),  # a peak is that of its batch, which was judged
        ((batch(4), peak(1, batch=4)), (batch(5), peak(1, batch=5)), False, None),
        (
            (batch(4, card=1), peak(1, card=1)),
            (batch(4, card=2), peak(1, card=2), seconds(1)),
            True,
            "largest_batch (8GB, high) at other card: 1, now 2",
        ),
    ],
)
def test_a_number_of_before_without_an_answer(before, after, unanswered, reason):
    verdict = only([cell(*before)], [cell(*after)])
    assert (verdict.unanswered, verdict.reason) == (unanswered, reason)


def test_cells_without_an_answer():
    """Gone and not comparable; new ones were never asked for, and a failure is one."""
    assert only([cell(batch(4))], []).unanswered
    assert only([cell(batch(4), a=1)], [cell(batch(4), a=2)]).unanswered
    assert not only([], [cell(batch(4))]).unanswered
    assert not only([cell(batch(4))], [cell(failure="broken")]).unanswered


def test_of_many_reasons_the_first_three():
    many = [Quantity(name="peak_bytes_per_image", of=str(place), value=1) for place in range(5)]
    told = "; ".join(f"peak_bytes_per_image ({place}) is gone" for place in range(3))
    assert only([cell(batch(4), *many)], [cell(batch(4))]).reason == f"{told}; and 2 more"


@pytest.mark.parametrize(
    ("before", "after", "outcome", "reason"),
    [
        (None, "broken", WORSE, "fails now: broken"),
        ("broken", None, BETTER, "failed before: broken"),
        ("broken", "broken so", NOT_COMPARABLE, "fails before and after: broken so"),
    ],
)
def test_failures(before, after, outcome, reason):
    verdict = only([cell(failure=before)], [cell(failure=after)])
    assert (verdict.outcome, verdict.reason) == (outcome, reason)


@pytest.mark.parametrize(
    ("limit", "before", "after", "outcome"),
    [
        ({"absolute": 2}, 10, 12, SAME),
        ({"absolute": 2}, 10, 13, WORSE),
        ({"absolute": 2}, 10, 8, SAME),
        ({"absolute": 2}, 10, 7, BETTER),
        ({"relative": 0.25}, 100, 125, SAME),
        ({"relative": 0.25}, 100, 126, WORSE),
        ({"relative": 0.25}, 125, 100, SAME),  # of the smaller one, so that both ways are alike
        ({"relative": 0.25}, 126, 100, BETTER),
        ({"absolute": 30, "relative": 0.25}, 100, 130, SAME),  # the larger of the two
        ({"absolute": 1, "relative": 0.25}, 100, 125, SAME),
        ({}, 100, 100, SAME),
        ({}, 100, 101, WORSE),
    ],
)
def test_limits_at_their_edges(limit, before, after, outcome):
    assert judge(peak(before), peak(after), limits(peak_reserved_bytes=limit)).outcome is outcome


def test_every_number_has_its_own_limit():
    check = limits(psnr_db={"absolute": 0.5})
    images = [psnr(value) for value in (30.0, 29.5, 29.4, 30.6)]
    assert [judge(images[0], after, check).outcome for after in images] == [SAME, SAME, WORSE, BETTER]
    diverged = [Quantity(name="diverged_trainings", value=value) for value in (0, 1)]
    assert judge(*diverged, check).outcome is WORSE


INF = float("inf")


@pytest.mark.parametrize(
    ("before", "after", "outcome", "reason"),
    [
        ((INF, INF), (INF, INF), SAME, None),
        ((INF, 30), (30, INF), SAME, None),
        ((INF, 30), (INF, 10), WORSE, None),  # an image that is exact hides no other
        ((INF, 10), (INF, 30), BETTER, None),
        ((INF,), (30,), WORSE, "infinite in 0 of the images, before in 1"),
        ((30,), (INF,), WORSE, "infinite in 1 of the images, before in 0"),  # never better
        ((30, 30), (INF, 10), WORSE, "infinite in 1/2 of the images, before in 0"),
        ((INF, INF, 30), (INF, 30, 30), WORSE, "infinite in 1/3 of the images, before in 2/3"),
        ((INF, 30), (INF, 30, INF, 30), SAME, None),  # of twice as many seeds
        ((-5,), (-5.1,), SAME, None),
        ((0,), (0.2,), BETTER, None),
    ],
)
def test_an_infinite_psnr(before, after, outcome, reason):
    change = judge(psnr(*before), psnr(*after), limits(psnr_db={"absolute": 0.15, "relative": 0.001}))
    assert (change.outcome, change.reason) == (outcome, reason)


@pytest.mark.parametrize("name", ["training_step_seconds", "evaluation_seconds"])
@pytest.mark.parametrize("bad", [float("nan"), INF, -INF, 0.0, -1.0, True, "1", None, 10**400])
def test_seconds_that_are_none(name, bad):
    with pytest.raises(ValidationError):
        Quantity(name=name, value=(1.0, bad, 1.0))


@pytest.mark.parametrize("bad", [float("nan"), -INF, 1e308, True, "30", None])
def test_a_psnr_that_is_none(bad):
    with pytest.raises(ValidationError):
        Quantity(name="psnr_db", value=(30.0, bad))


@pytest.mark.parametrize("bad", [float("nan"), INF, 1.5, -1, 2**63, True, "4", None, (4.0,), ()])
def test_a_batch_that_is_none(bad):
    with pytest.raises(ValidationError):
        batch(bad)


def test_a_number_twice_is_none():
    with pytest.raises(ValidationError, match=r"largest_batch \(8GB, high\) of LU-DnCNN on ct more than once"):
        cell(batch(4), batch(3))


def turned(settings):
    """The same, in the opposite order."""
    return {name: turned(value) if isinstance(value, dict) else value for name, value in reversed(settings.items())}


def test_a_memory_is_of_the_step_of_its_profile_in_whatever_order_that_has_its_settings():
    memory, profile = handmade.memory("DEQ4IP", GiB), handmade.profile("DEQ4IP")
    of_another_step = profile.model_copy(update={"settings": profile.settings | {"model": {"stages": 5}}})
    as_turned = profile.model_copy(update={"settings": turned(profile.settings)})
    assert list(as_turned.settings["model"]) == ["solver", "gradient", "stages"]
    found = [all_reduced([memory, each])[0].composition for each in (profile, as_turned, of_another_step)]
    assert found == [profile.profile.reference, profile.profile.reference, None]


def test_a_record_whose_numbers_cannot_be_compared_is_named():
    once = handmade.memory("LU-DnCNN", GiB, cards=("8GB",))
    memory = once.memory.model_copy(update={"cards": once.memory.cards * 2})  # which no record that is read has
    twice = once.model_copy(update={"memory": memory})
    with pytest.raises(UsageError, match=r"LU-DnCNN on ct, memory \(0123456789\) is damaged .*more than once"):
        reduced(twice)


def test_trainings_that_all_diverged_are_a_failure():
    """One that ends makes a number; none is a failure, before and after alike."""
    diverged, ended = handmade.diverged(), handmade.training()
    sets = {
        "none": reduced(handmade.accuracy("LU-DnCNN", diverged, handmade.diverged(1))),
        "one": reduced(handmade.accuracy("LU-DnCNN", diverged, ended)),
    }
    assert (sets["none"].failure, sets["none"].quantities) == ("diverged: the loss is not finite", ())
    assert only([sets["none"]], [sets["none"]]).outcome is NOT_COMPARABLE
    assert only([sets["one"]], [sets["none"]]).outcome is WORSE
    assert only([sets["one"]], [sets["one"]]).outcome is SAME


@pytest.mark.parametrize(("before", "after", "outcome"), [(0, 5, BETTER), (5, 0, WORSE), (0, 0, SAME)])
def test_none_fits(before, after, outcome):
    """From none that fits to some, with peaks on one side alone; a relative limit of 0 allows nothing."""
    quantities = [(batch(value), *([peak(100, batch=value)] if value else [])) for value in (before, after)]
    verdict = only(*([cell(*of_side)] for of_side in quantities), check=limits(largest_batch={"relative": 0.5}))
    assert (verdict.outcome, verdict.unanswered) == (outcome, False)


def test_peaks_are_asked_for_where_the_batch_is_the_same_to_the_image():
    """A batch that moved within its limit is the same, and has another peak, which nobody misses."""
    check = limits(largest_batch={"absolute": 1})
    moved = only([cell(batch(4), peak(1, batch=4))], [cell(batch(5), peak(1, batch=5))], check=check)
    assert (moved.outcome, moved.unanswered, moved.reason) == (SAME, False, None)
    stayed = only([cell(batch(4), peak(1, batch=4))], [cell(batch(4))], check=check)
    assert (stayed.outcome, stayed.unanswered) == (SAME, True)


def test_as_many_repeats_as_the_significance_just_allows():
    """Four and four lie apart by chance once in 35 times: that is enough for p <= 2 / 70."""
    before, after = seconds(1, 1.1, 1.2, 1.3), seconds(2, 2.1, 2.2, 2.3)
    outcomes = [
        judge(before, after, EXACT.model_copy(update={"significance": significance})).outcome
        for significance in (2 / 70, 2 / 70 - 1e-9)
    ]
    assert outcomes == [WORSE, NOT_COMPARABLE]


@pytest.mark.parametrize(
    ("before", "after", "outcome"),
    [
        ([1.0] * 5, [1.0] * 5, SAME),
        ([1.0] * 5, [2.0] * 5, WORSE),
        ([1.0], [1.0], SAME),
        ([1.0], [2.0], NOT_COMPARABLE),
        ([1.0, 3.0], [2.0, 2.0], SAME),  # the median of an even number lies between
    ],
)
@pytest.mark.filterwarnings("error")
def test_repeats_that_are_alike_or_one_alone(before, after, outcome):
    assert judge(seconds(*before), seconds(*after), EXACT).outcome is outcome


@pytest.mark.parametrize("bad", [float("nan"), INF, -INF, -1.0])
def test_limits_that_are_none(bad):
    for name in ("absolute", "relative"):
        with pytest.raises(ValidationError):
            Limit(**{name: bad})
    with pytest.raises(ValidationError):
        CheckSection(baseline="baseline.json", significance=bad, limits=LimitsSection())


def test_nothing_to_judge():
    with pytest.raises(ValueError, match="neither a number before nor one after"):
        judge(None, None, EXACT)


SLOW = [1.0 + place / 1000 for place in range(10)]
FAST = [0.5 + place / 1000 for place in range(10)]


def test_time_needs_both_a_rank_test_and_a_minimum_effect():
    check = limits(training_step_seconds={"relative": 0.1})
    assert judge(seconds(*FAST), seconds(*SLOW), check).outcome is WORSE
    assert judge(seconds(*SLOW), seconds(*FAST), check).outcome is BETTER
    a_little_slower = [1.05 * value for value in SLOW]
    assert mannwhitneyu(SLOW, a_little_slower).pvalue < 0.01
    assert judge(seconds(*SLOW), seconds(*a_little_slower), check).outcome is SAME
    noisy = [0.5] * 4 + [1.3] * 6
    assert mannwhitneyu(SLOW, noisy).pvalue > 0.01
    assert judge(seconds(*SLOW), seconds(*noisy), check).outcome is SAME


def test_of_repeats_the_median_counts_and_of_images_the_mean():
    repeats = judge(seconds(1.0, 1.0, 1.5, 4.0, 90.0), seconds(1.0, 1.25, 2.0, 9.0), EXACT)
    assert (repeats.before, repeats.after) == (1.5, 1.625)
    images = judge(psnr(20, 21, 34), psnr(20, INF, 40), EXACT)
    assert (images.before, images.after) == (25, 30)
    one_slow = judge(seconds(*[1.0] * 10), seconds(*[1.0] * 9, 90.0), EXACT)
    assert (one_slow.before, one_slow.after, one_slow.outcome) == (1.0, 1.0, SAME)


def test_too_few_repeats_cannot_decide():
    change = judge(seconds(1, 1.1, 1.2), seconds(2, 2.1, 2.2), EXACT)
    assert change.outcome is NOT_COMPARABLE
    assert change.reason == "training_step_seconds: 3 and 3 repeats are too few for p <= 0.01"
    assert judge(seconds(1, 1.1, 1.2, 1.3, 1.4), seconds(2, 2.1, 2.2, 2.3, 2.4), EXACT).outcome is WORSE  # 2 / 252


@pytest.mark.parametrize(("n", "m", "least"), [(3, 3, 0.1), (4, 4, 2 / 70), (5, 5, 2 / 252), (3, 20, 2 / 1771)])
def test_the_least_p_is_that_of_samples_apart(n, m, least):
    before, after = [float(i) for i in range(n)], [100.0 + i for i in range(m)]
    exact = mannwhitneyu(before, after, method="exact").pvalue
    assert rank_test(before, after)[1] == pytest.approx(exact) == pytest.approx(least)


numbers = st.one_of(
    st.builds(Quantity, name=st.sampled_from(["largest_batch", "parameters"]), value=st.integers(0, 5)),
    st.builds(Quantity, name=st.just("psnr_db"), value=st.lists(st.floats(0, 5), min_size=1, max_size=3).map(tuple)),
    st.builds(
        Quantity,
        name=st.sampled_from(["training_step_seconds", "evaluation_seconds"]),
        value=st.lists(st.floats(0.5, 2), min_size=3, max_size=8).map(tuple),
        at=st.fixed_dictionaries({"batch": st.integers(1, 2)}),
    ),
)
cells = st.builds(
    Measured,
    task=st.sampled_from(["ct", "mri"]),
    architecture=st.sampled_from(["A", "B"]),
    stage=st.just("memory"),
    conditions=st.fixed_dictionaries({"torch": st.sampled_from(["1", "2"])}),
    failure=st.sampled_from([None, None, None, "broken"]),
    quantities=st.lists(numbers, min_size=1, max_size=3, unique_by=lambda quantity: quantity.name).map(tuple),
)
sets = st.lists(cells, max_size=4, unique_by=lambda cell: (cell.name, cell.conditions["torch"]))
loose = limits(largest_batch={"absolute": 1}, training_step_seconds={"relative": 0.3}, psnr_db={"relative": 0.5})


@given(sets)
def test_a_set_is_the_same_as_itself(some):
    """A failure on both sides is no comparison."""
    expected = [(cell.name, NOT_COMPARABLE if cell.failure else SAME) for cell in some]
    assert sorted((verdict.name, verdict.outcome) for verdict in compare(some, some, EXACT)) == sorted(expected)


@given(sets, sets)
def test_better_one_way_is_worse_the_other(a, b):
    """Number by number and for whole cells; a cell with both better and worse numbers is worse both ways."""
    there, back = compare(a, b, loose), compare(b, a, loose)
    told = []
    for verdict in there:
        found = {change.outcome for change in verdict.changes}
        told.append((verdict.name, WORSE if {WORSE, BETTER} <= found else OPPOSITE[verdict.outcome]))
    assert sorted(told) == sorted((verdict.name, verdict.outcome) for verdict in back)
    turned = [(v.name, c.name, OPPOSITE[c.outcome], c.after, c.before) for v in there for c in v.changes]
    found = [(v.name, c.name, c.outcome, c.before, c.after) for v in back for c in v.changes]
    assert sorted(turned, key=str) == sorted(found, key=str)


@given(sets, sets, st.randoms())
def test_the_order_of_a_set_means_nothing(a, b, chance):
    shuffled = list(a)
    chance.shuffle(shuffled)
    assert compare(shuffled, b, loose) == compare(a, b, loose)


def test_what_is_compared_of_memory():
    """Of a batch of 0 there is no peak; an exact number is one of a version of cuDNN."""
    small = handmade.card("8GB", 1000 * MiB, 250 * MiB, bounds=("high", "exact"))
    small = small.model_copy(update={"cudnn": "9.20", "edges": small.edges | {"high": handmade.edge(0, 1)}})
    made = handmade.memory("LU-DnCNN", 7, parameters=3, cards=("8GB",))
    made = made.model_copy(update={"memory": made.memory.model_copy(update={"cards": [small]})})
    made = made.model_copy(update={"settings": {"memory": {"engine": "simulated"}, "shape": (3, 4)}})
    measured = reduced(made)
    card = {"card": "8GB", "total_bytes": 1000 * MiB, "context_bytes": 500 * MiB}
    exact = card | {"cudnn": "9.20"}
    assert [(q.name, q.of, q.value, q.at) for q in measured.quantities] == [
        ("largest_batch", "8GB, high", 0, card),
        ("largest_batch", "8GB, exact", 2, exact),
        ("peak_allocated_bytes", "8GB, exact", 500 * MiB, exact | {"batch": 2}),
        ("peak_reserved_bytes", "8GB, exact", 520 * MiB, exact | {"batch": 2}),
        ("peak_bytes_per_image", "low", 6, {}),
        ("peak_bytes_per_image", "high", 7, {}),
        ("parameters", "", 3, {}),
    ]
    assert measured.cards == ["8GB"]
    assert measured.conditions["shape"] == [3, 4]  # as it is after a way through JSON


def test_a_failures_reason_is_one_line():
    assert reduced(handmade.failed("timing")).failure == "out of luck"
    assert reduced(handmade.failed("timing").model_copy(update={"reason": "it\n  broke"})).failure == "it broke"
    assert reduced(handmade.timing("LU-DnCNN", 1.0, 1.0)).failure is None


def test_what_is_compared_of_timing_and_accuracy():
    made = handmade.timing("LU-DnCNN", 1.0, 3.0, batch=4)
    at = {"device": "cpu", "threads": 2, "batch": 4}
    assert [(q.name, q.value, q.at) for q in reduced(made).quantities] == [
        ("training_step_seconds", (1.0, 1.0, 1.0), at),
        ("evaluation_seconds", (3.0, 3.0, 3.0), at),
    ]
    without = made.model_copy(update={"timing": made.timing.model_copy(update={"training_step_seconds": []})})
    assert [q.name for q in reduced(without).quantities] == ["evaluation_seconds"]
    trainings = handmade.training(psnr_db=(30.0, 32.0)), handmade.diverged(seed=1), handmade.diverged(seed=2)
    measured = reduced(handmade.accuracy("LU-DnCNN", *trainings))
    assert [(q.name, q.value, q.at["data"]["name"]) for q in measured.quantities] == [
        ("psnr_db", (30.0, 32.0), "ct-phantoms"),
        ("diverged_trainings", 2, "ct-phantoms"),
    ]


def test_a_simulation_is_that_of_torchs_release_and_a_measurement_that_of_its_build():
    simulated, cuda = {"memory": {"engine": "simulated"}}, {"memory": {"engine": "cuda"}}
    assert conditions("memory", simulated, None, "2.13.0+cpu")["torch"] == "2.13.0"
    assert conditions("memory", cuda, None, "2.13.0+cu130")["torch"] == "2.13.0+cu130"
    assert conditions("timing", {}, "demo", "2.13.0+cpu")["torch"] == "2.13.0+cpu"


def test_the_default_limits():
    """Zero for what is the same to the byte; 10 % for seconds, 0.1 dB for PSNR."""
    check = load().check
    given = {name: limit.allows(1.0, 1.0) for name, limit in check.limits}
    assert given.pop("training_step_seconds") == given.pop("evaluation_seconds") == given.pop("psnr_db") == 0.1
    assert set(given.values()) == {0.0}
    assert set(MORE_IS_BETTER) <= set(LimitsSection.model_fields)


@pytest.mark.parametrize(("number", "more"), [(3, ""), (4, ", and 1 more"), (6, ", and 3 more")])
def test_of_many_differences_three_are_named(number, more):
    old, new = (dict.fromkeys("abcdef"[:number], value) for value in (1, 2))
    before, after = (Quantity(name="largest_batch", value=3, at=at) for at in (old, new))
    change = judge(before, after, EXACT)
    assert change.outcome is NOT_COMPARABLE
    assert change.reason == f"largest_batch at other a: 1, now 2, b: 1, now 2, c: 1, now 2{more}"
