"""The profile of a replay makes the calls that the replay makes."""

import dataclasses

import calls
import numpy as np
from autograd.extend import primitive
from works import FAMILIES

from tinymaml.speed.tape import taped


SMALL = dataclasses.replace(FAMILIES["sine"], tasks=2, filters=3, chunk=2)


def test_every_call_is_made_once_and_timed():
    """Rejects a profile that stops early, or calls with the values of another call."""
    made = []

    def function(x, y):
        return (noted(x) * y + noted(y),)

    @primitive
    def noted(x):
        made.append(x.copy())
        return np.sin(x)

    inputs = np.ones(2), np.zeros(2)
    tape, *_ = taped(function, *inputs)
    made.clear()
    spent = calls.timed(tape, inputs)
    assert len(spent) == len(tape) == 4
    assert (spent > 0).all()
    np.testing.assert_array_equal(made, inputs)


def test_the_inputs_are_those_of_a_chunk():
    """Rejects a profile of another function than the benchmark times."""
    inputs = calls.inputs_of(SMALL)
    assert [len(array) for array in inputs] == [2] * 5
    tape, *_ = taped(lambda *a: calls.works.chunk_gradient(SMALL, *a), *inputs)
    assert {"affine", "matmul_tn"} <= set(map(calls.name, tape))
