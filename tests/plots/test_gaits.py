"""Gaits of bodies: the policies, tasks, times and shapes that are drawn."""

import numpy as np
import pytest
from matplotlib.colors import to_rgb
from PIL import Image

from folders import evaluated, folder, judged_of, legend_of, lines_of, notes_of
from tinymaml import maml, plots
from tinymaml.experiments import locomotion as experiment
from tinymaml.experiments import problem
from tinymaml.experiments.acting import SCORE, STARTS
from tinymaml.experiments.locomotion import Locomotion
from tinymaml.harness import evaluation
from tinymaml.plots import bodies, figures, gaits, groups
from tinymaml.plots.figures import BLACK, BLUE, after
from tinymaml.plots.gaits import LINES, STEPS, TASKS
from tinymaml.rl import locomotion, rollout


mujoco = pytest.importorskip("mujoco")
pytest.importorskip("mujoco.batch")

SMALL = Locomotion(
    horizon=6, hidden=(4,), chunk=2, test_tasks=3, test_trajectories=3, test_steps=3
)
TASK = 1
CASES = {
    "cheetah": SMALL,
    "ant": SMALL.with_changes({"task": "ant-vel", "horizon": 9}),
    "gymnasium": SMALL.with_changes(
        {"rules": "gymnasium", "frame_skip": 5, "velocity": "root"}
    ),
}
FLAT = (0.5, 0.6)  # heights that an ant soon leaves
SECONDS = {"cheetah": 0.01, "ant": 0.02, "gymnasium": 0.05}  # a time step


@pytest.fixture(scope="module")
def runs(tmp_path_factory):
    """The gaits of each case, what was read of its run, and the run's folder."""
    into, known = tmp_path_factory.mktemp("runs"), {}
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(locomotion, "HEIGHTS", FLAT)
        for case, config in CASES.items():
            path = evaluated(folder(into / case, config))
            (group,) = groups.read([path])
            ((one,),) = judged_of([group])
            known[case] = gaits.gaits(group, one, TASK), one, path
    return known


def met(case, one, found):
    """What a run's policy meets in the tasks of its gaits, after each step.

    The actions have the noise of the score after every step.
    """
    config, world = CASES[case], experiment.world(CASES[case])
    few = evaluation.held_out(config, "test", range(TASK, TASK + TASKS))
    asked = world.target(few.goals)
    chosen = [int(np.flatnonzero(asked == value)[0]) for value in found.asked]
    draws = few._make(part[chosen] for part in few)
    alphas = config.alpha * np.array([1, 0.5, 0.5])[:, None, None]
    theta, family = np.tile(one.theta, (2, 1)), problem(config)
    thetas = [
        maml.adapt(theta, family.task(draws), alphas[:step], step) if step else theta
        for step, *_ in STEPS
    ]
    shape = config.test_trajectories, config.horizon, world.actions
    experiences = []
    for adapted in thetas:
        starts = [np.random.default_rng([int(x), STARTS + SCORE]) for x in draws.seeds]
        noise = rollout.noise(draws.seeds, SCORE, shape, config.dtype)
        args = draws.goals, noise, config.discount, starts
        experiences.append(rollout.act(family.model, world, adapted, *args))
        expected = family.score(adapted, draws)
        np.testing.assert_allclose(experiences[-1].returns, expected, rtol=1e-5)
    return experiences


def centres(model, positions):
    """The centre of mass x at positions (..., q)."""
    data, found = mujoco.MjData(model), []
    for position in positions.reshape(-1, model.nq):
        data.qpos[:] = position
        mujoco.mj_kinematics(model, data)
        mujoco.mj_comPos(model, data)
        found.append(data.subtree_com[1, 0])
    return np.reshape(found, positions.shape[:-1])


@pytest.mark.parametrize("case", CASES)
def test_positions_are_those_that_the_policy_meets(runs, case, monkeypatch):
    """Rejects the steps in another order, other noise after a step than before, a position
    that changes after it was kept, and one time step too late."""
    monkeypatch.setattr(locomotion, "HEIGHTS", FLAT)
    found, one, _ = runs[case]
    experiences = met(case, one, found)
    assert found.positions.shape[:3] == (len(STEPS), 2, 3)
    hidden = 0 if case == "ant" else 1
    for positions, seen in zip(found.positions, experiences, strict=True):
        alive = seen.weights > 0
        before, later = positions[:, :, :-1], positions[:, :, 1:]
        wanted = seen.observations[..., : positions.shape[-1] - hidden]
        np.testing.assert_allclose(before[alive][:, hidden:], wanted[alive], atol=1e-4)
        if case == "cheetah":  # which observes the centre of mass, but not x
            x = centres(found.model, before)
            np.testing.assert_allclose(x, seen.observations[..., -3], atol=1e-4)
        if case == "gymnasium":  # whose reward has the change of x
            speed = seen.rewards + 0.1 * (seen.actions**2).sum(-1)
            moved = found.asked[:, None, None] * speed * SECONDS[case]
            np.testing.assert_allclose((later - before)[..., 0], moved, atol=1e-4)
    assert (experiences[0].observations != experiences[1].observations).any()


def test_a_trajectory_ends_where_it_ended(runs, monkeypatch):
    """Rejects a body that lies where it fell, as if it had been asked to."""
    monkeypatch.setattr(locomotion, "HEIGHTS", FLAT)
    found, one, _ = runs["ant"]
    experiences = met("ant", one, found)
    ended = False
    for positions, seen in zip(found.positions, experiences, strict=True):
        alive = seen.weights > 0
        assert np.isfinite(positions[:, :, 1:]).all(axis=-1).tolist() == alive.tolist()
        ended |= not alive.all()
    assert ended


@pytest.mark.parametrize(
    ("task", "names"),
    [("cheetah-dir", ["backward", "forward"]), ("cheetah-vel", None)],
)
def test_both_kinds_of_tasks_are_shown(tmp_path, task, names):
    """Rejects two tasks of one direction or of like velocities, and exchanged names."""
    config = SMALL.with_changes({"task": task})
    path = evaluated(folder(tmp_path / "a", config))
    (group,) = groups.read([path])
    ((one,),) = judged_of([group])
    found = gaits.gaits(group, one, 0)
    goals = evaluation.held_out(config, "test", range(TASKS)).goals
    figure = gaits.draw([found])
    texts = [axes.texts[0].get_text() for axes in figure.axes]
    if names:
        assert found.asked.tolist() == [-1, 1]
        assert texts == [f"asked: {name}" for name in names]
        assert "asked velocity" not in legend_of(figure)
        return
    assert found.asked.tolist() == [goals.min(), goals.max()]
    assert texts == [f"asked: {goals.min():.2f} m/s", f"asked: {goals.max():.2f} m/s"]
    for axes, asked in zip(figure.axes, found.asked, strict=True):
        line = lines_of(axes)["asked velocity"]
        np.testing.assert_allclose(line[:, 1], asked * line[:, 0])
        assert line[-1, 0] == found.seconds[-1]


@pytest.mark.parametrize("case", CASES)
def test_lines_are_x_over_seconds(runs, case):
    """Rejects time steps for seconds, another coordinate than x, a step under the name of
    another, and steps that differ in colour only."""
    found, *_ = runs[case]
    times = SECONDS[case] * np.arange(CASES[case].horizon + 1)
    for task, axes in enumerate(gaits.draw([found]).axes):
        lines = lines_of(axes)
        for i, (step, *_) in enumerate(STEPS):
            line = lines[after(step)]
            np.testing.assert_allclose(line[:, 0], times)
            np.testing.assert_array_equal(line[:, 1], found.positions[i, task, 0, :, 0])
        trajectories = min(LINES, found.positions.shape[2])
        asked = "asked velocity" in lines
        assert len(axes.lines) == len(STEPS) * trajectories + asked
    assert (lines["before"] != lines["after 1 step"]).any()
    assert len({dashes for _, dashes, _ in STEPS}) == len(STEPS)


def test_a_row_a_run(runs):
    """Rejects rows of one run, and a legend without what only one row has."""
    (cheetah, *_), (ant, *_) = runs["cheetah"], runs["ant"]
    figure = gaits.draw([cheetah, ant._replace(title="other")])
    rows = np.reshape(figure.axes, (2, 2))
    assert [row[0].get_title(loc="left") for row in rows] == ["MAML, 1 inner step", "other"]
    last = lines_of(rows[1, 0])["before"][:, 1]
    np.testing.assert_array_equal(last, ant.positions[0, 0, 0, :, 0])
    assert {"asked velocity", "before", "after 1 step"} <= {*legend_of(figure)}


# ----- The animation -----


def frames_of(file):
    with Image.open(file) as moving:
        frames, durations = [], []
        for number in range(moving.n_frames):
            moving.seek(number)
            frames.append(np.asarray(moving.convert("RGB")).astype(int))
            durations.append(moving.info["duration"])
    return frames, durations


def test_the_animation_moves_both_bodies(runs, tmp_path):
    """Rejects one frame only, a body that stands still, colours exchanged or lost, and an
    end that passes as quickly as the rest."""
    moving = runs["gymnasium"][0], runs["ant"][0]
    frames, durations = frames_of(gaits.animate(moving, tmp_path / "gaits.gif"))
    assert len(frames) == 10  # of the longer run; an ant's trajectories end earlier
    assert durations == [gaits.FRAME_MS] * 9 + [gaits.PAUSE_MS]
    height, width, _ = frames[0].shape
    for y in range(4):
        for x in range(2):
            own = [f[height * y // 4 :, width * x // 2 :] for f in frames]
            own = [f[: height // 4, : width // 2] for f in own]
            assert (own[-1] != own[0]).any()
            near = np.abs(own[-1] - np.round(255 * np.array(to_rgb(BLUE))))
            blue = (near.max(axis=2) < 3).mean() > 0.01
            assert blue == (y % 2 == 1)


def test_the_animation_shows_the_first_trajectory(runs, tmp_path, monkeypatch):
    """Rejects the best trajectory, another after the step than before, positions of another
    task, a frame after the end of a trajectory, and a time of another frame."""
    shown = []

    class Spy(bodies.Side):
        def __init__(self, axes, model, color):
            super().__init__(axes, model, color)
            self.met, self.color = [], color
            shown.append(self)

        def at(self, second, position):
            self.met.append((second, position))
            return super().at(second, position)

    monkeypatch.setattr(gaits, "Side", Spy)
    for case in ("cheetah", "ant"):
        shown.clear()
        found, *_ = runs[case]
        gaits.animate([found], tmp_path / "gaits.gif")
        assert [side.color for side in shown] == [BLACK, BLACK, BLUE, BLUE]
        for number, side in enumerate(shown):
            step, task = divmod(number, 2)
            path = found.positions[step, task, 0]
            length = np.isfinite(path).all(axis=1).sum()
            for t, (second, position) in enumerate(side.met):
                now = min(t, length - 1)
                assert position.tolist() == path[now].tolist()
                assert second == pytest.approx(SECONDS[case] * now)


def test_the_camera_follows_and_the_floor_passes():
    """Rejects a floor that goes with the body, and numbers at other places than theirs."""
    model = locomotion.compiled("cheetah", "rllab")
    axes = figures.new_figure(3, 2).subplots()
    side = bodies.Side(axes, model, BLACK)
    for x in (-3.3, 0.0, 2.6):
        position = model.qpos0.copy()
        position[0] = x
        side.at(0.5, position)
        torso = side.body.get_paths()[0].vertices
        assert (torso[:, 0].min() + torso[:, 0].max()) / 2 == pytest.approx(0, abs=1e-6)
        places = {n.get_text(): n.get_position()[0] for n in side.numbers}
        for text, place in places.items():
            assert place == pytest.approx(int(text.split()[0]) - x)
        for whole in range(int(np.ceil(x - bodies.SIDE)), int(x + bodies.SIDE)):
            assert f"{whole} m" in places
        assert side.caption.get_text() == f"0.50 s, x = {x:.2f} m"


def test_shapes_are_capsules_in_metres():
    """Rejects y for z, half of a length, a diameter for a radius, and an angle that turns
    the other way."""
    model = locomotion.compiled("cheetah", "rllab")
    position = model.qpos0.copy()
    torso = bodies.shapes(model, position)[0]
    np.testing.assert_allclose(torso.min(axis=0), [-0.546, 0.654], atol=2e-3)
    np.testing.assert_allclose(torso.max(axis=0), [0.546, 0.746], atol=2e-3)
    position[:3] = 2, 0.1, -0.5  # x, z and an angle about y that lifts the head
    axis = np.array([np.cos(0.5), np.sin(0.5)])
    moved = bodies.shapes(model, position)[0]
    along = (moved - [2, 0.8]) @ axis
    across = (moved - [2, 0.8]) @ [-axis[1], axis[0]]
    assert along.max() == pytest.approx(0.546, abs=2e-3)
    assert np.abs(across).max() == pytest.approx(0.046, abs=1e-3)


def test_what_is_near_hides_what_is_far():
    """Rejects a far leg of the ant on its torso, and a sphere that is not round."""
    model = locomotion.compiled("ant", "rllab")
    outlines = bodies.shapes(model, model.qpos0)
    data = mujoco.MjData(model)
    mujoco.mj_forward(model, data)
    depth = -np.sort(-data.geom_xpos[1:, 1])
    assert len(outlines) == len(depth) == 13
    (where,) = np.flatnonzero(np.ptp(outlines[:, :, 1], axis=1) > 0.4)
    assert depth[where] == 0
    distance = np.linalg.norm(outlines[where] - [0, 0.75], axis=1)
    np.testing.assert_allclose(distance, 0.25)
    far = np.flatnonzero(np.isclose(data.geom_xpos[1:, 1], depth[0]))[0] + 1
    centre = outlines[0].mean(axis=0)
    assert np.isclose(data.geom_xpos[1:, ::2], centre).all(axis=1).any()
    assert data.geom_xpos[far, 1] > 0


def test_pictures_of_locomotion(runs):
    """Rejects a command that does not know the picture, and a large file."""
    *_, path = runs["cheetah"]
    drawn = plots.draw([path])
    assert [file.name for file in drawn] == ["steps.png", "gaits.png", "gaits.gif"]
    assert drawn[-1].stat().st_size < 10**6


def test_a_task_whose_simulation_breaks_is_named(runs, monkeypatch):
    """Rejects a body that stops as if it had been asked to, without a word."""
    step = locomotion.Locomotion.step

    def breaking(self, now, goals, actions, alive):
        now.qvel[0, 0] = 1e12
        return step(self, now, goals, actions, alive)

    found, one, path = runs["cheetah"]
    assert not found.lost.any()
    monkeypatch.setattr(locomotion.Locomotion, "step", breaking)
    (group,) = groups.read([path])
    found = gaits.gaits(group, one, TASK)
    assert found.lost.tolist() == [[True, False]] * len(STEPS)
    left, right = gaits.draw([found]).axes
    assert notes_of(left) == ["not finite:\nbefore\nafter 1 step\nafter 3 steps"]
    assert notes_of(right) == []
