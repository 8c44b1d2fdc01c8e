"""One pass through the layers below the first that inner steps change.

Let F and G be the features of support and query examples below that layer. Inner steps
leave them alone, so the chain runs on the short vector z = [top | F | G] with step size 0
for F and G. One reverse pass through the lower layers then gives the rest:

    d L / d body = J_F' v_F + J_G' v_G

This is exact for any number of steps: no second derivative of the lower layers is needed.
Source: section 5 of Raghu, Raghu, Bengio, Vinyals 2020, where only the head is adapted.
"""

from collections.abc import Sequence

import autograd.numpy as anp
import numpy as np
from autograd.differential_operators import make_vjp

from tinymaml import chain, params
from tinymaml.fewshot import EpisodeTask, Problem
from tinymaml.maml import Array, Task
from tinymaml.models import Model


def cut(problem: Problem) -> tuple[Model, Model]:
    """Return the layers below the first that inner steps change, and the others."""
    blocks, size = problem.model.blocks, params.count(problem.model.shapes)
    moved = np.flatnonzero(np.broadcast_to(problem.alpha, size))
    sizes = np.cumsum([params.count(block.shapes) for block in blocks])
    at = int(np.searchsorted(sizes, moved[0], side="right")) if len(moved) else 0
    return problem.model.split(blocks[at].name)


def gradient(
    theta: Array,
    task: Task,
    problem: Problem,
    alphas: Sequence[Array],
    weights: Sequence[float] | None = None,
    second_order: bool = True,
) -> tuple[Array, Array, list[Array]]:
    """Return what `chain.gradient` returns, to rounding.

    alphas: step sizes (..., P), which are 0 in the layers below
    """
    below, above = cut(problem)
    size = params.count(below.shapes)
    if not size or not isinstance(task, EpisodeTask):
        return chain.gradient(theta, task, alphas, weights, second_order)
    episode, lead = task.episode, theta.shape[:-1]
    sets = {"support": episode.x_support, "query": episode.x_query}

    shapes = dict(above.shapes)

    def features(body: Array) -> Array:
        found = {name: below.apply(body, x) for name, x in sets.items()}
        shapes.update({name: x.shape[len(lead) :] for name, x in found.items()})
        rows = [anp.reshape(x, (*lead, -1)) for x in found.values()]
        return anp.concatenate(rows, axis=-1)

    body, top = theta[..., :size], theta[..., size:]
    pull, found = make_vjp(features)(body)

    def maker(name: str, loss, y: Array):
        def of(z: Array) -> Array:
            arrays = params.unpack(z, shapes)
            return loss(above.through(arrays, arrays[name]), y)

        return lambda _: of

    short = Task(
        maker("support", task.support_loss, episode.y_support),
        maker("query", task.query_loss, episode.y_query),
    )
    still = np.zeros((*lead, found.shape[-1]), theta.dtype)
    sizes = [
        anp.concatenate([alpha[..., size:] + 0 * top, still], axis=-1) for alpha in alphas
    ]
    z = anp.concatenate([top, found], axis=-1)
    loss, v, slopes = chain.gradient(z, short, sizes, weights, second_order)
    n = top.shape[-1]
    none = 0.0 * body
    return (
        loss,
        anp.concatenate([pull(v[..., n:]), v[..., :n]], axis=-1),
        [anp.concatenate([none, s[..., :n]], axis=-1) for s in slopes],
    )
