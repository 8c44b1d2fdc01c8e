"""Command-line options made from dataclass fields, and the same from a TOML file."""

from __future__ import annotations

import dataclasses
import difflib
import math
import re
import tomllib
import typing
from pathlib import Path
from typing import Any

import click

from tinymaml.errors import UsageError
from tinymaml.experiments.common import Config


LARGEST_FILE = 2**20  # bytes of a configuration file


# ----- Options from fields -----


class Number(click.ParamType):
    """A finite number in ASCII digits, at least `least`, at most `most`, above `above`."""

    def __init__(
        self,
        kind: type,
        least: float | None = None,
        most: float | None = None,
        above: float | None = None,
    ) -> None:
        self.kind, self.least, self.most, self.above = kind, least, most, above
        self.name = "integer" if kind is int else "number"

    def convert(self, value: Any, param: Any, context: Any) -> Any:
        """Return value as the field's type; fail with what is wrong with it."""
        if isinstance(value, str):
            value = self._parse(value, param, context)
        if isinstance(value, bool) or not isinstance(value, int | float):
            self.fail(f"{value!r} is not {_article(self.name)}", param, context)
        if self.kind is int and not isinstance(value, int):
            self.fail(f"{value!r} is not an integer", param, context)
        if isinstance(value, float) and not math.isfinite(value):
            self.fail(f"{value} is not finite", param, context)
        if self.least is not None and value < self.least:
            self.fail(f"{value} is below {self.least}", param, context)
        if self.above is not None and value <= self.above:
            self.fail(f"{value} is not above {self.above}", param, context)
        if self.most is not None and value > self.most:
            self.fail(f"{value} is above {self.most}", param, context)
        return self.kind(value)

    def _parse(self, text: str, param: Any, context: Any) -> Any:
        pattern = r"[+-]?\d+" if self.kind is int else r"[^_]+"
        if not re.fullmatch(pattern, text, re.ASCII) or not text.isascii():
            self.fail(f"{text!r} is not {_article(self.name)}", param, context)
        try:
            return self.kind(text)
        except ValueError:
            self.fail(f"{text!r} is not {_article(self.name)}", param, context)


class Widths(click.ParamType):
    """Comma-separated integers, as 40,40."""

    name = "widths"

    def __init__(self, item: Number) -> None:
        self.item = item

    def convert(self, value: Any, param: Any, context: Any) -> tuple[int, ...]:
        """Return a tuple of integers; fail naming the bad one."""
        items = value.split(",") if isinstance(value, str) else value
        if not isinstance(items, tuple | list):
            self.fail(f"{value!r} is not a list of integers", param, context)
        return tuple(self.item.convert(item, param, context) for item in items)


class Text(click.ParamType):
    """A string; a configuration file must not put a number there."""

    name = "text"

    def convert(self, value: Any, param: Any, context: Any) -> str:
        """Return the string; fail when it is not one or holds a control character."""
        if not isinstance(value, str):
            self.fail(f"{value!r} is not text", param, context)
        if not value.isprintable():
            self.fail(f"{value!r} holds a character that cannot be printed")
        return value


class Flag(click.ParamType):
    """True or false, in a configuration file; a pair of flags on the command line."""

    name = "flag"

    def convert(self, value: Any, param: Any, context: Any) -> bool:
        """Return the truth value; fail when it is something else."""
        if not isinstance(value, bool):
            self.fail(f"{value!r} is not true or false", param, context)
        return value


class Workers(click.ParamType):
    """A number of processes, dask:ADDRESS or mpi."""

    name = "workers"
    number = Number(int, least=1, most=256)

    def convert(self, value: Any, param: Any, context: Any) -> int | str:
        """Return what `workers.engine` takes; fail when it is neither."""
        if isinstance(value, str) and re.fullmatch(r"mpi|dask:\S+", value):
            return value
        return self.number.convert(value, param, context)


def _article(noun: str) -> str:
    return f"{'an' if noun[0] in 'aeiou' else 'a'} {noun}"


def param_type(kind: Any, field: dataclasses.Field) -> click.ParamType:
    """Return the click type of a field."""
    if field.metadata["choices"]:
        return click.Choice(field.metadata["choices"])
    if kind is bool:
        return Flag()
    if kind is str:
        return Text()
    limits = {name: field.metadata[name] for name in ("least", "most", "above")}
    if kind in (int, float):
        return Number(kind, **limits)
    return Widths(Number(int, **limits))


def shown(value: Any) -> str:
    """Return a value as one would type it."""
    return ",".join(map(str, value)) if isinstance(value, tuple) else str(value)


def option_of(kind: Any, field: dataclasses.Field) -> click.Option:
    """Return the click option of a dataclass field."""
    flag = "--" + field.name.replace("_", "-")
    about = field.metadata["help"]
    if kind is bool:
        names, param = [f"{flag}/--no-{flag[2:]}"], None
    else:
        names, param = [flag], param_type(kind, field)
    return click.Option(
        [*names, field.name],
        type=param,
        default=shown(field.default) if kind not in (bool, int, float) else field.default,
        show_default=field.default != "",
        help=about,
    )


def options_of(config: type[Config]) -> list[click.Option]:
    """Return the options that an experiment's fields make."""
    kinds = typing.get_type_hints(config)
    return [option_of(kinds[f.name], f) for f in dataclasses.fields(config)]


def types_of(config: type[Config]) -> dict[str, click.ParamType]:
    """Return what checks the value of each field."""
    kinds = typing.get_type_hints(config)
    return {f.name: param_type(kinds[f.name], f) for f in dataclasses.fields(config)}


# ----- Options that commands share -----

WORKERS = click.Option(
    ["--workers"],
    type=Workers(),
    default=1,
    show_default=True,
    metavar="N",
    help="processes here, or dask:tcp://HOST:PORT, or mpi; the result is the same",
)
QUIET = click.Option(["--quiet"], is_flag=True, help="no progress on stderr")


# ----- Configuration files -----


def read_file(
    file: str, kind: type[Config], others: dict[str, click.ParamType]
) -> dict[str, Any]:
    """Return the options in a TOML file, checked as those of the command line are.

    others: options that are not fields of the configuration
    Raises UsageError naming the file and the key.
    """
    path = Path(file)
    if not path.is_file():
        raise UsageError(f"--config {file!r} is not a regular file")
    if path.stat().st_size > LARGEST_FILE:
        raise UsageError(f"--config {file!r} is too large")
    try:
        told = tomllib.loads(path.read_bytes().decode("utf-8"))
    except (ValueError, RecursionError) as error:
        raise UsageError(f"--config {file!r}: {error}") from error
    types = types_of(kind) | others
    options = {}
    for key, value in told.items():
        name = key.replace("-", "_")
        if name not in types:
            near = difflib.get_close_matches(name, types, 1)
            hint = f"; did you mean {near[0]!r}?" if near else ""
            raise UsageError(f"--config {file!r}: unknown key {key!r}{hint}")
        try:
            if isinstance(value, str) and isinstance(types[name], Number | Widths):
                raise click.BadParameter(f"{value!r} is text, not {types[name].name}")
            options[name] = types[name].convert(value, None, None)
        except click.BadParameter as error:
            raise UsageError(f"--config {file!r}: {key}: {error.message}") from error
    return options
