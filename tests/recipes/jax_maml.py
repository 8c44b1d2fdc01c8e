"""A jitted JAX MAML over one flat vector, exact and stopped, for `classify`."""

import jax
import jax.numpy as jnp
import numpy as np


jax.config.update("jax_enable_x64", True)

ALPHA, STEPS = 0.05, 3
X = np.random.default_rng(0).uniform(-5, 5, (2, 10, 1))
Y = 2 * np.sin(X - 1)


def loss(theta, x, y):
    """Mean squared error of a net 1-8-1."""
    h = jnp.tanh(x * theta[:8] + theta[8:16])
    return jnp.mean((h @ theta[16:24, None] + theta[24] - y) ** 2)


def inner(theta, stop):
    """Return theta_K; `stop` cuts the gradient out of the graph."""
    for _ in range(STEPS):
        g = jax.grad(loss)(theta, X[0], Y[0])
        theta = theta - ALPHA * (jax.lax.stop_gradient(g) if stop else g)
    return theta


adapt = jax.jit(lambda theta: inner(theta, False))
meta_loss = jax.jit(lambda theta: loss(inner(theta, False), X[1], Y[1]))
meta_gradient = jax.jit(jax.grad(lambda theta: loss(inner(theta, False), X[1], Y[1])))
stopped_gradient = jax.jit(jax.grad(lambda theta: loss(inner(theta, True), X[1], Y[1])))
