"""Fixed buffers: the bits of the calls that were recorded, in results of their own."""

import sys
from concurrent.futures import ThreadPoolExecutor
from functools import partial

import autograd.numpy as anp
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from problems import make
from tinymaml import maml, ops, params
from tinymaml.speed import buffers
from tinymaml.speed.buffers import CannotFixError, fixed
from tinymaml.speed.replay import bits, recorded, taped


T, M, K = 3, 4, 4  # tasks, rows, columns

UNARY = {
    "relu": ops.relu,
    "square": ops.square,
    "normalize": ops.normalize,
    "sum": lambda x: x * anp.sum(x, axis=1, keepdims=True),
    "total": lambda x: x * anp.sum(x),
    "rows": lambda x: ops.repeat_row(ops.sum_rows(x), M),
    "flat": lambda x: anp.reshape(anp.reshape(x, (T, -1)), (T, M, K)),
    "line": lambda x: anp.reshape(anp.reshape(x, -1), (T, M, K)),
    "turned": lambda x: anp.swapaxes(x, -1, -2),
    "flat turned": lambda x: anp.reshape(anp.reshape(anp.swapaxes(x, -1, -2), -1), x.shape),
    "first": lambda x: x - x[:, :1],
}
BINARY = {
    "add": lambda x, y: x + y,
    "subtract": lambda x, y: x - 0.5 * y,
    "multiply": lambda x, y: x * y,
    "matmul": ops.matmul,
    "nt": ops.matmul_nt,
    "tn": ops.matmul_tn,
    "affine": lambda x, y: ops.affine(x, y, ops.sum_rows(y)),
    "row": lambda x, y: ops.add_row(x, ops.sum_rows(y)),
}
STEPS = st.lists(
    st.tuples(st.sampled_from([*UNARY, *BINARY]), st.integers(0, 99), st.integers(0, 99)),
    min_size=1,
    max_size=10,
)


def program(steps):
    """Return a function of two arrays (T, M, K): each step uses values made before it."""

    def function(a, b):
        values = [a, b]
        for name, i, j in steps:
            x, y = values[i % len(values)], values[j % len(values)]
            values.append(UNARY[name](x) if name in UNARY else BINARY[name](x, y))
        return values[-1], values[len(values) // 2], anp.sum(values[-1])

    def gradients(a, b):
        def loss(at):
            return anp.sum(function(at, b)[0] ** 2) + anp.sum(at**3)

        hvp, gradient = maml.hvp_and_gradient(loss, a)
        return gradient, hvp(b)

    return function, gradients


def in_buffers(function, *inputs):
    """Return the function in fixed buffers."""
    tape, outputs, names = taped(function, *inputs)
    return fixed(tape, inputs, outputs, names)


@given(STEPS, st.integers(0, 2**32 - 1), st.booleans(), st.booleans())
@pytest.mark.filterwarnings("ignore::RuntimeWarning")
def test_random_programs_keep_their_bits(steps, seed, shared, differentiated):
    """Rejects a buffer that is used again too early, a view that goes stale, a result over
    a living value, and one that the next call overwrites."""
    function = program(steps)[differentiated]
    rng = np.random.default_rng(seed)
    draws = rng.standard_normal((3, 2, T, M, K)).astype(np.float32)
    if shared:  # all tasks have the first one's matrix, as before their first step
        draws = [(np.broadcast_to(a[0], a.shape), b) for a, b in draws]
    try:
        replay = in_buffers(function, *draws[0])
    except CannotFixError:
        return
    found = [replay(*inputs) for inputs in draws]
    for one, inputs in zip(found, draws, strict=True):
        assert bits(one) == bits(function(*inputs))


@pytest.mark.parametrize("steps", [0, 1, 3])
@pytest.mark.parametrize("way", [maml.meta_gradient, maml.first_order])
def test_a_meta_gradient_keeps_its_bits(way, steps):
    """Rejects a joined vector with the arrays of another step, or in another order."""
    problem = make(3, steps=steps, lead=(3,))

    def step(theta):
        return way(theta, problem.task, 0.1, steps)

    rng = np.random.default_rng(0)
    thetas = rng.standard_normal((4, *problem.theta.shape))
    replay = in_buffers(step, thetas[0])
    found = [replay(theta) for theta in thetas]
    for one, theta in zip(found, thetas, strict=True):
        assert bits(one) == bits(step(theta))


def test_joined_arrays_stay_arrays():
    """Rejects a vector computed over, of which an array is still used elsewhere."""

    def function(a, b):
        w = ops.matmul_tn(a, b)
        line = anp.reshape(w, (T, -1))
        theta = params._join({"w": (K, K)}, ("w",), w)
        return theta * 2.0, line - 1.0

    a, b = np.random.default_rng(0).standard_normal((2, T, M, K))
    assert bits(in_buffers(function, a, b)(a, b)) == bits(function(a, b))


@pytest.mark.parametrize("view", ["line", "rows"])
def test_a_copy_is_no_view(view):
    """Rejects what is copied while buffers are made, and never again."""
    function = program([(view, 0, 0), ("line", 2, 0), ("add", 3, 1)])[0]
    draws = np.random.default_rng(0).standard_normal((3, 2, T, M, K))
    shared = [(np.broadcast_to(a[0], a.shape), b) for a, b in draws]
    call = recorded(function)
    for inputs in shared:
        assert bits(call(*inputs)) == bits(function(*inputs))


def test_shared_and_own_parameters_have_a_tape_each():
    """Rejects one task's parameters for all, after a call in which all had the same."""
    call = recorded(lambda w, x: (ops.matmul(x, w),))
    rng = np.random.default_rng(0)
    x, w = rng.standard_normal((2, T, M, K))
    for _ in range(2):
        for given_w in (np.broadcast_to(w[0], w.shape), w):
            assert bits(call(given_w, x)) == bits([ops.matmul(x, given_w)])


def test_threads_do_not_share_buffers():
    """Rejects two computations at once in the same buffers."""
    function = program([("matmul", 0, 1), ("affine", 2, 1), ("relu", 3, 0)] * 9)[0]
    draws = np.random.default_rng(0).standard_normal((8, 2, T, M, K)) * 0.1
    replay = in_buffers(function, *draws[0])
    wanted = [bits(function(*inputs)) for inputs in draws]

    def often(inputs):
        return [bits(replay(*inputs)) for _ in range(60)]

    interval = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    try:
        with ThreadPoolExecutor(8) as pool:
            found = [*pool.map(often, draws)]
    finally:
        sys.setswitchinterval(interval)
    assert found == [[one] * 60 for one in wanted]


def test_a_large_tape_gets_no_buffers(monkeypatch):
    """Rejects buffers that hold as much memory as a large net's whole step, for good."""
    function, inputs = program([("matmul", 0, 1)])[0], np.ones((2, T, M, K))
    monkeypatch.setattr(buffers, "LARGEST", 64)
    with pytest.raises(CannotFixError):
        in_buffers(function, *inputs)
    replay = recorded(function)
    assert bits(replay(*inputs)) == bits(replay(*inputs)) == bits(function(*inputs))


def test_inputs_may_be_written_to_afterwards():
    """Rejects results that are views of an input, and inputs that are kept."""
    replay = in_buffers(lambda x, y: (x, y * 2.0), np.ones(3), np.ones(3))
    x, y = np.arange(3.0), np.arange(3.0)
    first = replay(x, y)
    x += 1
    y += 1
    replay(x, y)
    assert [*first[0]] == [0, 1, 2]
    assert [*first[1]] == [0, 2, 4]


def test_scalars_stay_scalars():
    """Rejects an array of no axes for a loss."""
    replay = in_buffers(partial(lambda x: (anp.sum(x), x.sum(axis=0))), np.ones((2, 2)))
    assert isinstance(replay(np.ones((2, 2)))[0], np.float64)
