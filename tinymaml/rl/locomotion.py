"""Locomotion: a half-cheetah or an ant runs in a direction, or at a velocity.

Shapes: T tasks, N trajectories of each, side by side, and (T N,) for both in one axis;
goals (T,), actions (T, N, d). MuJoCo simulates in float64: seconds, metres, kilograms.

Source: half_cheetah_env_rand.py, half_cheetah_env_rand_direc.py, ant_env_rand.py and
ant_env_rand_direc.py of the official code (cbfinn/maml_rl @9c8e2eb), on rllab's
mujoco_env.py; and half_cheetah_v5.py and ant_v5.py of Gymnasium. All run on the installed
MuJoCo. The paper's was 1.31, with other contacts, inertias and solver: the same policy has
other returns.
"""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import lru_cache
from importlib.util import find_spec
from threading import Lock
from typing import Any, NamedTuple

import numpy as np
from numpy.random import Generator

from tinymaml.errors import WorldError
from tinymaml.maml import Array
from tinymaml.rl import bodies


TASKS = ("cheetah-dir", "cheetah-vel", "ant-dir", "ant-vel")
VELOCITIES = ("com", "root")
# Goals are uniform from 0 to this velocity, in m/s; in "dir" the lower half of them means
# backward (half_cheetah_env_rand.py:24, _direc.py:32; ant_env_rand.py:31, _direc.py:30).
FASTEST = {"cheetah": 2.0, "ant": 3.0}
HEIGHTS = 0.2, 1.0  # of the ant's torso; outside the trajectory ends (ant_env_rand.py:59)
# The ant's start in rllab: init_qpos of its ant.xml.
CROUCHED = (0, 0, 0.55, 1, 0, 0, 0, 0, 1, 0, -1, 0, -1, 0, 1)


class Weights(NamedTuple):
    """The weights of a reward's parts beside the velocity, whose weight is 1."""

    control: float  # of minus the sum of the squared actions
    contact: float  # of minus the sum of the squared contact forces, clipped to [-1, 1]
    alive: float  # of 1


# half_cheetah_env_rand.py:57-66, ant_env_rand.py:49-65; the defaults of Gymnasium's files.
RULES = {
    "rllab": {"cheetah": Weights(0.05, 0, 0), "ant": Weights(0.005, 0.0005, 0.05)},
    "gymnasium": {"cheetah": Weights(0.1, 0, 0), "ant": Weights(0.5, 0.0005, 1)},
}
# The numbers in an action, and in an observation: the sizes of the parts of `observe`.
# Cheetah: 8 + 9, in rllab + 3. Ant: 15 + 14 + 84 + 9 + 3, in Gymnasium 13 + 14 + 78.
ACTIONS = {"cheetah": 6, "ant": 8}
OBSERVED = {"rllab": {"cheetah": 20, "ant": 125}, "gymnasium": {"cheetah": 17, "ant": 105}}
# The ant's time step and the impedance of its contacts, in ant.xml of each.
ANTS = {"rllab": (0.02, (0.8, 0.8, 0.01)), "gymnasium": (0.01, (0.9, 0.95, 0.001))}


class Simulations(NamedTuple):
    """The simulations of one rollout: live arrays (T N, ...) that a step changes."""

    batch: Any  # mujoco.batch.Batch
    qpos: Array
    qvel: Array
    ctrl: Array
    sensors: Array  # x, y, z of the centre of mass, and its velocity
    torso: Array  # x, y, z; after a step those of its last simulation step
    turned: Array  # the torso's rotation matrix (T N, 9)
    forces: Array  # contact forces (T N, bodies, 6)
    x: Array  # of the root, at the last time step


class Locomotion(NamedTuple):
    """The world; with `oracle` the policy observes the goal.

    rules: "rllab", as the paper's code, or "gymnasium": costs, start, observation and ant.
        The contact forces are those of the new state; Gymnasium's are of a moment before
    frame_skip: simulation steps in a time step
    velocity: "com", of the centre of mass at the new state, or "root", the mean velocity of
        the torso over the time step
    """

    task: str = "cheetah-dir"
    rules: str = "rllab"
    frame_skip: int = 1
    velocity: str = "com"
    oracle: bool = False

    @property
    def known(self) -> bool:
        """Whether there is such a world."""
        names = self.task in TASKS and self.rules in RULES and self.velocity in VELOCITIES
        return names and self.frame_skip >= 1

    @property
    def body(self) -> str:
        """The body: "cheetah" or "ant"."""
        return self.task.partition("-")[0]

    @property
    def actions(self) -> int:
        """The number of numbers in an action: the motors."""
        return ACTIONS[self.body]

    @property
    def observed(self) -> int:
        """The number of numbers in an observation."""
        return OBSERVED[self.rules][self.body] + self.oracle

    def draw(self, rng: Generator) -> Array:
        """Return the goal () of one task.

        Raises ValueError for a world that does not exist, WorldError without MuJoCo.
        """
        if not self.known:
            raise ValueError(f"no such world: {self}")
        compiled(self.body, self.rules)
        return np.array(rng.uniform(0, FASTEST[self.body]))

    def target(self, goals: Array) -> Array:
        """Return the direction, -1 or 1, or the velocity that goals (T,) stand for."""
        if self.task.endswith("vel"):
            return goals
        return np.where(goals < FASTEST[self.body] / 2, -1.0, 1.0)

    def start(
        self, goals: Array, trajectories: int, rngs: Sequence[Generator]
    ) -> Simulations:
        """Return new simulations at the start with noise from each task's generator.

        rllab: normal, 0.01 in position and 0.1 in velocity (mujoco_env.py:108-115).
        Gymnasium: uniform in [-0.1, 0.1] in position and normal, 0.1, in velocity.
        Raises ValueError for a world that does not exist, for goals that are not (T,), and
        without a generator for each task. Raises WorldError without MuJoCo.
        """
        if not self.known or goals.ndim != 1 or len(rngs) != len(goals):
            given = f"{self}, goals {goals.shape}, {len(rngs)} generators"
            raise ValueError(f"no such world, or not a generator for each task: {given}")
        model = compiled(self.body, self.rules)  # says so where MuJoCo is missing
        from mujoco.batch import Batch

        batch = Batch(model, len(goals) * trajectories, nthread=1)
        qpos, qvel, ctrl, sensors, forces, places, turns = (
            batch.bind(name)
            for name in ("qpos", "qvel", "ctrl", "sensordata", "cfrc_ext", "xpos", "xmat")
        )
        size, rllab = (trajectories, model.nq), self.rules == "rllab"
        at = np.array(CROUCHED if rllab and self.body == "ant" else model.qpos0)
        for i, rng in enumerate(rngs):
            own = slice(i * trajectories, (i + 1) * trajectories)
            noise = (
                0.01 * rng.standard_normal(size) if rllab else rng.uniform(-0.1, 0.1, size)
            )
            qpos[own] = at + noise
            qvel[own] = 0.1 * rng.standard_normal((trajectories, model.nv))
        batch.forward(stage=self.stage)
        x, torso, turned = qpos[:, 0].copy(), places[:, 1], turns[:, 1]
        return Simulations(batch, qpos, qvel, ctrl, sensors, torso, turned, forces, x)

    @property
    def stage(self) -> Any:
        """What MuJoCo computes at a new state: up to velocities, or an ant's forces."""
        from mujoco import mjtStage

        return mjtStage.mjSTAGE_ACC if self.body == "ant" else mjtStage.mjSTAGE_VEL

    def observe(self, now: Simulations, goals: Array) -> Array:
        """Return observations (T, N, o) float64.

        Cheetah: positions without x, velocities; in rllab the centre of mass. Ant:
        positions, velocities, contact forces clipped to [-1, 1]; in rllab the torso's
        rotation and the centre of mass; in Gymnasium neither x and y nor the forces on the
        world.
        """
        rllab, ant = self.rules == "rllab", self.body == "ant"
        hidden = (0 if rllab else 2) if ant else 1
        parts = [now.qpos[:, hidden:], now.qvel]
        if ant:
            forces = np.clip(now.forces if rllab else now.forces[:, 1:], -1, 1)
            parts.append(forces.reshape(len(forces), -1))
        if rllab:
            parts += [now.turned] * ant + [now.sensors[:, :3]]
        tasks, count = len(goals), len(now.qpos) // len(goals)
        if self.oracle:
            parts.append(np.repeat(self.target(goals), count)[:, None])
        return np.concatenate(parts, axis=-1).reshape(tasks, count, -1)

    def step(
        self, now: Simulations, goals: Array, actions: Array, alive: Array
    ) -> tuple[Simulations, Array, Array]:
        """Return the simulations, rewards (T, N) float64 and whether each is done (T, N).

        actions: (T, N, d); the motors clip them to [-1, 1]
        alive: (T, N); where it is False nothing moves, and the reward means nothing
        The reward of a simulation that breaks is nan.
        """
        from mujoco import mjtStage

        batch, failed = now.batch, np.zeros(len(now.qpos), bool)
        now.ctrl[:] = actions.reshape(now.ctrl.shape)
        moving = None if alive.all() else np.flatnonzero(alive)
        late = self.body == "ant" and self.rules == "gymnasium"
        with _guarded(failed):
            batch.step(
                moving, self.frame_skip, mjtStage.mjSTAGE_NONE if late else self.stage
            )
        x = now.qpos[:, 0]
        if late:  # MuJoCo's xpos is one simulation step old, and Gymnasium's ant uses it
            x = now.torso[:, 0].copy()
            with _guarded(failed):
                batch.forward(moving, stage=self.stage)
        seconds = self.frame_skip * batch.model.opt.timestep
        v = now.sensors[:, 3] if self.velocity == "com" else (x - now.x) / seconds
        now.x[:] = x
        standing = self._standing(now)
        rewards = self._rewards(
            now, v, np.repeat(self.target(goals), alive.shape[1]), standing
        )
        broken = failed | batch.warning[..., 1].any(axis=-1)
        rewards = np.where(broken, np.nan, rewards).reshape(alive.shape)
        return now, rewards, ~standing.reshape(alive.shape)

    def _standing(self, now: Simulations) -> Array:
        """Return whether each simulation is not over (T N,)."""
        (low, high), z = HEIGHTS, now.qpos[:, 2]
        return (low <= z) & (z <= high) if self.body == "ant" else np.ones(len(z), bool)

    def _rewards(self, now: Simulations, v: Array, target: Array, standing: Array) -> Array:
        """Return the rewards (T N,) of velocities v at the new states."""
        part, rllab = RULES[self.rules][self.body], self.rules == "rllab"
        actions = np.clip(now.ctrl, -1, 1) if rllab else now.ctrl
        forces = np.clip(now.forces, -1, 1)
        gain = target * v if self.task.endswith("dir") else -np.abs(v - target)
        gain = gain + (self.task == "ant-vel")  # ant_env_rand.py:56
        costs = part.control * (actions**2).sum(-1) + part.contact * (forces**2).sum((1, 2))
        return gain - costs + part.alive * (standing | rllab)


@lru_cache
def compiled(body: str, rules: str) -> Any:
    """Return the MuJoCo model. Raises WorldError without MuJoCo 4 or later."""
    try:
        import mujoco
        import mujoco.batch
    except ImportError as error:
        old = "--force-reinstall --no-deps 'mujoco-core>=4'"
        install = old if find_spec("mujoco") else "'tinymaml[mujoco]'"
        raise WorldError(f"locomotion needs MuJoCo 4: pip install {install}") from error
    if body == "ant":
        return mujoco.MjModel.from_xml_string(bodies.ant(*ANTS[rules]))
    model = mujoco.MjModel.from_xml_string(bodies.cheetah())
    mujoco.mj_setTotalmass(model, bodies.CHEETAH_MASS)
    mujoco.mj_setConst(model, mujoco.MjData(model))
    return model


LOG_LOCK = Lock()  # of `_log`
LOG: dict[str, Any] = {"threads": 0, "usual": None}


@contextmanager
def _guarded(failed: Array) -> Iterator[None]:
    """Mark simulations that fail; keep MuJoCo from writing to stderr and a log file."""
    from mujoco.batch import SimulationError

    _log(+1)
    try:
        yield
    except SimulationError as error:
        failed[error.ids] = True
    finally:
        _log(-1)


def _log(entering: int) -> None:
    """Switch MuJoCo's log off for the first thread that simulates, back on after the last.

    The settings of the log are those of the whole process, so this count is too.
    """
    from mujoco import MjLogConfig

    with LOG_LOCK:
        LOG["threads"] += entering
        if LOG["threads"] == 1 and entering > 0:
            quiet, LOG["usual"] = MjLogConfig.get(), MjLogConfig.get()
            quiet.logto_console = quiet.logto_file = False
            quiet.set()
        elif LOG["threads"] == 0:
            LOG["usual"].set()
