"""Sums over chunks: every chunk once, in an order that no number of workers changes."""

import operator
from concurrent.futures import ThreadPoolExecutor
from functools import reduce

import numpy as np
import pytest

from tinymaml.speed import sums


class Counting:
    """An engine of some workers that counts its calls."""

    def __init__(self, number):
        self.calls, self.number = 0, number

    def map(self, function, chunks):
        for chunk in chunks:
            self.calls += 1
            yield function(chunk)


def rounded(chunk):
    """Return a sum whose last bits depend on the order of its parts, and a count."""
    return np.float32(1.1) ** np.float32(chunk), 1


def tree(parts):
    """Return the sum of neighbours, of pairs of neighbours, ...; the rest at the end."""
    if len(parts) < 2:
        return sum(parts)
    left = 1 << (len(parts) - 1).bit_length() - 1
    if left * 2 == len(parts):
        return tree(parts[:left]) + tree(parts[left:])
    whole = [parts[i : i + n] for i, n in powers(len(parts))]
    return reduce(operator.add, map(tree, whole))


def powers(number):
    """Yield the start and the size of each power of two that a number is the sum of."""
    start = 0
    for size in (1 << i for i in reversed(range(number.bit_length()))):
        if number & size:
            yield start, size
            start += size


@pytest.mark.parametrize("chunks", [1, 2, 3, 5, 8, 13, 25])
@pytest.mark.parametrize("number", [1, 2, 3, 7, 8, 30])
def test_a_worker_gets_its_chunks_in_one_call(number, chunks):
    """Rejects theta sent with every chunk, a lost chunk, and sums that workers decide."""
    pool = Counting(number)
    found, count = sums.gather_sums(pool, rounded, (), [*range(chunks)])
    assert count == chunks
    assert found == tree([rounded(i)[0] for i in range(chunks)])
    assert pool.calls <= number


def test_a_worker_returns_few_sums():
    """Rejects a gradient sent back for each chunk."""
    assert [len(sums._branches(rounded, (0, range(n)))) for n in (1, 8, 12)] == [1, 1, 2]
    assert [b.chunks for b in sums._branches(rounded, (3, range(3, 10)))] == [1, 4, 2]


def test_chunks_return_as_many_sums():
    """Rejects a figure that some chunks have and that is then left out in silence."""
    some = lambda chunk: (1,) * (2 - chunk // 2)  # noqa: E731
    with pytest.raises(ValueError, match="shorter"):
        sums.gather_sums(Counting(2), some, (), range(3))


def test_an_executor_of_unknown_size_gets_every_chunk():
    """Rejects a user's own executor that is asked for what only ours can say."""
    with ThreadPoolExecutor(2) as pool:
        assert sums.gather_sums(pool, rounded, (), range(5))[1] == 5
