"""The general reverse pass: a loss after each step, learned step sizes, added terms.

Let S_k be support losses, Q_k query losses, alpha_k step sizes and u_k constant weights:

    theta_{k+1} = theta_k - alpha_k g_k,  g_k = grad S_k(theta_k),  H_k = hess S_k(theta_k)
    L = sum over k = 1..K of u_k Q_k(theta_k)

The gradient of L is computed from the last step back:

    v_K = u_K grad Q_K(theta_K)
    s_k = -g_k v_{k+1}                                  d L / d alpha_k
    v_k = v_{k+1} - H_k (alpha_k v_{k+1}) + a_k         d L / d theta = v_0

where a_k = u_k grad Q_k(theta_k) for k > 0, and a_0 = 0. `maml.meta_gradient` is the case
u = (0, ..., 0, 1). A first-order pass omits the products with H_k and keeps the slopes s_k.

A step size may also be a linear map P_k (Meta-Curvature): theta_{k+1} = theta_k - P_k g_k.
Then v_k = v_{k+1} - H_k (P_k' v_{k+1}) + a_k, and v_{k+1} takes the place of s_k.

A maker of losses is called once a step, in order. If its loss depends on the step
(minibatches, per-step parameters), it counts its own calls.
"""

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

from tinymaml import maml
from tinymaml.maml import Array, Hvp, Task, hvp_and_gradient, value_and_gradient


class Linear(NamedTuple):
    """A linear map in place of a step size: g (..., P) -> P_k g, and v -> P_k' v."""

    apply: Callable[[Array], Array]
    adjoint: Callable[[Array], Array]


Size = float | Array | Linear


class Step(NamedTuple):
    """One inner step: alpha_k and g_k (..., P), and the product u -> H_k u."""

    alpha: Size
    gradient: Array
    hvp: Hvp


def path(theta: Array, task: Task, alphas: Sequence[Size]) -> list[Array]:
    """Return [theta_0, ..., theta_K]; each alpha_k broadcasts against (..., P).

    Raises ValueError when one does not broadcast, and as `maml.path` does.
    """
    thetas = [theta]
    for alpha in alphas:
        g = maml.gradient(task.support(thetas[-1]), thetas[-1])
        thetas.append(thetas[-1] - _move(alpha, g))
    return thetas


def _move(alpha: Size, g: Array) -> Array:
    moved = alpha.apply(g) if isinstance(alpha, Linear) else alpha * g
    if moved.shape != g.shape:
        raise ValueError(f"a step size makes a step {moved.shape} of theta {g.shape}")
    return moved


def forward(
    theta: Array, task: Task, alphas: Sequence[Size]
) -> tuple[list[Step], list[Array]]:
    """Return the steps, and [theta_0, ..., theta_K]."""
    steps, thetas = [], [theta]
    for alpha in alphas:
        hvp, g = hvp_and_gradient(task.support(theta), theta)
        steps.append(Step(alpha, g, hvp))
        theta = theta - _move(alpha, g)
        thetas.append(theta)
    return steps, thetas


def back(
    steps: Sequence[Step],
    v: Array,
    added: Callable[[int], Array] | None = None,
    second_order: bool = True,
) -> tuple[Array, list[Array]]:
    """Return v_0 and the slopes [s_0, ..., s_{K-1}], (..., P) each.

    v: v_K; added: k -> a_k, zeros by default. For a linear map, v_{k+1} stands for s_k
    """
    slopes = []
    alpha: Any  # a Size; mypy would not see what `linear` says of it
    for k in reversed(range(len(steps))):
        alpha, g, hvp = steps[k]
        linear = isinstance(alpha, Linear)
        slopes.append(v if linear else -g * v)
        if second_order:
            v = v - hvp(alpha.adjoint(v) if linear else alpha * v)
        if added is not None:
            v = v + added(k)
    return v, slopes[::-1]


def gradient(
    theta: Array,
    task: Task,
    alphas: Sequence[Size],
    weights: Sequence[float] | None = None,
    second_order: bool = True,
) -> tuple[Array, Array, list[Array]]:
    """Return L, its gradient by theta (..., P) and its slopes by alpha_0, ..., alpha_{K-1}.

    alphas: K step sizes that broadcast against theta, or linear maps; they may be inputs
        of a recording
    weights: u_1, ..., u_K, by default (0, ..., 0, 1); with K = 0 the loss is then Q(theta)
    L is summed over the leading axes, like every loss. Raises ValueError when weights are
    given and there is no step, or not one weight for each.
    """
    if weights is not None and not 0 < len(weights) == len(alphas):
        raise ValueError(f"{len(weights)} weights for {len(alphas)} steps")
    steps, thetas = forward(theta, task, alphas)
    if weights is None:
        loss, v = value_and_gradient(task.query(thetas[-1]), thetas[-1])
        return loss, *back(steps, v, None, second_order)
    found = [value_and_gradient(task.query(at), at) for at in thetas[1:]]
    losses, slopes = zip(*found, strict=True)
    terms = [0.0 * theta, *(u * slope for u, slope in zip(weights, slopes, strict=True))]
    loss = sum(u * value for u, value in zip(weights, losses, strict=True))
    return loss, *back(steps, terms.pop(), terms.__getitem__, second_order)
