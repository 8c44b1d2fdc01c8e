"""Pictures of runs, drawn from their folders. Needs matplotlib: pip install '.[plot]'."""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import Executor
from pathlib import Path

from tinymaml.plots import curves, figures, fits, groups, sheets, walks
from tinymaml.speed.workers import Here


def draw(
    folders: Sequence[Path],
    data: str | None = None,
    task: int = 0,
    engine: Executor | None = None,
    fallback: bool = False,
) -> list[Path]:
    """Draw runs of one experiment together, into the first folder; return the files.

    folders: of a run, or of runs of several seeds
    data: the data file, when it has moved
    task: the number of the held-out task that is shown, and from which others follow
    engine: where a run without evaluation is evaluated; here unless told
    fallback: use an older theta where the newest is damaged

        curve.png               learning; not of what was not trained
        steps.png               the score of held-out tasks after each gradient step
        fit.png                 sine: held-out tasks before and after steps
        sheet.png               images: the same
        walks.png, walks.gif    2D navigation: the same

    Of runs with --no-test that were not evaluated, learning only.
    Raises WorldError without matplotlib or a theta, UsageError for runs of different
    experiments.
    """
    found = groups.read(folders, data)
    figures.new_figure(1, 1)  # tells that matplotlib is missing before anything is computed
    config, into = found[0].config, folders[0]
    files = []

    def save(figure, name: str) -> None:
        files.append(figures.save(figure, into / name))

    if learned := curves.learning(found):
        save(learned, "curve.png")
    if not all(map(groups.tested, found)):
        return files
    judged = [groups.judged(group, engine or Here(), fallback) for group in found]
    save(curves.steps(found, judged), "steps.png")
    if config.name == "sine":
        save(fits.draw(found, judged, task), "fit.png")
    elif config.score == "accuracy":
        save(sheets.draw(found, judged, task), "sheet.png")
    elif config.setting == "rl":
        pairs = zip(found, judged, strict=True)
        walked = [walks.walks(group, some[0], task) for group, some in pairs]
        save(walks.draw(walked), "walks.png")
        files.append(walks.animate(walked, into / "walks.gif"))
    return files
