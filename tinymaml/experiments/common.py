"""What every experiment's options have in common.

A field carries its default, its help, its range and the source of its value; the command
line and the configuration file are made from that.
"""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from typing import Any, ClassVar


# Far above any use, and low enough that a slip of the finger is refused at once.
MOST = 10**6
# The published settings that tinymaml.presets has.
PRESETS = ("finn2017-paper", "finn2017-code")

# Algorithms: with an inner loop; one theta for all tasks without one; a theta for each.
INNER_LOOP = ("maml", "fomaml", "maml-low-memory")
SHARED = ("pretrained", "oracle")
AVERAGED = ("averaged", "averaged-l2", "averaged-mean")
# Options of few-shot learning that not every algorithm uses.
USED_BY = {
    **dict.fromkeys(("inner_steps", "context"), INNER_LOOP),
    "tasks": (*INNER_LOOP, *SHARED),
    **dict.fromkeys(("iterations", "beta"), (*INNER_LOOP, *SHARED, *AVERAGED)),
    **dict.fromkeys(("regressors", "points"), AVERAGED),
    "pull": AVERAGED[1:],
    "wave": AVERAGED[2:],
}


def option(
    default: Any,
    help: str,
    source: str = "",
    *,
    least: float | None = None,
    most: float | None = None,
    above: float | None = None,
    choices: tuple[str, ...] = (),
) -> Any:
    """Return a dataclass field.

    `least` and `most` are the ends of its range, `above` an end that does not belong.
    """
    metadata = {
        "help": help,
        "source": source,
        "least": least,
        "most": most,
        "above": above,
        "choices": choices,
    }
    return dataclasses.field(default=default, metadata=metadata)


@dataclass(frozen=True)
class Config:
    """Options of every experiment; an experiment's own class adds and overrides."""

    name: ClassVar[str]
    score: ClassVar[str]  # what is reported after each gradient step
    setting: ClassVar[str] = "few-shot"  # what an iteration is: few-shot or rl
    anchors: ClassVar[dict[str, float]] = {}  # scores to compare with
    is_original: ClassVar[bool] = (
        True  # whether the data are what the experiment is named after
    )
    shown_steps: ClassVar[tuple[int, ...]] = tuple(range(11))
    # Tasks side by side in an evaluation; it does not change what is measured.
    test_chunk: ClassVar[int] = 20
    # The algorithms that use an option; one that is not here is used by all.
    used_by: ClassVar[dict[str, tuple[str, ...]]] = {}

    preset: str = option(
        "none",
        "published settings for all that is not told otherwise; see list --presets",
        choices=("none", *PRESETS),
    )
    iterations: int = option(1000, "outer updates in all", least=0, most=10**8)
    seed: int = option(
        0, "seed of initial values and training tasks", least=0, most=2**64 - 1
    )
    tasks: int = option(32, "tasks in a meta-batch", least=1, most=MOST)
    algorithm: str = option(
        "maml",
        "exact meta-gradient, first-order, exact with less memory, or a baseline:"
        " pretrained on all tasks, random initial values",
        "section 5.2 of the paper for first-order, 5.1 for the baselines",
        choices=(*INNER_LOOP, "pretrained", "random"),
    )
    alpha: float = option(0.01, "inner step size", least=0, most=1e9)
    tune: bool = option(
        True,
        "with an algorithm that has no inner loop: choose alpha on validation tasks",
        "section 5.1 of the paper, for its baselines",
    )
    inner_steps: int = option(1, "inner gradient steps in training", least=0, most=1000)
    beta: float = option(
        1e-3,
        "outer step size, of Adam",
        "main.py of the official code",
        above=0,
        most=1e9,
    )
    clip: float = option(
        0.0,
        "bound on every entry of the averaged meta-gradient, 0 for none",
        "maml.py:147-148: 10, on mini-ImageNet only",
        least=0,
        most=1e9,
    )
    activation: str = option(
        "relu", "of the hidden layers", "section 5 of the paper", choices=("relu", "tanh")
    )
    dtype: str = option("float32", "precision", choices=("float32", "float64"))
    chunk: int = option(
        4, "tasks computed side by side; fixes the last bits", least=1, most=MOST
    )
    replay: bool = option(True, "replay the recorded NumPy calls; the same bits, faster")
    checkpoint_every: int = option(
        500, "iterations between checkpoints", least=1, most=10**8
    )
    validate_every: int = option(
        0,
        "iterations between validations, after inner_steps steps, whose best theta is"
        " tested; 0 for none, and the last theta",
        least=0,
        most=10**8,
    )
    validation_tasks: int = option(200, "tasks of a validation", least=2, most=MOST)
    test: bool = option(True, "score test tasks at the end; evaluate does it later")
    test_tasks: int = option(
        600, "held-out tasks at the end", "the paper and its code", least=2, most=MOST
    )
    test_steps: int = option(
        10, "gradient steps at the end", "section 5.1 of the paper", least=0, most=1000
    )

    def uses(self, option: str) -> bool:
        """Return whether the algorithm has a use for an option."""
        if option in ("alpha", "tune"):  # without an inner loop one of the two decides
            inner_loop = self.uses("inner_steps")
            return not inner_loop if option == "tune" else inner_loop or not self.tune
        return self.algorithm in self.used_by.get(option, (self.algorithm,))

    def with_changes(self, changes: dict[str, Any]) -> Config:
        """Return a copy with the named fields changed."""
        return dataclasses.replace(self, **changes)


# What may differ when a run goes on: how long it is, how it is tested, where its data lie.
FREE_TO_CHANGE = ("iterations", "test", "test_tasks", "test_steps", "data", "replay")
