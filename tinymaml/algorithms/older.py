"""The options of runs that were begun before each algorithm had options of its own."""

from __future__ import annotations

from typing import Any

from tinymaml import algorithms
from tinymaml.algorithms import averaged, context
from tinymaml.options import options_of


# Options that every run had, whatever its algorithm.
SHARED = {"context", *options_of(averaged.WaveOptions)}


def translated(options: dict[str, Any]) -> dict[str, Any]:
    """Return the options of a run in today's form.

    Older runs list the options of every algorithm. In them a context vector is an option
    beside the algorithm that trained it.
    """
    options = dict(options)
    if options.get("context") and "order" not in options:
        first = options["algorithm"] == "fomaml"
        options |= {
            "algorithm": context.CONTEXT.name,
            "order": "first" if first else "exact",
        }
    own = options_of(algorithms.find(options["algorithm"]).options)
    return {k: x for k, x in options.items() if k in own or k not in SHARED}
