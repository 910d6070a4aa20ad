"""Shards of a run as jobs: a SLURM array through submitit, and what became of them.

The jobs share one output folder, so records of one shard are there for all. A job whose time is over or that gives way
to another is put back into the queue by submitit, and goes on where it stopped; one that failed is submitted again by
the same command, and what is done is not. Jobs are listed in OUTPUT/jobs/submitted.json; their logs lie beside it.
"""

from __future__ import annotations

import contextlib
import io
import os
import re
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, TypeAdapter, ValidationError

from bench.errors import UsageError
from bench.execution.sharding import Shard
from bench.extras import how_to_install
from bench.files import locked, read_regular, write_atomically
from bench.units import MiB

if TYPE_CHECKING:
    from submitit import Job

LARGEST_LIST_BYTES = 64 * MiB

Cluster = Literal["slurm", "local"]
State = Literal["pending", "running", "done", "failed"]

# SLURM's words for a job, as squeue has them. One that ended without a result, or with an error, has failed.
_WAITING = {"PENDING", "CONFIGURING", "REQUEUED", "REQUEUE_HOLD"}
_ENDED = {
    "BOOT_FAIL",
    "CANCELLED",
    "COMPLETED",
    "DEADLINE",
    "FAILED",
    "NODE_FAIL",
    "OUT_OF_MEMORY",
    "PREEMPTED",
    "TIMEOUT",
}


class Submitted(BaseModel):
    """One job: a shard of a run with these options."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    shard: str = Field(pattern=r"\A[0-9]{1,9}/[0-9]{1,9}\z")
    options: list[str]
    cluster: Cluster
    job_id: str = Field(pattern=r"\A[0-9]{1,9}(_[0-9]{1,9})?\z")  # it becomes part of files' names


class ShardRun:
    """What a job does. submitit calls `checkpoint` when the job has to stop before its end."""

    def __init__(self, arguments: Sequence[str]) -> None:
        self.arguments = list(arguments)

    def __call__(self) -> None:
        """Run the shard; its exit code decides whether the job is done or failed.

        Signals that announce the job's end are meant for submitit; where SLURM sends them to all processes, the run
        ignores them, and goes on until it is killed.
        """
        subprocess.run(
            [sys.executable, "-c", "from bench.cli import main; main()", *self.arguments],
            check=True,
            preexec_fn=_ignore_announcements,
        )

    def checkpoint(self) -> Any:
        """The same again: records keep what is done."""
        from submitit.helpers import DelayedSubmission

        return DelayedSubmission(self)


def _ignore_announcements() -> None:
    for announcement in (signal.SIGTERM, signal.SIGUSR2):
        signal.signal(announcement, signal.SIG_IGN)


def run_arguments(shard: Shard, options: Sequence[str], output: Path) -> list[str]:
    """What a shard's `bench` is given."""
    return ["run", *options, "--shard", str(shard), "--output", str(output)]


def require(cluster: Cluster) -> None:
    """See that jobs can be submitted.

    Raises:
        UsageError: submitit or SLURM is not there.
    """
    try:
        import submitit  # noqa: F401
    except ModuleNotFoundError as error:
        raise UsageError(
            f"submitting jobs needs {error.name}, which is not installed: {how_to_install(str(error.name))}"
        ) from error
    missing = [name for name in ("sbatch", "srun", "squeue") if shutil.which(name) is None]
    if cluster == "slurm" and missing:
        raise UsageError(
            f"submitting jobs needs SLURM, but there is no {missing[0]} here: submit where there is, or run each shard "
            "yourself, as `bench run --shard 1/4`"
        )


def submit(
    shards: Sequence[Shard],
    options: Sequence[str],
    output: Path,
    *,
    cluster: Cluster,
    parameters: Mapping[str, Any],
) -> list[Submitted]:
    """Submit shards as one array of jobs, and remember them.

    Args:
        shards: the ones to run.
        options: of `bench run`.
        output: where all of them keep their records.
        cluster: "local" runs them as processes on this machine.
        parameters: of submitit's AutoExecutor.

    Raises:
        UsageError: submitit or SLURM is not there or refuses, or the output folder cannot be written.
    """
    require(cluster)
    from submitit import AutoExecutor
    from submitit.core.utils import FailedJobError, FailedSubmissionError

    folder = jobs_folder(output)
    listed(output)  # a damaged list is found before anything is submitted
    try:
        folder.mkdir(parents=True, exist_ok=True)
        executor = AutoExecutor(folder, cluster=cluster)
        executor.update_parameters(name="bench", **parameters)
        runs = [ShardRun(run_arguments(shard, options, output.absolute())) for shard in shards]
        with contextlib.redirect_stderr(io.StringIO()):  # submitit prints what it raises
            submitted = executor.submit_array(runs)
    except OSError as error:
        raise UsageError(f"cannot write to the output folder {output}: {error.strerror}") from error
    except (FailedJobError, FailedSubmissionError) as error:
        raise UsageError(f"SLURM refuses the jobs: {_one_line(str(error))}") from error
    new = [
        Submitted(shard=str(shard), options=list(options), cluster=cluster, job_id=job.job_id)
        for shard, job in zip(shards, submitted, strict=True)
    ]
    replaced = {(each.shard, *each.options) for each in new}
    with locked(folder):
        kept = [each for each in listed(output) if (each.shard, *each.options) not in replaced]
        content = TypeAdapter(list[Submitted]).dump_json([*kept, *new], indent=1).decode()
        write_atomically(folder / "submitted.json", content + "\n", within=output)
    return new


def jobs_folder(output: Path) -> Path:
    """Where an output folder keeps what belongs to its jobs."""
    return output.absolute() / "jobs"


def listed(output: Path) -> list[Submitted]:
    """The jobs of an output folder, the last one of each shard.

    Raises:
        UsageError: the list cannot be read, or is damaged.
    """
    path = jobs_folder(output) / "submitted.json"
    try:
        return TypeAdapter(list[Submitted]).validate_json(read_regular(path, LARGEST_LIST_BYTES, within=output))
    except FileNotFoundError:
        return []
    except OSError as error:
        raise UsageError(f"cannot read {path}: {error.strerror}") from error
    except ValidationError as error:
        raise UsageError(f"{path} is no list of jobs: move it away, and all shards are submitted again") from error


def unfinished(shards: Sequence[Shard], options: Sequence[str], output: Path) -> list[Shard]:
    """The shards without a job that is done, or may still come to be."""
    states = {each.shard: state for each, state, _ in jobs(output) if each.options == list(options)}
    return [shard for shard in shards if states.get(str(shard), "failed") == "failed"]


def jobs(output: Path) -> list[tuple[Submitted, State, Path]]:
    """The jobs of an output folder, what has become of each, and the file with its messages.

    Raises:
        UsageError: the list is damaged, or submitit or SLURM is not there to ask, or SLURM does not answer.
    """
    known = listed(output)
    for cluster in {each.cluster for each in known}:
        require(cluster)
    told = _told([each.job_id for each in known if each.cluster == "slurm"])
    found = [(each, _job(each, output)) for each in known]
    return [(each, _state(each, job, told.get(each.job_id)), Path(job.paths.stderr)) for each, job in found]


def _job(submitted: Submitted, output: Path) -> Job[None]:
    from submitit import LocalJob, SlurmJob

    kind = SlurmJob if submitted.cluster == "slurm" else LocalJob
    return kind(jobs_folder(output), submitted.job_id)


def _told(job_ids: Iterable[str]) -> dict[str, str]:
    """The state of each job that SLURM lists, which it does for some minutes after the job's end.

    submitit would ask sacct, which not every cluster has, and which lists a job of an array that runs as waiting, too.

    Raises:
        UsageError: SLURM does not answer.
    """
    arrays = sorted({job_id.partition("_")[0] for job_id in job_ids})
    if not arrays:
        return {}
    question = ["squeue", "--all", "--array", "--states=all", "--noheader", "--format=%i %T"]
    asked = subprocess.run([*question, f"--jobs={','.join(arrays)}"], capture_output=True, text=True)
    if asked.returncode and "Invalid job id" not in asked.stderr:  # which it says of a single job it no longer lists
        raise UsageError(f"SLURM does not tell what became of the jobs: {_one_line(asked.stderr)}: try again later")
    return dict(line.split(maxsplit=1) for line in asked.stdout.splitlines())


def _state(submitted: Submitted, job: Job[None], told: str | None) -> State:
    ended = job.paths.result_pickle.exists()
    if ended and job.exception() is None:
        return "done"
    if told in _WAITING:  # an error is that of an attempt before
        return "pending"
    if told is not None and told not in _ENDED:
        return "running"
    if submitted.cluster == "local" and not ended:
        return "running" if _is_alive(int(submitted.job_id)) else "failed"
    return "running" if told == "COMPLETED" and not ended else "failed"  # the result is on its way to this machine


def _one_line(messages: str) -> str:
    """What a program of SLURM says, without its own name in front of every line."""
    return "; ".join(re.sub(r"^\w+: (error: )?", "", line) for line in messages.splitlines() if line)


def _is_alive(process_id: int) -> bool:
    try:
        os.kill(process_id, 0)
    except ProcessLookupError:
        return False
    except PermissionError:  # the number has gone to somebody else
        return False
    return True
