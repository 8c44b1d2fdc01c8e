"""2D navigation: walk from the origin to a goal that only the rewards reveal.

Shapes: T tasks, N trajectories of each, side by side; positions (T, N, 2), goals (T, 2).

Source: maml_examples/point_env_randgoal.py of the official code (cbfinn/maml_rl), behind
rllab's normalized_env.py:78-86, which scales and clips the actions.
"""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from numpy.random import Generator

from tinymaml.maml import Array


GOALS = 0.5  # goals are uniform in [-0.5, 0.5]^2 (point_env_randgoal.py:20)
STRIDE = 0.1  # the length of action 1, and the longest in each coordinate (:17)
NEAR = 0.01  # a trajectory ends when both coordinates are this close to the goal (:43)

# By squared distance. The paper's text squares (appendix A.2), the authors' code and the
# trajectories that they published do not (:39-42).
REWARDS = {
    "negative_distance": lambda squared: -np.sqrt(squared),
    "negative_squared_distance": lambda squared: -squared,
}


class PointNav(NamedTuple):
    """The world; with `oracle` the policy observes the goal."""

    reward: str = "negative_distance"
    oracle: bool = False

    @property
    def actions(self) -> int:
        """The number of numbers in an action."""
        return 2

    @property
    def observed(self) -> int:
        """The number of numbers in an observation."""
        return 4 if self.oracle else 2

    def draw(self, rng: Generator) -> Array:
        """Return the goal (2,) of one task."""
        return rng.uniform(-GOALS, GOALS, 2)

    def start(self, goals: Array, trajectories: int, rngs: Sequence[Generator]) -> Array:
        """Return positions (T, N, 2) at the origin, without noise.

        Raises ValueError for an unknown reward and for goals that are not (T, 2).
        """
        if self.reward not in REWARDS or goals.ndim != 2 or goals.shape[1] != 2:
            raise ValueError(f"no such world: {self}, goals {goals.shape}")
        return np.zeros((len(goals), trajectories, 2), goals.dtype)

    def observe(self, positions: Array, goals: Array) -> Array:
        """Return observations (T, N, 2), or (T, N, 4) with the goal."""
        if not self.oracle:
            return positions
        beside = np.broadcast_to(goals[:, None], positions.shape)
        return np.concatenate([positions, beside], axis=-1)

    def step(
        self, positions: Array, goals: Array, actions: Array, alive: Array
    ) -> tuple[Array, Array, Array]:
        """Return the new positions, their rewards (T, N) and whether each is done (T, N).

        actions: (T, N, 2), not clipped: 1 moves by 0.1, and larger numbers no farther
        alive: (T, N); positions after the end have no effect
        Raises ValueError for actions of another shape than the positions.
        """
        if actions.shape != positions.shape:
            raise ValueError(f"actions {actions.shape} at positions {positions.shape}")
        positions = positions + np.clip(STRIDE * actions, -STRIDE, STRIDE)
        away = positions - goals[:, None]
        rewards = REWARDS[self.reward]((away**2).sum(-1))
        return positions, rewards, (np.abs(away) < NEAR).all(-1)
