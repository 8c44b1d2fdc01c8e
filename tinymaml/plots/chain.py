"""A picture of the chain on two parameters: three inner steps, and v_3, ..., v_0 back.

The support loss S is a curved valley; the query loss Q is a round bowl on its slope. The
arrow at theta_k is -v_k, the direction of theta_k in which Q(theta_K) falls fastest. The
left panel shows the exact v_k; the right one those of first-order MAML, all equal to v_K.
"""

from typing import NamedTuple

import autograd.numpy as anp
import numpy as np

from tinymaml import chain, maml
from tinymaml.check import differences
from tinymaml.maml import Array, Task
from tinymaml.plots import figures
from tinymaml.plots.figures import BLACK, BLUE, VERMILLION


# Chosen for the eye: v turns by about 20 degrees a step, and no arrow hides a step.
START, ALPHA, STEPS = np.array([-0.6, 2.4]), 0.5, 3
BEND, SLOPE, LOWEST, CENTRE = 0.36, 0.4, 2.7, np.array([1.2, 1.4])
FRAME = np.array([[-1.5, 3.2], [-0.3, 4.0]])
SHADES = [str(light) for light in np.linspace(1, 0.6, 10)]
ARROW = {"angles": "xy", "scale_units": "xy", "scale": 1, "zorder": 3}
EXACT = r"exact:  $v_k = v_{k+1} - H_k\,(\alpha v_{k+1})$"
FIRST = r"first-order:  $v_k = v_{k+1}$"
ARROWS = r"$-v_k$: where $\theta_k$ should go to lower $Q(\theta_3)$ fastest"


def valley(theta: Array) -> Array:
    """Return S (...) at theta (..., 2): its floor is y = BEND x^2, lowest at x = LOWEST."""
    x, y = theta[..., 0], theta[..., 1]
    return ((y - BEND * x**2) ** 2 + SLOPE * (x - LOWEST) ** 2) / 2


def bowl(theta: Array) -> Array:
    """Return Q (...) at theta (..., 2), so that -grad Q is an arrow that ends in CENTRE."""
    return anp.sum((theta - CENTRE) ** 2, axis=-1) / 2


TASK = Task(lambda _: lambda t: anp.sum(valley(t)), lambda _: lambda t: anp.sum(bowl(t)))


class Chain(NamedTuple):
    """The path theta_0 ... theta_K, and v_0 ... v_K of both kinds, (K + 1, 2) each.

    angle: between the two v_0, in degrees
    error: of the exact v_0 against central differences, relative
    """

    thetas: Array
    exact: Array
    first: Array
    angle: float
    error: float


def solved() -> Chain:
    """Return the path and the v_k of the problem."""
    steps, thetas = chain.forward(START, TASK, [ALPHA] * STEPS)
    _, last = maml.first_order(START, TASK, ALPHA, STEPS)
    exact = np.stack([chain.back(steps[k:], last)[0] for k in range(STEPS + 1)])
    cosine = exact[0] @ last / np.linalg.norm(exact[0]) / np.linalg.norm(last)
    slope = differences.gradient(lambda t: bowl(maml.adapt(t, TASK, ALPHA, STEPS)), START)
    error = differences.difference(exact[0], slope)
    first = np.tile(last, (STEPS + 1, 1))
    return Chain(np.stack(thetas), exact, first, np.degrees(np.arccos(cosine)), error)


def caption(found: Chain) -> str:
    """Return the two figures of the picture, a sentence each."""
    return (
        f"The first-order gradient is {found.angle:.0f} degrees off the exact one.\n"
        f"The exact one agrees with central differences to {found.error:.0e}."
    )


def picture(found: Chain):
    """Return the figure: the exact chain on the left, first-order MAML on the right."""
    figure = figures.new_figure(7, 4.25)
    left, right = figure.subplots(1, 2, sharex=True, sharey=True)
    panels = (left, EXACT, found.exact, 1), (right, FIRST, found.first, -1)
    for axes, title, vs, side in panels:
        _losses(axes)
        axes.plot(*found.thetas.T, "o-", color=BLACK, label="inner steps")
        axes.quiver(*found.thetas.T, *-vs.T, color=VERMILLION, width=0.011, **ARROW)
        for k, (theta, v) in enumerate(zip(found.thetas, vs, strict=True)):
            beside = 13 * side * v[::-1] * (1, -1) / np.linalg.norm(v)
            _name(axes, theta, f"$\\theta_{k}$", BLACK, (-9, -8))
            _name(axes, theta - v, f"$-v_{k}$", VERMILLION, beside)
        axes.set_title(title, fontsize=11)
    right.quiver(*START, *-found.exact[0], color=BLACK, width=0.006, **ARROW)
    _name(right, START - found.exact[0], "exact $-v_0$", BLACK, (36, 4))
    between = START - (found.exact + found.first)[0] / 4
    _name(right, between, f"{found.angle:.0f}°", BLACK, (0, 0))
    right.plot([], [], color=VERMILLION, marker=">", label=ARROWS)
    shown = right.get_legend_handles_labels()
    figure.legend(*shown, loc="outside lower center", ncols=2, frameon=False)
    figure.suptitle(caption(found), fontsize=10)
    return figure


def _losses(axes) -> None:
    x, y = np.meshgrid(*(np.linspace(low, high, 200) for low, high in FRAME))
    grid = np.stack([x, y], axis=-1)
    levels = np.arange(len(SHADES)) ** 2  # evenly spaced contours of a bowl
    axes.contourf(x, y, valley(grid), levels / 9, colors=SHADES, extend="max")
    axes.contour(x, y, bowl(grid), levels / 5, colors=BLUE, linestyles="--", linewidths=0.9)
    axes.plot([], [], color=SHADES[5], linewidth=8, label="support loss $S$ (dark: high)")
    axes.plot([], [], "--", color=BLUE, label="query loss $Q$ (contours)")
    low = np.array([LOWEST, BEND * LOWEST**2])
    minima = (low, "min $S$", BLACK, (0, 10)), (CENTRE, "min $Q$", BLUE, (22, 9))
    for at, name, color, away in minima:
        axes.plot(*at, "+", color=color, markersize=8, zorder=4)
        _name(axes, at, name, color, away)
    axes.set(xlim=FRAME[0], ylim=FRAME[1], aspect="equal", xticks=[], yticks=[])


def _name(axes, at: Array, text: str, color: str, away: tuple[float, float]) -> None:
    """Write a text at an offset (points) from a place (data), on a white halo."""
    from matplotlib.patheffects import withStroke

    halo = [withStroke(linewidth=2, foreground="white")]
    how = {"color": color, "ha": "center", "va": "center", "path_effects": halo}
    axes.annotate(text, at, away, textcoords="offset points", **how)
