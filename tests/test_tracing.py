"""What autograd gets wrong without an error, and what `tracing` makes of it."""

import sys
import threading
from collections import deque

import autograd.numpy as anp
import numpy as np
import pytest
from autograd import grad, make_jvp

from tinymaml import maml
from tinymaml.maml import Task
from tinymaml.speed.replay import recorded


# ----- Values inside lists -----

MIXED = {
    "concatenate": lambda t: anp.sum(anp.concatenate([[t[0]], t[1:]]) ** 2),
    "a tuple": lambda t: anp.sum(anp.concatenate(((t[0],), t[1:])) ** 2),
    "hstack": lambda t: anp.sum(anp.hstack([[t[0]], t[1:]]) ** 2),
    "where": lambda t: anp.sum(anp.where([True, False], [t[0], t[0]], t) ** 2),
    "maximum": lambda t: anp.sum(anp.maximum([t[0], t[1]], t) ** 2),
    "einsum": lambda t: anp.einsum("i,i->", [t[0], t[1]], t),
    "times a list": lambda t: anp.sum(t * [t[0], t[1]]),
    "nested": lambda t: anp.sum(anp.add([[t[0]], [t[1]]], t[:, None]) ** 2) / 4,
    "a deque": lambda t: anp.sum(anp.concatenate([deque([t[0]]), t[1:]]) ** 2),
    "an array of objects": lambda t: anp.sum(t * np.array([t[0], t[1]])),
}
RIGHT = {
    "array": lambda t: anp.sum(anp.concatenate([anp.array([t[0]]), t[1:]]) ** 2),
    "lists alone": lambda t: anp.sum(anp.append([t[0]], [t[1]]) ** 2),
    "stack": lambda t: anp.sum(anp.stack([t[0], t[1]]) ** 2),
    "vstack": lambda t: anp.sum(anp.vstack([[t[0]], [t[1]]]) ** 2),
    "full": lambda t: anp.sum(anp.full(1, t[0]) ** 2) + t[1] ** 2,
    "full_like": lambda t: anp.sum(anp.full_like(t[:1], t[0]) ** 2) + t[1] ** 2,
    "full_like of many": lambda t: anp.sum(anp.full_like(np.ones((3, 2)), t) ** 2) / 3,
    "constants": lambda t: anp.sum(anp.concatenate([[3.0], t]) ** 2),
}


def meta_gradient(loss):
    task = Task(lambda _: loss, lambda _: loss)
    return maml.meta_gradient(np.ones(2), task, 0.1, 1)[1]


@pytest.mark.parametrize("name", MIXED)
def test_a_traced_value_hidden_in_a_list_is_refused(name):
    """Rejects a gradient without the part of the hidden value: (0, 1.28) of the first."""
    with pytest.raises(TypeError, match=r"whose gradient would be lost: write np.array"):
        meta_gradient(MIXED[name])


@pytest.mark.parametrize("name", RIGHT)
def test_lists_that_autograd_gets_right_are_taken(name):
    """Rejects a refusal of every list: theta (1, 1) - 0.2, times 1 - 0.2, times 2."""
    np.testing.assert_allclose(meta_gradient(RIGHT[name]), [1.28, 1.28], rtol=1e-14)


def test_what_fills_an_array_has_derivatives():
    """Rejects full_like as a constant: forward, in a Hessian product, and in float32."""
    loss = lambda t: anp.sum(anp.full_like(np.zeros(3), t[0]) ** 3) + t[1] ** 2  # noqa: E731
    assert make_jvp(loss)(np.ones(2))(np.ones(2))[1] == 11
    assert maml.hvp_and_gradient(loss, np.ones(2))[0](np.ones(2)).tolist() == [18, 2]
    assert maml.gradient(loss, np.ones(2, np.float32)).dtype == np.float32
    assert maml.gradient(lambda t: anp.sum(anp.full_like(t, 2.0) * t), np.ones(2))[0] == 2


def test_a_hidden_value_is_refused_while_it_is_recorded():
    """Rejects a replay in which the hidden value is that of the first call."""
    with pytest.raises(TypeError, match="would be lost"):
        recorded(lambda x: (anp.concatenate([[x[0]], x[1:]]),))(np.ones(2))


# ----- Threads -----


def head_on_body(body, seed):
    """ANIL's shape: the head adapts in a loss that closes over the traced body."""
    rng = np.random.default_rng(seed)
    x, y = rng.standard_normal((2, 5, 3)), rng.standard_normal((2, 5, 1))

    def loss(i):
        def squared(head):
            features = anp.tanh(anp.dot(x[i], anp.reshape(body, (3, 4))))
            return anp.sum((anp.dot(features, head[:, None]) - y[i]) ** 2)

        return lambda _: squared

    head = maml.adapt(rng.standard_normal(4), Task(loss(0), loss(0)), 0.01, 3)
    return loss(1)(head)(head)


def test_four_threads_get_the_gradients_that_one_gets():
    """Rejects autograd's own trace counter, under which threads mix their levels up."""
    bodies = np.random.default_rng(5).standard_normal((100, 12))
    expected = [grad(lambda b, i=i: head_on_body(b, i))(b) for i, b in enumerate(bodies)]
    found = [None] * len(bodies)

    def work(first):
        for i in range(first, len(bodies), 4):
            try:
                found[i] = grad(lambda b, i=i: head_on_body(b, i))(bodies[i])
            except Exception as error:
                found[i] = error

    interval = sys.getswitchinterval()
    sys.setswitchinterval(1e-5)
    try:
        threads = [threading.Thread(target=work, args=(first,)) for first in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    finally:
        sys.setswitchinterval(interval)
    wrong = [i for i in range(len(bodies)) if not np.array_equal(found[i], expected[i])]
    assert wrong == []
