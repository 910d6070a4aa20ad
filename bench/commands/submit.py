"""bench submit, bench jobs: the shards of a run as a SLURM array."""

from __future__ import annotations

import shlex
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any, Literal

import typer

from bench.commands import run as run_command
from bench.commands.common import DEFAULT_OUTPUT, Verbs, check_folder, say


def submit(
    shards: Annotated[
        int, typer.Option(min=1, max=10_000, help="The number of jobs; each has its share of the cells.")
    ],
    options: Annotated[
        list[str] | None, typer.Argument(metavar="-- [RUN OPTIONS]", help="After --, options of `bench run`.")
    ] = None,
    output: Annotated[
        Path, typer.Option(help="Folder for the records of all jobs, on a disk that all share.")
    ] = DEFAULT_OUTPUT,
    cluster: Annotated[
        Literal["slurm", "local"], typer.Option(help="slurm, or local: processes on this machine, to try it out.")
    ] = "slurm",
    time: Annotated[
        int, typer.Option(min=5, max=366 * 24 * 60, metavar="MINUTES", help="Of each job, before it is queued again.")
    ] = 240,
    partition: Annotated[str | None, typer.Option(help="The partition of SLURM.")] = None,
    gpus_per_task: Annotated[
        int | None, typer.Option(min=0, max=1024, help="GPUs of each job: one cell on each.")
    ] = None,
    cpus_per_task: Annotated[int | None, typer.Option(min=1, max=4096, help="Cores of each job.")] = None,
    sbatch: Annotated[
        list[str] | None, typer.Option(metavar="KEY=VALUE", help="Another option of sbatch. May be repeated.")
    ] = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Print the jobs' commands, and submit nothing.")] = False,
) -> None:
    """Run the cells as an array of SLURM jobs: `bench submit --shards 8 -- --stages accuracy`.

    Given again, the command submits what has failed, and leaves alone what is done, waiting or running.
    """
    from bench.execution import slurm
    from bench.execution.sharding import Shard

    options = options or []
    _check(options)
    check_folder("--output", output)
    parameters = {
        "timeout_min": time,
        "cpus_per_task": cpus_per_task,
        "slurm_partition": partition,
        "slurm_gpus_per_task": gpus_per_task,
        "slurm_additional_parameters": _pairs(sbatch or []),
    }
    every = [Shard(index, shards) for index in range(1, shards + 1)]
    chosen = slurm.unfinished(every, options, output)
    if dry_run:
        for shard in chosen:
            print(shlex.join(["bench", *slurm.run_arguments(shard, options, output)]))
        return
    if chosen:
        slurm.submit(chosen, options, output, cluster=cluster, parameters=parameters)
    left = f"; {shards - len(chosen)} are done or under way" if len(chosen) < shards else ""
    say(f"{len(chosen)} of {shards} shards submitted{left}")
    say(
        f"`bench jobs --output {output}` lists them; when all are done, "
        f"`{shlex.join(['bench', 'run', *options, '--output', str(output)])}` prints the tables"
    )


def jobs(
    output: Annotated[Path, typer.Option(help="The output folder that was given to `bench submit`.")] = (
        DEFAULT_OUTPUT
    ),
) -> None:
    """The jobs that `bench submit` submitted, and what has become of them."""
    import pandas as pd

    from bench.errors import UsageError
    from bench.execution import slurm
    from bench.report.terminal import print_table

    found = slurm.jobs(output)
    if not found:
        raise UsageError(f"no jobs in {output}: `bench submit --output {output}` submits them")
    table = pd.DataFrame(
        {
            "shard": job.shard,
            "options": shlex.join(job.options),
            "job": f"{job.cluster} {job.job_id}",
            "state": state,
            "log": str(log),
        }
        for job, state, log in found
    )
    counts = [f"{(table['state'] == state).sum()} {state}" for state in table["state"].unique()]
    print_table(table, f"{len(found)} jobs: {', '.join(counts)}.")


def _check(options: Sequence[str]) -> None:
    """Find out now, and not in the queue, that `bench run` has no such options.

    Raises:
        UsageError: one of them is `submit`'s own, or would make a job that is queued again start anew.
    """
    from bench.errors import UsageError

    app = Verbs(add_completion=False)
    app.command("run")(run_command.run)
    context = typer.main.get_command(app).make_context("bench run", list(options))
    for name in ("shard", "output", "fresh"):
        source = context.get_parameter_source(name)
        if source is not None and source.name == "COMMANDLINE":
            remedy = "give another --output" if name == "fresh" else f"`bench submit` gives each job its --{name}"
            raise UsageError(f"--{name} cannot be passed on to the jobs: {remedy}")


def _pairs(texts: Sequence[str]) -> dict[str, Any]:
    from bench.errors import UsageError

    for text in texts:
        if not all(text.partition("=")):
            raise UsageError(f"{text!r} is no option of sbatch: expected KEY=VALUE, such as account=imaging")
    return {key: value for key, _, value in (text.partition("=") for text in texts)}
