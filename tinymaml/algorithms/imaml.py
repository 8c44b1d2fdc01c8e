"""iMAML: inner steps minimise a proximal problem; its minimum is differentiated implicitly.

    phi* = argmin S(phi) + lambda/2 |phi - theta|^2
    phi := phi - alpha (grad S(phi) + lambda (phi - theta)),   K times, from theta

Inner steps move the parameters m; the others, u, keep theta's values. With H = hess S(phi*)
and q = grad Q(phi*), the derivative of grad_m S(phi) + lambda (phi_m - theta_m) = 0 gives

    (H_mm + lambda) d phi_m = lambda d theta_m - H_mu d theta_u
    (I + H_mm/lambda) x = q_m,  d Q/d theta_m = x,  d Q/d theta_u = q_u - H_um x/lambda

Conjugate gradients solve for x. Their residual in all P rows is r = q - (I + H/lambda) x: d
Q/d theta_u is r_u. The last phi alone is needed, so memory is the same for any number of
inner steps, and alpha has no gradient. The gradient is exact at the minimum with the system
solved, and can be far off elsewhere. If p' (I + H/lambda) p <= 0, phi is no minimum: the
solver stops. Logged are `residual`, |r_m| / |q_m|, and `indefinite`, 1 if it stopped.

Source: Rajeswaran, Finn, Kakade, Levine, "Meta-Learning with Implicit Gradients", NeurIPS
2019, algorithms 1 and 2. The published code (aravindr93/imaml_dev) is another algorithm: 16
steps on S alone, then one proximal step (omniglot_implicit_maml.py:107-112); the system (2
+ H/12) x = q (learner_model.py:143-153: its damping of 1 becomes the regulariser beside a
fixed 10); tests without the proximal term (measure_accuracy.py:75-79).
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import autograd.numpy as anp
import numpy as np

from tinymaml import maml
from tinymaml.algorithms import conjugate, learned
from tinymaml.algorithms.algorithm import Algorithm, Implicit
from tinymaml.fewshot import Problem
from tinymaml.maml import Array, Task
from tinymaml.options import POSITIVE, option


README = "examples/README of the official code, as its 16 inner steps of 0.1"


@dataclass(frozen=True)
class Options:
    """The inner problem, and how exactly its linear system is solved."""

    proximal: float = option(
        2.0, "lambda, the weight of |phi - theta|^2 / 2 in inner steps", README, **POSITIVE
    )
    cg_steps: int = option(
        5, "conjugate gradient steps for the implicit gradient", README, least=1, most=1000
    )


def inner(theta: Array, task: Task, problem: Problem) -> Task:
    """Return the task whose support loss is S(phi) + lambda/2 |phi - theta|^2."""

    def support(at: Array) -> maml.Loss:
        loss, half = task.support(at), problem.options.proximal / 2
        return lambda phi: loss(phi) + half * anp.sum((phi - theta) * (phi - theta))

    return Task(support, task.query)


def adapt(w: Array, task: Task, problem: Problem, steps: int) -> list[Array]:
    """Return [phi_0, ..., phi_steps], from phi_0 = theta."""
    return maml.path(w, inner(w, task, problem), problem.alpha, steps)


def gradient(w: Array, task: Task, problem: Problem) -> tuple[Array, ...]:
    """Return Q after the inner steps, its gradient (T, P), and the two figures (T,)."""
    phi, near = w, inner(w, task, problem)
    for alpha_k in maml._step_sizes(problem.alpha, w, problem.options.inner_steps):
        phi = phi - alpha_k * maml.gradient(near.support(phi), phi)
    return implicit(phi, w, task, problem)


def implicit(
    phi: Array, w: Array, task: Task, problem: Problem, steps: int = 0
) -> tuple[Array, ...]:
    """Return what `gradient` returns, as if phi (T, P) were the minimum.

    steps: steps of conjugate gradients; 0: --cg-steps
    """
    mask = learned.moved(problem).astype(w.dtype)
    hvp, _ = maml.hvp_and_gradient(inner(w, task, problem).support(phi), phi)
    loss, q = maml.value_and_gradient(task.query(phi), phi)
    system = lambda p: hvp(p) / problem.options.proximal  # noqa: E731
    x, r, stopped = conjugate.solve(system, q, mask, steps or problem.options.cg_steps)
    size, left = (conjugate.dot(mask * v, mask * v)[..., 0] for v in (q, r))
    residual = anp.sqrt(left / anp.where(size > 0, size, np.ones((), w.dtype)))
    return loss, x + (1 - mask) * r, residual, stopped[..., 0]


def defaults(given: Mapping[str, Any]) -> dict[str, Any]:
    """Return the official code's steps, as many at test time as in training."""
    return {"alpha": 0.1, "inner_steps": 16, "test_steps": given.get("inner_steps", 16)}


def refuses(options: Any) -> str:
    """Return why inner steps cannot reach a minimum, "" when they can."""
    message = "inner steps settle only with --alpha times --proximal above 0 and below 2"
    return "" if 0 < options.alpha * options.proximal < 2 else message


IMAML = Algorithm(
    name="imaml",
    label="iMAML",
    gradient=gradient,
    figures=("residual", "indefinite"),
    cost="7.5 with 16 steps; memory of one step",
    source="Rajeswaran et al. 2019",
    adapt=adapt,
    implicit=Implicit(inner, implicit),
    options=Options,
    defaults=defaults,
    refuses=refuses,
    not_in_rl="new trajectories in each inner step have no common minimum",
)
