"""The canvas and the lines of all pictures. Lines differ in colour and in dashes.

matplotlib's Figure API keeps no global state and needs no screen. matplotlib is imported
where it is used (extra `plot`).
"""

from collections.abc import Sequence
from io import BytesIO
from pathlib import Path
from textwrap import fill
from typing import Any

import numpy as np
from PIL import Image

from tinymaml.errors import WorldError
from tinymaml.harness import runs
from tinymaml.maml import Array
from tinymaml.summary import NOT_FINITE


# Okabe & Ito's colours, which the colour-blind can distinguish, without the pale ones.
BLACK, GREY, PALE, WHITE = "#000000", "#777777", "#E4E4E4", "#FFFFFF"
ORANGE, BLUE, GREEN = "#E69F00", "#0072B2", "#009E73"
VERMILLION, PURPLE = "#D55E00", "#CC79A7"
# Cycles of three lengths without a common factor: 105 lines that differ.
COLORS = (BLUE, VERMILLION, GREEN, PURPLE, BLACK, ORANGE, GREY)
DASHES = ("-", "--", "-.", ":", (0, (6, 1, 1, 1, 1, 1)))
MARKERS = ("o", "s", "^")
STEEP = 20  # least ratio of the largest to the smallest value for a logarithmic axis
DECADES = 3  # longest logarithmic axis with labels at 1, 2, 5, 10, ...
DPI = 150
CHARACTER, ENTRY = 0.075, 0.8  # inches: a character, and the rest of a legend's entry


def new_figure(width: float, height: float):
    """Return an empty figure, in inches; raise WorldError without matplotlib."""
    try:
        from matplotlib.figure import Figure
    except ImportError as error:
        lacking = "pictures need matplotlib: pip install 'tinymaml[plot]'"
        raise WorldError(lacking) from error
    return Figure(figsize=(width, height), dpi=DPI, layout="constrained")


def style(number: int) -> dict[str, Any]:
    """Return color, linestyle and marker of line number 0, 1, ..."""
    kinds = {"color": COLORS, "linestyle": DASHES, "marker": MARKERS}
    return {name: values[number % len(values)] for name, values in kinds.items()}


def tidy(axes) -> None:
    """Leave the frame open, and put a faint grid behind the lines."""
    axes.spines[["top", "right"]].set_visible(False)
    axes.grid(color=PALE, linewidth=0.8)
    axes.set_axisbelow(True)


def log_from(means: Array) -> float | None:
    """Return the lower end of a logarithmic axis for these means, None for a linear one.

    The axis is logarithmic when the finite means are positive and span more than STEEP.
    """
    means = means[np.isfinite(means)]
    steep = len(means) and 0 < STEEP * means.min() < means.max()
    return means.min() / 2 if steep else None


def make_log(axes, least: float) -> None:
    """Make the y axis logarithmic, from `least`, with plain numbers at 1, 2, 5, 10, ...

    A long axis has numbers at powers of ten, or at some of them.
    """
    from matplotlib.ticker import LogLocator, NullFormatter

    axes.set_yscale("log")
    most = axes.dataLim.ymax * 1.1
    axes.set_ylim(least, most)
    long = np.log10(most) - np.log10(least) > DECADES
    axes.yaxis.set_major_locator(LogLocator(subs=(1,) if long else (1, 2, 5)))
    axes.yaxis.set_major_formatter("{x:g}")
    axes.yaxis.set_minor_formatter(NullFormatter())


def level(axes, value: float, label: str) -> None:
    """Draw a thin line at a reference value, with its name at the line's end."""
    axes.axhline(value, color=GREY, linewidth=1, linestyle=(0, (1, 2)))
    where = axes.get_yaxis_transform()  # x as a share of the axes, y as the data
    axes.text(1, value, label, color=GREY, ha="right", va="bottom", transform=where)


def missing(axes, names: Sequence[str]) -> None:
    """Write into the corner of a panel what it lacks, because it is not finite."""
    if names:
        box = {"facecolor": WHITE, "edgecolor": "none", "alpha": 0.7, "pad": 1}
        how = {"color": VERMILLION, "fontsize": "small", "bbox": box}
        what = "\n".join([f"{NOT_FINITE}:", *names])
        axes.text(0.02, 0.03, what, va="bottom", transform=axes.transAxes, **how)


def wrapped(text: str, width: float) -> str:
    """Break a text into lines of at most `width` inches."""
    return fill(text, int(width / CHARACTER))


def name_row(row, name: str) -> None:
    """Write a name above a row of axes: beside it there is no room for a long one."""
    name = wrapped(name, row[0].figure.get_figwidth() - 0.6)
    row[0].set_title(name, loc="left", fontsize="medium")


def legend(figure, axes, title: str | None = None) -> None:
    """Add a legend of some axes' lines below all axes, where it hides no curve."""
    handles, labels = axes.get_legend_handles_labels()
    width = figure.get_figwidth()
    sizes = [ENTRY + CHARACTER * len(label) for label in labels]
    columns = len(labels) if sum(sizes) < width else max(1, int(width / max(sizes)))
    labels = [wrapped(label, width - ENTRY) for label in labels]
    # A handle is so long that dashes show on both sides of the marker.
    how = {"title": title, "ncols": columns, "handlelength": 4, "columnspacing": 1}
    figure.legend(handles, labels, loc="outside lower center", frameon=False, **how)


def after(steps: int) -> str:
    """Return "before", "after 1 step", "after 2 steps", ..."""
    return f"after {steps} step" + "s" * (steps > 1) if steps else "before"


class Film:
    """An animation of a figure: only what moves is drawn again.

    dpi: dots per inch
    colors: of all frames; without them each frame has its own
    """

    def __init__(self, figure, dpi: int, colors: Sequence[str] = ()) -> None:
        from matplotlib.backends.backend_agg import FigureCanvasAgg

        self.palette = Image.new("P", (1, 1)) if colors else None
        if self.palette:
            self.palette.putpalette(bytes.fromhex("".join(colors).replace("#", "")))
        figure.set_dpi(dpi)
        self.canvas = FigureCanvasAgg(figure)
        self.canvas.draw()
        self.still = self.canvas.copy_from_bbox(figure.bbox)
        self.frames: list[Image.Image] = []
        self.durations: list[int] = []

    def take(self, moving: Sequence[Any], duration: int) -> None:
        """Add a frame of so many ms: the figure as it was at first, and what moves."""
        self.canvas.restore_region(self.still)
        for artist in moving:
            (artist.axes or self.canvas.figure).draw_artist(artist)
        shown = Image.fromarray(np.asarray(self.canvas.buffer_rgba())).convert("RGB")
        few = shown.quantize(palette=self.palette, dither=Image.Dither.NONE)
        self.frames.append(few)
        self.durations.append(duration)

    def save(self, path: Path) -> Path:
        """Write the frames as a GIF that begins again at its end."""
        first, *others = self.frames
        data, durations = BytesIO(), self.durations
        first.save(
            data, "GIF", save_all=True, append_images=others, duration=durations, loop=0
        )
        runs.write(path, data.getvalue())
        return path


def save(figure, path: Path) -> Path:
    """Write the figure as PNG, whole or not at all."""
    data = BytesIO()
    figure.savefig(data, format="png")
    runs.write(path, data.getvalue())
    return path
