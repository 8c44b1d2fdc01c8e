"""How alike two sets of features are, and classification by the nearest class mean.

    CKA   |Y'X|^2 / (|X'X| |Y'Y|), X and Y with centred columns: linear, biased estimator
    CCA   the mean of the canonical correlations of X and Y that make up CUT of their sum
    NIL   "no inner loop": the class whose mean feature has the largest cosine

Sources: Kornblith et al., "Similarity of Neural Network Representations Revisited", ICML
2019 (CKA); Raghu et al., "SVCCA", NeurIPS 2017, with the cut of sum_threshold in
cca_core.py of google/svcca (CCA); Raghu, Raghu, Bengio, Vinyals 2020, section 5 (NIL).
"""

import numpy as np

from tinymaml.contracts import check
from tinymaml.ops import one_hot
from tinymaml.params import Array


CUT = 0.98  # the default of get_cca_similarity in cca_core.py
POINTS = 2  # for each channel; with fewer than one, all correlations are 1
DIGITS = 12  # of a correlation; the rest is the rounding error of its SVD


def relative_change(before: Array, after: Array) -> Array:
    """Return |after - before| / |before| over the last axis: (..., P), (..., P) -> (...).

    It is 0 for equal vectors, and inf for others that start at zero. Raises ValueError
    when the shapes differ.
    """
    _same_shape(before, after)
    with np.errstate(divide="ignore", invalid="ignore", over="ignore"):
        moved, size = (np.linalg.norm(x, axis=-1) for x in (after - before, before))
        return np.where(moved == 0, 0.0, moved / size)


def cka(x: Array, y: Array) -> float:
    """Return the linear CKA of two sets of features (n, ...) of the same n examples.

    It lies in [0, 1]. It is nan when the features of a set do not vary or are not finite.
    Raises ValueError when the numbers of examples differ.
    """
    _same_shape(x, y, 1)
    if not (np.isfinite(x).all() and np.isfinite(y).all()):
        return float("nan")
    # Of Gram matrices (n, n): there are fewer examples than features.
    flat = (_centred(one.reshape(len(one), -1)) for one in (x, y))
    of_x, of_y = (rows @ rows.T for rows in flat)
    size = np.sum(of_x * of_x) * np.sum(of_y * of_y)
    return float(np.sum(of_x * of_y) / np.sqrt(size)) if size > 0 else float("nan")


def cca(x: Array, y: Array) -> float:
    """Return the mean canonical correlation of features (..., channels) of the same points.

    Every entry of the leading axes is a data point: examples, and positions of an image. It
    lies in [0, 1]. It is nan when there are fewer than POINTS points per channel, which
    correlate by chance, and when the features of a set do not vary or are not finite.
    Raises ValueError when the leading axes differ.
    """
    _same_shape(x, y, -1)
    few = any(one.size < POINTS * one.shape[-1] ** 2 for one in (x, y))
    if few or not (np.isfinite(x).all() and np.isfinite(y).all()):
        return float("nan")
    found = np.linalg.svd(_basis(x).T @ _basis(y), compute_uv=False)
    if not found.size:
        return float("nan")
    share = np.cumsum(found) / np.sum(found)
    kept = found[: 1 + int(np.argmax(share >= CUT))]
    return float(np.round(kept.mean(), DIGITS))


def _same_shape(x: Array, y: Array, axes: int | None = None) -> None:
    if x.shape[:axes] != y.shape[:axes]:
        raise ValueError(f"shapes do not fit: {x.shape} and {y.shape}")


def _basis(x: Array) -> Array:
    """Return an orthonormal basis (n, rank) of the centred channels x (..., channels)."""
    u, s, _ = np.linalg.svd(_centred(x.reshape(-1, x.shape[-1])), full_matrices=False)
    return u[:, s > s[0] * len(u) * np.finfo(x.dtype).eps]


def _centred(rows: Array) -> Array:
    # Less the first row: columns that do not vary become 0, not the mean's rounding error.
    rows = rows.astype(float) - rows[0]
    return rows - rows.mean(axis=0)


def class_cosines(support: Array, labels: Array, query: Array, ways: int) -> Array:
    """Return the cosine of each query feature and each class mean: (..., m, ways).

    support (..., n, d) with labels (..., n) in range(ways); query (..., m, d). NIL answers
    with the largest: at one shot, the nearest neighbour. A feature of norm 0 has cosine 0.
    Raises ValueError for labels out of range and shapes that do not fit, TypeError for
    labels that are not integers and features that are not floating point.
    """
    check("class_cosines", "nd md", support, query)
    of_class = np.swapaxes(one_hot(labels, ways), -1, -2)
    sums = of_class.astype(support.dtype) @ support  # as good as means for a cosine
    return _unit(query) @ np.swapaxes(_unit(sums), -1, -2)


def _unit(x: Array) -> Array:
    size = np.linalg.norm(x, axis=-1, keepdims=True)
    return x / np.where(size == 0, 1, size)
