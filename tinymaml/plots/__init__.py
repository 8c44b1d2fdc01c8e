"""Pictures of runs, drawn from their folders. Needs matplotlib: pip install '.[plot]'."""

import sys
from collections.abc import Sequence
from pathlib import Path

from tinymaml.errors import WorldError
from tinymaml.plots import curves, figures, fits, gaits, groups, rates, sheets, walks


# The pictures of single tasks, by the experiment's own choice.
OF_TASKS = {"fits": fits, "sheets": sheets, "walks": walks, "gaits": gaits}


def draw(
    folders: Sequence[Path], data: str | None = None, task: int = 0, fallback: bool = False
) -> list[Path]:
    """Draw runs of one experiment together, into the first folder; return the files.

    folders: of a run, or of runs of several seeds
    data: the data file, when it has moved
    task: the number of the first held-out task to show
    fallback: use an older theta when the newest is damaged

        curve.png               learning, of runs that were trained
        steps.png               the score of held-out tasks after each gradient step
        rates.png               learned step sizes
        fit.png                 sine: held-out tasks before and after steps
        sheet.png               images: the same
        walks.png, walks.gif    2D navigation: the same
        gaits.png, gaits.gif    locomotion: the same

    A run that was not evaluated has only the first, and pictures of tasks need its data or
    its simulator; a line on stderr says so.
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
    every = [run for group in found for run in group.runs]
    tested = [one for some in judged for one in some]
    lacking = [run for run, one in zip(every, tested, strict=True) if one is None]
    for run in lacking:
        asked = f"tinymaml evaluate {run.path}"
        print(f"{str(run.path)!r} was not evaluated: {asked}", file=sys.stderr)
    if lacking:
        return files
    files.append(figures.save(curves.steps(found, judged), into / "steps.png"))
    if sizes := rates.picture(found, judged):
        files.append(figures.save(sizes, into / "rates.png"))
    try:
        files += OF_TASKS[found[0].config.picture].pictures(found, judged, task, into)
    except WorldError as error:  # the data or the simulator, which only these need
        print(f"no picture of tasks: {error}", file=sys.stderr)
    return files
