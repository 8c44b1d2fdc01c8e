"""`tinymaml check`: verify the meta-gradient of any experiment."""

from __future__ import annotations

import json
from typing import Any

import click

from tinymaml.check import chain, policy_gradients
from tinymaml.cli.options import Number, options_of
from tinymaml.experiments import MODULES, glyphs, sine
from tinymaml.experiments.common import Config


STEPS = click.Option(
    ["--steps", "inner_steps"],
    type=Number(int, least=0, most=100),
    default=1,
    show_default=True,
    help="inner gradient steps, K",
)
JSON = click.Option(["--json", "as_json"], is_flag=True, help="print JSON")
# Options of an experiment that a meta-gradient does not depend on, or that a check decides.
NOT_CHECKED = {
    *("iterations", "seed", "algorithm", "beta", "dtype", "chunk", "replay", "inner_steps"),
    *("checkpoint_every", "validate_every", "validation_tasks", "test_tasks", "test_steps"),
    *("activation", "preset", "clip", "test_queries", "tune", "test"),
    *("regressors", "points", "pull", "wave"),
}
# Small nets that check in seconds what every experiment's does.
EXAMPLES = (
    (sine.Sine(tasks=3), 1),
    (sine.Sine(tasks=3), 3),
    (glyphs.Glyphs(tasks=2, filters=4), 1),
    (glyphs.Glyphs(tasks=2, filters=4), 3),
)


@click.group(name="check", invoke_without_command=True)
@click.option("--json", "as_json", is_flag=True, help="print JSON")
@click.pass_context
def check_group(context: click.Context, as_json: bool) -> None:
    """Verify the meta-gradient of an experiment, in float64; exit 1 on any failure.

    Without an experiment: of the sine net and of a small convolutional one with batch norm.

    \b
    tinymaml check
    tinymaml check omniglot --steps 3
    """
    if context.invoked_subcommand is None:
        cases = [config.with_changes({"inner_steps": k}) for config, k in EXAMPLES]
        report_checks(cases, as_json)


def check_command(name: str) -> click.Command:
    """Return the command that checks one experiment."""
    kind = MODULES[name].CONFIG
    options = [o for o in options_of(kind) if o.name not in NOT_CHECKED]
    tasks = next(o for o in options if o.name == "tasks")
    tasks.default, tasks.show_default = 2, True

    def verify(as_json: bool, **given: Any) -> None:
        report_checks([kind(**given, validate_every=0)], as_json)

    return click.Command(
        name,
        params=[*options, STEPS, JSON],
        callback=verify,
        help=f"Verify its meta-gradient.\n\nExample: tinymaml check {name} --steps 3",
    )


def report_checks(configs: list[Config], as_json: bool) -> None:
    """Verify each configuration, print the figures and exit 1 if one is out of range."""
    show([chain.verify_experiment(config) for config in configs], as_json)


@click.command(name="pointnav")
@click.option(
    "--seed",
    type=Number(int, least=0, most=2**64 - 1),
    default=0,
    show_default=True,
    help="of the worlds and trajectories",
)
@click.option("--json", "as_json", is_flag=True, help="print JSON")
def check_pointnav(seed: int, as_json: bool) -> None:
    """Prove its meta-policy-gradients, on random worlds that can be summed.

    \b
    Example: tinymaml check pointnav --seed 7
    """
    show([policy_gradients.verify(seed)], as_json)


def show(reports: list[chain.Report], as_json: bool) -> None:
    """Print the figures and exit 1 if one is out of range."""
    if as_json:
        click.echo(json.dumps([report.as_dict() for report in reports], indent=2))
    else:
        click.echo("\n\n".join(map(str, reports)))
    if not all(report.passed for report in reports):
        raise SystemExit(1)


for _name, _module in MODULES.items():
    # A task that acts to collect its data has no fixed loss to differentiate.
    _acts = _module.CONFIG.setting == "rl"
    check_group.add_command(check_pointnav if _acts else check_command(_name))
