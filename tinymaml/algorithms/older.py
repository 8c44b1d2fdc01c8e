"""The options of runs from before each algorithm had its own options."""

from typing import Any

from tinymaml import algorithms
from tinymaml.algorithms import averaged, context
from tinymaml.options import options_of


# Options that every older run has, whatever its algorithm.
SHARED = {"context", *options_of(averaged.WaveOptions)}


def translated(options: dict[str, Any]) -> dict[str, Any]:
    """Return the options of a run in today's form.

    Older runs list the options of every algorithm, and `context` besides `algorithm`.
    """
    name = options["algorithm"]
    if name not in algorithms.ALGORITHMS:  # a user's own: such runs are not older
        return options
    if options.get("context") and "order" not in options:
        first = name == "fomaml"
        order = "first" if first else "exact"
        options = options | {"algorithm": context.CONTEXT.name, "order": order}
    own = options_of(algorithms.find(options["algorithm"]).options)
    return {k: x for k, x in options.items() if k in own or k not in SHARED}
