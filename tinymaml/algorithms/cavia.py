"""CAVIA: inner steps change a context z only, which starts at 0 for every task.

For regression z joins the inputs. For images it scales and shifts the channels of the third
convolution (FiLM): [gamma | beta] = z W + c, h = gamma h + beta, before the activation.
theta is meta-learned; z is not: its outer gradient is dropped. This is not the context
vector of Finn et al. 2017 (`context`), whose first z is meta-learned.

Source: Zintgraf, Shiarlis, Kurin, Hofmann, Whiteson, "Fast Context Adaptation via
Meta-Learning", ICML 2019; regression/cavia.py:34-59 and classification/models.py:182-193 of
its official code. There c is drawn near 0; here gamma starts at 1 and beta at 0.
"""

from dataclasses import dataclass
from functools import wraps
from typing import Any

from tinymaml import models, params
from tinymaml.algorithms import learned
from tinymaml.algorithms.algorithm import Gradient, loss_after
from tinymaml.errors import UsageError
from tinymaml.fewshot import Problem
from tinymaml.maml import Array, Task
from tinymaml.models import Model
from tinymaml.options import option


FILM_AFTER = "conv2"  # the third convolution: classification/models.py:182-193
Z = "z"


@dataclass(frozen=True)
class Options(learned.Options):
    """The options of CAVIA."""

    context: int = option(
        5,
        "number of context parameters z",
        "the official code: 5 for regression, 100 for images",
        least=1,
        most=4096,
    )


def is_regression(options: Any) -> bool:
    """Return whether z joins the inputs."""
    return "regression" in options.offers


def build(model: Model, options: Any) -> Model:
    """Return the model with a layer that z modulates, for images.

    Raises UsageError for a model without it.
    """
    if is_regression(options):
        return model
    if not hasattr(options, "net") and FILM_AFTER not in {x.name for x in model.blocks}:
        own = 'offers: ClassVar[tuple[str, ...]] = ("regression",)'
        lack = f"CAVIA changes the block {FILM_AFTER!r} of a net of images"
        raise UsageError(f"{lack}, which {options.name} lacks; a regression says {own}")
    return models.with_film(model, FILM_AFTER, options.context)


def others(w: Array, problem: Problem) -> Array:
    """Return (M,) with 0 for z, and 1 for all that is meta-learned."""
    return 1 - params.mask(learned.shapes(problem), [Z]).astype(w.dtype)


def without_z(gradient: Gradient) -> Gradient:
    """Return a gradient at z = 0, in which z has none; of the same name."""

    @wraps(gradient)
    def of(w: Array, task: Task, problem: Problem) -> tuple[Array, Array]:
        mask = others(w, problem)
        loss, found = gradient(mask * w, task, problem)
        return loss, mask * found

    return of


def adapt(w: Array, task: Task, problem: Problem, steps: int) -> list[Array]:
    """Return [theta_0, ..., theta_steps]; z is 0 in theta_0."""
    return learned.adapt(others(w, problem) * w, task, problem, steps)


CAVIA = learned.LEARNED._replace(
    name="cavia",
    label="CAVIA, z of {context}",
    gradient=without_z(learned.gradient),
    twin=without_z(learned.masked),
    first_order=without_z(learned.first_order),
    learns="theta without z",
    adapts="z, from 0",
    cost="1; 0.7 on images",
    source="Zintgraf et al. 2019",
    adapt=adapt,
    objective=learned.exactly(loss_after(adapt)),
    options=Options,
    defaults=lambda given: learned.tested(1)(given) | {"alpha": 1.0},  # arguments.py:11-25
    refuses=learned.refuses_norm,
    not_in_rl="the policy has no context parameters",
    start=lambda w, problem: others(w, problem) * w,
    inputs=lambda options: options.context if is_regression(options) else 0,
    build=build,
    moved=lambda model, options: [Z],
)
