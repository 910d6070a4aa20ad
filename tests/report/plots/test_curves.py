from handmade import accuracy, diverged, points, training

from bench.report.plots import curves, style


def validated(curve, psnr_db):
    return [*curve[:-1], curve[-1].model_copy(update={"validation_psnr_db": psnr_db})]


def test_a_line_for_each_seed_and_a_cross_where_one_diverged():
    curve = validated(points([1.0] * 10, loss=0.5), 30.0)
    record = accuracy("DEQ4IP", training(curve=curve), diverged(1, points([1.0] * 4, loss=0.25)))
    with style.style():
        above, beneath = curves.draw([record]).axes
    assert [list(line.get_xdata()) for line in above.lines] == [list(range(1, 11)), [1, 2, 3, 4], [4]]
    assert list(above.lines[0].get_ydata()) == [0.5] * 10
    assert above.lines[2].get_marker() == "x"
    assert (list(beneath.lines[0].get_xdata()), list(beneath.lines[0].get_ydata())) == ([10], [30.0])


def test_the_cross_stands_at_the_last_loss_that_is_a_number():
    curve = points([1.0] * 4, loss=0.25)
    curve[3] = curve[3].model_copy(update={"loss": float("inf")})
    with style.style():
        above, _ = curves.draw([accuracy("DEQ4IP", diverged(0, curve))]).axes
    assert (list(above.lines[1].get_xdata()), list(above.lines[1].get_ydata())) == ([3], [0.25])


def test_a_single_outlier_of_the_loss_does_not_show():
    losses = points([1.0] * 60)
    losses[30] = losses[30].model_copy(update={"loss": 1e6})
    with style.style():
        above, _ = curves.draw([accuracy("DEQ4IP", training(curve=losses))]).axes
    assert set(above.lines[0].get_ydata()) == {1.0}


def test_classical_methods_have_no_curve():
    assert curves.draw([accuracy("total variation", training())]) is None


def test_an_infinite_psnr_stands_on_the_upper_edge():
    curve = points([1.0] * 3, loss=0.0)
    values = [30.0, float("inf"), 31.0]
    curve = [p.model_copy(update={"validation_psnr_db": v}) for p, v in zip(curve, values, strict=True)]
    with style.style():
        above, beneath = curves.draw([accuracy("DEQ4IP", training(curve=curve))]).axes
    line, edge = beneath.lines
    assert (list(line.get_xdata()), list(line.get_ydata())) == ([1, 3], [30.0, 31.0])
    assert (list(edge.get_xdata()), list(edge.get_ydata())) == ([2], [1])
    assert edge.get_transform() == beneath.get_xaxis_transform()
    assert [text.get_text() for text in beneath.texts] == ["inf"]
    assert 31 < beneath.get_ylim()[1] < 32
    assert above.get_yscale() == "linear"  # of losses that are all 0 there is no logarithm
