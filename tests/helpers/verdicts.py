"""Meta-losses that are hard to measure, with right, wrong and first-order gradients."""

from collections.abc import Callable
from typing import NamedTuple

import numpy as np

from tinymaml import losses, maml, models, ops
from tinymaml.fewshot import Episode, as_task


class Kind(NamedTuple):
    """A kind of problem: the size P, what happens to the loss, theta and the gradient.

    loss: (f, theta) -> value; factor: of the gradient; scale: of theta
    claim: (gradient, rng) -> the claimed gradient; None for the right one
    first: the claimed gradient is first-order, and `adapt` is given
    net: the dtype of the sine net that MAML trains instead
    """

    name: str
    size: int = 4
    loss: Callable = lambda f, t: f(t)
    factor: float = 1.0
    scale: float = 1.0
    claim: Callable | None = None
    first: bool = False
    net: str = ""


def single(x):
    """Round to float32."""
    return float(np.float32(x))


def wrong(share, entry=None):
    """Return a claim that is off by a share, in one entry or in all."""

    def claim(g, rng):
        g = g.copy()
        g[slice(None) if entry is None else entry] *= 1 + share
        return g

    return claim


def fine(t):
    """Return noise in [0, 1) that the point decides."""
    return np.random.default_rng([*t.tobytes()]).random()


def random(size):
    """Return a loss with noise from call to call."""
    rng = np.random.default_rng(0)
    return lambda f, t: f(t) * (1 + size * rng.standard_normal())


def thirds(f, t):
    """Return a mean of three float32 losses."""
    return (single(f(t)) + single(0.3 * f(t)) + single(0.7 * f(t))) / 3


KINDS = [
    *(Kind(f"P = {size}", size) for size in (1, 2, 10, 100, 1000, 10**4, 10**5)),
    *(Kind(f"theta times {s:g}", scale=s) for s in (1e-8, 1e-4, 1e-2, 1e2, 1e4, 1e6, 1e8)),
    *(
        Kind(f"loss times {c:g}", loss=lambda f, t, c=c: c * f(t), factor=c)
        for c in (1e-100, 1e-11, 1e-5, 1e5, 1e11, 1e100)
    ),
    *(
        Kind(f"loss plus {c:g}", loss=lambda f, t, c=c: f(t) + c)
        for c in (1e3, 1e6, 1e8, 1e9, 1e10, 1e12, 1e14)
    ),
    *(
        Kind(f"1 plus {c:g} loss", loss=lambda f, t, c=c: 1 + c * f(t), factor=c)
        for c in (1e-2, 1e-5, 1e-8, 1e-11, 1e-13)
    ),
    *(
        Kind(
            f"float32 of 1 + {c:g} f", loss=lambda f, t, c=c: single(1 + c * f(t)), factor=c
        )
        for c in (1, 1e-1, 1e-2, 1e-3, 1e-4, 1e-7)
    ),
    Kind("float32 of f", loss=lambda f, t: single(f(t))),
    Kind("float32 of theta", loss=lambda f, t: f(np.float32(t).astype(float))),
    Kind("float32 of both", loss=lambda f, t: single(f(np.float32(t).astype(float)))),
    Kind("a mean of float32", loss=thirds, factor=2 / 3),
    Kind("float16 of f", loss=lambda f, t: float(np.float16(f(t)))),
    *(
        Kind(f"rounded to {n} digits", loss=lambda f, t, n=n: round(f(t), n))
        for n in (1, 3, 6, 9, 12)
    ),
    *(
        Kind(f"plus and minus {c:g}", loss=lambda f, t, c=c: (f(t) + c) - c)
        for c in (1e4, 1e8, 1e12)
    ),
    *(
        Kind(f"fine noise of {c:g}", loss=lambda f, t, c=c: f(t) + c * fine(t))
        for c in (1e-4, 1e-8, 1e-12)
    ),
    *(Kind(f"random noise of {c:g}", loss=random(c)) for c in (1e-3, 1e-9, 1e-15)),
    *(Kind(f"off by {e:g}", claim=wrong(e)) for e in (1, 1e-1, 1e-2, 1e-3, 1e-4)),
    *(
        Kind(f"one entry of {size} off by {e:g}", size, claim=wrong(e, 0))
        for size, e in ((4, 1), (4, 1e-1), (4, 1e-2), (100, 1), (100, 0.1), (10**4, 1))
    ),
    Kind("wrong sign", claim=wrong(-2)),
    Kind("zeros", claim=wrong(-1)),
    Kind("wrong sign, float32 of f", loss=lambda f, t: single(f(t)), claim=wrong(-2)),
    Kind("zeros, loss plus 1e9", loss=lambda f, t: f(t) + 1e9, claim=wrong(-1)),
    Kind("off by 0.1, theta times 1e-6", scale=1e-6, claim=wrong(0.1)),
    Kind("off by 0.1, theta times 1e6", scale=1e6, claim=wrong(0.1)),
    *(Kind(f"first-order, P = {size}", size, first=True) for size in (4, 100, 1000)),
    Kind("first-order, theta times 1e-6", scale=1e-6, first=True),
    Kind("first-order, float32", loss=lambda f, t: single(f(t)), first=True),
    Kind("first-order, loss plus 1e8", loss=lambda f, t: f(t) + 1e8, first=True),
    Kind("MAML of the sine net", net="float64"),
    Kind("first-order MAML of the sine net", net="float64", first=True),
    Kind("float32 MAML of the sine net", net="float32"),
    Kind("float32 first-order MAML of the sine net", net="float32", first=True),
]


def case(kind: Kind, seed: int):
    """Return (meta_loss, meta_gradient, theta, adapt or None), and the right verdict.

    The loss is a sum of squared sines of neighbouring entries; adapt is a gradient step.
    """
    rng = np.random.default_rng(seed)
    if kind.net:
        return sine_net(kind, rng)
    a, b, c = rng.standard_normal((3, kind.size))
    theta = rng.standard_normal(kind.size) * kind.scale

    def inside(u):
        return a * u + 0.5 * np.roll(b * u, 1) + c

    def f(u):
        return float(np.sum(np.sin(inside(u)) ** 2))

    def slope(u):
        g = np.sin(2 * inside(u))
        return a * g + 0.5 * b * np.roll(g, -1)

    def moved(u):  # diagonal Jacobian 1 - 0.3 cos(u)
        return u - 0.3 * np.sin(u)

    def value(t):
        u = t / kind.scale
        return kind.loss(f, moved(u) if kind.first else u)

    def gradient(t):
        u = t / kind.scale
        g = slope(moved(u) if kind.first else u) * kind.factor / kind.scale
        return kind.claim(g, rng) if kind.claim else g

    def adapt(t):
        return kind.scale * moved(t / kind.scale)

    right = "first-order" if kind.first else "neither" if kind.claim else "exact"
    return (value, gradient, theta, adapt if kind.first else None), right


def sine_net(kind: Kind, rng: np.random.Generator):
    """Return the same of MAML with one step on a sine net near its initial values."""
    model = models.mlp((1, 40, 40, 1), ops.relu)
    theta = model.init(rng).astype(float)
    x = rng.uniform(-5, 5, (2, 10, 1)).astype(kind.net)
    y = np.asarray(rng.uniform(1, 5), kind.net) * np.sin(
        x + x.dtype.type(rng.uniform(0, 3))
    )
    task = as_task(Episode(x[0], y[0], x[1], y[1]), model.apply, losses.mse)

    def adapt(t):
        return maml.adapt(t.astype(kind.net), task, 0.01, 1)

    def value(t):
        return float(task.query(adapt(t))(adapt(t)))

    def gradient(t):
        if kind.first:
            return maml.value_and_gradient(task.query(adapt(t)), adapt(t))[1]
        return maml.meta_gradient(t.astype(kind.net), task, 0.01, 1)[1]

    return (value, gradient, theta, adapt), "first-order" if kind.first else "exact"
