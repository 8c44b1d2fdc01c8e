"""The world of 2D navigation: its steps, its goals and its anchors."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tinymaml.experiments.pointnav import PointNav as Options
from tinymaml.rl.pointnav import PointNav


WORLD = PointNav()
coordinates = st.floats(-2, 2)
places = st.tuples(coordinates, coordinates)


def step(position, goal, action, world=WORLD):
    """One step of one trajectory: the new position, its reward, whether it is done."""
    arrays = (np.array(x, float) for x in (position, goal, action))
    position, goal, action = arrays
    alive = np.ones((1, 1), bool)
    new, reward, done = world.step(
        position[None, None], goal[None], action[None, None], alive
    )
    return new[0, 0], reward[0, 0], done[0, 0]


@given(places, places, st.tuples(st.floats(-50, 50), st.floats(-50, 50)))
def test_a_step_is_the_official_one(position, goal, action):
    """Rejects unscaled or unclipped actions, and the reward of the old position."""
    new, reward, _ = step(position, goal, action)
    moved = [
        p + min(max(0.1 * a, -0.1), 0.1) for p, a in zip(position, action, strict=True)
    ]
    np.testing.assert_allclose(new, moved, rtol=0, atol=1e-15)
    distance = np.hypot(moved[0] - goal[0], moved[1] - goal[1])
    assert reward == pytest.approx(-distance, abs=1e-12)
    squared = step(position, goal, action, PointNav("negative_squared_distance"))[1]
    assert squared == pytest.approx(-(distance**2), abs=1e-12)


@pytest.mark.parametrize(
    ("place", "done"),
    [
        ((0.0099, -0.0099), True),
        ((0.0101, 0), False),
        ((0, -0.0101), False),
        ((0, 0), True),
    ],
)
def test_done_is_a_box(place, done):
    """Rejects a disc of radius 0.01, and one coordinate of two."""
    assert step((0.3 + place[0], -0.2 + place[1]), (0.3, -0.2), (0, 0))[2] == done


@given(st.integers(0, 2**32))
def test_goals_are_uniform_in_the_square(seed):
    """Rejects goals of another range, and all tasks with one goal."""
    goals = np.array([WORLD.draw(np.random.default_rng([seed, i])) for i in range(200)])
    assert (np.abs(goals) <= 0.5).all()
    np.testing.assert_allclose(goals.mean(axis=0), 0, atol=0.12)
    np.testing.assert_allclose(goals.std(axis=0), 1 / np.sqrt(12), atol=0.06)


def test_all_begin_at_the_origin_and_only_the_oracle_sees_the_goal():
    """Rejects a goal that leaks into the observation, or stands for another task's."""
    goals = np.array([[0.1, 0.2], [0.3, -0.4]], np.float32)
    start = WORLD.start(goals, 3, ())
    assert start.shape == (2, 3, 2)
    assert not start.any()
    assert start.dtype == np.float32
    assert WORLD.observe(start + 0.5, goals).tolist() == (start + 0.5).tolist()
    oracle = PointNav(oracle=True)
    told = oracle.observe(start + 0.5, goals)
    assert (WORLD.observed, oracle.observed) == (2, 4)
    assert WORLD.actions == oracle.actions == 2
    assert told.dtype == np.float32
    assert (told[..., :2] == 0.5).all()
    assert (told[..., 2:] == goals[:, None]).all()


def run(choose, count=4000, horizon=100):
    """The mean return of count tasks when `choose(position, goals)` acts."""
    rng = np.random.default_rng(0)
    goals = np.array([WORLD.draw(rng) for _ in range(count)])
    positions, alive, total = WORLD.start(goals, 1, ()), np.ones((count, 1), bool), 0.0
    for _ in range(horizon):
        actions = choose(positions, goals[:, None])
        positions, rewards, done = WORLD.step(positions, goals, actions, alive)
        total += (rewards * alive).mean()
        alive = alive & ~done
    return total


def test_anchors_are_what_standing_still_and_knowing_the_goal_bring():
    """Rejects a table whose anchors are of another world."""
    still = run(lambda positions, _: np.zeros_like(positions))
    known = run(lambda positions, goals: 10 * (goals - positions))
    assert still == pytest.approx(Options().anchors["standing still"], abs=1)
    assert not Options(horizon=99).anchors
    assert not Options(reward="negative_squared_distance").anchors
    assert known == pytest.approx(Options().anchors["clairvoyant"], abs=0.03)


@pytest.mark.parametrize("shape", [(3,), (3, 1), (3, 3), (3, 1, 2)])
def test_goals_lie_in_the_plane(shape):
    """Rejects goals that broadcast: one number for both coordinates."""
    with pytest.raises(ValueError, match="goals"):
        WORLD.start(np.zeros(shape), 2, [])


def test_a_reward_that_does_not_exist_is_refused():
    """Rejects a KeyError in the middle of a rollout."""
    with pytest.raises(ValueError, match="no such world"):
        PointNav("distance").start(np.zeros((3, 2)), 2, [])


def test_an_action_that_is_no_number_earns_none():
    """Rejects a nan that the clip takes for a step."""
    _, reward, done = step((0, 0), (0.3, 0.3), (np.nan, 0))
    assert np.isnan(reward)
    assert not done


@pytest.mark.parametrize("shape", [(1, 5, 2), (1, 1, 1)])
def test_an_action_for_each_position(shape):
    """Rejects five walkers for one, and one number for both coordinates."""
    with pytest.raises(ValueError, match=r"at positions \(1, 1, 2\)"):
        PointNav().step(
            np.zeros((1, 1, 2)), np.zeros((1, 2)), np.zeros(shape), np.ones((1, 1), bool)
        )
