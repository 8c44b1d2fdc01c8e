"""What runs are called in pictures and tables: the algorithm, and what sets it apart."""

from __future__ import annotations

from collections.abc import Sequence

from tinymaml.experiments.common import Config
from tinymaml.options import shown


def labels(configs: Sequence[Config]) -> list[str]:
    """Return what to call runs: the algorithm, and the options in which they differ."""
    names = [_label(config) for config in configs]
    tasks = [task(config) for config in configs]
    if len({*tasks}) > 1:
        names = [", ".join(pair) for pair in zip(names, tasks, strict=True)]
    rivals: dict[str, list[Config]] = {}
    for name, config in zip(names, configs, strict=True):
        rivals.setdefault(name, []).append(config)
    return [
        ", ".join([name, *_differing(config, rivals[name])])
        for name, config in zip(names, configs, strict=True)
    ]


def _label(config: Config) -> str:
    values, method = config.values(), config.method
    name = method.label.format_map(values)
    steps = config.inner_steps
    if not method.inner_loop or any(f"{{{key}}}" in method.label for key in values):
        return name
    return f"{name}, {steps} inner step" + "s" * (steps != 1)


def _differing(config: Config, rivals: Sequence[Config]) -> list[str]:
    """Name and value of the options in which configurations of equal labels differ."""
    return [
        f"{option.flag[2:]} {shown(getattr(config, name))}"
        for name, option in config.options.items()
        if not option.role.task and len({rival.values().get(name) for rival in rivals}) > 1
    ]


def task(config: Config) -> str:
    """Return what the tasks are, as "5-way 1-shot" or "K = 10"; nothing without shots."""
    values = config.values()
    if "ways" in values:
        return f"{config.ways}-way {config.shots}-shot"
    return f"K = {config.shots}" if "shots" in values else ""


def title(configs: Sequence[Config]) -> str:
    """Return what the tasks of runs have in common, as "Sine, K = 10"."""
    first = configs[0]
    name = first.title if first.is_original else "Images"
    tasks = {task(config) for config in configs}
    shared = [*tasks] if len(tasks) == 1 else []
    return ", ".join(filter(None, [name, *shared]))
