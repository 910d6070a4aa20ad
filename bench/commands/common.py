"""What several commands share: options, names that have to be known, what is checked first, what is said on stderr."""

from __future__ import annotations

import os
import sys
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from typing import Annotated, Any

import typer
from typer.core import TyperCommand, TyperGroup

from bench import streams

MOST_JOBS = 4096
HELP_COLUMNS = 120  # of a line of help, where the terminal has as many
DEFAULT_OUTPUT = Path("results/runs")

ConfigFile = Annotated[Path | None, typer.Option(help="The suite, as a TOML file like bench.toml.")]
Names = list[str] | None
"""An option that may be repeated, and have several names with commas between them: `listed` reads it."""


class Verb(TyperCommand):
    """A command that refuses what is given twice and meant once, where others silently take the last."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        """Parse, after a look at how often each option stands there.

        Raises:
            UsageError: twice, an option that has one value.
        """
        from bench.errors import UsageError

        _, _, order = self.make_parser(ctx).parse_args(args=list(args))
        for parameter, times in Counter(order).items():
            once = parameter.param_type_name == "option" and not parameter.multiple
            if once and times > 1:
                raise UsageError(f"{parameter.opts[0]} is given {times} times, expected once")
        return super().parse_args(ctx, args)

    def get_short_help_str(self, limit: int = 0) -> str:
        """The first paragraph of its help, whole, for the list of commands."""
        return _first_paragraph(self.help)


class Group(TyperGroup):
    """A command with commands of its own."""

    def get_short_help_str(self, limit: int = 0) -> str:
        """The first paragraph of its help, whole, for the list of commands."""
        return _first_paragraph(self.help)


def _first_paragraph(text: str | None) -> str:
    first, *_ = (text or "").strip().split("\n\n")
    return " ".join(first.split())


class Verbs(typer.Typer):
    """Commands of this kind, with help that is as wide as the terminal and cuts nothing."""

    def __init__(self, **settings: Any) -> None:
        super().__init__(cls=Group, context_settings={"max_content_width": HELP_COLUMNS}, **settings)

    def command(self, name: str | None = None, **settings: Any) -> Callable[[Any], Any]:
        """As typer's."""
        return super().command(name, cls=Verb, **settings)


def say(message: str) -> None:
    """Say something on stderr."""
    streams.say(message)


def busy(what: str) -> AbstractContextManager[object]:
    """Show what goes on, where stderr is a terminal."""
    from rich.console import Console
    from rich.text import Text

    return Console(file=sys.stderr).status(Text(what)) if sys.stderr.isatty() else nullcontext()


def import_torch(*others: str) -> None:
    """Import PyTorch, which takes seconds, and modules; where stderr is a terminal, it says so meanwhile.

    What they make stays, so that the collector looks for garbage neither meanwhile nor in it later.
    """
    import gc
    from importlib import import_module

    from bench.garbage import collector_paused

    with busy("importing PyTorch"), collector_paused():
        for name in ("torch", *others):
            import_module(name)
        gc.freeze()


def listed(option: str, texts: Sequence[str] | None) -> list[str] | None:
    """What a list has, of which parts may be given with commas or by repeating the option; None if it was not given.

    Raises:
        UsageError: it was given, and has nothing.
    """
    from bench.errors import UsageError

    if not texts:
        return None
    parts = [part.strip() for text in texts for part in text.split(",")]
    names = list(dict.fromkeys(part for part in parts if part))
    if not names:
        raise UsageError(f"{option}: got {', '.join(map(repr, texts))}, expected at least one name")
    return names


def known(option: str, what: str, texts: Sequence[str] | None, among: Iterable[str]) -> list[str] | None:
    """A list of names in the spelling of those that are known, each once; None if it was not given.

    Raises:
        UsageError: nothing in it, or one that is not `among` those known; the message lists these.
    """
    from bench.choices import refusal, spelled
    from bench.errors import UsageError

    choice, names = list(among), listed(option, texts)
    if names is None:
        return None
    chosen = [spelled(name, choice) for name in names]
    for name in chosen:
        if name not in choice:
            raise UsageError(f"{option}: {refusal(what, name, choice)}")
    return list(dict.fromkeys(chosen))


def numbers(option: str, texts: Sequence[str] | None) -> list[int] | None:
    """A list of whole numbers, each once; None if it was not given.

    Raises:
        UsageError: nothing in it, or something else.
    """
    from bench.errors import UsageError

    names = listed(option, texts)
    for name in names or []:
        if not (name.removeprefix("-").isascii() and name.removeprefix("-").isdecimal() and len(name) <= 40):
            raise UsageError(f"{option}: got {name[:60]!r}, expected whole numbers such as 0 or 0,1,2")
    return None if names is None else list(dict.fromkeys(int(name) for name in names))


def check_folder(option: str, folder: Path) -> None:
    """See, before the work, that files can be written into a folder, which need not be there yet.

    Raises:
        UsageError: it is a file, is inside one, or may not be written to.
    """
    from bench.errors import UsageError

    try:
        there = next(each for each in (folder, *folder.parents) if each.exists())
    except OSError as error:
        raise UsageError(f"{option}: cannot write to the output folder {folder}: {error.strerror}") from error
    if not there.is_dir():
        raise UsageError(f"{option}: cannot write to the output folder {folder}: {there} is a file")
    if not os.access(there, os.W_OK | os.X_OK):
        raise UsageError(f"{option}: cannot write to the output folder {folder}: {there} is not writable")


def check_file(option: str, path: Path | None, *, force: bool) -> None:
    """See, before the work, that a file can be written.

    Raises:
        UsageError: it is there without `force`, is no file, or its folder is missing or not writable.
    """
    from bench.errors import UsageError

    if path is None:
        return
    folder = path.parent
    try:
        exists, is_file = path.exists(), path.is_file()
    except OSError as error:
        raise UsageError(f"{option}: cannot write {path}: {error.strerror}") from error
    if exists and not is_file:
        raise UsageError(f"{option}: cannot write {path}: it is not a file")
    if exists and not force:
        raise UsageError(f"{option}: {path} exists: give --force to overwrite it, or another name")
    if not folder.is_dir():
        raise UsageError(f"{option}: cannot write {path}: there is no folder {folder}")
    if not os.access(path if exists else folder, os.W_OK):
        raise UsageError(f"{option}: cannot write {path}: {folder} is not writable")


def check_picture(option: str, path: Path | None, *, force: bool) -> None:
    """See, before the work, that a picture can be written.

    Raises:
        UsageError: its name says no format that pictures have; and as check_file.
    """
    from bench.errors import UsageError
    from bench.report.plots.style import FORMATS

    check_file(option, path, force=force)
    if path and path.suffix.removeprefix(".") not in FORMATS:
        raise UsageError(f"{option}: got {path}, expected a name that ends with .{', .'.join(FORMATS)}")
