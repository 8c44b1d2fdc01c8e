"""The paper's baselines with one theta for all tasks: sections 5.1 and 5.3.

They train without an inner loop. Validation tasks choose the step size for held-out tasks.
"""

from collections.abc import Mapping
from typing import Any

from tinymaml import maml
from tinymaml.algorithms.algorithm import FEW_SHOT, RL, Algorithm
from tinymaml.fewshot import Problem
from tinymaml.maml import Array, Task


def support_gradient(w: Array, task: Task, problem: Problem) -> tuple[Array, Array]:
    """Return the support loss at w and its gradient (T, M).

    Source: maml.py:142 of the official code, whose pretraining sees support points only.
    """
    return maml.value_and_gradient(task.support(w), w)


def no_validation(given: Mapping[str, Any]) -> dict[str, Any]:
    """Switch validation off by default: each would tune the step size again."""
    return {"validate_every": 0} if given.get("tune", True) else {}


PRETRAINED = Algorithm(
    name="pretrained",
    label="pretrained",
    gradient=support_gradient,
    objective=lambda w, task, problem: task.support(w)(w),
    cost="0.3",
    source="Finn et al. 2017, section 5.1: one net for all tasks, then fine-tuned",
    defaults=no_validation,
    ignores=("inner_steps", "outer_loss", "surrogate"),  # one loss, without Hessians
    inner_loop=False,
    settings=(FEW_SHOT, RL),
)
ORACLE = PRETRAINED._replace(
    name="oracle",
    label="oracle",
    source="Finn et al. 2017, section 5.1: pretrained with the task's parameters as inputs",
    needs=("task parameters",),
    sees_task=True,
)
RANDOM = PRETRAINED._replace(
    name="random",
    label="random initial values",
    learns="nothing",
    cost="0",
    source="Finn et al. 2017, section 5.3",
    defaults=lambda given: no_validation(given) | {"iterations": 0},
    ignores=(
        *PRETRAINED.ignores,
        *("iterations", "tasks", "beta", "outer", "schedule", "clip"),
        *("max_kl", "fisher_stride"),
    ),
)
