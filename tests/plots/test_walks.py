"""Walks of 2D navigation: the policies, goals and steps that are drawn."""

import numpy as np
import pytest
from PIL import Image

from folders import evaluated, folder, judged_of, lines_of
from tinymaml import maml
from tinymaml.experiments import problem
from tinymaml.experiments.pointnav import PointNav
from tinymaml.harness import evaluation
from tinymaml.plots import groups, walks
from tinymaml.plots.walks import GOALS, STEPS, WALKS


SMALL = PointNav(
    horizon=8, hidden=(6,), chunk=2, test_tasks=5, test_trajectories=3, test_steps=3
)
TASK = 1


@pytest.fixture(scope="module")
def walked(tmp_path_factory):
    """What two policies have walked, and what was read of the first."""
    into = tmp_path_factory.mktemp("runs")
    more = SMALL.with_changes({"algorithm": "fomaml", "seed": 1})
    paths = [evaluated(folder(into / "a", SMALL)), evaluated(folder(into / "b", more))]
    found = groups.read(paths)
    judged = judged_of(found)
    pairs = zip(found, judged, strict=True)
    return [walks.walks(group, one, TASK) for group, (one, *_) in pairs], judged[0][0]


def test_walks_are_the_adapted_policies(walked):
    """Rejects steps in another order, other goals, and steps after the end."""
    (found, _), one = walked
    family = problem(SMALL)
    draws = evaluation.held_out(SMALL, "test", range(TASK, TASK + GOALS))
    assert found.goals.tolist() == draws.goals.tolist()
    theta = np.tile(one.theta, (GOALS, 1))
    task = family.task(draws)
    # The first step is whole, the others are halved (appendix A.2 of the paper).
    alphas = SMALL.alpha * np.array([1, 0.5, 0.5])[:, None, None]
    task.support(maml.adapt(theta, task, alphas, 3))
    path = task.path
    for step, met in enumerate(path):
        for goal in range(GOALS):
            for n in range(WALKS):
                walk = found.paths[step][goal][n]
                length = int((met.weights[goal, n] > 0).sum())
                np.testing.assert_allclose(
                    walk, met.observations[goal, n, :length], atol=1e-5
                )
    assert len(found.paths) == len(path) == 4


def test_a_row_a_run_a_column_a_goal(walked):
    """Rejects rows of one policy, goals of another panel, and steps that only their colour
    tells apart."""
    found, _ = walked
    figure = walks.draw(found)
    rows = np.reshape(figure.axes, (2, GOALS))
    assert [row[0].get_title(loc="left") for row in rows] == [
        *("MAML, 1 inner step", "first-order MAML, 1 inner step"),
    ]
    for row, run in zip(rows, found, strict=True):
        for goal, axes in enumerate(row):
            lines = lines_of(axes)
            assert lines["goal"].tolist() == [run.goals[goal].tolist()]
            for step, *_, label in STEPS:
                np.testing.assert_array_equal(lines[label], run.paths[step][goal][0])
    assert (found[0].goals == found[1].goals).all()
    assert (lines_of(rows[0, 0])["before"] != lines_of(rows[1, 0])["before"]).any()
    assert len({dashes for _, dashes, *_ in STEPS}) == len(STEPS)


def test_the_animation_shows_all_runs_and_moves(walked, tmp_path):
    """Rejects one frame only, and a second run that is not drawn."""
    found, _ = walked
    with Image.open(walks.animate(found, tmp_path / "walks.gif")) as moving:
        assert moving.n_frames >= 2 * len(STEPS)
        assert moving.size[1] == 2 * walks.PANEL + walks.MARGIN
        first = moving.convert("RGB").tobytes()
        moving.seek(moving.n_frames - 1)
        assert moving.convert("RGB").tobytes() != first
