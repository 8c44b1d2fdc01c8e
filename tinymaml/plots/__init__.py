"""Pictures of runs, drawn from their folders. They need matplotlib (extra `plot`)."""

import os
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

from tinymaml.errors import UsageError, WorldError
from tinymaml.harness import runs
from tinymaml.plots import curves, figures, fits, gaits, groups, rates, sheets, walks


LONGEST = 100  # characters of a folder's name that is made from several
# The pictures of single tasks, by the experiment's own choice.
OF_TASKS = {"fits": fits, "sheets": sheets, "walks": walks, "gaits": gaits}


def draw(
    folders: Sequence[Path],
    data: str | None = None,
    task: int = 0,
    fallback: bool = False,
    into: Path | None = None,
    note: Callable[[str], None] = lambda picture: None,
) -> list[Path]:
    """Draw runs of one experiment together; return the files.

    folders: of a run, or of runs of several seeds
    data: the data file, when it has moved
    task: the number of the first held-out task to show
    fallback: use an older theta when the newest is damaged
    into: the folder of the pictures, by default `place(folders)`
    note: called with the name of each picture before it is drawn

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
    into = into or place(folders)
    judged = [[groups.judged(run, fallback) for run in group.runs] for group in found]
    every = [run for group in found for run in group.runs]
    tested = [one for some in judged for one in some]
    lacking = [run for run, one in zip(every, tested, strict=True) if one is None]
    for run in lacking:
        asked = f"tinymaml evaluate {run.path}"
        wanted = "was not evaluated as at the end of its training"
        print(f"{str(run.path)!r} {wanted}: {asked}", file=sys.stderr)
    files = []
    note("curve.png")
    learned = curves.learning(found)
    if learned or not lacking:
        into.mkdir(parents=True, exist_ok=True)
    if learned:
        files.append(figures.save(learned, into / "curve.png"))
    if lacking:
        return files
    complete = [[one for one in some if one] for some in judged]
    note("steps.png")
    files.append(figures.save(curves.steps(found, complete), into / "steps.png"))
    if sizes := rates.picture(found, complete):
        files.append(figures.save(sizes, into / "rates.png"))
    if not (picture := found[0].config.picture):
        return files
    note(picture)
    try:
        files += OF_TASKS[picture].pictures(found, complete, task, into)
    except WorldError as error:  # the data or the simulator, which only these need
        print(f"no picture of tasks: {error}", file=sys.stderr)
    return files


def place(folders: Sequence[Path]) -> Path:
    """Return the folder of the pictures of runs: of one run its own, of several a new one.

    It stands beside the first run's folder and has the names of all, as sine-1+sine-2.
    Raises UsageError when such a name is too long, or when it is that of a run.
    """
    first, *others = dict.fromkeys(folders)
    if not others:
        return first
    found = [folder.resolve() for folder in (first, *others)]
    above = os.path.commonpath(found)
    parts = (folder.relative_to(above).parts or (folder.name,) for folder in found)
    into = first.parent / "+".join(map("-".join, parts))
    if len(into.name) > LONGEST:
        raise UsageError("so many runs: name the folder of their pictures with --out")
    if runs.members(into) != [into] or (into / runs.CONFIG).exists():
        raise UsageError(f"{str(into)!r} is a run: name another folder with --out")
    return into
