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

Source: Park, Oliva, "Meta-Curvature", NeurIPS 2019; maml.py:78-115 of its official code.
The three axes of convolutions and the factors of biases are those of learn2learn's
MetaCurvatureTransform, which follows it.
"""

from collections.abc import Mapping, Sequence

import autograd.numpy as anp
import numpy as np
from autograd import grad
from numpy.random import Generator

from tinymaml import chain, maml, params
from tinymaml.algorithms import learned
from tinymaml.algorithms.algorithm import loss_after
from tinymaml.algorithms.learned import PartOptions
from tinymaml.chain import Linear
from tinymaml.fewshot import Problem
from tinymaml.maml import Array, Task
from tinymaml.ops import matmul, matmul_tn
from tinymaml.params import Shapes


KERNEL = 9  # positions of a 3x3 convolution
AXES = {2: ("in", "out"), 3: ("kernel", "in", "out")}
SCALE = "scale"


def axes(problem: Problem) -> dict[str, tuple[int, ...]]:
    """Return the axes of each array that inner steps change; () for biases and offsets.

    The first array of a block is its weights. Blocks called conv... convolve.
    """
    spans, moved, found = params.spans(problem.model.shapes), learned.moved(problem), {}
    for block in problem.model.blocks:
        for name, shape in block.shapes.items():
            rows, f = shape
            if name != next(iter(block.shapes)):
                shape = ()
            elif block.name.startswith("conv"):
                shape = (KERNEL, rows // KERNEL, f)
            if moved[spans[name].start]:
                found[name] = shape
    return found


def maps(problem: Problem) -> Shapes:
    """Return the names and shapes of all maps: "w0 in", "w0 out", "b0 scale", ..."""
    found = {}
    for name, sizes in axes(problem).items():
        for axis, n in zip(AXES.get(len(sizes), ()), sizes, strict=True):
            found[f"{name} {axis}"] = (n, n)
        if not sizes:
            found[f"{name} {SCALE}"] = problem.model.shapes[name]
    return found


def shapes(problem: Problem) -> Shapes:
    """Return the arrays of the model, the rates, and the maps."""
    return {**learned.shapes(problem), **maps(problem)}


def init(rng: Generator, problem: Problem) -> Array:
    """Return the first theta and rates, and maps that are the identity."""
    ones = [
        np.ones(shape) if name.endswith(SCALE) else np.eye(*shape)
        for name, shape in maps(problem).items()
    ]
    return np.concatenate([learned.init(rng, problem), *map(np.ravel, ones)])


# ----- The linear map -----


def _transposed(m: Array) -> Array:
    return anp.swapaxes(m, -1, -2)


def multiplied(x: Array, matrices: Sequence[Array]) -> Array:
    """Multiply each axis of x (..., m, f), whose axes are those of the matrices.

    The last matrix stands at the right of x, the others at the left.
    """
    *left, right = matrices
    lead, shape = x.shape[:-2], x.shape
    for m in left:  # each product leaves its axis behind the others
        x = _transposed(matmul(m, anp.reshape(x, (*lead, m.shape[-1], -1))))
    return anp.reshape(matmul_tn(anp.reshape(x, (*lead, shape[-1], -1)), right), shape)


def transformed(
    g: Array, arrays: Mapping[str, Array], problem: Problem, adjoint: bool = False
) -> Array:
    """Return U(g), or U'(g), for g (..., P) and the maps by name."""
    rows, known = [], axes(problem)
    for name, x in params.unpack(g, problem.model.shapes).items():
        if known.get(name):
            pair = [arrays[f"{name} {axis}"] for axis in AXES[len(known[name])]]
            x = multiplied(x, [*map(_transposed, pair)] if adjoint else pair)
        elif name in known:
            x = arrays[f"{name} {SCALE}"] * x
        rows.append(anp.reshape(x, (*g.shape[:-1], -1)))
    return anp.concatenate(rows, axis=-1)


def steps_of(w: Array, problem: Problem, steps: int) -> tuple[Array, list[Linear]]:
    """Return theta (T, P) and the maps g -> alpha_k U(g) of the steps."""
    n = params.count(learned.shapes(problem))
    arrays = params.unpack(w, {"": (n,), **maps(problem)})
    theta, alphas = learned.step_sizes(arrays[""], problem, steps)

    def of(alpha: Array) -> Linear:
        return Linear(
            lambda g: alpha * transformed(g, arrays, problem),
            lambda v: transformed(alpha * v, arrays, problem, adjoint=True),
        )

    return theta, [*map(of, alphas)]


# ----- The algorithm -----


def gradient(w: Array, task: Task, problem: Problem) -> tuple[Array, Array]:
    """Return the query loss after adaptation and its gradient by w (T, M)."""
    return _gradient(w, task, problem, problem.options.order == "exact")


def first_order(w: Array, task: Task, problem: Problem) -> tuple[Array, Array]:
    """Return the same without Hessian products; the maps keep their gradient."""
    return _gradient(w, task, problem, False)


def _gradient(w: Array, task: Task, problem: Problem, exact: bool) -> tuple[Array, Array]:
    theta, linear = steps_of(w, problem, problem.options.inner_steps)
    steps, thetas = chain.forward(theta, task, linear)
    loss, v = maml.value_and_gradient(task.query(thetas[-1]), thetas[-1])
    v, after = chain.back(steps, v, None, exact)

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
    first_order=first_order,
    learns="theta and maps of each array's gradient; step sizes with --rates",
    source="Park & Oliva 2019",
    adapt=adapt,
    objective=learned.exactly(loss_after(adapt)),
    options=PartOptions,
    shapes=shapes,
    init=init,
    moved=learned.parts,
)
