"""The analysis of feature reuse as text and JSON, with its verdict."""

from collections.abc import Mapping
from typing import Any

from tinymaml import summary
from tinymaml.harness.reuse import SIMILAR, Reuse, verdict
from tinymaml.maml import Array
from tinymaml.report import names
from tinymaml.report.layout import laid_out
from tinymaml.summary import interval, lacking, lost


Pairs = Mapping[str, tuple[Reuse, Reuse]]  # a run's name -> its net, and the untrained one

# Groups of figures in the order of the table; {} is the row.
ROWS = {
    "accuracy": "accuracy {} adaptation",
    "frozen": "accuracy, frozen up to {}",
    "NIL": "NIL {} adaptation",
    "head step": "accuracy, head alone, step x {}",
    "head": "head: {}",
    "change": "relative change of {}",
    "gradient": "norm of first gradient of {}",
    "CKA": "CKA of {}",
    "CCA": "CCA of {}",
}
PER_CENT = ("accuracy", "frozen", "NIL", "head step")
RULE = f"""\
Feature reuse is "yes" when (1) with all layers but the head frozen, the accuracy is not
below the 95 % interval of full adaptation; (2) NIL before adaptation is at least halfway
from the untrained net's NIL to full adaptation; (3) the CKA of each of these layers is at
least {SIMILAR}. A layer is reused when (1) holds with it and all layers below it frozen.
Head reach: steps * share, where the share (gain / self gain) is the part of the features'
squared norm that separates classes. Gradient steps of the head alone that do not overshoot
(self gain up to 2) can use the features when the reach is well above 1. Near 1 or below, no
step size of the head suffices, and the body must move."""


def as_text(pairs: Pairs, width: int | None = None) -> str:
    """Return a line for each run, the table, a verdict for each run, and the rule.

    width: characters in the longest line; None for any number
    A figure that is not finite in some tasks has their number in place of a mean.
    """
    columns: dict[str, Reuse] = {}
    for name, (trained, untrained) in pairs.items():
        columns |= {name: trained, f"untrained {len(columns) // 2 + 1}": untrained}
    if len(pairs) == 1:
        columns = dict(zip((*pairs, "untrained"), columns.values(), strict=True))
    keys = dict.fromkeys(key for one in columns.values() for key in one.figures)
    ordered = sorted(keys, key=lambda key: [*ROWS].index(key[0]))
    rows = [["", *columns]]
    for key in ordered:
        cells = [_cell(key[0], one.figures.get(key)) for one in columns.values()]
        rows.append([ROWS[key[0]].format(key[1]), *cells])
    titles = [f"{name}: {title(one)}" for name, (one, _) in pairs.items()]
    verdicts = [f"{name}: {sentence(*both)}" for name, both in pairs.items()]
    rule = RULE.splitlines()
    if width is not None and width < max(map(len, rule)):
        rule = [" ".join(rule)]
    return laid_out([*titles, "", rows, "", *verdicts, "", *rule], width)


def title(one: Reuse) -> str:
    """Return one line: the run, and the tasks on which its net was analysed."""
    config, tasks = one.config, len(one.figures["accuracy", "after"])
    (label,) = names.labels([config])
    queries = config.queries if one.split == "train" else config.test_queries
    return (
        f"{names.title([config])}, {label}, {one.iteration} iterations; {tasks} {one.split}"
        f" tasks, {queries} queries per class, {one.steps} gradient steps"
    )


def _cell(group: str, values: Array | None) -> str:
    if values is None:
        return ""
    if missing := lacking(values):
        return missing
    mean, half = interval(values)
    if group in PER_CENT:
        return f"{100 * mean:.1f} +- {100 * half:.1f} %"
    return f"{mean:.3f} +- {half:.3f}"


def sentence(found: Reuse, untrained: Reuse) -> str:
    """Return the verdict in words, with the figures that it rests on."""
    reuse, reused, suffice, changed = verdict(found, untrained)
    if reused is None or changed is None:
        return "feature reuse: unknown; a figure is not finite"
    body = found.layers[:-1]
    after, frozen, nil = (
        f"{100 * found.figures[key].mean():.1f} %"
        for key in (("accuracy", "after"), ("frozen", body[-1]), ("NIL", "before"))
    )
    if reuse is None:
        return "feature reuse: unknown; adaptation does not improve the accuracy"
    others = body[len(reused) :]
    parts = [f"{', '.join(reused) or 'no layer'} reused"]
    parts[0] += f", {', '.join(others)} not" if others else ""
    parts.append(f"freezing all layers but the head: {after} -> {frozen}")
    parts.append(f"features {'suffice' if suffice else 'do not suffice'}, NIL before {nil}")
    parts.append(f"changed: {', '.join(changed) or 'none'}")
    reach = found.figures["head", "reach"]
    parts.append(f"head reach {lacking(reach) or f'{reach.mean():.1f}'}")
    return f"feature reuse: {'yes' if reuse else 'no'}; {'; '.join(parts)}"


def as_json(pairs: Pairs) -> str:
    """Return a list with an object for each run. A figure that is not finite is null."""
    found = [
        {
            "run": name,
            "experiment": trained.config.name,
            "algorithm": trained.config.algorithm,
            "iterations": trained.iteration,
            "split": trained.split,
            "tasks": len(trained.figures["accuracy", "after"]),
            "tasks_sha256": trained.tasks_sha256,
            "steps": trained.steps,
            "layers": trained.layers,
            "figures": _figures(trained),
            "untrained": _figures(untrained),
            "verdict": verdict(trained, untrained)._asdict(),
        }
        for name, (trained, untrained) in pairs.items()
    ]
    return summary.as_json(found, indent=2) + "\n"


def _figures(one: Reuse) -> dict[str, dict[str, Any]]:
    found: dict[str, dict[str, Any]] = {group: {} for group in ROWS}
    for (group, row), values in one.figures.items():
        mean, half = interval(values)
        found[group][row] = {
            "mean": mean,
            "half_width_95": half,
            "not_finite": lost(values),
        }
    return found
