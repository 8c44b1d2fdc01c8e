"""Evaluations as text, Markdown and JSON, and the evaluation.json in a run's folder.

A table has one row per number of gradient steps and one column per result (a number of
shots, say), with a further one where every query example was also scored on its own.
"""

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from tinymaml import summary
from tinymaml.errors import DAMAGE
from tinymaml.experiments.common import Config
from tinymaml.harness import runs
from tinymaml.harness.results import Result, over_seeds, over_tasks
from tinymaml.losses import Score
from tinymaml.maml import Array
from tinymaml.options import PLACE, SEED, flags, shown
from tinymaml.published import figures
from tinymaml.published.figures import Figure
from tinymaml.report import names
from tinymaml.report.layout import Rows, laid_out, markdown
from tinymaml.summary import NOT_FINITE, lacking, lost


def as_text(
    results: Sequence[Result],
    steps: Iterable[int],
    width: int | None = None,
    published: bool = True,
) -> str:
    """Return the table of results of the same runs, with only these numbers of steps.

    width: characters in the longest line; None for any number
    published: add published figures
    """
    return laid_out(blocks(results, steps, published), width).rstrip()


def blocks(
    results: Sequence[Result], steps: Iterable[int], published: bool = True
) -> list[str | Rows]:
    """Return the tables and sentences of `as_text`."""
    found: list[str | Rows] = [_table(results, steps)]
    for result in results:
        compared, differing = _compared(result) if published else ([], [])
        found += _notes(result)
        found += ["", compared, *differing, ""] if compared else []
    return found


def titled(
    results: Sequence[Result], steps: Iterable[int], width: int | None = None
) -> str:
    """Return the title of results of the same runs, and the table as in `as_text`."""
    return f"{laid_out([title(results[0])], width)}\n{as_text(results, steps, width)}"


def as_markdown(results: Sequence[Result]) -> str:
    """Return the same in Markdown, under a heading, with every number of steps."""
    rows = _table(results, range(results[0].scores.shape[1]))
    lines = [f"**{title(results[0])}**", "", *markdown(rows)]
    for result in results:
        lines += ["", "; ".join(_notes(result, quote="`"))]
        compared, differing = _compared(result)
        lines += ["", *markdown(compared)] if compared else []
        lines += ["", *differing] if differing else []
    return "\n".join(lines) + "\n"


def title(result: Result) -> str:
    """Return one line: what was evaluated, of which runs, on which tasks."""
    config, roles = result.config, result.trained.options
    different = result.trained.differences().items()
    options = {name: x for name, x in different if roles[name].role.titled}
    name = " ".join(filter(None, [config.name, flags(options)]))
    iterations = ", ".join(map(str, sorted({*result.iterations})))
    tasks = f"{result.scores.shape[-1]} {result.split} tasks"
    line = f"{name}, {iterations} iterations, {tasks}"
    if len(result.seeds) > 1:
        line += f", seeds {', '.join(map(str, result.seeds))}"
    if not np.isnan(result.validations).all():
        chosen = ", ".join(map(config.score.shown, result.validations))
        line += f", chosen on validation tasks ({config.score.name} {chosen})"
    return line


def _notes(result: Result, quote: str = "") -> list[str]:
    """Return the hash of the tasks, the remarks, and the scores that need no theta."""
    shots = getattr(result.config, "shots", None)
    tasks = "tasks" if shots is None else f"tasks, {names.number(shots, 'shot')}"
    tasks = f"{tasks}: sha256 {quote}{result.tasks_sha256}{quote}"
    anchors = [f"{name}: {value}" for name, value in result.config.anchors.items()]
    return [tasks, *result.remarks, *anchors]


def _table(results: Sequence[Result], steps: Iterable[int]) -> Rows:
    """Return the rows of these numbers of steps, as far as there are scores."""
    columns: list[tuple[str, dict[int, str]]] = []
    for result in results:
        config, tasks = result.config, result.scores.shape[-1]
        over = "95 % interval" if len(result.seeds) == 1 else "95 % over tasks, over seeds"
        subject = f"on {tasks} tasks"
        if len(results) > 1:
            subject = f"with {names.number(config.shots, 'shot')}"
        seen = "" if result.alone is None else ", transductive"
        head = f"{config.score.name} {subject}{seen} ({over})"
        columns.append((head, cells(config.score, result.scores)))
        if result.alone is not None:
            shown = cells(config.score, result.alone).values()
            alone = dict(zip(result.alone_steps, shown, strict=True))
            columns.append(("each query alone (not transductive)", alone))
    steps = [k for k in steps if k in columns[0][1]]
    rows = [[f"{k:>14}", *(column.get(k, "") for _, column in columns)] for k in steps]
    return [["gradient steps", *(head for head, _ in columns)], *rows]


def _measured(scores: Array) -> dict[str, Array]:
    """Return mean and half-widths (k,) of scores (runs, k, tasks) by their JSON names."""
    found = dict(zip(("mean", "half_width_95"), over_tasks(scores), strict=True))
    if len(scores) > 1:
        found["half_width_95_over_seeds"] = over_seeds(scores)
    return found


class Figures(NamedTuple):
    """What an evaluation.json has of scores.

    shape: of the scores (runs, k, tasks); measured: mean and half-widths (k,) each
    lost: how many are not finite after each step
    """

    shape: tuple[int, int, int]
    measured: Sequence[Array]
    lost: Sequence[int]


def cells(score: Score, scores: Array | Figures) -> dict[int, str]:
    """Return the mean with its intervals after 0, 1, ... steps; scores (runs, k, tasks)."""
    if isinstance(scores, Figures):
        measured, count = scores.measured, scores.shape[0] * scores.shape[-1]
        missing = [f"{NOT_FINITE} in {n} of {count}" if n else "" for n in scores.lost]
    else:
        measured = [*_measured(scores).values()]
        missing = [*map(lacking, np.moveaxis(scores, 1, 0))]
    numbers = zip(*measured, strict=True)
    return {k: missing[k] or score.shown(*row) for k, row in enumerate(numbers)}


def _compared(result: Result) -> tuple[Rows, list[str]]:
    """Return the table of published figures and ours, and a line on how settings differ.

    Our score stands beside a figure of the same method after as many steps, or after the
    last where the figure does not give the steps. The line compares the run with the
    first figure whose settings are known: of its own method, if there is one. Both are
    empty where nothing was published.
    """
    config, rows, known = result.config, [], []
    ours = cells(config.score, result.scores)
    for figure in figures.matching(config, result.split):
        steps = [k for k, *_ in figure.values if k is not None]
        theirs = [
            " +- ".join(f"{x:g}" for x in value if x is not None) + config.score.unit
            for _, *value in figure.values
        ]
        same = figures.is_method(figure, config)
        own = [ours.get(k, "-") for k in steps or [max(ours)]] if same else []
        found = _differences(figure, result)
        source = figure.source + ("; settings of its own" if found is None else "")
        lists = map(", ".join, (map(str, steps), theirs, own))
        rows.append([figure.method, *lists, source])
        work = figures.work_of(figure)
        if work and found is not None:
            known.append((work.title, found))
    heads = ["published", "steps", "theirs", "ours", "source"]
    lines = [
        f"differs from {title}: {', '.join(_difference(k, **x) for k, x in found.items())}"
        for title, found in known[:1]
        if found
    ]
    return [heads, *rows] if rows else [], lines


def _differences(figure: Figure, result: Result) -> dict[str, dict[str, Any]] | None:
    """Return `figures.differences` of the theta that was tested."""
    last = np.isnan(result.validations).all()  # else training continued after that theta
    tested = min(result.iterations) if last else None
    return figures.differences(figure, result.config, result.trained, tested)


def _difference(name: str, ours: Any, published: Sequence[Any]) -> str:
    """Return an option with our value and the published ones: "--filters 4 (64)"."""
    theirs = [flags({name: x}) if isinstance(x, bool) else shown(x) for x in published]
    return f"{flags({name: ours})} ({' or '.join(theirs)})"


def as_json(results: Sequence[Result]) -> str:
    """Return the results as JSON: one object, or a list of several.

    Numbers that are not finite become null, since JSON has none for them. `not_finite` has
    their number after each step, in all runs.
    """
    found = [_as_dict(result) for result in results]
    return summary.as_json(found[0] if len(found) == 1 else found, indent=2) + "\n"


def _as_dict(result: Result) -> dict[str, Any]:
    config, trained = result.config, result.trained
    hidden = {name for name, x in trained.options.items() if x.role in (SEED, PLACE)}
    found = {
        "experiment": config.name,
        "algorithm": config.algorithm,
        "alpha": config.alpha,
        "options": {k: x for k, x in trained.values().items() if k not in hidden},
        "score": config.score.name,
        "split": result.split,
        "shots": getattr(config, "shots", None),
        "seeds": result.seeds,
        "iterations": result.iterations,
        "validations": result.validations,
        "tasks": result.scores.shape[-1],
        "tasks_sha256": result.tasks_sha256,
        "remarks": result.remarks,
        **_numbers(result.scores),
    }
    if config.anchors:
        found["anchors"] = config.anchors
    if result.alone is not None:
        found["alone"] = {"steps": result.alone_steps, **_numbers(result.alone)}
    found["published"] = [
        {**figure._asdict(), "differs": _differences(figure, result)}
        for figure in figures.matching(config, result.split)
    ]
    return found


def _numbers(scores: Array) -> dict[str, Array]:
    return {**_measured(scores), "not_finite": lost(scores).sum(axis=0)}


# ----- In a run's folder -----

MEASURES = ("mean", "half_width_95", "half_width_95_over_seeds")


class Evaluation(NamedTuple):
    """The contents of a run's evaluation.json.

    iteration, alpha: of the theta, and the step size with which it was adapted
    mean, half: the score after 0, 1, ... steps, and half its 95 % interval over tasks
    tasks: their number
    """

    iteration: int
    alpha: float
    mean: Array
    half: Array
    tasks: int


def save(path: Path, result: Result) -> Path:
    """Write evaluation.json into the folder of a run, or of several seeds; return it."""
    runs.write(path / runs.EVALUATION, runs.sealed(_as_dict(result)))
    return path / runs.EVALUATION


def keep(path: Path, result: Result) -> list[Path]:
    """Write evaluation.json of a run whose theta has none, for `tinymaml plot`.

    The folder of an exported theta, which has no checkpoints, stays as it is. Returns the
    files that were written.
    """
    found = saved(path, result.trained)
    same = found is not None and [found.iteration] == [*result.iterations]
    return [] if same or (path / runs.THETA).exists() else [save(path, result)]


def saved(path: Path, config: Config) -> Evaluation | None:
    """Return the contents of a run's evaluation.json.

    None when it is missing, damaged, of another run, or cannot be read.
    """
    try:
        read = runs.unsealed(path / runs.EVALUATION)
        if options := read.get("options"):
            (seed,) = read["seeds"]
            other = runs.unlike(options | {"seed": seed}, config)
            if other or read["experiment"] != config.name:
                return None
        (iteration,) = read["iterations"]
        # null, which stands for a number that is not finite, becomes nan.
        mean, half = (np.array(read[name], float) for name in ("mean", "half_width_95"))
        found = Evaluation(iteration, float(read["alpha"]), mean, half, int(read["tasks"]))
    except (*DAMAGE, AttributeError):
        return None
    one_each = mean.ndim == 1 and mean.shape == half.shape
    sound = one_each and mean.size and found.tasks > 0
    return found if sound and 0 <= found.alpha < np.inf else None


def read_back(
    path: Path, configs: Sequence[Config], iterations: Sequence[int]
) -> Result | None:
    """Return the result in the evaluation.json of a run, or of a folder of several seeds.

    configs, iterations: of the runs whose scores it must have
    Its scores are `Figures`. None when it is missing, damaged, or of other thetas.
    """
    trained, seeds = configs[0], [config.seed for config in configs]
    try:
        read = runs.unsealed(path / runs.EVALUATION)
        options = read.get("options")
        if options and runs.unlike(options | {"seed": trained.seed}, trained):
            return None
        wanted = trained.name, seeds, [*iterations]
        if (read["experiment"], read["seeds"], read["iterations"]) != wanted:
            return None
        changes = {"alpha": read["alpha"]}
        changes |= {} if read["shots"] is None else {"shots": read["shots"]}
        alone = read.get("alone")
        return Result(
            trained.restored(trained.values() | changes),
            trained,
            str(read["split"]),
            tuple(seeds),
            tuple(iterations),
            tuple(np.nan if x is None else float(x) for x in read["validations"]),
            str(read["tasks_sha256"]),
            _figures(read, len(seeds), int(read["tasks"])),
            alone and _figures(alone, len(seeds), int(read["tasks"])),
            tuple(alone["steps"]) if alone else (),
            tuple(map(str, read["remarks"])),
        )
    except (*DAMAGE, AttributeError):
        return None


def _figures(read: dict[str, Any], count: int, tasks: int) -> Figures:
    """Return mean and intervals of JSON; null, for a number that is not finite, is nan."""
    found = [np.array(read[name], float) for name in MEASURES if name in read]
    lost = [int(x) for x in read.get("not_finite", [0] * len(found[0]))]
    if {x.shape for x in found} != {(len(lost),)} or not lost or tasks < 1:
        raise ValueError("figures of different numbers of steps")
    return Figures((count, len(lost), tasks), found, lost)
