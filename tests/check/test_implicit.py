"""The verifier of gradients at a minimum rejects the wrong ones that it is for."""

import json

import autograd.numpy as anp
import numpy as np
import pytest
from autograd import grad

from tinymaml import maml
from tinymaml.algorithms import ALGORITHMS, conjugate, imaml, learned
from tinymaml.algorithms.algorithm import Algorithm, Implicit
from tinymaml.algorithms.imaml import IMAML
from tinymaml.check import implicit
from tinymaml.check.chain import case_of
from tinymaml.check.differences import difference
from tinymaml.cli.check import verify
from tinymaml.errors import UsageError
from tinymaml.experiments import problem
from tinymaml.experiments.glyphs import Glyphs
from tinymaml.experiments.sine import Sine


SMALL = Sine(algorithm="imaml", hidden=(7, 5), inner_steps=3)
IMAGES = Glyphs(algorithm="imaml", filters=2, inner_steps=1)


@pytest.mark.parametrize("config", [SMALL, IMAGES, Sine(algorithm="imaml")])
def test_the_right_one_passes(config):
    """Rejects rows that fail for a right gradient, on nets with and without batch norm."""
    report = verify(config, 2)
    assert report.passed, str(report)
    assert json.loads(json.dumps(report.as_dict()))["passed"] is True
    assert len(report.rows) == 16


@pytest.mark.parametrize("strength", [1e-3, 0.3, 30.0, 1e4])
def test_any_lambda_passes(strength):
    """Rejects a search, a step or a tolerance that is right for one lambda only."""
    alpha = 0.1 / max(1, strength)
    report = verify(SMALL.with_changes({"proximal": strength, "alpha": alpha}), 2)
    assert report.passed, str(report)


def changed(system=lambda h, p: p + h, rows=lambda mask, q, r: r, final=lambda x: x):
    """iMAML's gradient with another system, or another gradient of what does not move."""

    def gradient(phi, w, task, problem, steps=0):
        mask, strength = learned.moved(problem).astype(w.dtype), problem.options.proximal
        hvp, _ = maml.hvp_and_gradient(task.support(phi), phi)
        loss, q = maml.value_and_gradient(task.query(phi), phi)
        steps = steps or problem.options.cg_steps
        product = lambda p: system(hvp(p) / strength, p)  # noqa: E731
        x, r, stopped = conjugate.solve(product, q, mask, steps)
        found = final(x) + (1 - mask) * rows(mask, q, r)
        return loss, found, conjugate.dot(r, r)[..., 0], stopped[..., 0]

    return gradient


def published(h, p):
    """The system that the official code solves with its own settings, lambda = 2."""
    return 2 * p + h / 6


TWO = {"differences", "implicit"}
WRONG = {
    "published": (SMALL, changed(published), TWO),
    "first order": (SMALL, changed(lambda h, p: p), TWO),
    "sign of H": (SMALL, changed(lambda h, p: p - h), TWO),
    "three parts in a million": (SMALL, changed(final=lambda x: x * (1 + 3e-6)), TWO),
    "grad Q for the rest": (IMAGES, changed(rows=lambda mask, q, r: q), TWO),
    "no gradient for the rest": (IMAGES, changed(rows=lambda mask, q, r: 0 * r), TWO),
}


def failed(config, row, monkeypatch):
    """Return the first words of the rows that fail for another record."""
    monkeypatch.setitem(ALGORITHMS, "imaml", row)
    report = verify(config, 2)
    return {r.check.split()[0].rstrip(":") for r in report.rows if not r.passed}


@pytest.mark.parametrize("name", WRONG)
def test_wrong_gradients_fail_independent_rows(name, monkeypatch):
    """Rejects rows that share what they check: each compares with something of its own."""
    config, wrong, rows = WRONG[name]
    assert rows <= failed(
        config,
        IMAML._replace(
            implicit=Implicit(imaml.inner, wrong),
            gradient=lambda w, task, p: wrong(
                IMAML.adapt(w, task, p, p.options.inner_steps)[-1], w, task, p
            ),
        ),
        monkeypatch,
    )


def test_the_right_one_written_otherwise_passes(monkeypatch):
    """Rejects the test above when its stand-in fails whatever it computes."""
    right = IMAML._replace(implicit=Implicit(imaml.inner, changed()))
    assert failed(SMALL, right, monkeypatch) == set()


def test_inner_steps_without_the_pull_fail(monkeypatch):
    """Rejects a check of the gradient alone: the official code descends on S."""
    plain = IMAML._replace(adapt=ALGORITHMS["maml"].adapt)
    assert {"gradient", "inner"} <= failed(SMALL, plain, monkeypatch)


def test_a_gradient_at_another_phi_fails(monkeypatch):
    """Rejects a check of `implicit` alone, which training may not use."""

    def early(w, task, problem):
        return imaml.implicit(w, w, task, problem)

    assert failed(SMALL, IMAML._replace(gradient=early), monkeypatch) == {"gradient"}


def test_too_few_solver_steps_are_seen(monkeypatch):
    """Rejects a solver that does not go on to the solution."""

    def short(phi, w, task, problem, steps=0):
        return imaml.implicit(phi, w, task, problem, min(steps or 5, 3))

    row = IMAML._replace(implicit=Implicit(imaml.inner, short))
    assert {"residual", "differences"} <= failed(SMALL, row, monkeypatch)


def test_another_pull_is_verified_by_the_same_rows(monkeypatch):
    """Rejects a verifier that knows lambda: here every parameter has a pull of its own."""

    def pulls(w):
        return 1 + 0.1 * (anp.arange(w.shape[-1]) % 3)

    def inner(w, task, problem):
        def support(at):
            return lambda phi: task.support(at)(phi) + anp.sum(pulls(w) * (phi - w) ** 2)

        return maml.Task(support, task.query)

    def implicitly(phi, w, task, problem, steps=0):
        hvp, _ = maml.hvp_and_gradient(inner(w, task, problem).support(phi), phi)
        loss, q = maml.value_and_gradient(task.query(phi), phi)
        y, r, stopped = conjugate.solve(hvp, q, np.ones(w.shape[-1]), steps or 5)
        return loss, 2 * pulls(w) * y, conjugate.dot(r, r)[..., 0], stopped[..., 0]

    def adapt(w, task, problem, steps):
        return maml.path(w, inner(w, task, problem), problem.alpha, steps)

    def gradient(w, task, problem):
        phi = adapt(w, task, problem, problem.options.inner_steps)[-1]
        return implicitly(phi, w, task, problem)

    row = Algorithm("imaml", "own", gradient, adapt=adapt, options=imaml.Options)
    row = row._replace(figures=IMAML.figures, implicit=Implicit(inner, implicitly))
    assert failed(SMALL, row, monkeypatch) == set()


def test_an_algorithm_with_neither_is_refused():
    """Rejects a report without a row about the gradient."""
    with pytest.raises(UsageError, match="nothing to check"):
        verify(Sine(algorithm="fomaml"), 1)


# ----- What it measures with -----


def small():
    """A case of the verifier and w, in float64."""
    config = SMALL.with_changes({"dtype": "float64", "activation": "tanh"})
    case = case_of(IMAML, problem(config), 2)
    return implicit.Inner(IMAML, case.problem, case.task), case.w


def test_the_unrolled_chain_is_autodiff_through_the_loop():
    """Rejects a chain that is a chain of something else."""
    case, w = small()

    def loss(at):
        phi = IMAML.adapt(at, case.task, case.problem, 7)[-1]
        return case.task.query(phi)(phi)

    assert difference(implicit.unrolled(case, w, 7), grad(loss)(w)) < 1e-12


def test_the_minimum_is_one():
    """Rejects a search that ends anywhere else, and one that moves what must stay."""
    case, w = small()
    half = np.arange(w.shape[-1]) % 2 * 0.1
    case = implicit.eased(case._replace(problem=case.problem._replace(alpha=half)), w)
    phi = case.minimum(w, w + 1, 1e-12)
    slope = case.slope(phi, w)
    assert np.abs(slope[:, half > 0]).max() < 1e-10
    assert np.abs(slope[:, half == 0]).max() > 1e-3
    np.testing.assert_array_equal(phi[:, half == 0], w[:, half == 0])


@pytest.mark.parametrize("size", [1, 2, 9, 60])
def test_the_ends_of_a_spectrum_are_found(size):
    """Rejects a power method that finds one end, and rows outside that enter."""
    rng = np.random.default_rng(size)
    a = rng.standard_normal((size, size))
    a, rows = a + a.T, np.ones((1, size))
    rows[0, size // 2 + 1 :] = 0
    at = rows[0] > 0
    want = np.linalg.eigvalsh(a[at][:, at])
    found = implicit.curvatures(lambda p: rows * (p @ a), rows)
    np.testing.assert_allclose(found[[0, -1]], want[[0, -1]], rtol=1e-3)
