"""A context vector z: free inputs beside every example. Inner steps change z only.

The net and the initial z are meta-learned. Source: appendix C.2 of the paper.
"""

from dataclasses import dataclass

from tinymaml.algorithms import learned
from tinymaml.options import option


@dataclass(frozen=True)
class Options(learned.Options):
    """The options of a context vector."""

    context: int = option(
        10,
        "number of free inputs z; for images, of free channels",
        "appendix C.2, without a number",
        least=1,
        most=4096,
    )


CONTEXT = learned.LEARNED._replace(
    name="context",
    label="context vector of {context}",
    learns="theta and the first z",
    adapts="z",
    source="Finn et al. 2017, appendix C.2",
    options=Options,
    refuses=learned.refuses_norm,
    not_in_rl="the policy has no free inputs",
    inputs=lambda options: options.context,
    moved=lambda model, options: ["z"],
)
