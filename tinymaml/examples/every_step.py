"""MAML that averages the query losses after every step: an algorithm in 13 lines.

tinymaml check sine --steps 3 --algorithm every_step.py:EVERY_STEP
tinymaml train sine --algorithm every_step.py:EVERY_STEP
"""

from tinymaml import chain, maml
from tinymaml.algorithms.algorithm import Algorithm


def gradient(w, task, problem):
    steps = problem.options.inner_steps
    return chain.gradient(w, task, [problem.alpha] * steps, [1 / steps] * steps)[:2]


def objective(w, task, problem):  # the loss whose slopes `tinymaml check` measures
    thetas = maml.path(w, task, problem.alpha, problem.options.inner_steps)[1:]
    return sum(task.query(theta)(theta) for theta in thetas) / len(thetas)


EVERY_STEP = Algorithm("every-step", "loss after every step", gradient, objective=objective)
