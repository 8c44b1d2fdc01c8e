"""Locomotion of a half-cheetah and of an ant: section 5.3 of the paper, figure 5."""

from typing import ClassVar

from tinymaml.experiments import acting
from tinymaml.experiments.acting import Acting
from tinymaml.experiments.common import configuration
from tinymaml.fewshot import Problem
from tinymaml.options import TASK, WORLD, option, redefault
from tinymaml.rl import locomotion


CODE = "half_cheetah_env_rand_direc.py"
# A body at rest for 200 time steps: the mean of -|g|, and of 1 - |g| for the ant. The ant
# gets 10 for being alive and loses about 1.8 by its contacts (measured; starts differ).
STILL = {"cheetah-dir": 0.0, "cheetah-vel": -200.0, "ant-dir": 8.2, "ant-vel": -91.8}


@configuration
class Locomotion(Acting):
    """Make a half-cheetah or an ant run in a direction, or at a velocity; needs MuJoCo."""

    name: ClassVar[str] = "locomotion"
    title: ClassVar[str] = "Locomotion"
    picture: ClassVar[str] = "gaits"
    libraries: ClassVar[tuple[str, ...]] = ("mujoco",)
    step_sizes: ClassVar[tuple[float, ...]] = (0.02, 0.05, 0.1, 0.2, 0.5, 1.0)
    most_tasks: ClassVar[int] = 10

    iterations: int = redefault(300, "the paper has up to 500, its checkpoint 100")
    task: str = option(
        "cheetah-dir",
        "the body, and its goal: a direction or a velocity",
        "section 5.3",
        choices=locomotion.TASKS,
        role=TASK,
    )
    rules: str = option(
        "rllab",
        "costs, start, observation and ant: of the paper's code (rllab) or of gymnasium;"
        " --preset gymnasium-v5 sets all of Gymnasium's world",
        f"{CODE}, ant_env_rand.py",
        choices=tuple(locomotion.RULES),
        role=WORLD,
    )
    velocity: str = option(
        "com",
        "rewarded velocity: of the centre of mass at the new state (com), or the torso's"
        " mean over the time step (root)",
        "mjcore.py:58-81 of rllab; Gymnasium has root",
        choices=locomotion.VELOCITIES,
        role=WORLD,
    )
    frame_skip: int = option(
        1,
        "simulation steps in a time step",
        "mujoco_env.py:72-77 of rllab; Gymnasium has 5",
        role=WORLD,
        least=1,
        most=100,
    )
    horizon: int = redefault(200, f"A.2; {CODE}")
    max_kl: float = redefault(
        0.2, "measured, .github/results.md; test_maml_cheetah_direc.py:21 has 0.02"
    )
    chunk: int = redefault(5)
    test_steps: int = redefault(3, "test_maml_cheetah_direc.py")
    test_trajectories: int = redefault(20, "test_maml_cheetah_direc.py: 4000 time steps")

    @property
    def anchors(self) -> dict[str, float]:
        """The mean return of standing still, in the world of the official code."""
        official = self.rules == "rllab" and (self.frame_skip, self.horizon) == (1, 200)
        return {"standing still": STILL[self.task]} if official else {}


CONFIG = Locomotion


def setup(config: Locomotion) -> Problem:
    """Return the problem of one task. To draw its goal raises WorldError without MuJoCo."""
    return acting.setup(config, world(config))


def world(config: Locomotion) -> locomotion.Locomotion:
    """Return the world of the options."""
    return locomotion.Locomotion(
        *(config.task, config.rules, config.frame_skip, config.velocity),
        oracle=config.method.sees_task,
    )
