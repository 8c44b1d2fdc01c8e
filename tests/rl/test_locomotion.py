"""The world of locomotion: states, rewards, starts and ends, against MuJoCo itself."""

import os

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tinymaml.rl import locomotion, policy, rollout
from tinymaml.rl.locomotion import FASTEST, RULES, TASKS, VELOCITIES, Locomotion, compiled


mujoco = pytest.importorskip("mujoco")
batch = pytest.importorskip("mujoco.batch")

GOALS = np.array([0.3, 1.9])  # backward and forward, for both bodies
N = 3
BODIES = ("cheetah", "ant")
bodies = pytest.mark.parametrize("body", BODIES)
rules = pytest.mark.parametrize("rules", RULES)
seeds = st.integers(0, 2**32)


def generators(seed, count=2):
    return [np.random.default_rng([seed, i]) for i in range(count)]


def started(world, seed=0, trajectories=N):
    return world.start(GOALS, trajectories, generators(seed))


def draws(world, seed, horizon, scale=1.0):
    """Actions (H, T, N, d), many of them beyond the motors' range."""
    shape = horizon, len(GOALS), N, world.actions
    return scale * np.random.default_rng(seed).standard_normal(shape)


ALIVE = np.ones((len(GOALS), N), bool)


def run(world, seed=0, horizon=6, scale=1.0, alive=ALIVE):
    """Yield the simulations, their x before, the rewards and who is done, step by step."""
    now = started(world, seed)
    for actions in draws(world, seed, horizon, scale):
        now, rewards, done = world.step(now, GOALS, actions, alive)
        yield now, actions, rewards, done


def by_hand(world, now, i):
    """Return MuJoCo's data of simulation i at its state, computed anew."""
    model = compiled(world.body, world.rules)
    data = mujoco.MjData(model)
    data.qpos[:], data.qvel[:] = now.qpos[i], now.qvel[i]
    mujoco.mj_forward(model, data)
    mujoco.mj_subtreeVel(model, data)
    return model, data


class Loop:
    """One simulation by a loop of mj_step, in rllab's order."""

    def __init__(self, world, qpos, qvel):
        self.model, self.skip = compiled(world.body, world.rules), world.frame_skip
        self.data = mujoco.MjData(self.model)
        self.data.qpos[:], self.data.qvel[:] = qpos, qvel
        mujoco.mj_forward(self.model, self.data)

    def step(self, action):
        self.data.ctrl[:] = action
        for _ in range(self.skip):
            mujoco.mj_step(self.model, self.data)
        self.x = self.data.xpos[1, 0]  # of the torso, before the new state is computed
        mujoco.mj_forward(self.model, self.data)
        mujoco.mj_rnePostConstraint(self.model, self.data)
        return self.data


# ----- States -----


@rules
@bodies
@pytest.mark.parametrize("skip", [1, 3])
def test_sensors_are_of_the_new_state(body, rules, skip):
    """Rejects those before the last simulation step, and the torso's for the body's."""
    world = Locomotion(f"{body}-dir", rules, skip)
    check_sensors(world, started(world))
    for now, *_ in run(world):
        check_sensors(world, now)


def check_sensors(world, now):
    """Compare them with MuJoCo's functions, and the velocity with a mean by mass."""
    for i in range(2 * N):
        model, data = by_hand(world, now, i)
        assert now.sensors[i, :3].tolist() == data.subtree_com[1].tolist()
        assert now.sensors[i, 3:6].tolist() == data.subtree_linvel[1].tolist()
        assert now.turned[i].tolist() == data.xmat[1].tolist()
        momentum, v = np.zeros(3), np.zeros(6)
        for k in range(1, model.nbody):
            mujoco.mj_objectVelocity(model, data, mujoco.mjtObj.mjOBJ_BODY, k, v, 0)
            momentum += model.body_mass[k] * v[3:]
        mean = momentum / model.body_mass.sum()
        np.testing.assert_allclose(now.sensors[i, 3:6], mean, atol=1e-12)
        assert now.sensors[i, 3] != now.qvel[i, 0]


@rules
@bodies
@pytest.mark.parametrize("skip", [1, 5])
def test_a_step_is_a_loop_of_mj_step(body, rules, skip):
    """Rejects a simulation step more or less, one for another, and states kept in part.

    The contact forces are those that mj_rnePostConstraint computes at the new state. MuJoCo
    has none of the world's own, and without a sensor none at all.
    """
    world = Locomotion(f"{body}-vel", rules, skip)
    now = started(world)
    loops = [Loop(world, *state) for state in zip(now.qpos, now.qvel, strict=True)]
    touched = 0
    for actions in draws(world, 2, 40 // skip):
        now, *_ = world.step(now, GOALS, actions, ALIVE)
        flat = actions.reshape(len(loops), -1)
        for i, (loop, action) in enumerate(zip(loops, flat, strict=True)):
            data = loop.step(action)
            assert now.qpos[i].tolist() == data.qpos.tolist()
            assert now.qvel[i].tolist() == data.qvel.tolist()
            if body == "ant":
                assert now.forces[i].tolist() == data.cfrc_ext.tolist()
                assert not now.forces[i, 0].any()
                touched += bool(now.forces[i, 1:].any())
    assert now.qpos.dtype == now.qvel.dtype == np.float64
    assert (touched > 0) == (body == "ant")


@bodies
def test_threads_do_not_change_a_bit(monkeypatch, body):
    """Rejects a result that depends on how many threads MuJoCo has, or simulations."""
    world = Locomotion(f"{body}-dir", frame_skip=2)
    alone = [(now.qpos.copy(), r) for now, _, r, _ in run(world)][-1]
    make = batch.Batch
    monkeypatch.setattr(batch, "Batch", lambda *args, nthread: make(*args, nthread=2))
    two = [(now.qpos.copy(), r) for now, _, r, _ in run(world)][-1]
    assert [x.tobytes() for x in alone] == [x.tobytes() for x in two]


@bodies
def test_a_simulation_does_not_see_its_neighbours(body):
    """Rejects noise, warm starts or contacts that simulations share: 5 of 16 are 5."""
    world, goals = Locomotion(f"{body}-dir", frame_skip=5), np.array([1.9])
    actions = np.random.default_rng(0).standard_normal((6, 1, 16, world.actions))
    found = []
    for count in (16, 5):
        now = world.start(goals, 16, generators(0, 1))
        qpos, qvel = now.qpos[:count].copy(), now.qvel[:count].copy()
        now = world.start(goals, count, generators(1, 1))
        now.qpos[:], now.qvel[:] = qpos, qvel
        now.x[:] = qpos[:, 0]
        for one in actions:
            alive = np.ones((1, count), bool)
            now, rewards, _ = world.step(now, goals, one[:, :count], alive)
        found.append((now.qpos[:5].tobytes(), rewards[0, :5].tobytes()))
    assert found[0] == found[1]


@pytest.mark.parametrize("task", ["cheetah-dir", "ant-dir"])
def test_a_start_is_whole(task):
    """Rejects a start that keeps forces or a warm start of an unrelated rollout.

    Both bodies fall from their start: the first contacts come within the rollout.
    """
    world = Locomotion(task, frame_skip=5)

    def bits(seed):
        return [
            np.concatenate([r.ravel(), world.observe(now, GOALS).ravel()]).tobytes()
            for now, _, r, _ in run(world, seed, 12)
        ]

    fresh = bits(3)
    assert bits(4) != fresh
    assert bits(3) == fresh


@bodies
def test_those_that_are_over_do_not_move(body):
    """Rejects simulating all until the last is over, and neighbours that wait."""
    world = Locomotion(f"{body}-dir")
    alive = ALIVE.copy()
    alive[0, 1] = alive[1, 2] = False
    some = [now.qpos.copy() for now, *_ in run(world, alive=alive)]
    every = [now.qpos.copy() for now, *_ in run(world)]
    moved = alive.ravel()
    assert (some[-1][moved] == every[-1][moved]).all()
    assert (some[-1][~moved] == started(world).qpos[~moved]).all()
    assert (some[-1][~moved] != every[-1][~moved]).any()
    nobody = [now.qpos.copy() for now, *_ in run(world, alive=np.zeros_like(alive))]
    assert (nobody[-1] == started(world).qpos).all()


# ----- Observations -----


@rules
@bodies
@pytest.mark.parametrize("oracle", [False, True])
def test_observations_by_hand(body, rules, oracle):
    """Rejects an order, a coordinate or a body that is left out, and forces as they are."""
    world = Locomotion(f"{body}-vel", rules, oracle=oracle)
    widths = {
        "cheetah": {"rllab": 20, "gymnasium": 17},
        "ant": {"rllab": 125, "gymnasium": 105},
    }
    assert world.observed == widths[body][rules] + oracle
    assert world.actions == {"cheetah": 6, "ant": 8}[body]
    beyond = 0
    for now, *_ in run(world, horizon=25, scale=2):
        seen = world.observe(now, GOALS)
        assert seen.shape == (2, N, world.observed)
        for i, row in enumerate(seen.reshape(2 * N, -1)):
            _, data = by_hand(world, now, i)
            forces = now.forces[i]
            beyond += (np.abs(forces) > 1).any()
            parts = {
                ("cheetah", "rllab"): (data.qpos[1:], data.qvel, data.subtree_com[1]),
                ("cheetah", "gymnasium"): (data.qpos[1:], data.qvel),
                ("ant", "rllab"): (
                    *(data.qpos, data.qvel, np.clip(forces, -1, 1).ravel()),
                    *(data.xmat[1], data.subtree_com[1]),
                ),
                ("ant", "gymnasium"): (
                    *(data.qpos[2:], data.qvel, np.clip(forces[1:], -1, 1).ravel()),
                ),
            }[body, rules]
            goal = GOALS[i // N : i // N + 1] if oracle else []
            assert row.tolist() == np.concatenate([*parts, goal]).tolist()
    assert (beyond > 0) == (body == "ant")


@bodies
def test_the_oracle_sees_the_direction(body):
    """Rejects a goal in metres per second where only its half counts."""
    world = Locomotion(f"{body}-dir", oracle=True)
    seen = world.observe(started(world), GOALS)
    assert seen[..., -1].tolist() == [[-1] * N, [1] * N]


# ----- Goals and rewards -----


@pytest.mark.parametrize("task", TASKS)
def test_goals_are_uniform(task):
    """Rejects goals of the other body, and directions that are not equally likely."""
    world, most = Locomotion(task), 2 if task.startswith("cheetah") else 3
    goals = np.array([world.draw(np.random.default_rng([5, i])) for i in range(2000)])
    assert goals.shape == (2000,)
    assert goals.min() > 0
    assert goals.max() < most
    assert goals.mean() == pytest.approx(most / 2, abs=0.06)
    assert goals.std() == pytest.approx(most / np.sqrt(12), abs=0.04)
    target = world.target(goals)
    if task.endswith("vel"):
        assert (target == goals).all()
    else:
        assert {*target.tolist()} == {-1, 1}
        assert abs(target.mean()) < 0.07


@pytest.mark.parametrize(("body", "half"), [("cheetah", 1.0), ("ant", 1.5)])
def test_the_lower_half_is_backward(body, half):
    """Rejects the sign of the goal, which is always 1, and the other body's half."""
    goals = np.array([0.01, half - 0.01, half, half + 0.01, 2 * half])
    assert FASTEST[body] == 2 * half
    assert Locomotion(f"{body}-dir").target(goals).tolist() == [-1, -1, 1, 1, 1]


def reward_by_hand(world, v, goal, action, forces, z):
    """The formula of the paper's code, or of Gymnasium with a goal, for one trajectory."""
    clipped = [min(max(a, -1), 1) for a in action]
    squares = sum(a**2 for a in (clipped if world.rules == "rllab" else action))
    contact = sum(min(max(f, -1), 1) ** 2 for f in forces.ravel())
    sign = -1 if goal < FASTEST[world.body] / 2 else 1
    gain = sign * v if world.task.endswith("dir") else -abs(v - goal)
    if world.body == "cheetah":
        return gain - {"rllab": 0.05, "gymnasium": 0.1}[world.rules] * squares
    if world.task == "ant-vel":
        gain += 1
    if world.rules == "rllab":
        return gain - 0.005 * squares - 0.0005 * contact + 0.05
    return gain - 0.5 * squares - 0.0005 * contact + (0.2 <= z <= 1)


@pytest.mark.parametrize("task", TASKS)
@given(rules=st.sampled_from([*RULES]), velocity=st.sampled_from(VELOCITIES), seed=seeds)
def test_rewards_by_hand(task, rules, velocity, seed):
    """Rejects a sign, a cost, a clip, a bonus or a velocity of something else."""
    world = Locomotion(task, rules, 2, velocity)
    now, late = started(world, seed), task.startswith("ant") and rules == "gymnasium"
    loops = [Loop(world, *state) for state in zip(now.qpos, now.qvel, strict=True)]
    before = now.qpos[:, 0].copy()
    for now, actions, rewards, _ in run(world, seed, 3, 1.5):
        for i, loop in enumerate(loops):
            action = actions[i // N, i % N]
            loop.step(action)
            x = loop.x if late else now.qpos[i, 0]
            root = (x - before[i]) / (2 * loop.model.opt.timestep)
            before[i] = x
            com = by_hand(world, now, i)[1].subtree_linvel[1, 0]
            v = {"com": com, "root": root}[velocity]
            args = GOALS[i // N], action, now.forces[i], now.qpos[i, 2]
            want = reward_by_hand(world, v, *args)
            assert rewards[i // N, i % N] == pytest.approx(want, abs=1e-10)
    assert rewards.dtype == np.float64


@bodies
@rules
def test_the_cost_is_of_what_the_motors_do(body, rules):
    """Rejects a cost of what the policy asked for in the paper's world: 5 is as 1 there."""
    world = Locomotion(f"{body}-dir", rules)
    found = []
    for size in (1, 5):
        now = started(world)
        actions = np.full((2, N, world.actions), float(size))
        now, rewards, _ = world.step(now, GOALS, actions, ALIVE)
        found.append((now.qpos.copy(), rewards))
    (one, cheap), (five, dear) = found
    assert (one == five).all()
    cost = {"cheetah": 0.1, "ant": 0.5}[body] * world.actions * 24
    np.testing.assert_allclose(cheap - dear, cost * (rules == "gymnasium"), atol=1e-9)


@rules
def test_an_ant_that_falls_or_jumps_is_done(rules):
    """Rejects an end at one height only, or by the height before; a cheetah never ends.

    Gymnasium pays for standing, rllab for every time step.
    """
    heights = np.array([[0.05, 0.12, 0.3], [0.97, 1.05, 1.5]])
    for body in BODIES:
        world = Locomotion(f"{body}-dir", rules)
        now = started(world)
        if body == "ant":
            now.qpos[:] = compiled(body, rules).qpos0
            now.qpos[:, 2] = heights.ravel()
        else:
            now.qpos[:, 1] = 10 * heights.ravel()
        now.qvel[:] = 0
        still = np.zeros((2, N, world.actions))
        now, rewards, done = world.step(now, GOALS, still, ALIVE)
        z = now.qpos[:, 2].reshape(2, N)
        over = (z < 0.2) | (z > 1)
        assert done.tolist() == (over & (body == "ant")).tolist()
        assert {*done.ravel().tolist()} == ({True, False} if body == "ant" else {False})
        for i, reward in enumerate(rewards.ravel()):
            v = by_hand(world, now, i)[1].subtree_linvel[1, 0]
            args = GOALS[i // N], still[0, 0], now.forces[i], now.qpos[i, 2]
            assert reward == pytest.approx(reward_by_hand(world, v, *args), abs=1e-10)


def test_heights_of_an_ant_have_both_ends():
    """Rejects a test above in which all are over, or none."""
    world = Locomotion("ant-dir")
    now = started(world)
    now.qpos[:, 2] = [0.19, 0.2, 0.5, 1.0, 1.001, 2]
    assert world._standing(now).tolist() == [False, True, True, True, False, False]


# ----- Starts -----


@rules
@bodies
def test_starts_are_noisy(body, rules):
    """Rejects another spread, a coordinate without noise, and the other world's start."""
    world, count = Locomotion(f"{body}-dir", rules), 400
    model = compiled(body, rules)
    now = world.start(GOALS, count, generators(1))
    crouched = [0, 0, 0.55, 1, 0, 0, 0, 0, 1, 0, -1, 0, -1, 0, 1]
    base = crouched if (body, rules) == ("ant", "rllab") else model.qpos0
    noise = {"qpos": now.qpos - base, "qvel": now.qvel - 0}
    spread = {"rllab": 0.01, "gymnasium": 0.1 / np.sqrt(3)}[rules]
    for name, deviation in (("qpos", spread), ("qvel", 0.1)):
        found = noise[name]
        np.testing.assert_allclose(found.std(axis=0), deviation, rtol=0.15)
        np.testing.assert_allclose(found.mean(axis=0), 0, atol=5 * deviation / np.sqrt(800))
        assert len(np.unique(found)) == found.size  # none shared, by tasks or trajectories
        correlations = np.corrcoef(found.T) - np.eye(found.shape[1])
        assert np.abs(correlations).max() < 0.2
    across = np.corrcoef(noise["qpos"].T, noise["qvel"].T)[: model.nq, model.nq :]
    assert np.abs(across).max() < 0.2
    assert (np.abs(noise["qpos"]).max() <= 0.1) or rules == "rllab"
    far = (np.abs(noise["qpos"]) > 2 * spread).any()  # a normal has tails
    assert far == (rules == "rllab")
    assert not now.forces[:, 1:].any() or body == "ant"


# ----- What breaks -----

MODEL = policy.gaussian_mlp((20, 8, 6), policy.anp.tanh)


class Breaking(Locomotion):
    """The world in which simulation 1 gets an absurd velocity before time step 2."""

    def step(self, now, goals, actions, alive):
        self.t = getattr(self, "t", -1) + 1
        if self.t == 2:
            now.qvel[1, 0] = 1e12
        return super().step(now, goals, actions, alive)


def acted(world, dtype="float64", horizon=6, trajectories=N):
    rng = np.random.default_rng(0)
    theta = MODEL.init(rng)
    theta = np.tile(theta, (2, 1)).astype(dtype)
    noise = rng.standard_normal((2, trajectories, horizon, 6)).astype(dtype)
    return rollout.act(MODEL, world, theta, GOALS, noise, 0.99, generators(7))


@pytest.mark.parametrize("velocity", VELOCITIES)
def test_a_simulation_that_breaks_ends_its_trajectory_alone(
    tmp_path, monkeypatch, capfd, velocity
):
    """Rejects a nan in a result, a reset that goes on, a log in the user's folder."""
    monkeypatch.chdir(tmp_path)
    whole = acted(Locomotion(velocity=velocity))
    x = acted(Breaking(velocity=velocity))
    assert x.lost.tolist() == [1, 0]
    live = x.weights > 0
    assert live.sum(axis=-1).tolist() == [[6, 2, 6], [6, 6, 6]]
    for a, b in zip(x[3:6], whole[3:6], strict=True):
        assert (a[live] == b[live]).all()
    assert (x.rewards == np.where(live, whole.rewards, 0)).all()
    assert all(np.isfinite(array).all() for array in x)
    assert os.listdir() == []
    assert capfd.readouterr() == ("", "")


@rules
@pytest.mark.parametrize("task", TASKS)
@pytest.mark.parametrize("field", ["qpos", "qvel"])
@pytest.mark.parametrize("value", [1e12, 1e200, np.inf, np.nan])
def test_a_reward_is_nan_where_a_simulation_breaks(task, rules, field, value):
    """Rejects a warning of NumPy, an exception, and neighbours that break too."""
    for velocity in VELOCITIES:
        world = Locomotion(task, rules, 2, velocity)
        now, actions = started(world), np.zeros((2, N, world.actions))
        getattr(now, field)[1, 0] = value
        for _ in range(2):
            now, rewards, _ = world.step(now, GOALS, actions, ALIVE)
            assert np.isfinite(rewards).ravel().tolist() == [True, False, *[True] * 4]
        world.observe(now, GOALS)


def test_the_log_is_as_before():
    """Rejects a world that silences MuJoCo for the rest of the program."""
    before = mujoco.MjLogConfig.get()
    list(run(Breaking()))
    after = mujoco.MjLogConfig.get()
    assert before.logto_console
    assert (after.logto_console, after.logto_file) == (
        before.logto_console,
        before.logto_file,
    )


def test_the_log_waits_for_the_last_thread():
    """Rejects a thread that switches the log on while another one still simulates, and one
    that takes the silence of another for the user's wish."""
    usual = mujoco.MjLogConfig.get().logto_file
    first, second = (locomotion._guarded(np.zeros(1, bool)) for _ in range(2))
    with first:
        second.__enter__()
        assert not mujoco.MjLogConfig.get().logto_file
    assert usual
    assert not mujoco.MjLogConfig.get().logto_file
    second.__exit__(None, None, None)
    assert mujoco.MjLogConfig.get().logto_file


@pytest.mark.parametrize(
    "wrong",
    [
        *(("cheetah",), ("humanoid-dir",), ("ant-dir", "openai")),
        *(("ant-dir", "rllab", 0), ("cheetah-vel", "rllab", 1, "speed")),
    ],
)
def test_a_world_that_does_not_exist_is_refused(wrong):
    """Rejects a cheetah for a humanoid, and a direction for a word that is none."""
    with pytest.raises(ValueError, match="no such world"):
        Locomotion(*wrong).start(np.zeros(1), 1, [np.random.default_rng(0)])
    with pytest.raises(ValueError, match="generator"):
        Locomotion().start(np.zeros(2), 1, [np.random.default_rng(0)])
    with pytest.raises(ValueError, match="goals"):
        Locomotion().start(np.zeros((1, 2)), 1, [np.random.default_rng(0)])


@rules
@bodies
def test_an_action_that_is_no_number_earns_none(body, rules):
    """Rejects motors that MuJoCo switches off for a nan, and a reward for that; and an
    action of 1e11 that is more to a motor than 1."""
    world, found = Locomotion(f"{body}-dir", rules), {}
    for value in (np.nan, 1e11, 1.0):
        now, actions = started(world), np.zeros((2, N, world.actions))
        actions[1, 0, 2] = value
        now, rewards, _ = world.step(now, GOALS, actions, ALIVE)
        found[value] = rewards.ravel(), now.qvel.copy()
    rewards, _ = found[np.nan]
    assert np.flatnonzero(np.isnan(rewards)).tolist() == [N]
    np.testing.assert_array_equal(found[1e11][1], found[1.0][1])


def test_a_task_of_which_all_break_has_no_score():
    """Rejects a return of nothing."""

    class Broken(Locomotion):
        def step(self, now, goals, actions, alive):
            now.qvel[N:, 0] = 1e12
            return super().step(now, goals, actions, alive)

    x = acted(Broken())
    assert x.lost.tolist() == [0, N]
    assert np.isnan(x.scores).tolist() == [False, True]


# ----- Precision -----


def test_single_precision_stays_outside():
    """Rejects float64 in what the policy met, and a simulation in single precision."""
    sums, kinds = [], set()

    class Counting(Locomotion):
        def step(self, now, goals, actions, alive):
            now, rewards, done = super().step(now, goals, actions, alive)
            kinds.update((now.qpos.dtype.name, now.qvel.dtype.name, rewards.dtype.name))
            assert (now.qpos != now.qpos.astype("float32")).any()
            sums.append(rewards)
            return now, rewards, done

    x = acted(Counting(), "float32", 200)
    assert kinds == {"float64"}
    assert {array.dtype.name for array in x} == {"float32"}
    assert len(sums) == 200
    expected = np.sum(sums, axis=0).mean(axis=-1)
    np.testing.assert_allclose(x.returns, expected, rtol=0, atol=1e-3)


# ----- Gymnasium's own worlds -----


@pytest.mark.parametrize("body", BODIES)
def test_two_hundred_steps_are_gymnasiums(tmp_path, monkeypatch, body):
    """Rejects whatever makes this world another one: states have Gymnasium's bits.

    The ant's contact forces are of another moment there, so their cost differs a little.
    """
    gymnasium = pytest.importorskip("gymnasium")
    monkeypatch.chdir(tmp_path)
    name = {"cheetah": "HalfCheetah-v5", "ant": "Ant-v5"}[body]
    envs = [gymnasium.make(name).unwrapped for _ in range(2 * N)]
    world = Locomotion(f"{body}-dir", "gymnasium", 5, "root")
    now = started(world)
    for env, *state in zip(envs, now.qpos, now.qvel, strict=True):
        env.reset(seed=0)
        env.set_state(*state)
    over, costs = set(), np.zeros(2)
    for actions in draws(world, 0, 200):
        now, rewards, done = world.step(now, GOALS, actions, ALIVE)
        seen = world.observe(now, GOALS).reshape(2 * N, -1)
        for i, env in enumerate(envs):
            action, sign = actions[i // N, i % N], [-1, 1][i // N]
            observed, reward, ended, _, info = env.step(action)
            assert now.qpos[i].tolist() == env.data.qpos.tolist()
            assert now.qvel[i].tolist() == env.data.qvel.tolist()
            assert done[i // N, i % N] == ended
            over.add(ended)
            count = 17 if body == "cheetah" else 27
            assert seen[i, :count].tolist() == observed[:count].tolist()
            assert seen.shape[1] == len(observed)
            assert np.abs(seen[i, count:]).max(initial=0) <= 1
            cost = 0.0005 * (seen[i, count:] ** 2).sum()
            costs += cost, -info.get("reward_contact", 0)
            want = reward - info.get("reward_contact", 0) + (sign - 1) * info["x_velocity"]
            assert rewards[i // N, i % N] + cost == pytest.approx(want, abs=1e-12)
    assert costs[0] == pytest.approx(costs[1], rel=0.25)
    assert (costs[0] > 0) == (body == "ant")
    assert over == ({False} if body == "cheetah" else {False, True})


@pytest.mark.parametrize(
    "wrong", [{"task": "dog-run"}, {"task": "cheetah-fly"}, {"rules": "x"}]
)
def test_no_goal_of_a_world_that_does_not_exist(wrong):
    """Rejects a KeyError from the inside, and a goal for a task without a reward."""
    with pytest.raises(ValueError, match="no such world"):
        Locomotion(**wrong).draw(np.random.default_rng(0))
