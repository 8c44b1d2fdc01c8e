"""ANIL: inner steps change the head only; the body is meta-learned.

The features below the head are computed once for any number of steps (see `features`).

Source: Raghu, Raghu, Bengio, Vinyals, "Rapid Learning or Feature Reuse? Towards
Understanding the Effectiveness of MAML", ICLR 2020, section 4. Five steps are its number
(from memory).
"""

from tinymaml.algorithms import learned
from tinymaml.algorithms.algorithm import FEW_SHOT, RL


ANIL = learned.LEARNED._replace(
    name="anil",
    label="ANIL",
    twin=learned.masked,
    learns="theta, and step sizes with --rates",
    adapts="the head",
    cost="0.6 for any number of steps",
    source="Raghu et al. 2020",
    defaults=learned.tested(5),
    settings=(FEW_SHOT, RL),
    moved=lambda model, options: model.head,
)
