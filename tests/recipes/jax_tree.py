"""A MAML of a JAX pytree, for `verify` and for `tinymaml check FILE.py:PROGRAM`."""

import jax
import jax.numpy as jnp

from tinymaml.check import verify


jax.config.update("jax_enable_x64", True)
ALPHA, STEPS = 0.1, 3
X = jnp.linspace(-2, 2, 20).reshape(2, 10, 1)
Y = jnp.sin(2 * X)
KEYS = jax.random.split(jax.random.key(0), 2)
THETA = [
    {"w": jax.random.normal(KEYS[0], (1, 4)), "b": jnp.full(4, 0.1)},
    {"w": jax.random.normal(KEYS[1], (4, 1)), "b": jnp.full(1, 0.1)},
]


def loss(p, which):
    """Mean squared error on support (0) or query (1) data."""
    first, last = p
    h = jnp.tanh(X[which] @ first["w"] + first["b"])
    return jnp.mean((h @ last["w"] + last["b"] - Y[which]) ** 2)


def inner_step(p, stop=lambda g: g):
    """One gradient step on the support data."""
    return jax.tree.map(lambda w, d: w - ALPHA * stop(d), p, jax.grad(loss)(p, 0))


def meta_loss(p, stops=(lambda g: g,) * STEPS):
    """Query loss after the steps."""
    for stop in stops:
        p = inner_step(p, stop)
    return loss(p, 1)


STOPPED = (lambda g: g, lambda g: g, jax.lax.stop_gradient)
PROGRAM = {
    "meta_loss": jax.jit(meta_loss),
    "meta_gradient": jax.jit(jax.grad(meta_loss)),
    "theta": THETA,
    "inner_step": jax.jit(inner_step),
    "query_loss": jax.jit(lambda p: loss(p, 1)),
    "steps": STEPS,
}
BROKEN = PROGRAM | {"meta_gradient": jax.jit(jax.grad(lambda p: meta_loss(p, STOPPED)))}

if __name__ == "__main__":
    for program in (PROGRAM, BROKEN):
        print(verify(**program))
