"""Fine-tuning: the step size with which a baseline adapts to held-out tasks.

Source: section 5.1 of the paper, "an automatically tuned step size".
"""

from __future__ import annotations

from concurrent.futures import Executor

import numpy as np

from tinymaml.algorithms import baselines
from tinymaml.experiments.common import AVERAGED, Config
from tinymaml.harness.evaluation import evaluate


Array = np.ndarray

# The paper does not tell the step sizes it tried. The oracle wants the least of them.
STEP_SIZES = tuple(digit * 10.0**power for power in range(-5, 1) for digit in (1, 2, 5))


def tuned(config: Config, theta: Array, steps: int, engine: Executor) -> Config:
    """Return the options with which held-out tasks adapt.

    Where alpha is an option these are the options of the training. Else alpha is
    the one of STEP_SIZES with the best mean score after `steps` steps on validation
    tasks; test tasks have no part in it.
    """
    if config.uses("alpha") or steps == 0:
        return config
    tried = [config.with_changes({"alpha": alpha}) for alpha in STEP_SIZES]
    costs = [_cost(one, theta, steps, engine) for one in tried]
    return tried[int(np.argmin(costs))]


def _cost(config: Config, theta: Array, steps: int, engine: Executor) -> float:
    tasks = config.validation_tasks
    last = evaluate(config, theta, "val", tasks, steps, engine)[-1].astype(float)
    with np.errstate(over="ignore", invalid="ignore"):
        cost = last.mean() if config.score == "MSE" else -last.mean()
    return cost if np.isfinite(cost) else np.inf


def remarks(config: Config, theta: Array, steps: int) -> list[str]:
    """Return what stands below the table of a baseline's scores; config: as tuned."""
    lines = []
    if steps and not config.uses("alpha"):
        edge = ", at an end of them" * (config.alpha in (STEP_SIZES[0], STEP_SIZES[-1]))
        lines.append(
            f"step size {config.alpha:g}, the best of {len(STEP_SIZES)} on"
            f" {config.validation_tasks} validation tasks{edge}"
        )
    if config.algorithm in AVERAGED:
        fitted = baselines.fitted(config, theta)
        lines.append(
            f"{fitted} of {config.regressors} regressors are below an MSE of"
            f" {baselines.FITTED} on their own curve"
        )
    return lines
