"""A verdict is right or refused, and each misuse has one line that says what to do."""

from contextlib import suppress

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import verdicts
from bowls import Bowls
from tinymaml.check import classify
from tinymaml.check.trees import flatten


COARSE = [kind for kind in verdicts.KINDS if kind.size <= 1000]


@pytest.mark.parametrize("kind", COARSE, ids=lambda kind: kind.name)
@pytest.mark.parametrize("seed", [1000, 1001, 1002])
def test_no_verdict_is_wrong(kind, seed):
    """Rejects slopes of 0 that agree, since the loss is too coarse to change."""
    args, right = verdicts.case(kind, seed)
    found = right  # a refusal is no wrong verdict
    with suppress(ValueError):
        found = classify(*args, number=8).kind
    assert found == right


MEASURED = [
    *("P = 1", "P = 100", "theta times 1e-08", "theta times 1e+08", "loss times 1e-100"),
    *("loss times 1e+100", "loss plus 1000", "1 plus 1e-05 loss", "rounded to 12 digits"),
    *("off by 0.0001", "one entry of 100 off by 0.1", "wrong sign, float32 of f"),
    *("first-order, theta times 1e-6", "off by 0.1, theta times 1e6"),
]


@pytest.mark.parametrize(
    "kind", [k for k in verdicts.KINDS if k.name in MEASURED], ids=lambda k: k.name
)
def test_what_can_be_measured_is_not_refused(kind):
    """Rejects steps that do not follow the size of theta, and a doubt without end."""
    for seed in (2000, 2001):
        args, right = verdicts.case(kind, seed)
        assert classify(*args).kind == right


@given(st.floats(-8, 8), st.floats(-30, 30), st.integers(0, 2**32 - 1))
def test_sizes_of_theta_and_of_the_loss_change_nothing(size, factor, seed):
    """Rejects an absolute step, or an absolute threshold."""
    scale, factor = 10.0**size, 10.0**factor
    theta = scale * np.random.default_rng(seed).uniform(0.3, 1, 3)
    loss = lambda t: float(factor * np.sum(np.sin(t / scale) ** 2))  # noqa: E731
    gradient = lambda t: factor * np.sin(2 * t / scale) / scale  # noqa: E731
    assert classify(loss, gradient, theta, number=4).kind == "exact"
    wrong = lambda t: gradient(t) * (1 + 1e-3)  # noqa: E731
    assert classify(loss, wrong, theta, number=4).kind == "neither"


def test_a_kink_at_theta_is_refused():
    """Rejects the mean of the two slopes at a kink taken for the slope."""
    theta = np.array([0.5, -0.3, 1.0])
    loss = lambda t: float(np.sum(np.sin(t)) + np.abs(t - theta).sum())  # noqa: E731
    with pytest.raises(ValueError, match="kinks"):
        classify(loss, np.cos, theta)


def test_a_stationary_point_is_refused():
    """Rejects a verdict on slopes that are rounding errors."""
    loss = lambda t: float(np.sum(np.cos(t)) + 3)  # noqa: E731
    with pytest.raises(ValueError, match="cannot be differentiated"):
        classify(loss, lambda t: 0 * t + 1e-9, np.pi * np.ones(3))


# ----- Misuse -----


def total(t):
    """A loss."""
    return float(np.sum(np.sin(t)))


class Tensor:
    """As much of a PyTorch tensor as is used."""

    def __init__(self, values, requires_grad=False):
        self.values, self.requires_grad = np.asarray(values, np.float32), requires_grad

    def detach(self):
        """Itself without a graph."""
        return Tensor(self.values)

    cpu = detach

    def is_complex(self):
        """Not complex."""
        return False

    def double(self):
        """As float64."""
        return self.values.astype(float)

    def new_tensor(self, values):
        """Another of its dtype."""
        return Tensor(values)

    def requires_grad_(self, on):
        """Set whether it is a leaf."""
        self.requires_grad = on
        return self


THETA = np.linspace(0.1, 1, 5)
TIED = Tensor(THETA)


class Module:
    """What has parameters of its own."""

    def named_parameters(self):
        """None."""
        return ()


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"meta_gradient": lambda t: (total(t), np.cos(t))}, r"pair .*\[1\]"),
        ({"meta_loss": lambda t: (total(t), np.cos(t))}, r"2 values.*\[0\]"),
        ({"theta": [0.1, 0.2]}, r"list of numbers: pass np.array"),
        ({"theta": np.ones((2, 3))}, r"\(2, 3\): pass one vector"),
        ({"adapt": lambda t: [t, t, t]}, r"3 sets of parameters, as maml.path .*\[-1\]"),
        ({"adapt": lambda t: t[:-1]}, "adapt's result"),
        ({"meta_loss": lambda t: np.sin(t)}, r"shape \(5,\): return the mean"),
        ({"meta_loss": lambda t: None}, "meta_loss returned None"),
        ({"meta_gradient": lambda t: None}, "meta_gradient returned None"),
        (
            {"meta_gradient": lambda t: np.cos(t)[1:]},
            r"theta is \(5,\), its gradient \(4,\)",
        ),
        ({"meta_gradient": np.ones(5)}, "meta_gradient is a ndarray: pass a function"),
        ({"meta_loss": lambda t: "x"}, "no array of real numbers but a str"),
        ({"meta_loss": lambda t: 1j}, "no array of real numbers but a complex"),
        ({"theta": Module()}, "named_parameters"),
        ({"theta": iter([THETA])}, "iterator"),
        (
            {"theta": {"w": THETA, "n": np.array(3)}},
            "theta n is int64: pass parameters only",
        ),
        ({"theta": {}}, "no arrays"),
        (
            {"theta": {"w": TIED, "v": TIED}},
            "one tied tensor as w and as v: pass it once",
        ),
        (
            {
                "theta": {"w": THETA, "v": THETA},
                "meta_loss": lambda p: total(p["w"]),
                "meta_gradient": lambda p: {"w": np.cos(p["w"]), "v": np.nan * p["v"]},
            },
            "not finite in 5 of 10 entries, in `v`$",
        ),
        ({"theta": np.array([1.0, np.nan])}, "not finite"),
        ({"theta": {"w": np.array(["x"])}}, "theta w is no array of real numbers"),
    ],
)
def test_misuse_says_in_one_line_what_to_do(change, message):
    """Rejects a traceback from NumPy's inside, and a verdict on something else."""
    given = {"meta_loss": total, "meta_gradient": np.cos, "theta": THETA} | change
    with pytest.raises(ValueError, match=message) as caught:
        classify(**given)
    assert "\n" not in str(caught.value)


# ----- Trees -----


def test_a_coarse_loss_names_the_dtype_of_theta():
    """Rejects "compute it in float64" to somebody whose parameters are float32."""
    theta = {"w": THETA.astype(np.float32)}
    loss = lambda p: float(np.float32(total(p["w"]) + 1))  # noqa: E731
    with pytest.raises(
        ValueError, match=r"theta is float32; .*model\.double\(\)"
    ) as caught:
        classify(loss, lambda p: {"w": np.cos(p["w"])}, theta)
    assert "the claimed ones are off by" in str(caught.value)


def test_trees_come_back_as_they_were():
    """Rejects other kinds, dtypes, shapes or an other order of the arrays."""
    theta = {
        "b": Tensor([[1, 2], [3, 4]], True),
        "a": [np.arange(3.0), (np.float64(2), None)],
    }
    vector, found = flatten(theta)
    assert found.names == ["b", "a.0", "a.1.0"]
    assert vector.tolist() == [1, 2, 3, 4, 0, 1, 2, 2]
    again = found.rebuild(vector + 1)
    assert isinstance(again["b"], Tensor)
    assert again["b"].requires_grad
    assert again["b"].values.dtype == np.float32
    assert again["b"].values.tolist() == [[2, 3], [4, 5]]
    assert again["a"][0].tolist() == [1, 2, 3]
    assert again["a"][1] == (3.0, None)


def test_gradients_are_matched_by_name_or_by_order():
    """Rejects a gradient whose arrays are taken in the order in which a dict was filled."""
    theta = {"w": np.ones((2, 3)), "b": np.ones(3)}
    _, found = flatten(theta)
    first = {"b": np.full(3, 2.0), "w": np.full((2, 3), 5.0)}
    assert found.vector(first, "").tolist() == [5.0] * 6 + [2.0] * 3
    assert found.vector((first["w"], first["b"]), "").tolist() == [5.0] * 6 + [2.0] * 3
    assert found.vector((first["w"], None), "").tolist() == [5.0] * 6 + [0.0] * 3
    assert found.vector(np.arange(9.0), "").tolist() == [*range(9)]
    with pytest.raises(ValueError, match="its gradient lacks `b`: leave them out of theta"):
        found.vector({"w": first["w"]}, "its gradient")
    with pytest.raises(ValueError, match=r"1 array \(v\); theta is 2 arrays \(w, b\)"):
        found.vector({"v": first["w"]}, "its gradient")


def test_a_list_of_one_layer_is_no_path():
    """Rejects "1 sets of parameters, as maml.path does" for theta = [(w, b)] itself."""
    theta = [(THETA, 1 + THETA)]
    loss = lambda p: total(p[0][0]) + total(p[0][1])  # noqa: E731
    gradient = lambda p: [(np.cos(p[0][0]), np.cos(p[0][1]))]  # noqa: E731
    assert classify(loss, gradient, theta, lambda p: p).kind == "exact"


def test_a_tree_gets_the_verdict_of_its_vector():
    """Rejects functions that are called with another structure than theta's."""
    bowls = Bowls(2)
    assert classify(*bowls.arguments()).kind == "exact"
    loss, gradient, theta = bowls.arguments()
    assert classify(loss, lambda p: [*gradient(p).values()], theta).kind == "exact"
    tilted = lambda p: gradient(p) | {"d": gradient(p)["d"] * 1.01}  # noqa: E731
    assert classify(loss, tilted, theta).kind == "neither"
