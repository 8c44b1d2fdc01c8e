"""Click options made from the options of a configuration, and options from a TOML file."""

import tomllib
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import Any

import click

from tinymaml import algorithms
from tinymaml.algorithms.algorithm import Algorithm
from tinymaml.errors import UsageError, WorldError
from tinymaml.experiments import MODULES, OWN, find
from tinymaml.experiments.common import Config, algorithm_of
from tinymaml.harness import checkpoints, runs
from tinymaml.harness.checkpoints import Kept
from tinymaml.options import Option, Values, check, flag, options_of, quoted, shown
from tinymaml.published import presets


LARGEST_FILE = 2**20  # bytes of a configuration file
LONGEST_LIST = 40  # characters of the choices that a help text has beside an option


class Value(click.ParamType):
    """A value of an option, checked by `tinymaml.options.Values`."""

    def __init__(self, kind: type, **limits: Any) -> None:
        self.values = Values(kind, **limits)
        self.name = self.values.noun

    def convert(self, value: Any, param: Any, context: Any) -> Any:
        """Return the value in the option's type; fail with the reason."""
        try:
            read = self.values.parsed if isinstance(value, str) else self.values.checked
            return read(value)
        except ValueError as error:  # in the words of `options.check`
            raise click.UsageError(f"{param.opts[0]}: {error}", context) from error


class Folder(click.ParamType):
    """The folder of a run, as an argument; an empty one is not the current folder."""

    name = "folder"

    def convert(self, value: Any, param: Any, context: Any) -> str:
        """Return the value as it is."""
        if value == "":
            name = param.human_readable_name
            raise click.UsageError(f"{name} must not be empty", context)
        return value


class Command(click.Command):
    """The command of an experiment and an algorithm; it explains unknown options."""

    def __init__(self, kind: type[Config], record: Algorithm, **more: Any) -> None:
        super().__init__(kind.name, **more)
        flags = [
            name for param in self.params for name in param.opts + param.secondary_opts
        ]
        for name in options_of(record.options):
            if any(flags.count(x) > 1 for x in (flag(name), flag(f"no_{name}"), name)):
                message = f"the command has its own {flag(name)}"
                raise UsageError(f"--algorithm {record.name}: {message}")
        self.unknown = partial(kind.unknown, record)

    def parse_args(self, context: click.Context, args: list[str]) -> list[str]:
        """Parse as click does, with another message about an unknown option."""
        try:
            return super().parse_args(context, args)
        except click.NoSuchOption as error:
            if not error.option_name.startswith("--"):
                raise
            flags = error.option_name, *(param.opts[0] for param in self.params)
            name, *names = (flag[2:].replace("-", "_") for flag in flags)
            raise click.UsageError(self.unknown(name, names), context) from error


class Experiments(click.Group):
    """A command for each experiment, with the options of the algorithm in the arguments.

    make(kind, record) -> the command of an experiment with an algorithm
    """

    def __init__(self, *, make: Callable[..., click.Command], **more: Any) -> None:
        super().__init__(**more)
        self.make = make

    def list_commands(self, context: click.Context) -> list[str]:
        """Return the names of the experiments."""
        return [*MODULES]

    def parse_args(self, context: click.Context, args: list[str]) -> list[str]:
        """Keep the arguments for `get_command`."""
        context.obj = args
        return super().parse_args(context, args)

    def get_command(self, context: click.Context, name: str) -> click.Command | None:
        """Return the command of an experiment, of the package or in a user's file."""
        if name not in MODULES and not name.endswith(OWN):
            return None
        kind = find(name).kind
        return self.make(kind, algorithm_of(kind, _algorithm(kind, context.obj or [])))


def argument(args: list[str], flag: str) -> str | None:
    """Return the value of a flag among unparsed arguments: the last, as click takes it."""
    found = None
    for name, value in zip(args, [*args, None][1:], strict=True):
        if name == flag:
            found = value
        elif name.startswith(f"{flag}="):
            found = name.partition("=")[2]
    return found


def _algorithm(kind: type[Config], args: list[str]) -> str:
    """Return the algorithm that the arguments, a file, a run or a preset name."""
    file = argument(args, "--config")
    found = read_file(file, kind) if file is not None and Path(file).is_file() else {}
    name = argument(args, "--algorithm") or found.get("algorithm")
    run = argument(args, "--resume") or found.get("resume")
    if name is None and isinstance(run, str):
        with suppress(WorldError):  # the command itself reports it
            name = runs.read_config(runs.members(Path(run))[0]).algorithm
    if name is None:
        preset = argument(args, "--preset") or found.get("preset")
        name = presets.algorithm(kind.name, preset)
    return name if isinstance(name, str) else kind.algorithm


def option_of(kind: type[Config], option: Option) -> click.Option:
    """Return the click option of an option of an experiment."""
    values, bare, choices = option.values, option.flag, option.values.choices
    if option.name == "algorithm":
        choices = *algorithms.available(kind.setting, kind.offers), "FILE.py:NAME"
    is_flag = values.kind is bool
    listed = f"[{'|'.join(choices)}]" if choices else None
    short = not listed or len(listed) <= LONGEST_LIST  # it is never wrapped
    return click.Option(
        [f"{bare}/--no-{bare[2:]}" if is_flag else bare, option.name],
        type=None if is_flag else Value(**values._asdict()),
        default=option.default if is_flag else shown(option.default),
        show_default=option.default != "",
        metavar=listed if short else "NAME",
        help=option.help if short else f"{option.help}. One of {', '.join(choices)}",
    )


def asked(names: str, kind: Any, help: str, default: Any = None, **more: Any) -> Any:
    """Return a click option that shows its default, if any. kind: None for a flag."""
    if default is not None:
        more |= {"default": default, "show_default": True}
    if kind is None:
        more["is_flag"] = True
    return click.Option(names.split(), type=kind, help=help, **more)


WORKERS = asked(
    "--workers",
    Value(int, least=1, most=256, others=r"mpi|dask:\S+"),
    "number of processes, or dask:tcp://HOST:PORT, or mpi; the result is the same",
    1,
    metavar="N",
)
QUIET = asked("--quiet", None, "show no progress on stderr")
DATA = asked("--data", Value(str, least=1), "data file, if it has moved")
LAST = asked("--last", None, "use the last theta, not the best on validation tasks")
FALLBACK = asked("--fallback", None, "use an older theta when the newest is damaged")
JSON = asked("--json as_json", None, "print JSON")


def note(path: Path, config: Config) -> None:
    """Print on stderr what has changed since a run was begun."""
    for line in runs.changes(path, config):
        click.echo(f"note: {line}", err=True)


def opened(
    paths: Sequence[Path],
    given: Mapping[str, Any],
    check: Callable[[Config], None] = lambda config: None,
) -> list[tuple[Path, Config, Kept]]:
    """Return the configurations and thetas of runs; print what has changed since.

    given: the values of DATA, LAST and FALLBACK; check: raises for a run that is unfit
    """
    found = []
    for path, config in zip(paths, runs.read_configs(paths, given["data"]), strict=True):
        check(config)
        kept = checkpoints.load(path, config, given["last"], given["fallback"])
        found.append((path, config, kept))
        note(path, config)
    return found


def read_file(file: str, kind: type[Config] | None = None) -> dict[str, Any]:
    """Return the content of a TOML file, or the options in a run's config.json, by names.

    kind: the experiment that the file must be of
    Names have underscores. Raises UsageError.
    """
    path = Path(file)
    if not path.is_file():
        raise UsageError(f"--config {quoted(file)} is not a regular file")
    if path.stat().st_size > LARGEST_FILE:
        raise UsageError(f"--config {file!r} is too large")
    if path.name == runs.CONFIG:
        config = runs.read_config(path.parent)
        if kind and type(config) is not kind:
            raise UsageError(f"--config {file!r} is of {config.name}, not {kind.name}")
        return {"algorithm": config.algorithm, **config.differences()}
    try:
        found = tomllib.loads(path.read_text(encoding="utf-8"))
    except (ValueError, RecursionError) as error:
        reason = str(error).partition("; use sys.")[0]  # advice to a programmer
        raise UsageError(f"--config {file!r}: {reason}") from error
    names = [key.replace("-", "_") for key in found]
    if twice := [name for name in names if names.count(name) > 1]:
        raise UsageError(f"--config {file!r}: {flag(twice[0])} is there twice")
    return dict(zip(names, found.values(), strict=True))


def check_file(
    file: str,
    found: Mapping[str, Any],
    options: Mapping[str, Option],
    others: Mapping[str, Value],
    unknown: Callable[[str, list[str]], str],
) -> dict[str, Any]:
    """Return the content of a file in the types of its options.

    options: those of the configuration; others: those of the command
    unknown(name, names) -> the message about a key that is none of them
    Raises UsageError naming the file and the option.
    """
    checked = {}
    for name, value in found.items():
        try:
            if name in others:
                checked[name] = others[name].values.checked(value)
            elif name in options:
                checked |= check(options, {name: value})
            else:
                raise UsageError(unknown(name, [*options, *others]))
        except ValueError as error:
            bare = f"{flag(name)}: " if name in others else ""
            raise UsageError(f"--config {file!r}: {bare}{error}") from error
    return checked
