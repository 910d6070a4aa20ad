import pytest
from handmade import card, memory

from bench.report.methods import beside
from bench.report.tables import table3
from bench.units import GiB, MiB


@pytest.mark.parametrize(
    ("name", "total_bytes", "in_paper"),
    [
        ("RTX 2080", int(7.76 * GiB), 16),
        ("8GB", 8 * GiB, 16),
        ("not in our table", int(7.76 * GiB), 16),
        ("RTX 3080", int(9.78 * GiB), 16),
        ("Quadro RTX 6000", int(22.17 * GiB), 68),  # the paper's 24 GB
        ("12GB", 12 * GiB, None),
    ],
)
def test_a_card_is_held_against_the_papers_of_its_size(name, total_bytes, in_paper):
    """CUDA reports a little less than what is printed on the box."""
    made = memory("DEQ4IP", 100 * MiB, task="deblurring")
    made = made.model_copy(
        update={"memory": made.memory.model_copy(update={"cards": [card(name, total_bytes, 100 * MiB)]})}
    )
    found = table3.tidy([made], [name])["largest_batch_in_paper"].iloc[0]
    assert (None if found is table3.pd.NA else found) == in_paper


def test_a_task_stands_for_itself_before_one_of_the_same_row_of_the_paper():
    wanted = memory("DEQ4IP", MiB, task="mri-4x")
    other, own = memory("DEQ4IP", MiB, task="mri"), memory("DEQ4IP", 2 * MiB, task="mri-4x")
    for others in ([other, own], [own, other]):
        assert beside(wanted, others) is own
    assert beside(wanted, [other]) is other
