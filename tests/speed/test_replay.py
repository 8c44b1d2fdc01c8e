"""A replay gives the bits of the function that was recorded, or says why it cannot."""

import pickle
import sys
from concurrent.futures import ThreadPoolExecutor

import autograd.numpy as anp
import numpy as np
import pytest
from autograd import grad
from autograd.tracer import getval
from hypothesis import example, given
from hypothesis import strategies as st

import programs
from problems import make, problems
from tinymaml import maml, ops
from tinymaml.fewshot import Episode, as_task
from tinymaml.speed.replay import KEPT, record, recorded
from tinymaml.speed.replay import bits as bits_of
from tinymaml.speed.tape import CannotRecordError


SEEDS = st.integers(0, 2**32 - 1)


def bits(arrays):
    """Return arrays as bytes, with their shapes and dtypes."""
    return [(np.shape(a), np.asarray(a).dtype, np.asarray(a).tobytes()) for a in arrays]


# ----- Random programs -----

UNARY = {
    "tanh": anp.tanh,
    "sin": anp.sin,
    "relu": ops.relu,
    "normalize": ops.normalize,
    "center": ops.center,
    "transpose": lambda x: anp.transpose(x),
    "first row": lambda x: x[:1] + 0 * x,
    "sum": lambda x: x * anp.sum(x, axis=0, keepdims=True),
    "softmax": ops.log_softmax,
    "square": lambda x: x**2,
    "choice": lambda x: x * (x > 0.1),
}
BINARY = {
    "add": lambda x, y: x + y,
    "multiply": lambda x, y: x * y,
    "matmul": ops.matmul,
    "nt": ops.matmul_nt,
    "subtract": lambda x, y: 0.5 * x - y,
}
STEPS = programs.steps(UNARY, BINARY, most=8)


def program(steps):
    """Return a function of two square arrays."""

    def function(a, b):
        values = programs.run(steps, UNARY, BINARY, a, b)
        return values[-1], values[len(values) // 2]

    return function


def derivatives(steps):
    """Return the gradient and a Hessian product of a random program's sum."""
    return programs.second_order(program(steps))


@given(STEPS, SEEDS, st.sampled_from(["float32", "float64"]), st.booleans())
@pytest.mark.filterwarnings("ignore::RuntimeWarning")
def test_random_programs_replay_to_the_bit(steps, seed, dtype, differentiated):
    """Rejects a dropped, reordered or stale call, and a constant taken for an input."""
    function = derivatives(steps) if differentiated else program(steps)
    rng = np.random.default_rng(seed)
    first, second = rng.standard_normal((2, 2, 3, 3)).astype(dtype)
    replay = record(function, *first)
    for inputs in (second, first):
        assert bits(replay(*inputs)) == bits(function(*inputs))


@example([("first row", 0, 0)], 0, True, [0, 0])
@given(STEPS, SEEDS, st.booleans(), st.lists(st.integers(0, 2), min_size=2, max_size=12))
@pytest.mark.filterwarnings("ignore::RuntimeWarning")
def test_what_stays_is_computed_once_to_the_bit(steps, seed, differentiated, turns):
    """Rejects values kept of other inputs, or that a later call has added into."""
    function = derivatives(steps) if differentiated else program(steps)

    def turned(a, b):
        return function(b, a)

    rng = np.random.default_rng(seed)
    sets = rng.standard_normal((3, 3, 3))
    for each in (function, turned):
        replay = record(each, sets[0], sets[1], moving=1)
        for turn in turns:
            inputs = rng.standard_normal((3, 3)), sets[turn].copy()
            assert bits(replay(*inputs)) == bits(each(*inputs))


def noting():
    """Return a primitive, and the list that grows with each of its calls."""
    calls = []

    @ops.primitive
    def noted(x):
        calls.append(1)
        return np.sin(x)

    return noted, calls


def test_what_stays_is_computed_once():
    """Rejects a replay that computes all again, and one that keeps ever more sets."""
    noted, calls = noting()

    replay = record(lambda v, x: (v * noted(x),), np.ones(2), np.ones(2), moving=1)
    calls.clear()
    for _ in range(2):
        for start in range(KEPT):
            replay(np.full(2, start), np.full(2, float(start)))
    assert len(calls) == KEPT
    replay(np.ones(2), -np.zeros(2))  # 0 is kept, and is not -0
    replay(np.ones(2), np.zeros(2))  # the oldest, so it was forgotten
    assert len(calls) == KEPT + 2


@pytest.mark.parametrize("make", [record, recorded])
def test_as_many_sets_are_kept_as_asked(make):
    """Rejects a fixed number, which takes memory for nothing or computes all again."""
    noted, calls = noting()
    example = [np.ones(2), np.ones(2)]
    first = example if make is record else []
    replay = make(lambda v, x: (v * noted(x),), *first, moving=1, kept=3)
    for start in range(2):  # the first calls of a recorded function run the function itself
        replay(np.full(2, float(start)), np.ones(2))
    calls.clear()
    sets = [np.full(2, float(start)) for start in range(2, 6)]
    for _ in range(2):
        for x in sets[:3]:
            replay(np.ones(2), x)
    assert len(calls) == 3
    replay(np.ones(2), sets[3])
    replay(np.ones(2), sets[0])
    assert len(calls) == 5


def test_what_stays_is_kept_by_many_threads_at_once():
    """Rejects a store that one thread reads while another one adds to it."""
    replay = record(lambda v, x: (v * anp.sin(x),), np.ones(2), np.ones(2), moving=1)

    def call(number):
        x = np.full(2, float(number % (2 * KEPT)))
        return np.array_equal(replay(np.ones(2), x)[0], np.sin(x))

    interval = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    try:
        with ThreadPoolExecutor(4) as pool:
            assert all(pool.map(call, range(2_000)))
    finally:
        sys.setswitchinterval(interval)


def test_sums_that_begin_with_constants_are_refused():
    """Rejects a tape that adds into its own constants, more with each replay."""

    def function(x):
        def loss(t):
            return anp.sum(x * t) + anp.sum(2 * t) + anp.sum(t)

        return (grad(loss)(np.ones(3)),)

    with pytest.raises(CannotRecordError, match="constants"):
        record(function, np.arange(3.0))


@given(problems(loss="mse"))
def test_meta_gradients_replay_to_the_bit(problem):
    """Rejects a tape that misses what a backward pass does in place."""

    def function(theta, *arrays):
        task = as_task(Episode(*arrays), problem.model.apply, problem.loss)
        return maml.meta_gradient(theta, task, problem.alpha, problem.steps)

    replay = record(function, problem.theta, *problem.episode)
    other = [array + 0.1 for array in problem.episode]
    for theta in (problem.theta, 2 * problem.theta):
        assert bits(replay(theta, *other)) == bits(function(theta, *other))


# ----- What it does not do -----


def test_inputs_are_left_as_they_were():
    """Rejects an accumulation in place into an array of the caller's."""
    problem = make(0, steps=2)

    def function(theta):
        return maml.meta_gradient(theta, problem.task, problem.alpha, 2)

    replay = record(function, problem.theta)
    theta = problem.theta.copy()
    first = bits(replay(theta))
    assert np.array_equal(theta, problem.theta)
    assert bits(replay(theta)) == first


def test_dead_calls_are_dropped():
    """Rejects a replay that computes what nobody reads."""
    noted, calls = noting()

    def function(x):
        noted(x)
        return (noted(x) + 1.0,)

    replay = record(function, np.ones(2))
    calls.clear()
    replay(np.ones(2))
    assert len(calls) == 1


def test_decisions_by_value_are_refused():
    """Rejects a tape that holds one branch of an `if`."""

    def function(x):
        return (x if anp.sum(x) > 0 else -x,)

    with pytest.raises(CannotRecordError, match="branch"):
        record(function, np.ones(2))
    assert bool(anp.sum(np.ones(2)) > 0)  # outside a recording, truth is what it was


def test_new_shapes_and_dtypes_are_recorded_anew():
    """Rejects a tape of one shape replayed on another."""
    made = []

    def function(x):
        made.append(x.shape)
        return (x * float(x.shape[0]),)

    call = recorded(function)
    for x in (
        np.ones(2),
        np.ones(3),
        np.ones(3, np.float32),
        np.full(2, 5.0),
        np.full(2, 6.0),
    ):
        assert bits(call(x)) == bits([x * float(x.shape[0])])
    count = len(made)
    call(np.full(2, 7.0))
    assert len(made) == count


def test_a_constant_that_changes_is_noticed():
    """Rejects a closed-over value that is on the tape as it was when recorded."""
    scale = [2.0]

    def function(x):
        return (x * scale[0],)

    call = recorded(function)
    call(np.ones(2))
    scale[0] = 3.0
    with pytest.raises(CannotRecordError, match="differs"):
        call(np.ones(2))


@pytest.mark.parametrize(
    ("recording", "afterwards"),
    [
        (np.full(3, 2.0), np.full(3, np.nextafter(2.0, 3.0))),
        (np.zeros(3), -np.zeros(3)),
        (np.ones(3), np.ones(3, np.float32)),
        (np.ones(3), np.ones((1, 3))),
        (np.ones(3), np.array([1.0, np.nan, 1.0])),
    ],
    ids=["last bit", "sign of zero", "dtype", "shape", "nan"],
)
def test_the_proof_is_of_bits(recording, afterwards):
    """Rejects a proof by values that are close, or equal without the same bits."""
    outputs = [recording]
    call = recorded(lambda x: (x, outputs[0]))
    call(np.ones(2))
    outputs[0] = afterwards
    with pytest.raises(CannotRecordError, match="differs"):
        call(np.full(2, 3.0))


def test_a_nan_does_not_spoil_the_proof():
    """Rejects an advice on replays where a training diverges."""
    call = recorded(lambda x: (x * 2.0,))
    for _ in range(3):
        assert np.isnan(call(np.array([np.nan, 1.0]))[0]).tolist() == [True, False]


def test_a_tape_is_of_one_precision():
    """Rejects constants in float32 on the tape of a function of float64."""
    call = recorded(lambda x: (x * np.asarray(0.1, x.dtype),))
    for dtype in (np.float32, np.float64):
        for value in (1.0, 2.0, 3.0):
            x = np.full(2, value, dtype)
            assert bits(call(x)) == bits([x * np.asarray(0.1, dtype)])


def test_values_out_of_sight_are_noticed():
    """Rejects a replay of a function that peeks at a value through getval."""
    call = recorded(lambda x: (x * float(np.sum(getval(x))),))
    call(np.ones(2))
    with pytest.raises(CannotRecordError, match="differs"):
        call(np.full(2, 3.0))


def test_outputs_that_are_inputs_or_constants():
    """Rejects a replay that returns only what was computed."""
    replay = record(lambda x, y: (x, 1.5, x + y, y), np.ones(2), np.zeros(2))
    x, constant, total, y = replay(np.full(2, 3.0), np.full(2, 4.0))
    assert (x[0], constant, total[0], y[0]) == (3.0, 1.5, 7.0, 4.0)


def test_equal_bytes_of_two_dtypes_are_not_equal_bits():
    """Rejects a proof that takes integers for the floats of the same bytes."""
    whole, real = np.zeros(2, np.int64), np.zeros(2)
    assert bits_of([real]) == bits_of([real.copy()])
    assert bits_of([whole]) != bits_of([real])
    assert bits_of([real]) != bits_of([real.reshape(2, 1)])


def test_a_constant_output_is_the_callers_own():
    """Rejects one shared array, which a caller's write changes for all later calls."""
    for moving in (None, 1):
        call = recorded(lambda x, y: (np.zeros(2), x + y), moving=moving)
        for _ in range(4):
            constant, _ = call(np.ones(2), np.ones(2))
            assert constant.tolist() == [0, 0]
            constant += 1


def test_the_error_survives_the_way_from_a_worker():
    """Rejects an advice that is added once more, or an error that cannot be unpickled."""
    error = CannotRecordError("why")
    assert str(pickle.loads(pickle.dumps(error))) == str(error)
    assert str(error).count("--no-replay") == 1


def test_the_same_inputs_prove_nothing():
    """Rejects a value that stays constant, since the second call had the first inputs."""
    call = recorded(lambda x: (x * getval(x)[0],))
    for _ in range(2):
        call(np.array([1.0, 2.0]))
    with pytest.raises(CannotRecordError):
        call(np.array([3.0, 2.0]))


def test_a_refusal_stays():
    """Rejects a later call that agrees by chance, and with it all that follow."""
    call = recorded(lambda x: (x * (1.0 if getval(x)[0] > 0 else 2.0),))
    call(np.array([1.0, 2.0]))
    for first in (-1.0, 3.0, -3.0):
        with pytest.raises(CannotRecordError):
            call(np.array([first, 2.0]))
