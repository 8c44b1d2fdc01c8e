"""Whether tasks that adapt side by side leave each other alone: the contract of maml.py.

A loss is a sum over tasks. With a mean (`np.mean` over the tasks too), every gradient and
inner step is too small by the number of tasks, without an error. Statistics over all tasks
make one task's gradient depend on another's data.
"""

from collections.abc import Callable

import numpy as np

from tinymaml.check.differences import difference
from tinymaml.maml import Array


def mixing(gradients: Callable[[slice], Array], tasks: int) -> float:
    """Return how much a task's gradient changes beside other tasks, relative to it alone.

    gradients: some of the tasks, a slice of 0, ..., tasks - 1 -> their gradients (n, P).
        For losses of your own:
        lambda some: meta_gradient(theta[some], make(some), alpha, steps)[1]
    tasks: 2 or more
    It is the largest change of all tasks: rounding (1e-15) where they are independent, and
    1 - 1 / tasks for a mean over tasks. Raises ValueError for fewer tasks than 2, and when
    the shapes do not fit.
    """
    if tasks < 2:
        raise ValueError(f"tasks must be 2 or more, not {tasks}")
    together = np.asarray(gradients(slice(0, tasks)))
    alone = [np.asarray(gradients(slice(i, i + 1))) for i in range(tasks)]
    shapes = [together.shape[1:]] + [one.shape[1:] for one in alone]
    if (
        not together.size
        or len(together) != tasks
        or any(len(one) != 1 for one in alone)
        or len({*shapes}) > 1
    ):
        found = f"{together.shape} for {tasks} tasks, {alone[0].shape} for one"
        raise ValueError(f"gradients must be (tasks, P), not {found}")
    changes = [difference(a, b) for a, (b,) in zip(together, alone, strict=True)]
    return float(np.max(changes))  # nan if one is
