"""The picture of feature reuse: frozen layers, the head's step, change and similarity."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from tinymaml.harness.reuse import HEAD_STEPS, Reuse
from tinymaml.plots import figures
from tinymaml.summary import interval


NOTE = (
    "solid: trained; dotted and hollow: untrained; stars: NIL before adaptation;"
    " bars: 95 % intervals over tasks"
)


def picture(pairs: Mapping[str, tuple[Reuse, Reuse]]):
    """Return the figure: four panels, a solid line a run and a dotted one untrained.

    Figures that are not finite for a task are left out, and named in their panel.
    """
    figure = figures.new_figure(10, 7)
    axes = figure.subplots(2, 2)
    (frozen, head), (change, cka) = axes
    lacking: dict[Any, list[str]] = {panel: [] for panel in axes.flat}
    for number, (name, nets) in enumerate(pairs.items()):
        color, marker = (figures.style(number)[k] for k in ("color", "marker"))
        for one, dashes, label in zip(nets, ("-", ":"), (name, None), strict=True):
            how = {"color": color, "marker": marker, "linestyle": dashes, "label": label}
            rows = one.layers
            body, steps = rows[:-1], [str(factor) for factor in HEAD_STEPS]
            kept = [("accuracy", "after"), *(("frozen", row) for row in body)]
            panels = (
                (frozen, kept, ["nothing", *body], 100),
                (head, [("head step", k) for k in steps], steps, 100),
                (change, [("change", row) for row in rows], rows, 1),
                (cka, [("CKA", row) for row in rows], rows, 1),
            )
            net = name if label else f"{name}, untrained"
            for panel, keys, places, scale in panels:
                left_out = _line(panel, one, keys, places, scale, how)
                lacking[panel] += [f"{net}, {place}" for place in left_out]
            star = 100 * one.figures["NIL", "before"].mean()
            fill = "full" if label else "none"
            frozen.plot(body[-1], star, "*", color=color, markersize=11, fillstyle=fill)
            lacking[frozen] += [] if np.isfinite(star) else [f"{net}, NIL"]
    frozen.set(xlabel="frozen up to", ylabel="accuracy (%)", title="Frozen layers")
    head.set(xlabel="factor of the head's step size", ylabel="accuracy (%)")
    head.set_title("Steps of the head alone")
    change.set(ylabel="relative change", title="Change of parameters")
    cka.set(ylabel="linear CKA", title="Similarity before and after adaptation")
    for panel, names in lacking.items():
        figures.tidy(panel)
        panel.set_ylim(bottom=0)
        figures.missing(panel, names)
    figures.legend(figure, frozen, NOTE)
    return figure


def _line(
    axes, one: Reuse, keys: list, names: Sequence[str], scale: float, how: dict
) -> list[str]:
    """Draw the means at their names; return the names of those that are not finite."""
    found = [interval(one.figures[key]) for key in keys]
    mean, half = scale * np.array(found).T
    lost = ~np.isfinite(mean)
    mean, half = np.where(lost, np.nan, [mean, half])
    axes.errorbar(names, mean, half, capsize=2, linewidth=1.6, markersize=5, **how)
    return [name for name, gone in zip(names, lost, strict=True) if gone]
