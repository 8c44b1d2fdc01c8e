"""Model-agnostic meta-learning with its second-order term written out.

Find one initialisation theta from which a few gradient steps learn a new task.
A task has a support loss S (to adapt on) and a query loss Q (to be judged on):

    theta_0 = theta,   theta_{k+1} = theta_k - alpha_k g_k,   g_k = grad S(theta_k)

The meta-gradient is d Q(theta_K) / d theta. By the chain rule, from the last step back:

    v_K = grad Q(theta_K),   v_k = v_{k+1} - H_k (alpha_k v_{k+1}),   H_k = hess S(theta_k)

and v_0 is the answer. The H_k are never formed: one reverse pass through the graph of
g_k gives the product H_k u. First-order MAML takes v_0 := v_K.

Shapes
    P        number of parameters; all of them lie in one vector
    theta    (..., P) float; the leading axes are tasks that adapt side by side
    alpha    step size: a scalar, or anything that broadcasts against (steps, ..., P)
    loss     theta -> scalar: the *sum* over the leading axes, so that one call of its
             gradient yields every task's own gradient, and one product every task's own

Source: Finn, Abbeel, Levine, "Model-Agnostic Meta-Learning for Fast Adaptation of Deep
Networks", ICML 2017: equation 1 and algorithms 1 and 2; section 5.2 for first order.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
from autograd import grad
from autograd.differential_operators import make_vjp
from autograd.extend import vspace

from tinymaml.tracing import isbox, parameters, scalar  # and cures of autograd's faults


Array = np.ndarray
Loss = Callable[[Array], Any]  # a number: autograd's or NumPy's
Hvp = Callable[[Array], Array]


class Task(NamedTuple):
    """One task, or many side by side: two makers of losses.

    A maker receives the theta (..., P) at which its loss is about to be differentiated,
    because a reinforcement-learning task must act with it to collect its data; a
    supervised task ignores it. Anything else with the two is a task as well.
    """

    support: Callable[[Array], Loss]
    query: Callable[[Array], Loss]


# ----- The inner loop -----


def path(theta: Array, task: Task | Any, alpha: float | Array, steps: int) -> list[Array]:
    """Return [theta_0, ..., theta_K]: the parameters after 0, 1, ..., K = `steps` steps.

    It may be differentiated by theta and by alpha. Raises ValueError when alpha does not
    broadcast or steps is negative, TypeError when theta is no array of floating point or
    the task's functions return no loss.
    """
    thetas = [theta]
    for alpha_k in _step_sizes(alpha, theta, steps):
        g_k = gradient(task.support(thetas[-1]), thetas[-1])
        thetas.append(thetas[-1] - alpha_k * g_k)
    return thetas


def adapt(theta: Array, task: Task | Any, alpha: float | Array, steps: int) -> Array:
    """Return theta_K (..., P), the parameters after `steps` gradient steps."""
    return path(theta, task, alpha, steps)[-1]


# ----- The meta-gradient -----


def meta_gradient(
    theta: Array, task: Task | Any, alpha: float | Array, steps: int
) -> tuple[Array, Array]:
    """Return the query loss after adaptation and its exact gradient by theta.

    The loss is summed over the leading axes; the gradient (..., P) keeps them, so the
    average over tasks is the caller's. Raises as `path` does.
    """
    trail = []
    for alpha_k in _step_sizes(alpha, theta, steps):
        hvp_k, g_k = hvp_and_gradient(task.support(theta), theta)
        trail.append((alpha_k, hvp_k))
        theta = theta - alpha_k * g_k
    loss, v = value_and_gradient(task.query(theta), theta)
    for alpha_k, hvp_k in reversed(trail):
        v = v - hvp_k(alpha_k * v)
    return loss, v


def meta_gradient_low_memory(
    theta: Array, task: Task | Any, alpha: float | Array, steps: int
) -> tuple[Array, Array]:
    """Return what `meta_gradient` returns, with one step's graph in memory at a time.

    Only theta_0, ..., theta_K are kept; on the way back every step is traced again, so a
    gradient is computed twice where `meta_gradient` computes it once.
    """
    trail = []
    for alpha_k in _step_sizes(alpha, theta, steps):
        # The loss is kept, not made again: a maker may have drawn data to make it.
        loss_k = task.support(theta)
        trail.append((alpha_k, loss_k, theta))
        theta = theta - alpha_k * gradient(loss_k, theta)
    loss, v = value_and_gradient(task.query(theta), theta)
    for alpha_k, loss_k, theta_k in reversed(trail):
        hvp_k, _ = hvp_and_gradient(loss_k, theta_k)
        v = v - hvp_k(alpha_k * v)
        del hvp_k  # and its graph, before the next one is built
    return loss, v


def first_order(
    theta: Array, task: Task | Any, alpha: float | Array, steps: int
) -> tuple[Array, Array]:
    """Return the query loss after adaptation and v_K, its gradient by theta_K (..., P).

    This is first-order MAML: it takes every H_k for zero (section 5.2 of the paper).
    """
    theta = adapt(theta, task, alpha, steps)
    return value_and_gradient(task.query(theta), theta)


# ----- What autograd is asked for -----


def hvp_and_gradient(loss: Loss, theta: Array) -> tuple[Hvp, Array]:
    """Return u -> H u and the gradient g of `loss` at theta, from one trace.

    H u = d(g . u) / d theta is a vector-Jacobian product of g, since H is symmetric.
    """

    def traced(at: Array) -> Array:
        g = gradient(loss, at)
        # A loss linear in theta has a constant gradient: H = 0, and autograd must see it.
        return g if _depends(g, at) else g + 0.0 * at

    product, g = make_vjp(traced)(parameters(theta))

    def hvp(u: Array) -> Array:
        if (shape := getattr(u, "shape", None)) != g.shape:
            raise ValueError(f"u must have theta's shape {g.shape}, not {shape}")
        return product(u)

    return hvp, g


def value_and_gradient(loss: Loss, theta: Array) -> tuple[Array, Array]:
    """Return `loss` and its gradient (..., P) at theta.

    Raises ValueError when the loss does not depend on theta, TypeError when it is not
    a scalar.
    """

    def checked(at: Array) -> Array:
        value = scalar(loss)(at)
        if not _depends(value, at):
            raise ValueError("the query loss does not depend on theta")
        return value

    vjp, value = make_vjp(checked)(parameters(theta))
    return value, vjp(vspace(value).ones())


def gradient(loss: Loss, theta: Array) -> Array:
    """Return the gradient (..., P) of `loss` at theta. Raises TypeError as `path` does."""
    return grad(scalar(loss))(parameters(theta))


def _depends(value: Any, at: Any) -> bool:
    return isbox(value) and value._trace == at._trace


def _step_sizes(alpha: Any, theta: Array, steps: int) -> Array:
    shape = (steps, *parameters(theta).shape)
    if steps < 0:
        raise ValueError(f"steps must be 0 or more, not {steps}")
    if alpha is None:  # NumPy would make it nan
        raise TypeError("alpha is a step size or an array of them, not None")
    if isbox(alpha):  # it is differentiated
        np.broadcast_to(np.empty(alpha.shape), shape)  # raises when it does not fit
        return alpha * np.ones(shape, theta.dtype)
    # In theta's precision, so that a Python float or a float64 alpha does not raise it.
    return np.broadcast_to(np.asarray(alpha, theta.dtype), shape)
