"""BOIL: inner steps change the body only; the head is meta-learned.

The first step of BOIL and that of ANIL add up to MAML's. The official code also adapts
batch norm's arrays: --adapt-norm, with --norm-scale.

Source: Oh, Yoo, Kim, Yun, "BOIL: Towards Representation Change for Few-shot Learning", ICLR
2021. One inner step is the number of the official code (main.py:170-183).
"""

from tinymaml.algorithms import learned
from tinymaml.algorithms.algorithm import FEW_SHOT, RL


BOIL = learned.LEARNED._replace(
    name="boil",
    label="BOIL",
    learns="theta, and step sizes with --rates",
    adapts="all but the head",
    source="Oh et al. 2021",
    defaults=learned.tested(1),
    settings=(FEW_SHOT, RL),
    moved=lambda model, options: model.body,
)
