"""Fixed buffers: the bits of the calls that were recorded, in results of their own."""

import sys
from concurrent.futures import ThreadPoolExecutor
from functools import partial

import autograd.numpy as anp
import numpy as np
import pytest
from autograd import grad
from hypothesis import given
from hypothesis import strategies as st

import programs
from problems import make
from tinymaml import maml, ops, params
from tinymaml.algorithms import ROWS
from tinymaml.errors import UsageError
from tinymaml.experiments.sine import Sine
from tinymaml.harness import loop, step
from tinymaml.speed import buffers, lowering
from tinymaml.speed.buffers import buffered
from tinymaml.speed.lowering import NoBuffersError
from tinymaml.speed.replay import bits, recorded
from tinymaml.speed.tape import taped


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
    "maximum": anp.maximum,
    "numpy's matmul": anp.matmul,
    "matmul": ops.matmul,
    "nt": ops.matmul_nt,
    "tn": ops.matmul_tn,
    "affine": lambda x, y: ops.affine(x, y, ops.sum_rows(y)),
    "row": lambda x, y: ops.add_row(x, ops.sum_rows(y)),
}
STEPS = programs.steps(UNARY, BINARY, most=10)


def program(steps):
    """Return a function of two arrays (T, M, K), and one of its derivatives."""

    def function(a, b):
        values = programs.run(steps, UNARY, BINARY, a, b)
        return values[-1], values[len(values) // 2], anp.sum(values[-1])

    return function, programs.second_order(function)


def in_buffers(function, *inputs):
    """Return the function in fixed buffers."""
    tape, outputs, names = taped(function, *inputs)
    return buffered(tape, inputs, outputs, names)


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
    except NoBuffersError:
        return
    found = [replay(*inputs) for inputs in draws]
    for one, inputs in zip(found, draws, strict=True):
        assert bits(one) == bits(function(*inputs))


def test_a_product_is_no_computation_by_entry():
    """Rejects a product written over its factor, and one with a row in place of rows."""
    assert lowering.by_entry(np.add)
    assert not lowering.by_entry(np.matmul)


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
        return [bits(replay(*inputs)) for _ in range(300)]

    interval = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    try:
        with ThreadPoolExecutor(8) as pool:
            found = [*pool.map(often, draws)]
    finally:
        sys.setswitchinterval(interval)
    assert found == [[one] * 300 for one in wanted]


def test_a_large_tape_gets_no_buffers(monkeypatch):
    """Rejects buffers that hold as much memory as a large net's whole step, for good."""
    function, inputs = program([("matmul", 0, 1)])[0], np.ones((2, T, M, K))
    monkeypatch.setattr(buffers, "MAX_BUFFER_BYTES", 64)
    with pytest.raises(NoBuffersError):
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


# ----- The layout of values -----

LAYOUTS = {
    "a slice of what is repeated": (
        lambda w, x: (ops.matmul(x, anp.reshape(w[..., :16], (T, K, K))),),
        lambda rng: (np.broadcast_to(rng.standard_normal(17), (T, 17)), draw(rng, T, 1, K)),
    ),
    "a transposed array": (
        lambda x: (anp.sum(anp.tanh(x.T) ** 2),),
        lambda rng: (draw(rng, 40, 60),),
    ),
    "a product of a transposed one": (
        lambda x: (ops.matmul(anp.swapaxes(x, -1, -2), x),),
        lambda rng: (draw(rng, 9, 9),),
    ),
    "repeated rows": (
        lambda x: (ops.normalize(ops.repeat_row(x, 9)),),
        lambda rng: (draw(rng, T, 1, 9),),
    ),
    "an input in Fortran's order": (
        lambda x: (anp.sum(x),),
        lambda rng: (np.asfortranarray(draw(rng, 70, 50)),),
    ),
    "an input from back to front": (
        lambda x: (anp.sum(x, axis=0),),
        lambda rng: (draw(rng, 70, 50)[::-1],),
    ),
    "an empty input": (
        lambda x: (x * 2,),
        lambda rng: (np.broadcast_to(np.ones(3), (0, 3)),),
    ),
    "a sum in another type": (
        lambda x: (anp.sum(x, dtype="float64"), anp.sum(x, 0, np.float64)),
        lambda rng: (draw(rng, 7, 3).astype("float32"),),
    ),
    "NumPy's own sum": (
        lambda x: (grad(lambda y: anp.sum(anp.max(y, axis=0)))(x),),
        lambda rng: (draw(rng, 7, 3),),
    ),
    "as many as are positive": (
        lambda x: (anp.sum(x[x > 0]),),
        lambda rng: (draw(rng, 5),),
    ),
}


def draw(rng, *shape):
    """Return random numbers."""
    return rng.standard_normal(shape)


@pytest.mark.parametrize("kind", LAYOUTS)
def test_the_layout_of_values_is_kept(kind):
    """Rejects contiguous copies, with which NumPy sums and multiplies in another order, and
    results that are spread or cast into a place of another form."""
    function, drawn = LAYOUTS[kind]
    call, rng = recorded(function), np.random.default_rng(0)
    for _ in range(30):
        inputs = drawn(rng)
        assert bits(call(*inputs)) == bits(function(*inputs))


def test_inputs_in_another_order_have_a_tape_of_their_own():
    """Rejects a sum in the order of the inputs before."""
    call, rng = recorded(lambda x: (anp.sum(x),)), np.random.default_rng(0)
    for order in "CCCFFFCF":
        x = np.asarray(draw(rng, 70, 50), order=order)
        assert bits(call(x)) == bits([np.sum(x)])


def test_a_recorded_function_inside_another_is_traced():
    """Rejects a box that is taken for an array."""
    inner = recorded(lambda x: (anp.sin(x),))
    for _ in range(3):
        x = draw(np.random.default_rng(0), 4)
        assert bits(recorded(lambda x: (inner(x)[0] * 2.0,))(x)) == bits([np.sin(x) * 2.0])


@pytest.mark.parametrize(
    "name", [row.name for row in ROWS if row.inner_loop and not row.needs]
)
def test_every_algorithm_replays_at_its_usual_size(name):
    """Rejects what works with a few hidden units, and is refused with the defaults."""
    try:
        config = Sine(algorithm=name)
    except UsageError:
        pytest.skip("not for sine")
    if config.method.iterate:
        pytest.skip("it has its own iteration")
    w = loop.initial_state(config).theta
    for iteration in range(3):
        found, wanted = (
            step.chunk_gradient(one, w, iteration, range(config.chunk))
            for one in (config, config.with_changes({"replay": False}))
        )
        assert bits(found) == bits(wanted)
