from bench.module_names import merged


def test_names_that_differ_in_numbers_are_one_where_they_differ():
    names = ["blocks.0.mix.1, clone", "blocks.0.mix.2, clone", "blocks.0.mix.2, cat", "conv2d", "blocks.0"]
    assert merged(names) == {
        "blocks.0.mix.1, clone": "blocks.0.mix.*, clone",
        "blocks.0.mix.2, clone": "blocks.0.mix.*, clone",
        "blocks.0.mix.2, cat": "blocks.0.mix.2, cat",  # alone
        "conv2d": "conv2d",
        "blocks.0": "blocks.0",
    }


def test_numbers_inside_of_words_stay():
    assert set(merged(["net.conv1.weight", "net.conv2.weight"]).values()) == {"net.conv1.weight", "net.conv2.weight"}


def test_a_number_at_the_beginning_is_one_as_well():
    assert merged(["0.conv", "1.conv"]) == {"0.conv": "*.conv", "1.conv": "*.conv"}
