"""Losses and scores: values, scales, derivatives, symmetries."""

import numpy as np
import pytest
from autograd import grad
from hypothesis import given
from hypothesis import strategies as st
from numpy.linalg import norm
from numpy.random import default_rng

from gradients import check_derivatives, check_keeps_float32
from tinymaml import losses


leads = st.lists(st.integers(1, 3), max_size=2).map(tuple)
few = st.integers(1, 5)
seeds = st.integers(0, 2**32 - 1)


def regression(rng, lead, n, d):
    return rng.standard_normal((*lead, n, d)), rng.standard_normal((*lead, n, d))


def classification(rng, lead, n, ways):
    return 3 * rng.standard_normal((*lead, n, ways)), rng.integers(0, ways, (*lead, n))


def plain_cross_entropy(logits, labels):
    """One task's mean of -log(share of the right class), example by example."""
    terms = []
    for row, label in zip(logits, labels, strict=True):
        shares = np.exp(row) / sum(np.exp(row))
        terms.append(-np.log(shares[label]))
    return sum(terms) / len(terms)


# ----- Values -----


@given(lead=leads, n=few, d=few, seed=seeds)
def test_mse_is_a_mean_over_entries_and_a_sum_over_tasks(lead, n, d, seed):
    """Rejects a mean over tasks, which would shrink every task's inner gradient."""
    predictions, targets = regression(default_rng(seed), lead, n, d)
    plain = sum(
        np.mean((predictions[task] - targets[task]) ** 2) for task in np.ndindex(lead)
    )
    # Sums in another order: a few roundings.
    assert abs(losses.mse(predictions, targets) - plain) <= 1e-13 * plain


@given(lead=leads, n=few, ways=few, seed=seeds)
def test_cross_entropy_is_a_mean_over_examples_and_a_sum_over_tasks(lead, n, ways, seed):
    """Rejects the official code's sum over shots, and a mean over tasks."""
    logits, labels = classification(default_rng(seed), lead, n, ways)
    plain = sum(
        plain_cross_entropy(logits[task], labels[task]) for task in np.ndindex(lead)
    )
    # A share near 1 leaves its absolute rounding, 2e-16, in the logarithm.
    assert abs(losses.cross_entropy(logits, labels) - plain) <= 1e-13 * max(1, plain)


@given(lead=leads, n=few, ways=few, divisor=st.integers(1, 9), seed=seeds)
def test_a_divisor_takes_the_place_of_the_number(lead, n, ways, divisor, seed):
    """Rejects a divisor on top of the mean: with n examples it is n / divisor times it."""
    logits, labels = classification(default_rng(seed), lead, n, ways)
    mean = losses.cross_entropy(logits, labels)
    told = losses.cross_entropy(logits, labels, divisor)
    assert abs(told - n / divisor * mean) <= 1e-13 * max(1, told)


def test_losses_by_hand():
    """Rejects half the squared error, base-2 logarithms and a forgotten minus."""
    assert losses.mse(np.array([[1.0, 2.0]]), np.array([[0.0, 4.0]])) == 2.5
    logits = np.log([[0.5, 0.25, 0.25], [0.1, 0.1, 0.8]])
    value = losses.cross_entropy(logits, np.array([1, 2]))
    assert value == pytest.approx(-(np.log(0.25) + np.log(0.8)) / 2, rel=1e-14)


def test_cross_entropy_is_finite_for_huge_logits():
    """Rejects a logarithm of a share that has underflowed to zero."""
    logits = np.array([[1e4, -1e4], [-1e4, 1e4]], np.float32)
    labels = np.array([1, 1])
    assert losses.cross_entropy(logits, labels) == 1e4
    gradient = grad(losses.cross_entropy)(logits, labels)
    assert gradient.tolist() == [[0.5, -0.5], [0, 0]]


@given(lead=leads, n=few, ways=few, seed=seeds)
def test_accuracy_is_the_share_of_right_answers_per_task(lead, n, ways, seed):
    """Rejects an average over tasks, and the smallest logit taken for the answer."""
    logits, labels = classification(default_rng(seed), lead, n, ways)
    scores = losses.accuracy(logits, labels)
    assert np.shape(scores) == lead
    for task in np.ndindex(lead):
        right = sum(
            int(max(range(ways), key=row.__getitem__) == label)
            for row, label in zip(logits[task], labels[task], strict=True)
        )
        assert scores[task] == pytest.approx(right / n, rel=1e-15)


@given(lead=leads, n=few, d=few, seed=seeds)
def test_squared_error_is_the_loss_per_task(lead, n, d, seed):
    """Rejects an average over tasks: the scores must add up to the loss."""
    predictions, targets = regression(default_rng(seed), lead, n, d)
    scores = losses.squared_error(predictions, targets)
    assert np.shape(scores) == lead
    for task in np.ndindex(lead):
        plain = losses.mse(predictions[task], targets[task])
        assert abs(scores[task] - plain) <= 1e-14 * plain  # sums in another order


# ----- Derivatives -----


@given(lead=leads, n=few, d=few, seed=seeds)
def test_mse_has_the_right_derivatives_to_order_two(lead, n, d, seed):
    """Rejects a derivative by the targets or predictions of the wrong sign or scale."""
    rng = default_rng(seed)
    check_derivatives(losses.mse, *regression(rng, lead, n, d), rng=rng)


@given(lead=leads, n=few, ways=few, seed=seeds)
def test_cross_entropy_has_the_right_derivatives_to_order_two(lead, n, ways, seed):
    """Rejects a rule of log_softmax that is wrong once the labels select from it."""
    rng = default_rng(seed)
    logits, labels = classification(rng, lead, n, ways)
    check_derivatives(lambda x: losses.cross_entropy(x, labels), logits, rng=rng)


@given(lead=leads, n=few, ways=few, seed=seeds)
def test_the_gradient_of_cross_entropy_is_share_minus_one_hot(lead, n, ways, seed):
    """Rejects a missing 1/n, which is a step size n times too large."""
    logits, labels = classification(default_rng(seed), lead, n, ways)
    shares = np.exp(logits) / np.exp(logits).sum(-1, keepdims=True)
    plain = (shares - np.eye(ways)[labels]) / n
    gradient = grad(losses.cross_entropy)(logits, labels)
    # 1e-14 absolute: a share near 1 minus 1 leaves roundings of 2e-16.
    assert norm(gradient - plain) <= 1e-14


@given(lead=leads, n=few, ways=few, seed=seeds)
def test_float32_stays_float32(lead, n, ways, seed):
    """Rejects a mean taken by autograd or by a float64 scalar."""
    rng = default_rng(seed)
    logits, labels = classification(rng, lead, n, ways)
    check_keeps_float32(lambda x: losses.cross_entropy(x, labels), logits, rng=rng)
    check_keeps_float32(losses.mse, *regression(rng, lead, n, ways), rng=rng)


# ----- Symmetries -----


@given(lead=leads, n=few, ways=few, seed=seeds)
def test_renaming_the_classes_changes_nothing_but_the_columns(lead, n, ways, seed):
    """Rejects a loss or score in which the number of a class means something."""
    rng = default_rng(seed)
    logits, labels = classification(rng, lead, n, ways)
    order = rng.permutation(ways)
    moved, renamed = logits[..., order], np.argsort(order)[labels]
    loss, gradient = losses.cross_entropy, grad(losses.cross_entropy)
    # Sums over the classes in another order: a few roundings.
    assert abs(loss(moved, renamed) - loss(logits, labels)) <= 1e-13 * loss(logits, labels)
    difference = gradient(moved, renamed) - gradient(logits, labels)[..., order]
    assert norm(difference) <= 1e-13
    assert np.array_equal(losses.accuracy(moved, renamed), losses.accuracy(logits, labels))


@given(lead=leads, n=few, ways=few, seed=seeds)
def test_the_order_of_the_examples_changes_nothing(lead, n, ways, seed):
    """Rejects a loss that weighs the first example differently."""
    rng = default_rng(seed)
    logits, labels = classification(rng, lead, n, ways)
    predictions, targets = regression(rng, lead, n, ways)
    order = rng.permutation(n)
    pairs = [
        (losses.cross_entropy, logits, labels, labels[..., order]),
        (losses.mse, predictions, targets, targets[..., order, :]),
    ]
    for loss, outputs, answers, reordered in pairs:
        before, after = loss(outputs, answers), loss(outputs[..., order, :], reordered)
        assert abs(after - before) <= 1e-13 * before  # a sum in another order


@given(n=few, ways=few, seed=seeds)
def test_a_task_side_by_side_has_its_own_gradient(n, ways, seed):
    """Rejects a scale that depends on how many tasks stand side by side."""
    rng = default_rng(seed)
    logits, labels = classification(rng, (3,), n, ways)
    predictions, targets = regression(rng, (3,), n, ways)
    for loss, outputs, answers in (
        (losses.cross_entropy, logits, labels),
        (losses.mse, predictions, targets),
    ):
        together = grad(loss)(outputs, answers)
        alone = [grad(loss)(*task) for task in zip(outputs, answers, strict=True)]
        assert norm(together - np.stack(alone)) <= 1e-14 * norm(together) + 1e-15


# ----- What is refused, and what is no answer -----


@pytest.mark.parametrize("f", [losses.cross_entropy, losses.accuracy])
@pytest.mark.parametrize("labels", [[1, 2], [-1, 0], [0, 5]])
def test_a_label_outside_the_classes_is_refused(f, labels):
    """Rejects a label that adds 0 to the loss, and an answer that can only be wrong."""
    with pytest.raises(ValueError, match=r"a label of 2 classes is 0 to 1"):
        f(np.zeros((2, 2)), np.array(labels))


@pytest.mark.parametrize("f", [losses.mse, losses.squared_error])
def test_a_shape_that_both_must_have_is_named_once(f):
    """Rejects a message that asks for the same shape twice and does not say so."""
    line = r"shapes \(..., n, d\), equal ones, none of them empty, not \(3, 1\) and \(3,\)$"
    with pytest.raises(ValueError, match=line):
        f(np.zeros((3, 1)), np.zeros(3))


@pytest.mark.parametrize("f", [losses.cross_entropy, losses.accuracy])
def test_labels_have_the_shape_and_type_of_labels(f):
    """Rejects float labels, one-hot labels and labels of another number of examples."""
    with pytest.raises(TypeError, match="labels must be integers, not float64"):
        f(np.zeros((2, 2)), np.array([0.0, 1.0]))
    for shape in [(1,), (3,), (2, 2), ()]:
        with pytest.raises(ValueError, match=r"takes shapes \(..., n, ways\)"):
            f(np.zeros((2, 2)), np.zeros(shape, int))
    with pytest.raises(TypeError, match="floating-point arrays, not int64"):
        f(np.zeros((2, 2), int), np.zeros(2, int))
    with pytest.raises(ValueError, match="none of them empty"):
        f(np.zeros((0, 2)), np.zeros(0, int))


@pytest.mark.parametrize("divisor", [0, -1, float("nan")])
def test_a_divisor_is_positive(divisor):
    """Rejects 0 read as no divisor, and a loss of the wrong sign."""
    with pytest.raises(ValueError, match="divisor must be positive"):
        losses.cross_entropy(np.zeros((2, 2)), np.array([0, 1]), divisor)


@pytest.mark.parametrize("f", [losses.mse, losses.squared_error])
@pytest.mark.parametrize("shape", [(2, 10), (10,), (10, 1), (1, 10, 2), (20, 1)])
def test_targets_have_the_shape_of_predictions(f, shape):
    """Rejects targets that are flattened or broadcast against other predictions."""
    with pytest.raises(ValueError, match=r"not \(10, 2\) and"):
        f(np.ones((10, 2)), np.ones(shape))


def test_a_masked_class_costs_nothing():
    """Rejects -inf * 0 in the sum over classes: log 2 is right, and its slope."""
    logits, labels = np.array([[0, 0, -np.inf]]), np.array([0])
    assert losses.cross_entropy(logits, labels) == pytest.approx(np.log(2), rel=1e-15)
    assert grad(losses.cross_entropy)(logits, labels).tolist() == [[-0.5, 0.5, 0]]
    assert losses.cross_entropy(logits, np.array([2])) == np.inf
    assert losses.accuracy(logits, labels) == 1


# ----- What is not finite -----


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_a_net_that_diverged_has_no_accuracy(value):
    """Rejects argmax of nan, which is an answer: one class is then always right. A logit
    of -inf only excludes its class."""
    logits = np.tile(np.array([[0.0, 2.0, 1.0], [5.0, 2.0, 1.0]]), (3, 1, 1))
    labels = np.tile([1, 0], (3, 1))
    logits[0, 1, 0] = value
    logits[1, 0, 0] = -np.inf
    found = losses.accuracy(logits, labels)
    np.testing.assert_array_equal(found, [np.nan, 1, 1])


def test_a_score_that_is_not_finite_is_shown_as_that():
    """Rejects "nan %", and a mean beside an interval that is not finite."""
    assert losses.ACCURACY.shown(0.9857, 0.005) == "98.57 +- 0.50 %"
    for numbers in ((np.nan,), (np.inf, 0.1), (0.1, np.nan), (0.1, 0.1, np.inf)):
        assert losses.ACCURACY.shown(*numbers) == "not finite"


@pytest.mark.parametrize("divisor", [0, -1, float("inf"), float("nan")])
def test_a_divisor_is_positive_and_finite(divisor):
    """Rejects a loss of 0, divided by infinity."""
    with pytest.raises(ValueError, match="the divisor must be positive and finite"):
        losses.cross_entropy(np.zeros((2, 2)), np.array([0, 1]), divisor)
