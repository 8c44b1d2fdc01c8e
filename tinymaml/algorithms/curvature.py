"""Meta-Curvature: learned matrices transform the gradient of each inner step.

    w = [theta | rates | maps],   theta_{k+1} = theta_k - alpha_k U(g_k)

U is linear in g and transforms each array of the model by itself. All maps start as the
identity, and U is the same in every step. For the gradient G of

    dense weights (k, f)          U = M_in G M_out
    convolution weights (9 c, f)  as (9, c, f): M_kernel, M_in, M_out, one for each axis
    biases and offsets (1, f)     U = m G, a factor for each number

So biases are as in Meta-SGD. The adjoint U' maps V to M_in' V M_out' for dense weights, and

    v_k = v_{k+1} - H_k U'(alpha_k v_{k+1})
    d L / d maps = - sum over k of d <alpha_k v_{k+1}, U(g_k)> / d maps

For dense weights the last line adds up -V M_out' G' for M_in and -G' M_in' V for M_out,
with V from alpha_k v_{k+1}. Arrays that inner steps leave alone have no maps.

Maps learned with one step need not carry over to more: on sine, one of 600 test tasks
diverged within ten steps for two of three seeds. Two steps, sine's default, were stable
with the one seed that was tried.

Source: Park, Oliva, "Meta-Curvature", NeurIPS 2019; maml.py:78-115 of its official code.
The three axes of convolutions and the factors of biases are those of learn2learn's
MetaCurvatureTransform, which follows it.
"""

from functools import partial

import autograd.numpy as anp
import numpy as np
from autograd import grad
from numpy.random import Generator

from tinymaml import chain, maml, params
from tinymaml.algorithms import learned
from tinymaml.algorithms.algorithm import loss_after
from tinymaml.algorithms.kronecker import maps, transformed
from tinymaml.chain import Linear
from tinymaml.fewshot import Problem
from tinymaml.maml import Array, Task
from tinymaml.params import Shapes


def shapes(problem: Problem) -> Shapes:
    """Return the arrays of the model, the rates, and the maps."""
    return {**learned.shapes(problem), **maps(problem)}


def init(rng: Generator, problem: Problem) -> Array:
    """Return the first theta and rates, and maps that are the identity."""
    ones = [np.eye(m) if m == n else np.ones(n) for m, n in maps(problem).values()]
    return np.concatenate([learned.init(rng, problem), *map(np.ravel, ones)])


def steps_of(w: Array, problem: Problem, steps: int) -> tuple[Array, list[Linear]]:
    """Return theta (T, P) and the maps g -> alpha_k U(g) of the steps."""
    arrays, model = params.unpack(w, shapes(problem)), problem.model.shapes
    n = params.count(learned.shapes(problem))
    theta, alphas = learned.step_sizes(w[..., :n], problem, steps)

    def of(alpha: Array) -> Linear:
        return Linear(
            lambda g: alpha * transformed(g, model, arrays),
            lambda v: transformed(alpha * v, model, arrays, adjoint=True),
        )

    return theta, [*map(of, alphas)]


def gradient(
    w: Array, task: Task, problem: Problem, exact: bool = True
) -> tuple[Array, Array]:
    """Return the query loss after adaptation and its gradient by w (T, M).

    exact: with Hessian products, unless --order first; the maps keep their gradient
    """
    theta, linear = steps_of(w, problem, problem.options.inner_steps)
    steps, thetas = chain.forward(theta, task, linear)
    loss, v = maml.value_and_gradient(task.query(thetas[-1]), thetas[-1])
    v, after = chain.back(steps, v, None, exact and problem.options.order == "exact")

    def along(w: Array) -> Array:
        """Return the sum of <v_{k+1}, alpha_k U(g_k)>, in which v and g are constants."""
        _, linear = steps_of(w, problem, len(steps))
        ways = zip(after, linear, steps, strict=True)
        return sum(
            (anp.sum(v * one.apply(s.gradient)) for v, one, s in ways), 0 * anp.sum(w)
        )

    extras = -grad(along)(w)[..., theta.shape[-1] :]
    return loss, anp.concatenate([v, extras], axis=-1)


def adapt(w: Array, task: Task, problem: Problem, steps: int) -> list[Array]:
    """Return [theta_0, ..., theta_steps]."""
    theta, linear = steps_of(w, problem, steps)
    return chain.path(theta, task, linear)


CURVATURE = learned.LEARNED._replace(
    name="meta-curvature",
    label="Meta-Curvature",
    gradient=gradient,
    first_order=partial(gradient, exact=False),
    learns="theta and maps of each array's gradient; step sizes with --rates",
    cost="1.1 on images; 2.3 on sine",
    source="Park & Oliva 2019",
    adapt=adapt,
    objective=learned.exactly(loss_after(adapt)),
    options=learned.PartOptions,
    shapes=shapes,
    init=init,
    moved=learned.parts,
)
