"""MAML whose inner steps have momentum: an algorithm in a file of its own.

m_k = mu m_{k-1} + g_k,           theta_{k+1} = theta_k - alpha m_k
n_k = mu n_{k+1} - alpha v_{k+1},         v_k = v_{k+1} + H_k n_k

tinymaml check sine --steps 3 --algorithm own_algorithm.py:MOMENTUM
tinymaml train sine --algorithm own_algorithm.py:MOMENTUM --momentum 0.5
"""

from dataclasses import dataclass

from autograd import grad

from tinymaml import maml
from tinymaml.algorithms.algorithm import Algorithm, loss_after
from tinymaml.options import option


@dataclass(frozen=True)
class Options:
    momentum: float = option(0.5, "momentum mu of the inner steps", least=0, most=1)


def adapt(theta, task, problem, steps):
    thetas, m = [theta], 0.0
    for _ in range(steps):
        m = problem.options.momentum * m + grad(task.support(thetas[-1]))(thetas[-1])
        thetas.append(thetas[-1] - problem.alpha * m)
    return thetas


def gradient(theta, task, problem):
    alpha, mu = problem.alpha, problem.options.momentum
    hvps, m, n = [], 0.0, 0.0
    for _ in range(problem.options.inner_steps):
        hvp, g = maml.hvp_and_gradient(task.support(theta), theta)
        hvps.append(hvp)
        m = mu * m + g
        theta = theta - alpha * m
    loss, v = maml.value_and_gradient(task.query(theta), theta)
    for hvp in reversed(hvps):
        n = mu * n - alpha * v
        v = v + hvp(n)
    return loss, v


MOMENTUM = Algorithm(
    name="momentum",
    label="MAML with momentum {momentum}",
    gradient=gradient,
    adapt=adapt,
    objective=loss_after(adapt),
    options=Options,
)
