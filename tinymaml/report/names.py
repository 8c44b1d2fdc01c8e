"""The names of runs in pictures and tables: the algorithm, and how they differ."""

from collections.abc import Sequence

from tinymaml.experiments.common import Config
from tinymaml.options import shown


def labels(configs: Sequence[Config]) -> list[str]:
    """Return a name for each run: the algorithm, and the options in which they differ."""
    names = [_label(config) for config in configs]
    tasks = [task(config) for config in configs]
    if len({*tasks}) > 1:
        names = [", ".join(pair) for pair in zip(names, tasks, strict=True)]
    pairs = [*zip(names, configs, strict=True)]
    return [
        ", ".join([name, *_differing(config, [rival for n, rival in pairs if n == name])])
        for name, config in pairs
    ]


def _label(config: Config) -> str:
    values, method, steps = config.values(), config.method, config.inner_steps
    name = method.label.format_map(values)
    if not method.inner_loop or any(f"{{{key}}}" in method.label for key in values):
        return name
    return f"{name}, {number(steps, 'inner step')}"


def _differing(config: Config, rivals: Sequence[Config]) -> list[str]:
    """Return name and value of the options in which runs with one label differ."""
    return [
        f"{option.flag[2:]} {shown(getattr(config, name))}"
        for name, option in config.options.items()
        if not option.role.task and len({rival.values().get(name) for rival in rivals}) > 1
    ]


def task(config: Config) -> str:
    """Return the tasks, as "5-way 1-shot", "10 shots" or "ant-vel"; "" for one kind."""
    values = config.values()
    if "ways" in values:
        return f"{config.ways}-way {config.shots}-shot"
    if "shots" in values:
        return number(config.shots, "shot")
    return values.get("task", "")


def number(count: int, noun: str) -> str:
    """Return "1 shot", "10 shots" and the like."""
    return f"{count} {noun}" + "s" * (count != 1)


def title(configs: Sequence[Config]) -> str:
    """Return what the tasks of runs have in common, as "Sine, 10 shots"."""
    name = configs[0].title if configs[0].is_original else "Images"
    tasks = {task(config) for config in configs}
    return ", ".join(filter(None, [name, *tasks])) if len(tasks) == 1 else name
