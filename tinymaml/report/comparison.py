"""Different runs in one table, as far as they were scored on the same held-out tasks."""

from collections.abc import Hashable, Sequence

from tinymaml.harness.results import Result
from tinymaml.report import names, tables
from tinymaml.report.layout import Rows


def blocks(results: Sequence[Result]) -> list[str | Rows]:
    """Return a title and a table for results on the same tasks, a row for each.

    Results on different tasks have several tables. One that is alone with its tasks is
    named in a last line.
    """
    groups: dict[Hashable, list[Result]] = {}
    for result in results:
        groups.setdefault(_tasks(result), []).append(result)
    found: list[str | Rows] = []
    for group in groups.values():
        if len(group) > 1:
            found += [""] * bool(found) + [_title(group), _table(group)]
    if not found:
        return ["no comparison: the tasks of these runs differ"]
    alone = [group[0] for group in groups.values() if len(group) == 1]
    return found + [f"not compared, on other tasks: {tables.title(x)}" for x in alone]


def _tasks(result: Result) -> Hashable:
    """Return what two results have in common that can be compared."""
    config = result.config
    world = tuple(getattr(config, k) for k, x in config.options.items() if x.role.world)
    return config.name, result.split, result.tasks_sha256, world


def _title(group: Sequence[Result]) -> str:
    configs = [result.config for result in group]
    tasks = f"the same {group[0].scores.shape[-1]} {group[0].split} tasks"
    over = "95 % interval"
    if max(len(result.seeds) for result in group) > 1:
        over += " over tasks, then over seeds"
    return f"{names.title(configs)}: {configs[0].score.name} on {tasks} ({over})"


def _table(group: Sequence[Result]) -> Rows:
    labels = names.labels([result.trained.but_for_its_seed() for result in group])
    cells = [tables.cells(result.config.score, result.scores) for result in group]
    steps = sorted({0, *(min(1, max(one)) for one in cells), *map(max, cells)})
    rows = [["run", *(names.number(k, "step") for k in steps)]]
    for name, result, one in zip(labels, group, cells, strict=True):
        seeds = f", {len(result.seeds)} seeds" * (len(result.seeds) > 1)
        rows.append([name + seeds, *(one.get(k, "") for k in steps)])
    if len({result.iterations for result in group}) > 1:
        for row, result in zip(rows[1:], group, strict=True):
            row.insert(1, ", ".join(map(str, sorted({*result.iterations}))))
        rows[0].insert(1, "iterations")
    return rows
