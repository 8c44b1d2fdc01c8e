"""MAML on two bent bowls in closed form: quick programs for the verifier."""

import numpy as np


ALPHA, STEPS = 0.1, 3
SHAPES = {"w": (3, 3), "b": (3,), "c": (3,), "d": (2,)}
SPANS = {"w": slice(0, 9), "b": slice(9, 12), "c": slice(12, 15), "d": slice(15, 17)}
SIZE = 17


def tree(vector):
    """Return a vector as a dict of arrays."""
    return {k: vector[SPANS[k]].reshape(shape) for k, shape in SHAPES.items()}


def flat(p):
    """Return a dict of arrays as a vector."""
    return np.concatenate([np.ravel(p[k]) for k in SHAPES])


class Bowls:
    """Support and query losses (t - a)' A (t - a) / 2 + sum cos(t + a), of seed's task."""

    def __init__(self, seed=0):
        rng = np.random.default_rng(seed)
        self.theta = rng.standard_normal(SIZE)
        self.centres = rng.standard_normal((2, SIZE))
        self.bends = [b @ b.T / SIZE for b in rng.standard_normal((2, SIZE, SIZE))]

    def loss(self, t, which):
        """Return the support (0) or query (1) loss."""
        off = t - self.centres[which]
        return float(
            off @ self.bends[which] @ off / 2 + np.cos(t + self.centres[which]).sum()
        )

    def slope(self, t, which):
        """Return its gradient."""
        off = t - self.centres[which]
        return self.bends[which] @ off - np.sin(t + self.centres[which])

    def hessian(self, t, which):
        """Return its Hessian."""
        return self.bends[which] - np.diag(np.cos(t + self.centres[which]))

    def path(
        self,
        t,
        steps=STEPS,
        alpha=ALPHA,
        inner=0,
        moved=1.0,
        momentum=0.0,
        decay=0.0,
        most=9e9,
    ):
        """Return theta_0, ..., theta_K. most: the length of a step"""
        found, velocity = [t], 0.0
        for _ in range(steps):
            g = self.slope(found[-1], inner) + decay * found[-1]
            velocity = momentum * velocity + alpha * moved * g
            velocity *= min(1.0, most / np.linalg.norm(velocity))
            found.append(found[-1] - velocity)
        return found

    def value(self, t, result=1, **loop):
        """Return Q(theta_K)."""
        return self.loss(self.path(t, **loop)[-1], result)

    def gradient(
        self,
        t,
        cut=(),
        result=1,
        lost=1.0,
        alpha=ALPHA,
        moved=1.0,
        terms=1.0,
        graph=1.0,
        **loop,
    ):
        """Return its gradient; without the second-order terms of the steps in `cut`.

        lost, terms, graph: masks of Q's gradient, of second-order terms, of updates
        """
        path = self.path(t, alpha=alpha, moved=moved, **loop)
        v = lost * self.slope(path[-1], result)
        for k in reversed(range(len(path) - 1)):
            if k not in cut:
                h = self.hessian(path[k], loop.get("inner", 0))
                v = graph * v - alpha * h @ (moved * terms * graph * v)
        return v

    def slopes(self, t, **loop):
        """Return its gradient by differences, for loops that have no formula here."""
        shifts = 1e-5 * np.eye(SIZE)
        return (
            np.array(
                [self.value(t + s, **loop) - self.value(t - s, **loop) for s in shifts]
            )
            / 2e-5
        )

    def arguments(self, gradient=None, value=None):
        """Return the arguments of `verify`: of a program on dicts of arrays."""
        gradient, value = gradient or self.gradient, value or self.value
        return lambda p: value(flat(p)), lambda p: tree(gradient(flat(p))), tree(self.theta)

    def loop(self):
        """Return the options of `verify` that say what the loop should be."""
        return {
            "inner_step": lambda p: tree(self.path(flat(p), 1)[-1]),
            "query_loss": lambda p: self.loss(flat(p), 1),
            "steps": STEPS,
            "alpha": ALPHA,
        }
