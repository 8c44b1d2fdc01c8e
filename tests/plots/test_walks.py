"""Walks of 2D navigation: the policies, goals and steps that are drawn."""

import numpy as np
import pytest
from matplotlib.colors import to_rgb
from matplotlib.text import Text
from PIL import Image

from folders import evaluated, folder, judged_of, lines_of, notes_of
from tinymaml import maml
from tinymaml.experiments import problem
from tinymaml.experiments.pointnav import PointNav
from tinymaml.harness import evaluation
from tinymaml.plots import groups, walks
from tinymaml.plots.figures import BLACK
from tinymaml.plots.walks import GOALS, STEPS, WALKS
from tinymaml.rl import pointnav


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


def test_a_walk_ends_at_its_goal(walked, monkeypatch):
    """Rejects a line from the goal back to the start, where the padding is."""
    monkeypatch.setattr(pointnav, "NEAR", 0.3)  # so that goals are reached
    found = walks.walks(groups.Group("run", []), walked[1], TASK)
    draws = evaluation.held_out(SMALL, "test", range(TASK, TASK + GOALS))
    task = problem(SMALL).task(draws)
    task.support(np.tile(walked[1].theta, (GOALS, 1)))
    lengths = (task.path[0].weights > 0).sum(axis=-1)[:, :WALKS]
    assert [[len(walk) for walk in some] for some in found.paths[0]] == lengths.tolist()
    assert lengths.min() < SMALL.horizon


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
            assert len(axes.lines) == 2 + 2 * len(STEPS)  # two walks after each step
            lines = lines_of(axes)
            assert lines["goal"].tolist() == [run.goals[goal].tolist()]
            for step, *_, label in STEPS:
                np.testing.assert_array_equal(lines[label], run.paths[step][goal][0])
    assert (found[0].goals == found[1].goals).all()
    assert (lines_of(rows[0, 0])["before"] != lines_of(rows[1, 0])["before"]).any()
    assert len({dashes for _, dashes, *_ in STEPS}) == len(STEPS)


def test_the_animation_shows_all_runs_and_moves(walked, tmp_path):
    """Rejects one frame only, a second run that is not drawn, frames of one step that keep
    the walks of another, and an end of a step that passes as quickly as the rest."""
    found, _ = walked
    with Image.open(walks.animate(found, tmp_path / "walks.gif")) as moving:
        frames, durations = [], []
        for number in range(moving.n_frames):
            moving.seek(number)
            frames.append(np.asarray(moving.convert("RGB")).astype(int))
            durations.append(moving.info["duration"])
    assert len(frames) == len(STEPS) * 3  # after 1, 5 and 8 time steps
    for first in range(0, len(frames), 3):
        assert durations[first : first + 3] == [walks.FRAME_MS] * 2 + [walks.PAUSE_MS]
    moved = np.any([frame != frames[0] for frame in frames[1:]], axis=(0, 3))
    middle = len(moved) // 2
    assert moved[middle // 4 : middle].any()  # below the title
    assert moved[middle:].any()
    for (_, _, color, _), frame in zip(STEPS, frames[2::3], strict=True):
        near = [
            np.abs(frame - 255 * np.array(to_rgb(other))).max(axis=2) < 40
            for _, _, other, _ in STEPS
            if other not in (color, BLACK)  # ticks are black
        ]
        assert not np.any(near)


def test_names_and_steps_are_whole_in_both_pictures(walked):
    """Rejects a long name that is cut at an edge or runs into the panels above it."""
    long = [run._replace(title="MAML" + 9 * ", an option 0.001") for run in walked[0]]
    figure, panels = walks._panels(long)
    figure.draw_without_rendering()
    for axes, _ in panels[::GOALS]:
        (name,) = (text for text in axes.findobj(Text) if len(text.get_text()) > 99)
        box = name.get_window_extent()
        assert 0 <= box.x0 < box.x1 <= figure.bbox.x1
        assert axes.bbox.y1 <= box.y0 < box.y1 <= figure.bbox.y1
    assert box.y1 < panels[0][0].bbox.y0  # the second row's name


def test_a_policy_that_diverges_is_named(tmp_path):
    """Rejects a traceback or a warning, and a panel without a word on what it lacks."""
    path = folder(tmp_path / "a", SMALL.with_changes({"alpha": 1e9}), means=[1.0])
    (group,) = groups.read([path])
    ((one,),) = judged_of([group])
    found = walks.walks(group, one, TASK)
    assert not found.lost[0].any()
    assert found.lost[1:].sum() > 6
    for goal, axes in enumerate(walks.draw([found]).axes):
        names = [STEPS[k][-1] for k in np.flatnonzero(found.lost[:, goal])]
        assert notes_of(axes) == (["\n".join(["not finite:", *names])] if names else [])
        assert len(lines_of(axes)["before"]) > 1
    assert walks.animate([found], tmp_path / "walks.gif").exists()
