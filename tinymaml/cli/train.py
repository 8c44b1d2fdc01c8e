"""`tinymaml train`: begin runs or resume them, then evaluate and draw them."""

import sys
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from typing import Any

import click
from click.core import ParameterSource

from tinymaml import plots, summary
from tinymaml.algorithms.algorithm import Algorithm
from tinymaml.cli import options
from tinymaml.cli.options import QUIET, WORKERS, Value, asked
from tinymaml.cli.terminal import Show, Watched, columns, progress
from tinymaml.errors import Interrupted, UsageError, WorldError
from tinymaml.experiments.common import Config
from tinymaml.harness import checkpoints, loop, own, plan, results, runs, sessions
from tinymaml.harness.evaluation import tuned
from tinymaml.harness.results import Result
from tinymaml.options import Option, shown
from tinymaml.report import comparison, tables
from tinymaml.report.layout import laid_out
from tinymaml.speed.workers import Engine, engine


OUT = asked("--out", Value(str, least=1), "folder of the new run  [runs/NAME-N]")
RESUME = asked("--resume", Value(str, least=1), "resume this run", metavar="RUN")
SEEDS = asked(
    "--seeds", Value(int, least=1, most=1000), "number of runs, of consecutive seeds", 1
)
FILE = asked(
    "--config config_file",
    click.Path(exists=True, dir_okay=False),
    "TOML file of options, by the same names, or the config.json of a run; the command"
    " line overrides it",
    metavar="FILE",
)
SET = asked(
    "--set sweep",
    Value(str, least=1),
    "train once with each value of an option, and compare",
    metavar="NAME=A,B,...",
)
# The options of `train` that are not of the configuration.
OTHERS = {option.name: option.type for option in (WORKERS, OUT, RESUME, SEEDS, SET)}
OTHERS["quiet"] = Value(bool)


class TrainGroup(options.Experiments):
    """The experiments; a run, to resume or to repeat, needs no experiment's name."""

    def parse_args(self, context: click.Context, args: list[str]) -> list[str]:
        """Insert the experiment's name where only a run or its config.json is given."""
        bare = args and args[0].startswith("--")
        if bare and (run := options.argument(args, "--resume")) is not None:
            RESUME.type.convert(run, RESUME, context)
            args = [runs.read_config(runs.members(Path(run))[0]).name, *args]
        elif (
            bare
            and Path(file := options.argument(args, "--config") or "").name == runs.CONFIG
        ):
            args = [runs.read_config(Path(file).parent).name, *args]
        return super().parse_args(context, args)


def train_command(kind: type[Config], record: Algorithm) -> click.Command:
    """Return the command that trains one experiment with an algorithm."""
    defaults, own, names = record.defaults({}), [], kind.options_for(record)
    for name, option in names.items():
        usual = defaults.get(name, option.default)
        own.append(options.option_of(kind, option._replace(default=usual)))
        own[-1].hidden = name in record.ignores or (name == "tune" and record.inner_loop)
    about = (kind.__doc__ or "").partition("\n")[0]
    data = f" --data {kind.name}.npz" if "data" in names else ""
    example = f"Example: tinymaml train {kind.name}{data} --seed 1"
    return options.Command(
        kind,
        record,
        params=[*own, WORKERS, OUT, RESUME, SEEDS, SET, FILE, QUIET],
        callback=lambda **given: run_training(kind, record, given),
        help=f"{about}\n\n{example}",
    )


@click.group(cls=TrainGroup, make=train_command)
def train() -> None:
    """Train an experiment and evaluate it on held-out tasks.

    FILE.py is an experiment of your own; `tinymaml new FILE.py` writes one to begin with.
    `train NAME --algorithm A --help` shows the options of algorithm A too.

    \b
    tinymaml train sine
    tinymaml train omniglot --data omniglot.npz --workers 2
    tinymaml train mine.py
    tinymaml train --resume runs/sine-1
    """


def run_training(kind: type[Config], record: Algorithm, given: dict[str, Any]) -> None:
    """Begin runs or resume them, then evaluate each and print its table."""
    source = click.get_current_context().get_parameter_source
    typed = {k: v for k, v in given.items() if source(k) is ParameterSource.COMMANDLINE}
    if file := typed.pop("config_file", None):
        known, unknown = kind.options_for(record), partial(kind.unknown, record)
        found = options.read_file(file, kind)
        typed = options.check_file(file, found, known, OTHERS, unknown) | typed
    shared = {name: typed.pop(name, given[name]) for name in OTHERS}
    if not shared["sweep"]:
        train_runs(kind, typed, shared)
        return
    if shared["resume"] is not None:
        raise UsageError("--set and --resume exclude each other; repeat --set with --out")
    name, values = swept(kind.options_for(record), shared["sweep"])
    places = [Path(shared["out"] or runs.new_folder(None, kind.name))] * len(values)
    places = [x / f"{name}-{shown(y)}" for x, y in zip(places, values, strict=True)]
    for value in values:
        plan.check_size(kind(**typed | {name: value}))  # raises before any training
    tested: list[Result] = []
    for place, value in zip(places, values, strict=True):
        begun = any((path / runs.CONFIG).exists() for path in runs.members(place))
        where = {"resume": str(place), "out": None} if begun else {"out": str(place)}
        tested += train_runs(kind, typed | {name: value}, {**shared, **where})
    if len(tested) > 1:
        click.echo("\n" + laid_out(comparison.blocks(tested), columns(sys.stdout)))


def swept(known: Mapping[str, Option], text: str) -> tuple[str, list[Any]]:
    """Return the name and the values in "NAME=A,B,...". Raises UsageError."""
    flag, _, listed = text.partition("=")
    name = flag.removeprefix("--").replace("-", "_")
    if name not in known or not listed:
        raise UsageError(f"--set {text!r} is not NAME=A,B,... with the name of an option")
    option = known[name]
    if option.values.kind is tuple:
        raise UsageError(f"--set {text!r}: values of {option.flag} have commas themselves")
    try:
        values = [_value(option, part) for part in listed.split(",")]
    except ValueError as error:
        raise UsageError(f"--set {text!r}: {error}") from error
    if len({*values}) < len(values):
        raise UsageError(f"--set {text!r} has a value twice")
    return name, values


def _value(option: Option, text: str) -> Any:
    """Return the value of an option in a text, which is yes or no for a flag."""
    if option.values.kind is bool:
        if text not in ("yes", "no"):
            raise ValueError(f"{text!r} is not yes or no")
        return text == "yes"
    return option.values.parsed(text)


def train_runs(
    kind: type[Config], typed: dict[str, Any], shared: dict[str, Any]
) -> list[Result]:
    """Train the runs that the options ask for; return their pooled result, if tested."""
    make = partial(planned_runs, kind, typed, shared)
    out = shared["out"] if shared["resume"] is None else shared["resume"]
    _, first = make(out).runs[0]  # raises, if it does, before workers are started
    changes: dict[str, Any] = {}
    if fault := own.replay_fault(first):  # the other runs differ in their seeds
        slower = f"cannot be replayed: {fault}; it trains with --no-replay, which is slower"
        click.echo(f"note: {own.name(first)} {slower}", err=True)
        changes = {"replay": False}
    if line := own.unlearned(first):
        click.echo(f"note: {own.name(first)}: {line}", err=True)
    with engine(shared["workers"]) as pool, plan.held(make, out) as (planned, checks):
        folder = planned.folder
        configs = [(path, one.with_changes(changes)) for path, one in planned.runs]
        for path, config in configs:  # every config.json before the first training
            note_changes(path, config, typed)
            checkpoints.check_unchanged(path, config)
            runs.begin(path, config)
        every = [
            train_and_report(path, config, pool, check, shared, folder)
            for (path, config), check in zip(configs, checks, strict=True)
        ]
    tested = [result for result in every if result]
    if len(tested) == len(every) > 1:
        together = results.pooled(tested)
        text = tables.titled([together], config.rows, columns(sys.stdout))
        click.echo(f"\n{text}")
        click.echo(tables.save(folder, together))
    return [results.pooled(tested)] if len(tested) == len(every) else []


def note_changes(path: Path, config: Config, typed: Mapping[str, Any]) -> None:
    """Print what has changed since a run was begun, and iterations that it has already."""
    if not (path / runs.CONFIG).exists():
        return
    options.note(path, config)
    asked = typed.get("iterations", config.iterations)
    if asked < config.iterations:
        done = f"{str(path)!r} has {config.iterations} iterations already"
        click.echo(f"note: {done}; --iterations {asked} has no effect", err=True)


def planned_runs(
    kind: type[Config], changes: dict[str, Any], shared: dict[str, Any], out: str | None
) -> plan.Plan:
    """Return the runs that the options ask for, in the folder `out` if they are new."""
    if shared["resume"] is None:
        return plan.new_runs(kind(**changes), out, shared["seeds"])
    if shared["out"] is not None:
        raise UsageError("--out and --resume exclude each other")
    resumed = plan.resumed_runs(Path(shared["resume"]), changes)
    for path, config in resumed.runs:
        if type(config) is not kind:
            raise UsageError(f"{str(path)!r} is a run of {config.name}, not {kind.name}")
    if shared["seeds"] not in (1, len(resumed.runs)):
        raise UsageError(f"--seeds: {shared['resume']!r} has {len(resumed.runs)}")
    return resumed


def train_and_report(
    path: Path,
    config: Config,
    pool: Engine,
    check: Callable[[], None],
    shared: dict[str, Any],
    folder: Path,
) -> Result | None:
    """Train in a run's folder; print, write, draw and return the result on test tasks.

    It ends with the paths of the evaluation and of the pictures.
    """
    click.echo(f"run folder: {path}", err=True)
    quiet, files = shared["quiet"], []
    try:
        with progress(config.name, quiet, stays=True) as show:
            session = sessions.Session(path, config.libraries)
            each = partial(show_iteration, config, show)
            loop.train(path, config, pool, each, check, session.save)
    except Interrupted as stop:
        stopped = f"interrupted at iteration {stop.iteration}; resume with:"
        click.echo(f"{stopped} tinymaml train --resume {folder}", err=True)
        raise
    try:
        with progress("evaluation", quiet) as show:
            result, text = tested(path, config, Watched(pool, show), columns(sys.stdout))
    except KeyboardInterrupt:
        stopped = "interrupted in the evaluation, after the training; repeat it with:"
        click.echo(f"{stopped} tinymaml evaluate {path}", err=True)
        raise
    click.echo(text)  # a full disk must not hide it
    if result:
        files.append(tables.save(path, result))
    try:
        with progress("pictures", quiet) as show:
            show(0, None, path.name)
            files += plots.draw([path])
    except WorldError as error:  # the training itself succeeded
        click.echo(f"no pictures: {error}", err=True)
    for file in files:
        click.echo(file)
    return result


def show_iteration(config: Config, show: Show, iteration: int, record: dict) -> None:
    """Show the loss of an iteration, or the return where that is what is learned."""
    metric = config.learning[0]
    figure = f"{metric.partition('_')[0]} {summary.text('{:.4f}', record[metric])}"
    show(iteration, config.iterations, figure)


def tested(
    path: Path, config: Config, pool: Engine, width: int | None
) -> tuple[Result | None, str]:
    """Return the result of a run on test tasks and its table, or None and a line."""
    theta, steps = checkpoints.load(path, config), config.test_steps
    tasks = config.test_tasks
    if config.test:
        result = results.judge(config, theta, "test", tasks, steps, [steps], pool)
        show = tables.titled if theta.chosen else tables.as_text
        return result, show([result], config.rows, width)
    line = f"{config.name}, {theta.iteration} iterations"
    if theta.chosen:
        line += f", {config.score.name} {theta.validation:.4f} on validation tasks"
    line += f"; to test it: tinymaml evaluate {path}"
    config = tuned(config, theta.theta, steps, pool)
    lacking = results.unimproved(config, theta, steps, tasks, pool)
    return None, "\n".join([line, *(laid_out([x], width) for x in lacking)])
