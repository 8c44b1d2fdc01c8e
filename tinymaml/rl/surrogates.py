"""Surrogate losses of policy gradients, and where their second derivatives are right.

All have the same gradient at the theta that collected the trajectories: the policy
gradient. They differ in their Hessian H, and so in the meta-gradient's v - H (alpha v):

    naive         <A_t h_t>                                    biased: the official code
    lvc           <A_t (h_t + g_t g_t')>                       right when trajectories have
                                                               one step; low variance
    loaded_dice   <A_t (h_t + g_t G_t' + G_{t-1} g_t')>        right

(-H is shown) for g_t, h_t the gradient and Hessian of log pi(a_t|s_t), G_t = g_1 + ... +
g_t, A_t the advantage, <.> the weighted sum over trajectories and time. "Right" is for
formulation I, J(theta + alpha grad J(theta)) with the expected inner gradient. Formulation
II, the mean of J(theta + alpha ghat) over the N trajectories that ghat was drawn from, has
the naive Jacobian plus a score term: `e_maml` is right for it, for any N and K.

No gradient is stopped: a batch stores the log-probabilities of its draws as constants.

Source: Finn et al. 2017, equation 4 and maml_npo.py:98-102 (naive); Rothfuss et al.,
"ProMP", ICLR 2019 (formulations I and II, LVC); Foerster et al., "DiCE", ICML 2018;
Farquhar et al., "Loaded DiCE", NeurIPS 2019; Stadie et al., "Some considerations on
learning to explore with meta-RL", 2018 (E-MAML).
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, NamedTuple

import autograd.numpy as anp
import numpy as np
from autograd import grad

from tinymaml import chain, maml
from tinymaml.maml import Array


class Batch(NamedTuple):
    """The inputs of a surrogate: trajectories that one theta collected.

    Arrays (T, N, H): tasks side by side, trajectories, time; constants in theta's dtype.
    Finite values have no effect where the weight is 0.
    weights: of a step in <.>: 1 / (live steps of the task) as in the official code, 1 / N,
        or the probability of a trajectory; 0 after its end
    """

    logp_old: Array  # log pi(a|s) at the theta that drew the actions
    advantages: Array  # A_t: return from t on, minus any baseline that ignores a_t
    weights: Array
    rewards: Array  # r_t, before any baseline


Surrogate = Callable[[Array, Batch], Array]


def naive(logp: Array, batch: Batch) -> Array:
    """Return -<A_t log pi_t>, summed over tasks; its second derivative is biased.

    It takes the trajectories as fixed and so lacks E[A g g']. It is right for neither
    formulation, and with `score_term` for II. Source: maml_npo.py:98-102.

    logp: log pi_theta(a|s) (T, N, H) at the theta to differentiate by
    Raises ValueError, like the others, when it has another shape than the batch.
    """
    _check_shapes(logp, batch)
    return -anp.sum(batch.weights * batch.advantages * logp)


def lvc(logp: Array, batch: Batch) -> Array:
    """Return -<A_t exp(d_t)>, d_t = log pi_t - its old value; low-variance curvature.

    Right for formulation I when a trajectory has one step; otherwise it omits how earlier
    actions change later states. Its value is -<A_t> at the old theta, so a line search can
    use it. Source: ProMP, section 5.
    """
    ratios = anp.exp(_change(logp, batch))
    return -anp.sum(batch.weights * batch.advantages * ratios)


def loaded_dice(logp: Array, batch: Batch) -> Array:
    """Return -<A_t (exp(c_t) - exp(c_t - d_t))>, c_t = d_1 + ... + d_t.

    Right for formulation I with any baseline, in the limit of many trajectories. Its
    variance grows with their length. Only its derivatives have a meaning: its value is 0
    at the old theta. Source: Loaded DiCE, equation 14 with lambda = 1.
    """
    change = _change(logp, batch)
    total = anp.cumsum(change, axis=-1)
    boxes = anp.exp(total) - anp.exp(total - change)
    return -anp.sum(batch.weights * batch.advantages * boxes)


SURROGATES: dict[str, Surrogate] = {"naive": naive, "lvc": lvc, "loaded_dice": loaded_dice}


def score_term(logp: Array, batch: Batch, loss: Array) -> Array:
    """Return sum_n sum_t loss log pi_t, whose gradient is E-MAML's score term.

    The sum has no weights: it differentiates the probability of drawing all trajectories.
    loss: (T,) constants, the loss of the adapted policy minus any baseline that does not
        depend on these trajectories
    Raises ValueError when the shapes do not fit.
    """
    _check_shapes(logp, batch)
    if loss.shape != logp.shape[:-2]:
        raise ValueError(f"losses {loss.shape} of trajectories {logp.shape}")
    return anp.sum(loss[..., None, None] * _live(batch) * logp)


def outcome(batch: Batch) -> Array:
    """Return -<r_t> (T,): the loss of each task in the units of its surrogate."""
    return -np.sum(batch.weights * batch.rewards, axis=(-2, -1))


def _live(batch: Batch) -> Array:
    return (batch.weights != 0).astype(batch.weights.dtype)


def _check_shapes(logp: Array, batch: Batch) -> None:
    arrays = logp, batch.logp_old, batch.advantages, batch.weights
    if len(shapes := {x.shape for x in arrays}) > 1:
        raise ValueError(f"a surrogate takes arrays of one shape, not {sorted(shapes)}")


def _change(logp: Array, batch: Batch) -> Array:
    _check_shapes(logp, batch)
    # 0 after the end of a trajectory: garbage there must not reach exp or a later sum.
    return (logp - batch.logp_old) * _live(batch)


@dataclass(frozen=True)
class PolicyLoss:
    """A maml.Loss of the trajectories that one theta collected.

    log_prob: theta (T, P) -> log pi_theta(a|s) (T, N, H) of the batch's actions
    """

    surrogate: Surrogate
    log_prob: Callable[[Array], Array]
    batch: Batch

    def __call__(self, theta: Array) -> Array:
        """Return the surrogate at theta, summed over tasks."""
        return self.surrogate(self.log_prob(theta), self.batch)

    def score(self, theta: Array, loss: Array) -> Array:
        """Return the `score_term` at theta."""
        return score_term(self.log_prob(theta), self.batch, loss)


def e_maml(
    theta: Array,
    task: Any,
    alpha: float | Array,
    steps: int,
    baseline: float | Array = 0.0,
) -> tuple[Array, Array]:
    """Return the query loss after adaptation and E-MAML's gradient by theta (T, P).

    The chain is that of `maml.meta_gradient`, with a score term added after each product:

        v_k = v_{k+1} - H_k (alpha v_{k+1}) + (L - b) sum_n sum_t g_t(theta_k)

    L is the loss after adaptation, -<r_t>. The expectation of v_0 is the gradient of
    formulation II, for any number of trajectories and steps, under two conditions:

        The support losses are `naive`. Their advantages may be centred, scaled or reduced
        by a baseline that is computed from the trajectories alone.
        The query's advantages are returns to go in the units of its rewards, neither
        discounted nor scaled, minus any baseline that ignores a_t.

    task: a `maml.Task` whose makers return a PolicyLoss
    baseline: b, a scalar or (T,), which must not depend on a task's own trajectories
    Raises as `maml.path` does.
    """
    losses: list[PolicyLoss] = []

    def kept(at: Array) -> PolicyLoss:
        losses.append(task.support(at))
        return losses[-1]

    alphas = maml._step_sizes(alpha, theta, steps)
    trail, thetas = chain.forward(theta, task._replace(support=kept), [*alphas])
    query = task.query(thetas[-1])
    loss, v = maml.value_and_gradient(query, thetas[-1])
    lost = outcome(query.batch) - baseline
    v, _ = chain.back(trail, v, lambda k: grad(losses[k].score)(thetas[k], lost))
    return loss, v
