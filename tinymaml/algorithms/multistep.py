"""The multi-step loss of MAML++: weights u_1, ..., u_K of the query losses after each step.

With e the epoch and E = --multi-step-epochs, from which on u = (0, ..., 0, 1),

    u_k = max(1/K - e/(K E), 0.03/K) for k < K,   u_K = 1 - (u_1 + ... + u_{K-1})

Source: Antoniou, Edwards, Storkey 2019, section 4; few_shot_learning_system.py:90-101 of
the official code, in which theta_0 has no weight either.
"""

from typing import Any

import numpy as np

from tinymaml.maml import Array
from tinymaml.options import flag


# Options, when they have an effect, and with what they have none.
NEEDS = (
    ("multi_step_epochs", lambda o: o.multi_step_loss, "--no-multi-step-loss"),
    ("first_order_epochs", lambda o: o.order == "exact", "--order first"),
)
FLOOR = 0.03  # few_shot_learning_system.py:90-101


def weights(options: Any, epoch: int) -> Array:
    """Return u_1, ..., u_K (K,) of an epoch before --multi-step-epochs. They sum to 1."""
    steps, last = options.inner_steps, options.multi_step_epochs
    others = max(1 / steps - epoch / (steps * last), FLOOR / steps)
    return np.array([*[others] * (steps - 1), 1 - others * (steps - 1)])


def phase(options: Any, iteration: int) -> tuple[tuple[bool, bool], tuple[Array, ...]]:
    """Return (multi-step loss?, exact?), and the weights of that loss."""
    epoch = iteration // options.epoch
    many = options.multi_step_loss and epoch < options.multi_step_epochs
    many = many and options.inner_steps > 1
    exact = options.order == "exact" and epoch >= options.first_order_epochs
    arrays = (weights(options, epoch).astype(options.dtype),) if many else ()
    return (many, exact), arrays


def idle(options: Any, usual: Any) -> str:
    """Return which option differs from the usual ones without effect, "" for none."""
    for name, used, other in NEEDS:
        if getattr(options, name) != getattr(usual, name) and not used(options):
            return f"{flag(name)} has no effect with {other}"
    return ""
