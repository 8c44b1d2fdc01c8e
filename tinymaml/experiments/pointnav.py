"""2D navigation: section 5.3 of the paper."""

from typing import ClassVar

from tinymaml.experiments import acting
from tinymaml.experiments.acting import Acting
from tinymaml.experiments.common import configuration
from tinymaml.fewshot import Problem
from tinymaml.options import WORLD, option, redefault
from tinymaml.rl import pointnav


@configuration
class PointNav(Acting):
    """Navigate in the plane to a goal that only the rewards reveal."""

    name: ClassVar[str] = "pointnav"
    title: ClassVar[str] = "2D navigation"
    picture: ClassVar[str] = "walks"

    iterations: int = redefault(500, "A.2")
    tasks: int = redefault(
        40, "maml_trpo_point.py:20; A.2 has 20, where one seed of five diverged"
    )
    reward: str = option(
        "negative_distance",
        "reward at the new position",
        "point_env_randgoal.py:39-42; the paper's A.2 squares the distance",
        choices=tuple(pointnav.REWARDS),
        role=WORLD,
    )

    @property
    def anchors(self) -> dict[str, float]:
        """Returns that need no learning, in the world of the official code."""
        official = self.reward == "negative_distance" and self.horizon == 100
        return {"standing still": -38.26, "clairvoyant": -0.51} if official else {}


CONFIG = PointNav


def setup(config: PointNav) -> Problem:
    """Return the problem of navigating in the plane."""
    world = pointnav.PointNav(config.reward, config.method.sees_task)
    return acting.setup(config, world)
