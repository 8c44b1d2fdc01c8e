"""CKA, CCA, nearest means and relative change: their laws, and direct formulas."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.testing import assert_allclose, assert_array_equal

from tinymaml.similarity import CUT, POINTS, cca, cka, class_cosines, relative_change


R = 1e-10
MEASURES = pytest.mark.parametrize("measure", [cka, cca])


@st.composite
def features(draw, dtype=float):
    """Draw two related sets of features of the same examples, off centre."""
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    d, e = draw(st.integers(1, 5)), draw(st.integers(1, 5))
    n = draw(st.integers(POINTS * max(d, e) + 2, 40))
    x = rng.standard_normal((n, d)) + rng.standard_normal(d)
    y = x @ rng.standard_normal((d, e)) + rng.standard_normal((n, e)) + 3
    return x.astype(dtype), y.astype(dtype), rng


def rotation(rng, size):
    return np.linalg.qr(rng.standard_normal((size, size)))[0]


# ----- Laws of both -----


@MEASURES
@pytest.mark.parametrize("dtype", ["float32", "float64"])
@given(st.data())
def test_a_set_is_wholly_similar_to_itself(measure, dtype, data):
    """Rejects a frozen layer that seems to change: the similarity is 1 to the last bit."""
    x, _, _ = data.draw(features(dtype))
    assert measure(x, x.copy()) == 1.0


@MEASURES
@given(features())
def test_similarity_is_symmetric_and_a_share(measure, drawn):
    """Rejects another norm below than above, and one set's norm twice."""
    x, y, _ = drawn
    assert 0 <= measure(x, y) <= 1 + R
    assert_allclose(measure(x, y), measure(y, x), rtol=R)


@MEASURES
@given(features(), st.floats(0.01, 100))
def test_similarity_ignores_rotation_scale_and_shift(measure, drawn, scale):
    """Rejects features that are not centred, and similarity of single neurons."""
    x, y, rng = drawn
    other = scale * x @ rotation(rng, x.shape[1]) + rng.standard_normal(x.shape[1])
    assert_allclose(measure(other, y), measure(x, y), rtol=1e-8)


@given(features())
def test_cca_ignores_every_invertible_map(drawn):
    """Rejects directions weighted by their variance."""
    x, y, rng = drawn
    size = x.shape[1]
    stretched = rotation(rng, size) * rng.uniform(0.2, 5, size) @ rotation(rng, size)
    assert_allclose(cca(x @ stretched, y), cca(x, y), rtol=1e-8)


@MEASURES
@pytest.mark.filterwarnings("ignore::RuntimeWarning")
@pytest.mark.parametrize("value", [1.0, np.nan, np.inf])
def test_features_that_do_not_vary_or_diverged_have_none(measure, value):
    """Rejects a number for 0/0, and for features that are not finite."""
    x = np.random.default_rng(0).standard_normal((20, 3))
    bad = np.full((20, 2), value)
    assert np.isnan(measure(x, bad))
    assert np.isnan(measure(bad, x))


# ----- Direct formulas -----


@given(features())
def test_cka_is_that_of_covariances(drawn):
    """Rejects another estimator, and a root forgotten below."""
    x, y, _ = drawn
    whole, d = np.cov(x, y, rowvar=False) * (len(x) - 1), x.shape[1]
    of_x, of_y, across = whole[:d, :d], whole[d:, d:], whole[:d, d:]
    sizes = np.linalg.norm(of_x) * np.linalg.norm(of_y)
    assert_allclose(cka(x, y), np.linalg.norm(across) ** 2 / sizes, rtol=1e-8)


@given(features())
def test_cca_is_that_of_eigenvalues(drawn):
    """Rejects squared correlations, and another cut than that of google/svcca."""
    x, y, _ = drawn
    whole, d = np.cov(x, y, rowvar=False), x.shape[1]
    of_x, of_y, across = whole[:d, :d], whole[d:, d:], whole[:d, d:]
    product = np.linalg.solve(of_x, across) @ np.linalg.solve(of_y, across.T)
    found = np.sqrt(np.clip(np.linalg.eigvals(product).real, 0, 1))
    found = np.sort(found)[::-1][: min(d, y.shape[1])]
    kept = next(i for i in range(1, 9) if sum(found[:i]) >= CUT * sum(found) * (1 - 1e-12))
    assert_allclose(cca(x, y), np.mean(found[:kept]), rtol=1e-6)


def test_small_correlations_are_cut():
    """Rejects a mean over channels that carry nothing, which depends on their number."""
    rng = np.random.default_rng(0)
    x, noise = rng.standard_normal((2, 4000, 1))
    y = rng.standard_normal((4000, 1))
    both = cca(np.hstack([x, noise]), np.hstack([x, y]))
    assert both == 1.0


def test_positions_of_images_are_points():
    """Rejects a conv layer flattened to vectors, whose correlations are all 1."""
    x, y = np.random.default_rng(0).standard_normal((2, 6, 4, 4, 3))
    assert cca(x, y) == cca(x.reshape(-1, 3), y.reshape(-1, 3)) < 0.5
    assert cka(x, y) == cka(x.reshape(6, -1), y.reshape(6, -1))


def test_a_channel_given_twice_does_not_count_twice():
    """Rejects an inverse of a singular covariance."""
    x, y = np.random.default_rng(0).standard_normal((2, 40, 3))
    assert_allclose(cca(np.hstack([x, x[:, :1]]), y), cca(x, y), rtol=R)


def test_the_rounding_errors_of_a_channel_are_none():
    """Rejects the noise of a float32 sum as a direction of its own, which no other set of
    features shares."""
    x, y = np.random.default_rng(0).standard_normal((2, 200, 2))
    noise = np.random.default_rng(1).standard_normal((200, 1))
    whole = np.hstack([x, x.sum(1, keepdims=True) + 1e-6 * noise]).astype(np.float32)
    assert_allclose(cca(whole, y), cca(x, y), rtol=1e-4)
    assert_allclose(cca(whole, np.hstack([y, noise])), cca(x, np.hstack([y, noise])), 1e-4)


@pytest.mark.parametrize(("points", "known"), [(5, False), (6, True)])
def test_few_points_have_no_cca(points, known):
    """Rejects the 1 that any features have with as many channels as points."""
    x, y = np.random.default_rng(0).standard_normal((2, points, 3))
    assert np.isfinite(cca(x, y)) == known


# ----- Nearest means, change -----


@given(st.integers(0, 2**32 - 1), st.integers(1, 3), st.integers(2, 4))
def test_cosines_are_those_of_the_class_means(seed, shots, ways):
    """Rejects dot products, means over other classes, and cosines averaged over shots."""
    rng = np.random.default_rng(seed)
    support, query = rng.standard_normal((2, 3, ways * shots, 5))
    labels = np.stack([rng.permutation(np.arange(ways).repeat(shots)) for _ in range(3)])
    found = class_cosines(support, labels, query, ways)
    for t in range(3):
        for c in range(ways):
            mean = support[t, labels[t] == c].mean(axis=0)
            sizes = np.linalg.norm(mean) * np.linalg.norm(query[t], axis=-1)
            assert_allclose(found[t, :, c], query[t] @ mean / sizes, rtol=1e-9, atol=1e-12)
    scaled = class_cosines(4 * support, labels, 4 * query, ways)
    assert_array_equal(scaled, found)


def test_support_examples_are_their_own_neighbours():
    """Rejects labels in another order, and twice the memory of the features. A feature of
    norm 0 gives no nan."""
    x = np.random.default_rng(0).standard_normal((2, 5, 8))
    labels = np.array([[3, 1, 4, 0, 2], [0, 1, 2, 3, 4]])
    assert_array_equal(class_cosines(x, labels, x, 5).argmax(-1), labels)
    assert_array_equal(class_cosines(x, labels, 0 * x, 5), np.zeros((2, 5, 5)))
    narrow = x.astype(np.float32)
    assert class_cosines(narrow, labels, narrow, 5).dtype == np.float32


def test_change_is_relative_to_the_first():
    """Rejects a change relative to the result, and a nan where nothing moves."""
    before = np.array([[3.0, 4.0], [0.0, 0.0], [0.0, 0.0]])
    after = np.array([[3.0, 5.0], [0.0, 0.0], [1.0, 0.0]])
    assert_array_equal(relative_change(before, after), [0.2, 0.0, np.inf])
    assert np.isnan(relative_change(before[0], np.array([np.nan, 0.0])))


def test_sets_that_do_not_belong_together_are_refused():
    """Rejects a comparison of other examples, which broadcasting would allow."""
    x, labels = np.ones((3, 4)), np.array([0, 1, 2])
    for measure in (cka, cca, relative_change):
        with pytest.raises(ValueError, match="shapes do not fit"):
            measure(x, x[:1])
    with pytest.raises(ValueError, match="a label of 2 classes is 0 to 1, not 2"):
        class_cosines(x, labels, x, 2)


@pytest.mark.parametrize("value", [0.1, 0.7, 1e6 / 3])
def test_the_rounding_of_a_mean_is_no_feature(value):
    """Rejects CKA and CCA of 0 or 1 for layers that do not vary, as dead ones."""
    still = np.full((10, 3), value)
    varied = np.random.default_rng(0).standard_normal((10, 3))
    for alike in (cka, cca):
        assert np.isnan(alike(still, varied))
        assert np.isnan(alike(still, 2 * still))


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_features_that_are_not_finite_are_like_none(value):
    """Rejects a figure, and a warning of NumPy's, for a net that diverged."""
    x = np.random.default_rng(0).standard_normal((10, 3))
    broken = np.where(np.arange(10)[:, None] == 4, value, x)
    assert np.isnan(cka(broken, x))
    assert np.isnan(cca(x, broken))
    assert np.isnan(relative_change(broken, broken)[4])


def test_features_are_floating_point():
    """Rejects sums of bytes that wrap around."""
    support = np.full((4, 3), 200, np.uint8)
    with pytest.raises(TypeError, match="class_cosines takes floating-point arrays"):
        class_cosines(support, np.array([0, 1, 0, 1]), np.ones((1, 3)), 2)
