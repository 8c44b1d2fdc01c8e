"""Sums over chunks of tasks, of the same bits from any number of workers.

Chunks are the leaves of a binary tree: neighbours are added, then neighbouring pairs, and
so on. A worker adds up the branches that lie within its share of the chunks and sends few
sums back; the calling process adds these in the same way. So the order of summation depends
on nothing but the number of chunks.
"""

from collections.abc import Callable, Sequence
from functools import partial, reduce
from typing import NamedTuple

from tinymaml.speed.workers import Engine, spans


class Branch(NamedTuple):
    """The sum of consecutive chunks: a node of a binary tree over all of them."""

    first: int
    chunks: int  # a power of two, of which `first` is a multiple
    sums: tuple

    def has_sibling(self, after: "Branch") -> bool:
        """Return whether this branch and the one after it have the same parent."""
        return self.chunks == after.chunks and self.first % (2 * self.chunks) == 0


def gather_sums(
    engine: Engine, function: Callable, fixed: tuple, chunks: Sequence
) -> tuple:
    """Return the sums over all chunks of what function(*fixed, chunk) returns, a tuple.

    A worker gets its share of the chunks in one call, where the number of workers is known.
    So `fixed`, which may hold a large theta, is sent to it once. Raises ValueError when two
    chunks return tuples of different lengths.
    """
    number = getattr(engine, "number", len(chunks))
    shares = [
        (i.start, chunks[i.start : i.stop])
        for i in spans(len(chunks), -(-len(chunks) // number))
    ]
    branches: list[Branch] = []
    for found in engine.map(partial(_branches, partial(function, *fixed)), shares):
        for branch in found:
            _add(branches, branch)
    return reduce(_sums, [branch.sums for branch in branches])


def _branches(function: Callable, share: tuple[int, Sequence]) -> list[Branch]:
    """Return the largest branches that lie within a share of the chunks."""
    first, chunks = share
    branches: list[Branch] = []
    for number, chunk in enumerate(chunks, first):
        _add(branches, Branch(number, 1, function(chunk)))
    return branches


def _add(branches: list[Branch], branch: Branch) -> None:
    """Append a branch, and join it to its sibling, their parent to its own, and so on."""
    while branches and branches[-1].has_sibling(branch):
        left = branches.pop()
        both = _sums(left.sums, branch.sums)
        branch = Branch(left.first, 2 * left.chunks, both)
    branches.append(branch)


def _sums(some: tuple, others: tuple) -> tuple:
    return tuple(a + b for a, b in zip(some, others, strict=True))
