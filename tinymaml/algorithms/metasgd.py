"""Meta-SGD: MAML with one step size per parameter, learned together with theta.

    w = [theta | alpha],   theta_{k+1} = theta_k - alpha g_k

alpha (P,) is the same in every inner step. `learned` has the gradient.

Source: Li, Zhou, Chen, Li, "Meta-SGD: Learning to Learn Quickly for Few-Shot Learning",
2017, algorithm 1. There alpha starts at random in [0.005, 0.1]; here it starts at --alpha.
"""

from dataclasses import dataclass

from tinymaml.algorithms import learned
from tinymaml.algorithms.learned import PARAMETER, PartOptions
from tinymaml.options import redefault


@dataclass(frozen=True)
class Options(PartOptions):
    """The options of Meta-SGD."""

    rates: str = redefault(PARAMETER, "section 3.2")


META_SGD = learned.LEARNED._replace(
    name="meta-sgd",
    label="Meta-SGD",
    learns="theta and a step size per parameter",
    cost="1.02",
    source="Li et al. 2017",
    options=Options,
    defaults=lambda given: learned.tested(1)({"rates": PARAMETER, **given}),
    moved=learned.parts,
)
