"""`tinymaml check`: verify the gradient of an algorithm on any experiment."""

from __future__ import annotations

import json
from functools import partial
from typing import Any

import click

from tinymaml import algorithms
from tinymaml.algorithms.algorithm import RL
from tinymaml.check import chain, policy_gradients
from tinymaml.check.chain import Report
from tinymaml.cli.options import JSON, Command, Value, option_of
from tinymaml.cli.train import chosen_algorithm
from tinymaml.experiments import MODULES, glyphs, pointnav, problem, sine, stand_in
from tinymaml.experiments.common import Config, algorithm_of
from tinymaml.options import MOST


STEPS = click.Option(
    ["--steps", "inner_steps"],
    type=Value(int, least=0, most=100),
    default=1,
    show_default=True,
    help="number of inner gradient steps, K",
)
TASKS = click.Option(
    ["--tasks"],
    type=Value(int, least=1, most=MOST),
    default=2,
    show_default=True,
    help="number of tasks",
)
# Small nets that check in seconds what every experiment's does.
EXAMPLES = (
    sine.Sine(tasks=3, inner_steps=1),
    sine.Sine(tasks=3, inner_steps=3),
    glyphs.Glyphs(tasks=2, filters=4, inner_steps=1),
    glyphs.Glyphs(tasks=2, filters=4, inner_steps=3),
)


class CheckGroup(click.Group):
    """Chooses the options of `check NAME` by the algorithm that the arguments name."""

    def list_commands(self, context: click.Context) -> list[str]:
        """Return the names of the experiments."""
        return [*MODULES]

    def parse_args(self, context: click.Context, args: list[str]) -> list[str]:
        """Keep the arguments for the choice."""
        context.obj = args
        return super().parse_args(context, args)

    def get_command(self, context: click.Context, name: str) -> click.Command | None:
        """Return the command that checks one experiment."""
        if name not in MODULES:
            return None
        kind = MODULES[name].CONFIG
        if kind.setting == RL:  # its tasks have no fixed loss to differentiate
            return check_policies
        return check_command(kind, chosen_algorithm(kind, context.obj or []))


@click.group(name="check", cls=CheckGroup, invoke_without_command=True, params=[JSON])
@click.pass_context
def check_group(context: click.Context, as_json: bool) -> None:
    """Verify the gradient of an algorithm, in float64; exit 1 on any failure.

    Without an experiment: MAML on the sine net and on a small convolutional net.

    \b
    tinymaml check
    tinymaml check omniglot --steps 3
    tinymaml check sine --algorithm context
    """
    if context.invoked_subcommand is None:
        show([verify(config, config.tasks) for config in EXAMPLES], as_json)


def check_command(kind: type[Config], algorithm: str) -> click.Command:
    """Return the command that checks one experiment with an algorithm."""
    record = algorithm_of(kind, algorithm)
    choices = (*algorithms.available(kind.setting, kind.offers), "FILE.py:NAME")
    usual = kind(algorithm=algorithm)
    checked = [
        STEPS if name == STEPS.name else option_of(option, choices * (name == "algorithm"))
        for name, option in usual.options.items()
        if option.role.checked and name != TASKS.name and usual.uses(name)
    ]

    def check(as_json: bool, tasks: int, **given: Any) -> None:
        show([verify(kind(**given), tasks)], as_json)

    return Command(
        kind.name,
        partial(kind.unknown, record),
        params=[*checked, TASKS, JSON],
        callback=check,
        help=f"Verify the gradient.\n\nExample: tinymaml check {kind.name} --steps 3",
    )


def verify(config: Config, tasks: int) -> Report:
    """Verify the gradient of a configuration's algorithm on some tasks, in float64."""
    exact = {"dtype": "float64", "validate_every": 0}  # some data have no validation tasks
    exact |= {"tune": False} if config.uses("tune") else {}
    rough, smooth = (
        stand_in(config.with_changes(exact | {"activation": activation}))
        for activation in ("relu", "tanh")
    )
    return chain.verify(config.name, config.method, rough, smooth, tasks)


@click.command(name="pointnav", params=[JSON])
@click.option(
    "--seed",
    type=Value(int, least=0, most=2**64 - 1),
    default=0,
    show_default=True,
    help="seed of the worlds and trajectories",
)
def check_policies(seed: int, as_json: bool) -> None:
    """Verify meta-policy-gradients on random worlds whose trajectories can be summed.

    \b
    Example: tinymaml check pointnav --seed 7
    """
    small = policy_gradients.SMALL | {"seed": seed}
    acting = [problem(pointnav.PointNav(**small, inner_steps=k)) for k in (1, 2)]
    show([policy_gradients.verify(seed, acting)], as_json)


def show(reports: list[Report], as_json: bool) -> None:
    """Print the figures and exit 1 if one is out of range."""
    if as_json:
        click.echo(json.dumps([report.as_dict() for report in reports], indent=2))
    else:
        click.echo("\n\n".join(map(str, reports)))
    if not all(report.passed for report in reports):
        raise SystemExit(1)
