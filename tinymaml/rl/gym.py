"""One task of 2D navigation as a Gymnasium environment. Needs the extra `gym`."""

from __future__ import annotations

from typing import Any

import gymnasium
import numpy as np
from gymnasium.spaces import Box

from tinymaml.rl.pointnav import ACTIONS, GOALS, STRIDE, PointNav


Array = np.ndarray


class PointNavEnv(gymnasium.Env):
    """The world of `pointnav`, one trajectory at a time.

    A goal is drawn at each reset, from the seed, unless the options of the reset name one:
    reset(options={"goal": (x, y)}). The horizon truncates.
    """

    def __init__(self, world: PointNav | None = None, horizon: int = 100) -> None:
        self.world, self.horizon = world or PointNav(), horizon
        farthest = np.full(self.world.observed, max(STRIDE * horizon, GOALS), np.float32)
        self.observation_space = Box(-farthest, farthest)
        self.action_space = Box(-1.0, 1.0, (ACTIONS,))

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[Array, dict[str, Any]]:
        """Go back to the origin; return the observation, and the goal beside it."""
        super().reset(seed=seed)
        goal = (options or {}).get("goal")
        goal = self.world.draw(self.np_random) if goal is None else np.asarray(goal)
        self.goals = goal[None].astype(np.float32)
        self.positions, self.time = self.world.start(self.goals, 1), 0
        return self._seen(), {"goal": goal}

    def step(self, action: Array) -> tuple[Array, float, bool, bool, dict[str, Any]]:
        """Move; return observation, reward, and whether goal and horizon are reached."""
        self.positions, rewards, done = self.world.step(
            self.positions, self.goals, np.asarray(action, np.float32)[None, None]
        )
        self.time += 1
        over = self.time >= self.horizon
        return self._seen(), float(rewards[0, 0]), bool(done[0, 0]), over, {}

    def _seen(self) -> Array:
        return self.world.observe(self.positions, self.goals)[0, 0].copy()
