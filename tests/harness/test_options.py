"""What a user may type wrongly: the exact sentence, the exit code, and nothing written."""

import pytest

RUN, TRAIN = ("run",), ("train", "--architecture", "LUSER-SW", "--task", "blur")
EXPLAIN = ("explain", "--architecture", "LUSER-SW", "--task", "blur")
ARCHITECTURES = "known are LU-DnCNN, DEQ4IP, LUSER-SW, LUSER-DW, i-RIM, MDEQ, HUMUS-Net"


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        ((*RUN, "--stages", ""), "--stages: got '', expected at least one name"),
        ((*RUN, "--architecture", ","), "--architecture: got ',', expected at least one name"),
        ((*RUN, "--task", " , "), "--task: got ' , ', expected at least one name"),
        ((*RUN, "--gpu-cap", ""), "--gpu-cap: got '', expected at least one name"),
        ((*RUN, "--gpu", ","), "--gpu: got ',', expected at least one name"),
        (("plot", "--formats", ""), "--formats: got '', expected at least one name"),
        (("report", "--select", ","), "--select: got ',', expected at least one name"),
        (("data", "fetch", "--set", ""), "--set: got '', expected at least one name"),
        ((*TRAIN, "--seed", ","), "--seed: got ',', expected at least one name"),
        (
            (*RUN, "--stages", "MEMORY,tyming"),
            "--stages: got 'tyming', expected 'memory', 'profile', 'timing' or 'accuracy'",
        ),
        ((*RUN, "--task", "a\udcff"), "--task: got ['a\\udcff'], expected text in UTF-8"),
        ((*RUN, "--engine", "abacus"), "--engine: got 'abacus', expected 'simulated', 'cuda' or 'virtual'"),
        (
            (*RUN, "--preset", "nope"),
            "--preset: unknown preset 'nope': known are auto, paper, demo, evening, systems, tiny",
        ),
        ((*RUN, "--architecture", "deq4ip,luser"), f"--architecture: unknown architecture 'luser': {ARCHITECTURES}"),
        (
            (*RUN, "--stages", "x", "--architecture", "y"),
            "--stages: got 'x', expected 'memory', 'profile', 'timing' or 'accuracy'; "
            f"--architecture: unknown architecture 'y': {ARCHITECTURES}",
        ),
        (
            (*RUN, "--gpu-cap", "999999999999GB"),
            "--gpu-cap: '999999999999GB' is not a memory size: it must be at most 1024TB, such as 8GB",
        ),
        *(
            (
                (*RUN, "--gpu-cap", cap),
                f"--gpu-cap: {cap!r} is not a memory size: expected a number and a unit, such as 8GB or 8000MB",
            )
            for cap in ("nanGB", "1e99GB", "٣GB", "infGB", "8")
        ),
        (
            (*RUN, "--output", "bench.toml/x"),
            "--output: cannot write to the output folder bench.toml/x: bench.toml is a file",
        ),
        ((*RUN, "--output", "a", "--output", "b"), "--output is given 2 times, expected once"),
        ((*RUN, "--engine", "cuda", "--engine", "cuda"), "--engine is given 2 times, expected once"),
        ((*RUN, "--allow-tf32", "--no-allow-tf32"), "--allow-tf32 is given 2 times, expected once"),
        ((*EXPLAIN, "--gpu-cap", "8GB", "--gpu-cap", "9GB"), "--gpu-cap is given 2 times, expected once"),
        ((*EXPLAIN, "--batch", "1", "--batch", "2"), "--batch is given 2 times, expected once"),
        ((*EXPLAIN, "--gpu-cap", "8GB,9GB"), "--gpu-cap: got '8GB,9GB': an explanation is of one card"),
        (
            (*EXPLAIN, "--batch", "99999999999999999999"),
            "--batch: got 99999999999999999999, expected at least 1 and at most 1,048,576",
        ),
        ((*EXPLAIN, "--timeline", "no/x.png"), "--timeline: cannot write no/x.png: there is no folder no"),
        (
            (*EXPLAIN, "--snapshot", "bench.toml"),
            "--snapshot: bench.toml exists: give --force to overwrite it, or another name",
        ),
        ((*EXPLAIN, "--snapshot", "."), "--snapshot: cannot write .: it is not a file"),
        (
            (*TRAIN, "--steps", "99999999999999999999999"),
            "--steps: got 99999999999999999999999, expected at most 1000000000",
        ),
        ((*TRAIN, "--seed", "0,x"), "--seed: got 'x', expected whole numbers such as 0 or 0,1,2"),
        (
            (*TRAIN, "--seed", "9223372036854775808"),
            "--seed: got 9223372036854775808, expected at most 9223372036854775807",
        ),
        (
            (*TRAIN, "--data", "nope"),
            "--data: unknown data set 'nope': known are photographs, ct-phantoms, mri-phantoms, layered-ground, "
            "attractor, CelebA, LoDoPaB-CT, "
            "fastMRI, fetched-photographs, fetched-ct, fetched-mri",
        ),
        ((*TRAIN, "--data", "ct-phantoms"), "--data: ct-phantoms has images of 1 channel, and GaussianBlur takes 3"),
        (
            TRAIN,
            "task blur has no images to train on: give data = ... in [task.blur] (`bench data list`)",
        ),
        *(
            (
                (*RUN, "--architecture", "i-RIM", "--task", task),
                f"i-RIM on {task}: its backward pass needs a linear operator, and {operator} is none; "
                "choose LUSER-SW, LUSER-DW, DEQ4IP, LU-DnCNN or MDEQ",
            )
            for task, operator in (("seismic", "Seismic"), ("lorenz", "Lorenz96"))
        ),
        (("compare", "a", "b"), "there is no a: give a folder of records, as `bench run` makes, or a baseline's file"),
    ],
)
def test_one_sentence_that_blames_the_option(bench, tmp_path, arguments, sentence):
    result = bench(*arguments)
    assert (result.returncode, result.stdout, result.stderr) == (2, "", f"bench: {sentence}\n")
    assert [path.name for path in tmp_path.iterdir()] == ["bench.toml"]


def test_lists_in_any_form_and_case_are_one_list(bench):
    printed = {
        bench("run", *arguments).stdout
        for arguments in (
            ("--architecture", "LUSER-SW", "--task", "blur", "--task", "knee", "--gpu-cap", "8GB", "--gpu", "H200"),
            ("--architecture", "luser-sw, LUSER-SW", "--task", "Blur,KNEE", "--gpu-cap", "8 gb,8GB", "--gpu", "h200"),
            (
                "--task",
                " blur ,knee",
                "--architecture",
                "Luser-SW",
                "--gpu-cap",
                "8gb",
                "--gpu",
                " H200,",
                "--stages",
                "MEMORY , memory",
                "--engine",
                "Simulated",
                "--preset",
                "TINY",
            ),
        )
    }
    (table,) = printed
    assert table.count("| blur") == table.count("| knee") == 1
    assert "LUSER-SW" in table and "LU-DnCNN" not in table


def test_parquet_without_pyarrow_is_refused_before_the_records_are_read(bench, monkeypatch):
    import sys

    monkeypatch.setitem(sys.modules, "pyarrow", None)
    result = bench("report", "--records", "nowhere", "--formats", "html,Parquet")
    assert (result.returncode, result.stderr) == (
        2,
        "bench: --formats: parquet needs pyarrow, which is not installed: pip install pyarrow, or leave it out\n",
    )
