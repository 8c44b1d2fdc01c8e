"""Random programs: each step uses values that steps before it made."""

import autograd.numpy as anp
from hypothesis import strategies as st

from tinymaml import maml


def steps(unary, binary, most):
    """Return a strategy of programs: names of one to `most` steps, and what they take."""
    number = st.integers(0, 99)
    step = st.tuples(st.sampled_from([*unary, *binary]), number, number)
    return st.lists(step, min_size=1, max_size=most)


def run(steps, unary, binary, a, b):
    """Return all values of a program that begins with two arrays."""
    values = [a, b]
    for name, i, j in steps:
        x, y = values[i % len(values)], values[j % len(values)]
        values.append(unary[name](x) if name in unary else binary[name](x, y))
    return values


def second_order(function):
    """Return the gradient and a Hessian product of a sum of a function's first result."""

    def second(a, b):
        def loss(at):
            return anp.sum(anp.sin(function(at, b)[0])) + anp.sum(at**3)

        hvp, gradient = maml.hvp_and_gradient(loss, a)
        return gradient, hvp(b)

    return second
