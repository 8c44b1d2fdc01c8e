"""A Gaussian policy: its mean is a net of the observation, its deviation a parameter.

Shapes: T tasks, M states of each, actions of d numbers. A policy returns the mean
(T, M, d) and the logarithm of the standard deviation (T, 1, d), which is meta-learned and
adapted like all parameters.

Source: maml_minimal_gauss_mlp_policy.py and diagonal_gaussian.py of the official code.
"""

import math
from collections.abc import Callable, Sequence

import autograd.numpy as anp
import numpy as np
from autograd.differential_operators import make_jvp, make_vjp

from tinymaml import models
from tinymaml.contracts import check
from tinymaml.models import Array, Arrays, Map, Model
from tinymaml.ops import relu


Gaussian = tuple[Array, Array]

FLOOR = math.log(1e-6)  # the least log-std (maml_minimal_gauss_mlp_policy.py:38)


def gaussian_mlp(widths: Sequence[int], activation: Map = relu) -> Model:
    """Return a policy: theta (T, P), observations (T, M, o) -> mean, log-std.

    The log-std belongs to the head. Initial weights are Glorot's uniform ones, biases 0 and
    the standard deviation 1 (maml_minimal_gauss_mlp_policy.py:34, 350-351).

    widths: numbers in an observation, hidden widths, numbers in an action
    """
    *body, last = models.mlp(widths, activation, draw=models.glorot_dense).blocks

    def gaussian(p: Arrays, x: Array) -> Gaussian:
        # relu keeps float32 (maximum does not). Below the floor its slope is 0.
        return last.before(p, x), relu(p["log_std"] - FLOOR) + FLOOR

    shapes = {**last.shapes, "log_std": (1, widths[-1])}
    return Model((*body, last._replace(before=gaussian, shapes=shapes)))


def log_prob(gaussian: Gaussian, actions: Array) -> Array:
    """Return log pi(a|s) (T, M) of actions (T, M, d), summed over their d numbers.

    Raises ValueError unless the actions have the shape of the means, after further leading
    axes, and the deviations fit the means.
    """
    mean, log_std = gaussian
    if actions.shape[-len(mean.shape) :] != mean.shape:
        raise ValueError(f"actions {actions.shape} of a policy with means {mean.shape}")
    _check_deviations(mean, log_std)
    z = (actions - mean) * anp.exp(-log_std)
    constant = 0.5 * actions.shape[-1] * math.log(2 * math.pi)
    return -anp.sum(log_std, axis=-1) - 0.5 * anp.sum(z**2, axis=-1) - constant


def _check_deviations(mean: Array, log_std: Array) -> None:
    lead = np.broadcast_shapes(mean.shape, log_std.shape)
    if lead != mean.shape or log_std.shape[-1] != mean.shape[-1]:
        raise ValueError(f"deviations {log_std.shape} of a policy with means {mean.shape}")


def kl(old: Gaussian, new: Gaussian) -> Array:
    """Return KL(old || new) (T, M) in each state.

    Raises ValueError when the policies have other shapes.
    """
    (mean_0, log_0), (mean_1, log_1) = old, new
    check("kl", "md md", mean_0, mean_1)
    _check_deviations(mean_0, log_0)
    _check_deviations(mean_1, log_1)
    squares = anp.exp(2 * (log_0 - log_1)) + ((mean_0 - mean_1) * anp.exp(-log_1)) ** 2
    return anp.sum(log_1 - log_0 + 0.5 * squares - 0.5, axis=-1)


def fisher(
    gaussian: Callable[[Array], Gaussian], theta: Array, log_std: Array, weights: Array
) -> Callable[[Array], Array]:
    """Return v -> F v, F the Hessian by theta of the mean KL(policy at theta || policy).

    Near theta, KL = |s(theta') - s(theta)|^2 / 2 in each state, where s is the mean in
    standard deviations, and sqrt(2) log-std. So F = J_s' J_s without the net's curvature.

    gaussian: theta (T, P) -> mean (T, M, d) and log-std in M states
    log_std: (T, 1, d), at theta
    weights: (T, M) of the states in the mean; the sum over a task is 1
    """
    scale = weights[..., None] ** 0.5 * anp.exp(-log_std)

    def s(at: Array) -> Array:
        mean, log_std = gaussian(at)
        parts = [mean * scale, 2**0.5 * log_std]
        return anp.concatenate([anp.reshape(x, (len(x), -1)) for x in parts], axis=-1)

    push, (pull, _) = make_jvp(s)(theta), make_vjp(s)(theta)
    return lambda v: pull(push(v)[1])
