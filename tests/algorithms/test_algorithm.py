"""The record: step sizes of a part of the net, and what changes with the iteration."""

import numpy as np
import pytest

from cases import ROUNDING, case, difference, problem_of, small
from tinymaml import params
from tinymaml.algorithms import learned
from tinymaml.algorithms.algorithm import Algorithm
from tinymaml.errors import UsageError
from tinymaml.experiments.glyphs import Glyphs
from tinymaml.experiments.pointnav import PointNav
from tinymaml.experiments.sine import Sine
from trainings import SMALL, state_of, train


KINDS = pytest.mark.parametrize("kind", [Sine, Glyphs], ids=["sine", "glyphs"])
TINY = 1e-14


def head_of(found):
    """Where theta holds the head (P,)."""
    return params.mask(found.problem.model.shapes, found.problem.model.head) > 0


# ----- A step size of the head -----


@KINDS
@pytest.mark.parametrize("name", ["maml", "anil", "meta-sgd"])
def test_a_head_has_its_own_step_size(kind, name):
    """Rejects a step size of the body for the head or the reverse, a factor in place of a
    step size, and one that moves what stays."""
    usual, other = (
        case(small(kind, name, alpha=0.25, alpha_head=head)).problem.alpha
        for head in (0.0, 1.5)
    )
    found = case(small(kind, name, alpha=0.25))
    usual, head = np.broadcast_to(usual, other.shape), head_of(found)
    np.testing.assert_array_equal(other, np.where(head, 6 * usual, usual))
    assert other[head].any()
    assert other[~head].any() == (name != "anil")


@KINDS
def test_a_head_that_stays_has_no_step_size(kind):
    """Rejects an option without effect, and a head of BOIL that moves."""
    config = small(kind, "boil", alpha=0.25, alpha_head=1.5)
    with pytest.raises(UsageError, match="--alpha-head: inner steps do not change the"):
        case(config)
    found = case(small(kind, "boil", alpha=0.25))
    assert not found.problem.alpha[head_of(found)].any()


def test_a_policy_s_head_includes_its_deviation():
    """Rejects a log-std that keeps the step size of the body."""
    config = PointNav(hidden=(3,), alpha=0.1, alpha_head=0.7)
    alpha = problem_of(config).alpha
    assert (alpha == np.float32(0.7)).sum() == (3 + 1) * 2 + 2
    assert (alpha == np.float32(0.1)).sum() == (2 + 1) * 3


@pytest.mark.parametrize("head", [0.0, 0.02])
def test_a_head_with_the_step_size_of_the_body_changes_no_byte(head, tmp_path):
    """Rejects 0 that freezes the head, and an array where one number is enough."""
    config = SMALL.with_changes({"iterations": 5, "alpha": 0.02})
    other = config.with_changes({"alpha_head": head})
    assert np.ndim(problem_of(other).alpha) == 0
    changed = config.with_changes({"alpha_head": 0.3})
    for name, one in {"a": config, "b": other, "c": changed}.items():
        train(tmp_path / name, one)
    a, b, c = (state_of(tmp_path / name) for name in "abc")
    assert a == b
    assert a != c


@KINDS
def test_a_tiny_step_size_of_the_head_is_boil(kind):
    """Rejects a limit that is another algorithm: MAML whose head hardly moves."""
    options = {"inner_steps": 3, "alpha": 0.3}
    maml = case(small(kind, "maml", alpha_head=TINY, **options))
    boil = case(small(kind, "boil", **options))
    expected = boil.method.gradient(*boil.args)
    loss, gradient = maml.method.gradient(*maml.args)
    assert loss == pytest.approx(float(expected[0]), rel=ROUNDING)
    assert difference(gradient, expected[1]) < ROUNDING


@KINDS
def test_a_tiny_step_size_of_the_body_is_anil(kind):
    """Rejects a limit that is another algorithm: MAML whose body does not move, or hardly
    does, on the whole chain."""
    options = {"inner_steps": 3, "alpha_head": 0.3}
    anil = case(small(kind, "anil", **options))
    expected = anil.method.gradient(*anil.args)
    for alpha in (0.0, TINY):
        maml = case(small(kind, "maml", **options, alpha=alpha))
        loss, gradient = maml.method.gradient(*maml.args)
        assert loss == pytest.approx(float(expected[0]), rel=ROUNDING)
        assert difference(gradient, expected[1]) < ROUNDING
    # ANIL does not read the step size of the body.
    same = case(small(kind, "anil", **options, alpha=0.1))
    np.testing.assert_array_equal(same.gradient, expected[1])
    assert learned.moved(same.problem).sum() == head_of(same).sum()


# ----- What changes with the iteration -----


def test_a_phase_is_that_of_the_iteration():
    """Rejects the phase of iteration 0 for all, and arrays that are left out."""
    record = Algorithm(
        name="",
        label="",
        gradient=lambda w, task, problem: None,
        phase=lambda options, i: (i >= 3, (np.array(i * options.alpha),)),
    )
    family = problem_of(SMALL)
    assert (family.phase, family.arrays) == (None, ())
    for i in (0, 3):
        found = record.at_iteration(family, i)
        assert found.phase == (i >= 3)
        assert found.arrays == (i * SMALL.alpha,)
        assert found._replace(phase=None, arrays=()) == family


def test_without_a_phase_there_is_one_recording():
    """Rejects a default that makes a recording for each iteration."""
    method = SMALL.method
    assert {method.phase(SMALL, i) for i in range(9)} == {(None, ())}


@pytest.mark.parametrize(
    ("algorithm", "given", "reason"),
    [
        ("random", {"clip": 1.0}, "--clip has no effect with --algorithm random"),
        ("random", {"beta": 1.0}, "--beta has no effect with --algorithm random"),
        ("random", {"iterations": 3}, "--iterations has no effect"),
        ("averaged", {"grid": True}, "--grid: every net trains on --points points"),
        ("averaged-mean", {"grid": True}, "--grid: every net trains on --points points"),
    ],
)
def test_an_option_without_effect_is_refused(algorithm, given, reason):
    """Rejects an option that is taken and then forgotten."""
    with pytest.raises(UsageError, match=reason):
        Sine(algorithm=algorithm, **given)
