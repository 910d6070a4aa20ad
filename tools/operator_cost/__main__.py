"""Seconds of an evaluation and of a training step against the cost of A: python -m tools.operator_cost [FOLDER].

Deblurring at the demo's size, with A repeated k times (`operators.repeated`). The line

    t(k) = t_net + n_A k t_A,   t_net = t(1) - n_A t_A

is drawn through the points: n_A applications of A and its adjoint are counted, t_A is measured apart, and of the points
only the first goes into the line. FOLDER (results/operator-cost) gets table.md, table.csv and operator-cost.png.
"""

from __future__ import annotations

import copy
import csv
import io
import statistics
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import torch

from bench import config
from bench.cells import suite
from bench.cells.workload import Workload
from bench.operators.base import LinearOperator
from bench.operators.repeated import Repeated
from bench.report.plots import style

FOLDER = Path("results/operator-cost")
TIMES = (1, 3, 10, 30, 100)
REPEATS = 3
BATCH = 4
FULL = 50
"""Evaluations of a solve that never stops early: the most that bench.toml allows at the paper's sizes."""
APPLICATIONS = 200
"""Of A and its adjoint in one measurement of t_A, the mean of both."""
CPU = torch.device("cpu")


@dataclass(frozen=True)
class Series:
    """One network, evaluated or trained, at every k of `TIMES`.

    Attributes:
        network: its name.
        what: "evaluation" or "training step".
        applications: n_A, of A and its adjoint, in one of these.
        operator_seconds: t_A.
        seconds: for each k.
    """

    network: str
    what: str
    applications: int
    operator_seconds: float
    seconds: dict[int, float]

    @property
    def network_seconds(self) -> float:
        """t_net: what the first point leaves once the operator is taken away."""
        return self.seconds[1] - self.applications * self.operator_seconds

    def line(self, times: float) -> float:
        """t(k), seconds."""
        return self.network_seconds + self.applications * times * self.operator_seconds


def networks() -> dict[str, Workload]:
    """The demo's networks on deblurring by name, and DEQ4IP with solves of `FULL` evaluations."""
    loaded = config.load(config.default_path(), preset="demo")
    cells = suite.cells(loaded, ["LUSER-SW", "DEQ4IP", "LU-DnCNN"], ["deblurring"], stage="timing")
    found = {cell.architecture: cell.workload for cell in cells}
    return found | {f"DEQ4IP, {FULL} evaluations": found["DEQ4IP"].with_evaluations(FULL, FULL)}


def measured(name: str, workload: Workload, batch: int = BATCH) -> Iterator[Series]:
    """An evaluation and a training step, each from the same weights at every k.

    Raises:
        RuntimeError: the number of applications depends on k, so that the points are not of one thing.
    """
    torch.manual_seed(0)
    model = workload.build(CPU)
    operator = model.operator
    assert isinstance(operator, LinearOperator)
    image = torch.rand(batch, *operator.image_shape)
    measurement = operator(image)
    weights = copy.deepcopy(model.state_dict())
    optimizer = workload.optimizer(model)

    @torch.no_grad()
    def evaluate() -> None:
        model(measurement)

    def train() -> None:
        optimizer.zero_grad(set_to_none=True)
        workload.gradients(model, image, measurement)
        workload.update(model, optimizer)

    @torch.no_grad()
    def apply() -> None:
        for _ in range(APPLICATIONS // 2):
            operator._apply_forward(image)  # as `Repeated` does: without the checks and the graph of a call
            operator._apply_adjoint(measurement)

    for what, run in (("evaluation", evaluate), ("training step", train)):
        model.train(run is train)
        runs: dict[int, list[float]] = {times: [] for times in TIMES}
        alone: list[float] = []
        counts: set[int] = set()
        for _ in range(1 + REPEATS):  # in turns, so that whatever else the machine does meets all of them
            alone.append(seconds_of(apply) / APPLICATIONS)
            for times in TIMES:
                model.operator = Repeated(operator, times)
                model.load_state_dict(weights)
                runs[times].append(seconds_of(run))
                counts.add(model.operator.calls.forward + model.operator.calls.adjoint)
        if len(counts) > 1:
            raise RuntimeError(f"{name}, {what}: the operator was applied {sorted(counts)} times")
        seconds = {times: statistics.median(each[1:]) for times, each in runs.items()}
        yield Series(name, what, counts.pop(), statistics.median(alone[1:]), seconds)


def seconds_of(run: Callable[[], None]) -> float:
    """Seconds of one run that this process computes; waiting for a core that others have does not count."""
    start = time.process_time()
    run()
    return time.process_time() - start


HEAD = ("network", "what", "n_A", "t_A ms", "t_net s", *(f"k = {k} s" for k in TIMES), "line at 100 s")


def rows(found: list[Series]) -> list[tuple[str, ...]]:
    """The table, as text."""
    return [
        (
            *(each.network, each.what, str(each.applications)),
            *(f"{1000 * each.operator_seconds:.3f}", f"{each.network_seconds:.3f}"),
            *(f"{each.seconds[k]:.3f}" for k in TIMES),
            f"{each.line(TIMES[-1]):.3f}",
        )
        for each in found
    ]


def as_markdown(found: list[Series], note: str) -> str:
    """The table with a note beneath."""
    body = [HEAD, ("---",) * len(HEAD), *rows(found)]
    return "\n".join("| " + " | ".join(row) + " |" for row in body) + f"\n\n{note}\n"


def as_csv(found: list[Series]) -> str:
    """One line for each point, in seconds."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(("network", "what", "k", "seconds", "line_seconds", "n_a", "t_a_seconds", "t_net_seconds"))
    for each in found:
        for k, seconds in each.seconds.items():
            numbers = (seconds, each.line(k), each.applications, each.operator_seconds, each.network_seconds)
            writer.writerow((each.network, each.what, k, *(f"{number:.6g}" for number in numbers)))
    return text.getvalue()


def as_picture(found: list[Series]) -> bytes:
    """Points as measured and the lines beside them; evaluation at the left, a training step at the right."""
    with style.style():
        figure, panels = style.task_grid(list(dict.fromkeys(each.what for each in found)), 4.2, 3.2)
        looks = style.looks(each.network for each in found)
        for each in found:
            axes, look = panels[each.what], looks[each.network]
            axes.plot(TIMES, [each.line(k) for k in TIMES], color=look.color, linestyle=look.linestyle, marker="")
            axes.plot(TIMES, list(each.seconds.values()), **look.point, label=each.network)
        for axes in panels.values():
            axes.set(xlabel="cost of A, relative (k)", ylabel="seconds")
            style.log_scale(axes, "both")
            axes.set_xticks(TIMES)
        style.finish(figure)
        return style.as_files(figure, ["png"], "python -m tools.operator_cost")["png"]


def main() -> None:
    """Measure, and write the three files."""
    folder = Path(sys.argv[1]) if len(sys.argv) > 1 else FOLDER
    torch.set_num_threads(1)
    found = [series for name, workload in networks().items() for series in measured(name, workload)]
    note = (
        f"Deblurring at the demo's size, batch {BATCH}, networks as they are initialised; seconds of computing on one "
        f"thread of a CPU that other work shared, medians of {REPEATS}; torch {torch.__version__}. "
        "Made by `python -m tools.operator_cost`."
    )
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "table.md").write_text(as_markdown(found, note), encoding="utf-8")
    (folder / "table.csv").write_text(as_csv(found), encoding="utf-8")
    (folder / "operator-cost.png").write_bytes(as_picture(found))
    sys.stdout.write(as_markdown(found, note))


if __name__ == "__main__":
    main()
