"""Pictures of runs, drawn from their folders. Needs matplotlib: pip install '.[plot]'."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path

from tinymaml.plots import curves, figures, fits, groups, sheets, walks


# The picture of single tasks, by the experiment's own choice of one.
OF_TASKS = {"fits": fits.pictures, "sheets": sheets.pictures, "walks": walks.pictures}


def draw(
    folders: Sequence[Path],
    data: str | None = None,
    task: int = 0,
    fallback: bool = False,
) -> list[Path]:
    """Draw runs of one experiment together, into the first folder; return the files.

    folders: of a run, or of runs of several seeds
    data: the data file, when it has moved
    task: the number of the held-out task that is shown, and from which others follow
    fallback: use an older theta when the newest is damaged

        curve.png               learning; not of what was not trained
        steps.png               the score of held-out tasks after each gradient step
        fit.png                 sine: held-out tasks before and after steps
        sheet.png               images: the same
        walks.png, walks.gif    2D navigation: the same

    A run that was not evaluated has only the first; a line on stderr says so.
    Raises WorldError without matplotlib or a theta, UsageError for runs of different
    experiments.
    """
    found = groups.read(folders, data)
    figures.new_figure(1, 1)  # reports a missing matplotlib before anything is computed
    into = folders[0]
    files = []
    if learned := curves.learning(found):
        files.append(figures.save(learned, into / "curve.png"))
    judged = [[groups.judged(run, fallback) for run in group.runs] for group in found]
    for group, some in zip(found, judged, strict=True):
        for run, one in zip(group.runs, some, strict=True):
            if one is None:
                asked = f"tinymaml evaluate {run.path}"
                print(f"{str(run.path)!r} was not evaluated: {asked}", file=sys.stderr)
    if not all(map(all, judged)):
        return files
    files.append(figures.save(curves.steps(found, judged), into / "steps.png"))
    return files + OF_TASKS[found[0].config.picture](found, judged, task, into)
