"""`tinymaml check`: verify the gradient of an algorithm on any experiment."""

import shlex
import sys
from collections.abc import Callable, Iterable, Mapping
from functools import partial
from typing import Any

import click

from tinymaml import loading, summary
from tinymaml.algorithms.algorithm import RL, Algorithm
from tinymaml.check import chain, policy_gradients
from tinymaml.check import verify as verify_program
from tinymaml.check.chain import Collect, Report, Row
from tinymaml.cli.options import (
    JSON,
    QUIET,
    Command,
    Experiments,
    Value,
    asked,
    option_of,
)
from tinymaml.cli.terminal import Show, columns, progress
from tinymaml.errors import UsageError, WorldError
from tinymaml.experiments import glyphs, problem, sine, stand_in
from tinymaml.experiments.common import Config, check_parameters
from tinymaml.options import COUNT, PLACE, SEEDS, typed
from tinymaml.report.check import as_text


STEPS = asked(
    "--steps inner_steps", Value(int, least=0, most=100), "inner gradient steps, K", 1
)
SEED = asked("--seed", Value(int, **SEEDS), "seed of the worlds and trajectories", 0)
TASKS = asked("--tasks", Value(int, **COUNT), "number of tasks", 2)
FILTERS = 4  # of a small net
# Small nets with the operations of every experiment; they take seconds.
EXAMPLES = (
    *(sine.Sine(tasks=3, inner_steps=k) for k in (1, 3)),
    *(glyphs.Glyphs(tasks=2, filters=FILTERS, inner_steps=k) for k in (1, 3)),
)


def check_command(kind: type[Config], record: Algorithm) -> click.Command:
    """Return the command that checks one experiment with an algorithm."""
    if kind.setting == RL:  # its tasks have no fixed loss to differentiate
        return policies_command(kind)
    usual = kind(algorithm=record.name)
    checked = [
        STEPS if name == STEPS.name else option_of(kind, option)
        for name, option in usual.options.items()
        if option.role.checked and name != TASKS.name and usual.uses(name)
    ]

    def check(as_json: bool, tasks: int, quiet: bool, **given: Any) -> None:
        config = kind(**given)
        with progress("check", quiet) as show:
            report = verify(config, tasks, watched(config.name, show))
        finish([report], as_json)

    text = f"Verify the gradient.\n\nExample: tinymaml check {kind.name} --steps 3"
    params = [*checked, TASKS, JSON, QUIET]
    return Command(kind, record, params=params, callback=check, help=text)


class Checks(Experiments):
    """The commands of the experiments, and one for each FILE.py:NAME."""

    def get_command(self, context: click.Context, name: str) -> click.Command | None:
        """Return the command of an experiment, or of a program in a file."""
        file, _, attribute = name.rpartition(":")
        if not file.endswith(".py"):
            try:
                return super().get_command(context, name)
            except WorldError as error:
                program = f"; a program for `verify` is {name}:NAME"
                raise WorldError(f"{error}{program * name.endswith('.py')}") from error

        def check(as_json: bool, quiet: bool) -> None:
            with progress("check", quiet) as show:
                show(0, None, name)
                report = program_report(file, attribute)
            finish([report], as_json)

        return click.Command(name, params=[JSON, QUIET], callback=check)


def program_report(file: str, name: str) -> Any:
    """Return the report on a program: a dict of arguments of `tinymaml.check.verify`.

    name: of the dict, or of a function without arguments that returns it
    Raises UsageError when there is none, WorldError when the file or the program fails.
    """
    module = loading.module(file)
    if not hasattr(module, name):
        raise UsageError(f"{file!r} defines no {name}")
    found = getattr(module, name)
    try:
        found = found() if callable(found) else found
        if not isinstance(found, Mapping):
            kind = type(found).__name__
            what = "dict of arguments of tinymaml.check.verify"
            raise UsageError(f"{name!r} in {file!r} is a {kind}, not a {what}")
        return verify_program(**found)
    except UsageError:
        raise
    except Exception as error:  # of the user's program
        raise WorldError(f"{file}:{name}: {loading.described(error)}") from error


@click.group(
    "check",
    cls=Checks,
    make=check_command,
    invoke_without_command=True,
    params=[JSON, QUIET],
)
@click.pass_context
def check_group(context: click.Context, as_json: bool, quiet: bool) -> None:
    """Verify the gradient of an algorithm, in float64; exit 1 on any failure.

    Without an experiment: MAML on the sine net and on a small convolutional net.

    \b
    tinymaml check
    tinymaml check omniglot --steps 3
    tinymaml check sine --algorithm context
    tinymaml check my_maml.py:PROGRAM

    PROGRAM is a dict of the arguments of `tinymaml.check.verify`, or a function that
    returns it: PROGRAM = dict(meta_loss=..., meta_gradient=..., theta=...).
    """
    if context.invoked_subcommand is None:
        with progress("check", quiet) as show:
            reports = [
                verify(config, config.tasks, watched(config.name, show))
                for config in EXAMPLES
            ]
        finish(reports, as_json)
    else:  # the experiment's own command has these options too
        given = {"as_json": as_json, "quiet": quiet}
        context.default_map = {context.invoked_subcommand: given}


def watched(name: str, show: Show) -> Collect:
    """Return a function that makes a list of checks and shows how many there are."""

    def collect(rows: Iterable[Row]) -> list[Row]:
        found: list[Row] = []
        show(0, None, f"{name}: nothing checked yet")
        for row in rows:
            found.append(row)
            show(len(found), None, f"{name}: {len(found)} checked, {row.check}")
        return found

    return collect


def verify(config: Config, tasks: int, collect: Collect = list) -> Report:
    """Verify the gradient of a configuration's algorithm on some tasks, in float64."""
    exact = {"dtype": "float64", "validate_every": 0}  # some data have no validation tasks
    exact |= {"tune": False} if config.uses("tune") else {}
    rough, smooth = (
        stand_in(config.with_changes(exact | {"activation": activation}))
        for activation in ("relu", "tanh")
    )
    check_parameters(config.method.size(rough))
    return chain.verify(config.name, config.method, rough, smooth, tasks, collect)


def verify_policies(kind: type[Config], seed: int, collect: Collect = list) -> Report:
    """Verify meta-policy-gradients on worlds and trajectories drawn from a seed."""
    small = policy_gradients.SMALL | {"seed": seed}
    acting = [problem(kind(**small, inner_steps=k)) for k in (1, 2)]
    return policy_gradients.verify(seed, acting, collect)


def of_run(config: Config) -> tuple[str, Callable[[Collect], Report]]:
    """Return the command that checks a run's algorithm and experiment, and what it does.

    It has the run's options, and few filters, so that it takes seconds.
    """
    kind, words = type(config), ["tinymaml", "check", config.name]
    if kind.setting == RL:
        return shlex.join(words), partial(verify_policies, kind, 0)
    usual = kind(algorithm=config.algorithm)
    roles = {name: option.role for name, option in usual.options.items()}
    given = {"algorithm": config.algorithm} | {
        name: x
        for name, x in config.values().items()
        if roles[name].checked and roles[name] != PLACE and name != TASKS.name
        if usual.uses(name) and x != getattr(usual, name)
    }
    given |= {"filters": FILTERS} if "filters" in roles else {}
    words += typed({"steps" if k == STEPS.name else k: x for k, x in given.items()})
    return shlex.join(words), lambda collect: verify(kind(**given), TASKS.default, collect)


def policies_command(kind: type[Config]) -> click.Command:
    """Return the command that checks the meta-policy-gradients of one experiment."""

    @click.command(name=kind.name, params=[JSON, QUIET, SEED])
    def check_policies(seed: int, as_json: bool, quiet: bool) -> None:
        with progress("check", quiet) as show:
            report = verify_policies(kind, seed, watched(kind.name, show))
        finish([report], as_json)

    check_policies.help = (
        "Verify meta-policy-gradients on random worlds whose trajectories can be summed,"
        f" and the trust region.\n\nExample: tinymaml check {kind.name} --seed 7"
    )
    return check_policies


def finish(reports: list[Any], as_json: bool) -> None:
    """Print the reports, of an algorithm or of a program; exit 1 if one failed."""
    if as_json:
        click.echo(summary.as_json([report.as_dict() for report in reports], indent=2))
    else:
        width = columns(sys.stdout)
        texts = [as_text(x, width) if isinstance(x, Report) else str(x) for x in reports]
        click.echo("\n\n".join(texts))
    if not all(report.passed for report in reports):
        raise SystemExit(1)
