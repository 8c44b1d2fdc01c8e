"""The picture of feature reuse: frozen layers, the head's step, change and similarity."""

from collections.abc import Mapping

import numpy as np

from tinymaml.harness.evaluation import interval
from tinymaml.harness.reuse import HEAD_STEPS, Reuse
from tinymaml.plots import figures


NOTE = (
    "solid: trained; dotted and hollow: untrained; stars: NIL before adaptation;"
    " bars: 95 % intervals over tasks"
)


def picture(pairs: Mapping[str, tuple[Reuse, Reuse]]):
    """Return the figure: four panels, a solid line a run and a dotted one untrained.

    Points that are undefined for a task are left out.
    """
    figure = figures.new_figure(10, 7)
    axes = figure.subplots(2, 2)
    (frozen, head), (change, cka) = axes
    for number, (name, nets) in enumerate(pairs.items()):
        color, marker = (figures.style(number)[k] for k in ("color", "marker"))
        for one, dashes, label in zip(nets, ("-", ":"), (name, None), strict=True):
            how = {"color": color, "marker": marker, "linestyle": dashes, "label": label}
            rows = one.layers
            keys = [("accuracy", "after"), *(("frozen", row) for row in rows[:-1])]
            _line(frozen, one, keys, ["nothing", *rows[:-1]], 100, how)
            star = 100 * one.figures["NIL", "before"].mean()
            fill = "full" if label else "none"
            frozen.plot(rows[-2], star, "*", color=color, markersize=11, fillstyle=fill)
            steps = [str(factor) for factor in HEAD_STEPS]
            _line(head, one, [("head step", k) for k in steps], steps, 100, how)
            _line(change, one, [("change", row) for row in rows], rows, 1, how)
            _line(cka, one, [("CKA", row) for row in rows], rows, 1, how)
    frozen.set(xlabel="frozen up to", ylabel="accuracy (%)", title="Frozen layers")
    head.set(xlabel="factor of the head's step size", ylabel="accuracy (%)")
    head.set_title("Steps of the head alone")
    change.set(ylabel="relative change", title="Change of parameters")
    cka.set(ylabel="linear CKA", title="Similarity before and after adaptation")
    for one in axes.flat:
        figures.tidy(one)
        one.set_ylim(bottom=0)
    figures.legend(figure, frozen, NOTE)
    return figure


def _line(axes, one: Reuse, keys: list, names: list, scale: float, how: dict) -> None:
    found = [interval(one.figures[key]) for key in keys]
    mean, half = scale * np.array(found).T
    axes.errorbar(names, mean, half, capsize=2, linewidth=1.6, markersize=5, **how)
