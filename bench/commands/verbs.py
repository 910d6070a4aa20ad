"""The verbs of the command line and its own options. What comes of a command is bench.cli's."""

from __future__ import annotations

from typing import Any

import typer

import bench
from bench.commands import baseline as baseline_command
from bench.commands import check as check_command
from bench.commands import claims as claims_command
from bench.commands import compare as compare_command
from bench.commands import data as data_command
from bench.commands import doctor as doctor_command
from bench.commands import explain as explain_command
from bench.commands import fit as fit_command
from bench.commands import history as history_command
from bench.commands import list as list_command
from bench.commands import merge as merge_command
from bench.commands import plan as plan_command
from bench.commands import plot as plot_command
from bench.commands import report as report_command
from bench.commands import run as run_command
from bench.commands import schema as schema_command
from bench.commands import submit as submit_command
from bench.commands import train as train_command
from bench.commands import validate as validate_command
from bench.commands.common import Verbs

BadCommandError: Any = typer.BadParameter.__base__
"""What the parser raises on a command that it cannot read: `show()` prints it, with the usage."""

app = Verbs(
    name="bench",
    help="Will this network train on my card, at what batch size, how fast, how well? To the byte, without a GPU.",
    no_args_is_help=True,
    rich_markup_mode=None,  # else "[default: ...]" is read as markup
    pretty_exceptions_enable=False,
)
app.command("run")(run_command.run)
app.command("train")(train_command.train)
app.command("validate")(validate_command.validate)
app.command("explain")(explain_command.explain)
app.command("fit")(fit_command.fit)
app.command("plan")(plan_command.plan)
app.command("merge")(merge_command.merge)
app.command("submit")(submit_command.submit)
app.command("jobs")(submit_command.jobs)
app.command("doctor")(doctor_command.doctor)
app.command("plot")(plot_command.plot)
app.command("check")(check_command.check)
app.command("compare")(compare_command.compare)
app.command("history")(history_command.history)
app.add_typer(baseline_command.app, name="baseline")
app.command("report")(report_command.report)
app.command("claims")(claims_command.claims)
app.command("list")(list_command.list_known)
app.command("schema")(schema_command.schema)
app.add_typer(data_command.app, name="data")


def _print_version(value: bool) -> None:
    if value:
        print(f"bench {bench.__version__}")
        raise typer.Exit


@app.callback()
def _options(
    version: bool = typer.Option(False, "--version", callback=_print_version, is_eager=True, help="Print the version."),
    debug: bool = typer.Option(False, "--debug", help="After a fault of bench itself, print the traceback as well."),
) -> None: ...
