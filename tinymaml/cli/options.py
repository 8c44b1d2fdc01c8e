"""Command-line options made from the options of a configuration, and from a TOML file."""

from __future__ import annotations

import re
import tomllib
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import click

from tinymaml.errors import UsageError
from tinymaml.options import MOST, Option, Values, check, flag, shown


LARGEST_FILE = 2**20  # bytes of a configuration file


class Value(click.ParamType):
    """A value of an option, checked by `tinymaml.options.Values`."""

    def __init__(self, kind: type, **limits: Any) -> None:
        self.values = Values(kind, **limits)
        self.name = self.values.noun

    def convert(self, value: Any, param: Any, context: Any) -> Any:
        """Return the value in the option's type; fail with what is wrong with it."""
        try:
            read = self.values.parsed if isinstance(value, str) else self.values.checked
            return read(value)
        except ValueError as error:
            raise _usage_error(param, str(error), context) from error


def _usage_error(param: Any, message: str, context: Any) -> click.UsageError:
    """Return the error about an option's value, in the words of `options.check`."""
    return click.UsageError(f"{param.opts[0]}: {message}" if param else message, context)


class Command(click.Command):
    """A command that describes an unknown option in its own words.

    unknown(name, names) -> the message, where the command has the options `names`
    """

    def __init__(
        self, name: str, unknown: Callable[[str, list[str]], str], **more: Any
    ) -> None:
        super().__init__(name, **more)
        self.unknown = unknown

    def parse_args(self, context: click.Context, args: list[str]) -> list[str]:
        """Parse as click does."""
        try:
            return super().parse_args(context, args)
        except click.NoSuchOption as error:
            if not error.option_name.startswith("--"):
                raise
            name = error.option_name[2:].replace("-", "_")
            names = [param.opts[0][2:].replace("-", "_") for param in self.params]
            raise click.UsageError(self.unknown(name, names), context) from error


class Workers(click.ParamType):
    """A number of processes, dask:ADDRESS or mpi."""

    name = "workers"
    number = Value(int, least=1, most=256)

    def convert(self, value: Any, param: Any, context: Any) -> int | str:
        """Return what `workers.engine` takes; fail when it is neither."""
        if isinstance(value, str) and re.fullmatch(r"mpi|dask:\S+", value):
            return value
        return self.number.convert(value, param, context)


def option_of(option: Option, choices: tuple[str, ...] = ()) -> click.Option:
    """Return the click option of an option of a configuration.

    choices: those to show and take, when they are fewer than the option has
    """
    values, bare = option.values, option.flag
    if values.kind is bool:
        names, kind = [f"{bare}/--no-{bare[2:]}"], None
    else:
        names, kind = [bare], Value(**values._asdict())
    choices = choices or values.choices
    return click.Option(
        [*names, option.name],
        type=kind,
        default=option.default if values.kind is bool else shown(option.default),
        show_default=option.default != "",
        metavar=f"[{'|'.join(choices)}]" if choices else None,
        help=option.help,
    )


# ----- Options that commands share -----

WORKERS = click.Option(
    ["--workers"],
    type=Workers(),
    default=1,
    show_default=True,
    metavar="N",
    help="number of processes, or dask:tcp://HOST:PORT, or mpi; the result is the same",
)
QUIET = click.Option(["--quiet"], is_flag=True, help="show no progress on stderr")
DATA = click.Option(["--data"], type=Value(str), help="data file, if it has moved")
LAST = click.Option(
    ["--last"], is_flag=True, help="use the last theta, not the best on validation tasks"
)
FALLBACK = click.Option(
    ["--fallback"], is_flag=True, help="use an older theta when the newest is damaged"
)
JSON = click.Option(["--json", "as_json"], is_flag=True, help="print JSON")
SEEDS = Value(int, least=1, most=1000)
TASK = Value(int, least=0, most=MOST)


# ----- Configuration files -----


def read_file(file: str) -> dict[str, Any]:
    """Return what a TOML file has, by names with underscores. Raises UsageError."""
    path = Path(file)
    if not path.is_file():
        raise UsageError(f"--config {file!r} is not a regular file")
    if path.stat().st_size > LARGEST_FILE:
        raise UsageError(f"--config {file!r} is too large")
    try:
        found = tomllib.loads(path.read_bytes().decode("utf-8"))
    except (ValueError, RecursionError) as error:
        raise UsageError(f"--config {file!r}: {error}") from error
    return {key.replace("-", "_"): value for key, value in found.items()}


def check_file(
    file: str,
    found: Mapping[str, Any],
    options: Mapping[str, Option],
    others: Mapping[str, click.ParamType],
    unknown: Callable[[str, list[str]], str],
) -> dict[str, Any]:
    """Return what a file has, in the types of its options.

    options: those of the configuration; others: those of the command
    unknown(name, names) -> the message about a key that is none of them
    Raises UsageError naming the file and the option.
    """
    checked = {}
    for name, value in found.items():
        try:
            if name in options:
                checked |= check(options, {name: value})
            elif name in others:
                checked[name] = _from_file(others[name], value)
            else:
                raise UsageError(unknown(name, [*options, *others]))
        except click.UsageError as error:
            told = f"{flag(name)}: {error.message}"
            raise UsageError(f"--config {file!r}: {told}") from error
        except UsageError as error:
            raise UsageError(f"--config {file!r}: {error}") from error
    return checked


def _from_file(kind: click.ParamType, value: Any) -> Any:
    """Return a value as it stands in a file, where numbers have no quotation marks."""
    if isinstance(kind, Workers):
        if isinstance(value, str) and value.isdigit():
            raise click.UsageError(f"{value!r} is text")
        return kind.convert(value, None, None)
    try:
        return kind.values.checked(value)
    except ValueError as error:
        raise click.UsageError(str(error)) from error
