"""The report passes right programs only, and lists the planted cause first."""

import importlib
import json
import sys

import numpy as np
import pytest

from bowls import ALPHA, SIZE, SPANS, STEPS, Bowls, flat, tree
from places import ROOT
from processes import here
from tinymaml.check import verify


def changed(name, change):
    """Return a gradient in which one array is changed."""

    def gradient(bowls, t):
        g = tree(bowls.gradient(t).copy())
        g[name] = change(g[name])
        return flat(g)

    return gradient


def swapped(bowls, t):
    """The gradient with two arrays exchanged."""
    g = tree(bowls.gradient(t))
    return flat({**g, "b": g["c"], "c": g["b"]})


def entry(d):
    """An array with one entry forgotten."""
    return np.where(np.arange(d.size).reshape(d.shape) == 4, 0, d)


def mask(*names):
    """Return ones, and zeros in some arrays."""
    found = np.ones(SIZE)
    for name in names:
        found[SPANS[name]] = 0
    return found


def half(bowls, t):
    """The gradient with half of its second-order term."""
    return (bowls.gradient(t) + bowls.gradient(t, cut=range(STEPS))) / 2


CAUSES = {
    "no create_graph": ("first-order", "all 3", lambda b, t: b.gradient(t, cut=(0, 1, 2))),
    "not in step 1": ("first-order", "step 1 of 3", lambda b, t: b.gradient(t, cut=(0,))),
    "not in step 3": ("first-order", "step 3 of 3", lambda b, t: b.gradient(t, cut=(2,))),
    "in step 2 alone": (
        "first-order",
        "step 1, 3 of",
        lambda b, t: b.gradient(t, cut=(0, 2)),
    ),
    "first-order, twice": (
        *("first-order", "times 2"),
        lambda b, t: 2 * b.gradient(t, cut=range(STEPS)),
    ),
    "half the term": ("second-order term", "0.5 times", half),
    "a step too few": (
        "steps",
        "2 inner steps, not 3",
        lambda b, t: b.gradient(t, steps=2),
    ),
    "a step too many": ("steps", "4 inner steps", lambda b, t: b.gradient(t, steps=4)),
    "first-order, too few": (
        *("steps", "after 2 of 3"),
        lambda b, t: b.gradient(t, steps=2, cut=(0, 1)),
    ),
    "0.6 of the size": (
        "step size",
        "0.6 times",
        lambda b, t: b.gradient(t, alpha=0.6 * ALPHA),
    ),
    "0.7 of the size": (
        "step size",
        "0.7 times",
        lambda b, t: b.gradient(t, alpha=0.7 * ALPHA),
    ),
    "decay on the grid": (
        "weight decay",
        "0.001 theta",
        lambda b, t: b.slopes(t, decay=0.01),
    ),
    "uphill": ("step size", "-1 times", lambda b, t: b.gradient(t, alpha=-ALPHA)),
    "query data": ("query data", "query data", lambda b, t: b.gradient(t, inner=1)),
    "support loss": ("support", "theta_3", lambda b, t: b.gradient(t, result=0)),
    "support added": ("support", "too much", lambda b, t: b.gradient(t) + b.slope(t, 0)),
    "Reptile": ("displacement", "Reptile", lambda b, t: t - b.path(t)[-1]),
    "w not adapted": ("adapted", "`w`", lambda b, t: b.gradient(t, moved=mask("w"))),
    "w, b not adapted": (
        "adapted",
        "`w`, `b`",
        lambda b, t: b.gradient(t, moved=mask("w", "b")),
    ),
    "momentum": ("momentum", "momentum 0.6", lambda b, t: b.slopes(t, momentum=0.6)),
    "no zero_grad inside": ("momentum", "zero_grad", lambda b, t: b.slopes(t, momentum=1)),
    "first-order, momentum": (
        *("momentum", "without second-order terms"),
        lambda b, t: b.slope(b.path(t, momentum=0.7)[-1], 1),
    ),
    "first-order, query data": (
        *("query data", "without second-order terms"),
        lambda b, t: b.slope(b.path(t, inner=1)[-1], 1),
    ),
    "decay inside": ("weight decay", "0.02 theta", lambda b, t: b.slopes(t, decay=0.2)),
    "clipped inside": ("clipped", "steps to 0.15", lambda b, t: b.slopes(t, most=0.15)),
    "w without terms": (
        *("first-order", "terms of `w`"),
        lambda b, t: b.gradient(t, terms=mask("w")),
    ),
    "c, d without graph": (
        *("detached", "updates of `c`, `d`"),
        lambda b, t: b.gradient(t, graph=mask("c", "d")),
    ),
    "b lost in Q": ("detached", "query loss's", lambda b, t: b.gradient(t, lost=mask("b"))),
    "b detached": ("detached", "only `b` differs", changed("b", lambda d: 0 * d)),
    "twice": ("scale", "2 times", lambda b, t: 2 * b.gradient(t)),
    "wrong sign": ("sign", "-1 times", lambda b, t: -b.gradient(t)),
    "zeros": ("zero", "is 0", lambda b, t: 0 * t),
    "clipped": (
        *("clipped", "norm is 0.5"),
        lambda b, t: 0.5 * b.gradient(t) / np.linalg.norm(b.gradient(t)),
    ),
    "clipped entries": (
        "clipped",
        "exactly 0.7",
        lambda b, t: b.gradient(t).clip(-0.7, 0.7),
    ),
    "signs": ("signs", "Adam", lambda b, t: np.sign(b.gradient(t))),
    "one array twice": ("array scale", "factor 2", changed("c", lambda d: 2 * d)),
    "weight decay": ("weight decay", "0.01 theta", lambda b, t: b.gradient(t) + 0.01 * t),
    "swapped": ("swapped", "`b` agrees", swapped),
    "transposed": ("transposed", "`w` agrees", changed("w", lambda d: d.T)),
    "an entry": ("entries", "w[1, 1]", changed("w", entry)),
}


@pytest.mark.parametrize("name", CAUSES)
@pytest.mark.parametrize("seed", [0, 1])
def test_the_cause_comes_first(name, seed):
    """Rejects a report that passes a bug, or that names another cause before its own."""
    cause, words, gradient = CAUSES[name]
    bowls = Bowls(seed)
    args = bowls.arguments(lambda t: gradient(bowls, t))
    report = verify(*args, **bowls.loop())
    assert not report.passed
    assert report.suspects[0].cause == cause, str(report)
    assert words in report.suspects[0].text
    assert report.kind == ("first-order" if name == "no create_graph" else "neither")
    assert report.suspects[0].text in str(report)


@pytest.mark.parametrize("seed", range(8))
def test_right_programs_pass(seed):
    """Rejects a suspicion without a cause."""
    bowls = Bowls(seed)
    for more in ({}, bowls.loop()):
        report = verify(*bowls.arguments(), **more)
        assert report.passed, str(report)
        assert report.verdict.error < 1e-7
        assert all(one.right for one in report.arrays)
        assert report.kinks == 0


@pytest.mark.parametrize(
    ("seed", "cause", "bug"),
    [
        (26, "step size", {"alpha": 0.83 * ALPHA}),
        (28, "momentum", {"momentum": 0.7}),
        (32, "momentum", {"momentum": 0.7}),
    ],
)
def test_a_number_is_found_where_one_slope_only_touches_it(seed, cause, bug):
    """Rejects a search along one direction, whose mismatch may not change its sign."""
    bowls = Bowls(0)
    args = bowls.arguments(lambda t: bowls.slopes(t, **bug))
    assert verify(*args, **bowls.loop(), seed=seed).suspects[0].cause == cause


def test_a_loss_of_another_loop_is_explained_before_its_gradient():
    """Rejects causes of a gradient that are sought in a loop that the loss lacks."""
    bowls = Bowls(1)

    def gradient(t):
        return bowls.slope(bowls.path(t, momentum=0.9)[-1], 1)

    args = bowls.arguments(gradient, lambda t: bowls.value(t, momentum=0.9))
    report = verify(*args, **bowls.loop())
    assert [one.cause for one in report.suspects] == ["momentum", "first-order"]
    assert "all 3 steps" in report.suspects[1].text


def test_a_penalty_that_the_gradient_lacks_is_found():
    """Rejects "steps of 1 times the size" for the gradient of the query loss alone."""
    bowls = Bowls(2)
    args = bowls.arguments(value=lambda t: bowls.value(t) + 0.01 * (t @ t))
    causes = {one.cause: one.text for one in verify(*args, **bowls.loop()).suspects}
    assert [*causes] == ["another loss", "weight decay"]
    assert "it lacks 0.02 theta" in causes["weight decay"]


def test_what_explains_the_gradient_stands_alone():
    """Rejects "only 4 of 5 arrays differ" where the cause is known."""
    bowls = Bowls(0)
    loss, gradient, theta = bowls.arguments(lambda t: bowls.gradient(t, cut=range(STEPS)))
    more = bowls.loop()
    step, query = more["inner_step"], more["query_loss"]
    more["inner_step"] = lambda p: step(p) | {"e": p["e"]}
    more["query_loss"] = lambda p: query(p) + float(np.sin(p["e"]).sum())
    report = verify(
        lambda p: loss(p) + float(np.sin(p["e"]).sum()),
        lambda p: gradient(p) | {"e": np.cos(p["e"])},
        theta | {"e": np.array([0.3, 0.5])},
        **more,
    )
    assert [one.cause for one in report.suspects] == ["first-order"]


def test_a_cause_is_not_said_twice():
    """Rejects a factor of the whole that is listed for every array, and "1 times"."""
    bowls, kept = Bowls(3), []

    def summed(t):
        kept.append(bowls.gradient(t))
        return sum(kept)

    for gradient, causes in (
        (lambda t: 2 * bowls.gradient(t), ["scale"]),
        (summed, ["accumulates"]),
    ):
        report = verify(*bowls.arguments(gradient), **bowls.loop())
        assert [one.cause for one in report.suspects] == causes


def test_an_unknown_cause_asks_only_for_what_was_not_given():
    """Rejects advice to pass the loop that was passed."""
    bowls = Bowls(4)
    args = bowls.arguments(lambda t: bowls.gradient(t) + np.cos(7 * t))
    for more, words in (({}, "give inner_step"), (bowls.loop(), "compare data")):
        (suspect,) = verify(*args, **more).suspects
        assert suspect.cause == "unknown"
        assert words in suspect.text


def test_axes_of_a_kernel_that_are_exchanged_are_found():
    """Rejects a search among matrices alone."""
    theta = {"k": np.random.default_rng(0).standard_normal((2, 3, 4)), "b": np.ones(2)}
    weights = np.random.default_rng(1).standard_normal((2, 3, 4))

    def gradient(p):
        g = weights * np.cos(p["k"] * weights)
        return {"k": g.swapaxes(0, 2).reshape(2, 3, 4), "b": 1 + 0 * p["b"]}

    loss = lambda p: float(np.sin(p["k"] * weights).sum() + p["b"].sum())  # noqa: E731
    report = verify(loss, gradient, theta)
    assert report.suspects[0].cause == "transposed"
    assert "axes 0 and 2" in report.suspects[0].text


def test_the_step_is_found_without_the_query_loss():
    """Rejects a need for what a program may not have in one piece."""
    bowls = Bowls(3)
    args = bowls.arguments(lambda t: bowls.gradient(t, cut=(2,)))
    more = bowls.loop()
    report = verify(*args, inner_step=more["inner_step"], steps=STEPS)
    assert report.suspects[0].cause == "first-order"
    assert "step 3 of 3" in report.suspects[0].text
    assert report.suspects[0].figure < 1e-6


LOSSES = {
    "steps": ("takes 2 inner steps", {"steps": 2}),
    "step size": ("2 times", {"alpha": 2 * ALPHA}),
    "query data": ("query data", {"inner": 1}),
    "momentum": ("momentum 0.9", {"momentum": 0.9}),
    "another loss": ("off by", {"result": 0}),
}


@pytest.mark.parametrize("cause", LOSSES)
def test_a_loss_that_is_not_meant_is_found_by_its_values(cause):
    """Rejects a program for right whose loss and gradient share a bug."""
    words, bug = LOSSES[cause]
    bowls = Bowls(4)
    gradient = bowls.slopes if cause == "momentum" else bowls.gradient
    args = bowls.arguments(lambda t: gradient(t, **bug), lambda t: bowls.value(t, **bug))
    assert verify(*args).passed
    report = verify(*args, **bowls.loop())
    assert (report.kind, report.passed) == ("exact", False)
    assert report.suspects[0].cause == cause
    assert words in report.suspects[0].text


# ----- Calls -----


def counted(change):
    """Return a loss that changes with the number of calls."""
    calls = []

    def value(bowls, t):
        calls.append(t)
        return bowls.value(t) * change(len(calls))

    return value


def memory():
    """Return a loss with a part of the call before."""
    kept = []

    def value(bowls, t):
        kept.append(bowls.value(t))
        return kept[-1] + 0.1 * kept[max(0, len(kept) - 2)]

    return value


def kinked(bowls, t):
    """The loss with a kink at theta."""
    value = bowls.value(t)
    return value + 0.3 * abs(value - bowls.value(bowls.theta))


RNG = np.random.default_rng(0)
CALLS = {
    "dropout": (
        "randomness",
        "fixed seeds",
        lambda: lambda b, t: b.value(t) + np.random.random(),
    ),
    "sampling": (
        "randomness",
        "without a trend",
        lambda: lambda b, t: b.value(t) + RNG.random(),
    ),
    "drift": ("state", "drifts", lambda: counted(lambda n: 1 + 0.01 * n)),
    "buffers": ("state", "drifts", lambda: counted(lambda n: 1 + 0.9**n)),
    "batches": ("state", "repeats after 3", lambda: counted(lambda n: 1 + 0.1 * (n % 3))),
    "a cache": ("state", "another theta", memory),
    "nan": ("not finite", "not finite", lambda: lambda b, t: np.nan),
    "constant": ("constant", "use the parameters that it gets", lambda: lambda b, t: 2.0),
    "float32": ("coarse", "float64", lambda: lambda b, t: float(np.float32(b.value(t)))),
    "offset": ("coarse", "subtract", lambda: lambda b, t: b.value(t) + 1e10),
    "kinks": ("rough", "kinks", lambda: lambda b, t: kinked(b, t)),
}


@pytest.mark.parametrize("name", CALLS)
def test_what_cannot_be_measured_says_why(name):
    """Rejects a verdict on noise, and one sentence for randomness and for state."""
    cause, words, make = CALLS[name]
    bowls, value = Bowls(5), make()
    report = verify(*bowls.arguments(value=lambda t: value(bowls, t)))
    assert report.kind == "unmeasurable"
    assert report.suspects[0].cause == cause, str(report)
    assert words in report.suspects[0].text
    assert json.loads(report.to_json())["verdict"] is None


def test_global_generators_are_left_as_they_were():
    """Rejects a check that seeds the user's generators."""
    bowls = Bowls(5)
    np.random.seed(3)
    before = np.random.get_state()[1].copy()
    verify(*bowls.arguments(lambda t: bowls.gradient(t) * (1 + RNG.random())))
    assert (np.random.get_state()[1] == before).all()


def test_gradients_that_add_up_are_found():
    """Rejects a verdict on the first call of a program without zero_grad."""
    bowls, kept = Bowls(6), []

    def gradient(t):
        kept.append(bowls.gradient(t))
        return sum(kept)

    report = verify(*bowls.arguments(gradient))
    assert (report.kind, report.suspects[0].cause) == ("neither", "accumulates")
    assert "2.00 times" in report.suspects[0].text


def test_a_gradient_that_changes_the_loss_is_found():
    """Rejects calls of the loss alone, when taking the gradient steps an optimiser."""
    bowls, calls = Bowls(6), []

    def gradient(t):
        calls.append(t)
        return bowls.gradient(t)

    report = verify(
        *bowls.arguments(gradient, lambda t: bowls.value(t) + 0.01 * len(calls))
    )
    assert report.suspects[0].cause == "state"
    assert "meta_gradient changed it" in report.suspects[0].text


def test_statistics_that_an_inner_step_changes_are_found():
    """Rejects a query loss that is taken for a function of theta."""
    bowls, steps = Bowls(7), []
    more = bowls.loop()
    step, query = more["inner_step"], more["query_loss"]
    more["inner_step"] = lambda p: steps.append(p) or step(p)
    more["query_loss"] = lambda p: query(p) + 0.01 * len(steps)
    report = verify(*bowls.arguments(), **more)
    assert report.suspects[0].cause == "shared"


def test_an_array_that_gets_no_gradient_is_named():
    """Rejects None taken for zeros without a word."""
    bowls = Bowls(8)
    loss, gradient, theta = bowls.arguments()
    report = verify(loss, lambda p: {**gradient(p), "c": None}, theta)
    assert report.suspects[0].cause == "detached"
    assert "no gradient arrived at `c`" in report.suspects[0].text


def test_a_small_array_is_compared_with_itself():
    """Rejects an error that hides behind arrays with a larger gradient."""
    bowls = Bowls(9)
    theta = tree(bowls.theta)
    tiny = {"w": theta["w"], "d": theta["d"]}
    value = lambda p: float(1e7 * np.sin(p["w"]).sum() + np.sin(p["d"]).sum())  # noqa: E731
    claim = lambda p: {"w": 1e7 * np.cos(p["w"]), "d": 0 * p["d"]}  # noqa: E731
    report = verify(value, claim, tiny)
    assert (report.kind, report.suspects[0].cause) == ("neither", "detached")


# ----- The command line and the recipes -----


PROGRAM = """
import numpy as np
def program():
    return PROGRAM
PROGRAM = dict(
    meta_loss=lambda t: float(np.sin(t).sum()), meta_gradient=np.cos, theta=np.ones(3) / 3
)
WRONG = PROGRAM | dict(meta_gradient=lambda t: 2 * np.cos(t))
MISSING = dict(meta_loss=np.sum)
NUMBER = 3
"""


@pytest.mark.parametrize(
    ("name", "code", "words"),
    [
        ("PROGRAM", 0, "exact"),
        ("program", 0, "exact"),
        ("WRONG", 1, "2 times the exact gradient"),
        ("MISSING", 1, "meta_gradient"),
        ("NUMBER", 2, "dict"),
        ("nothing", 2, "defines no nothing"),
    ],
)
def test_the_command_line_checks_a_program(name, code, words, tmp_path):
    """Rejects a verdict that a script cannot read off the exit code."""
    file = tmp_path / "mine.py"
    file.write_text(PROGRAM)
    done = here("check", f"{file}:{name}")
    assert done.code == code, done
    assert words in done.out + done.err
    assert "Traceback" not in done.err
    if code == 0:
        (report,) = json.loads(here("check", f"{file}:{name}", "--json").out)
        assert report["passed"] is True


@pytest.mark.parametrize(
    ("package", "recipe"), [("torch", "torch_module"), ("jax", "jax_tree")]
)
@pytest.mark.filterwarnings("default")
def test_the_recipes_of_frameworks(package, recipe, monkeypatch):
    """Rejects a verifier that cannot take modules' dicts, or pytrees, as they are."""
    pytest.importorskip(package)
    monkeypatch.setattr(sys, "path", [str(ROOT / "tests" / "recipes"), *sys.path])
    module = importlib.import_module(recipe)
    assert verify(**module.PROGRAM).passed
    report = verify(**module.BROKEN)
    assert report.suspects[0].cause == "first-order"
    assert "step 3 of 3" in report.suspects[0].text


SQUARES = {
    "meta_loss": lambda t: float(np.sum(t**2)),
    "meta_gradient": lambda t: 2 * t,
    "theta": np.array([1.0, 2.0]),
}


@pytest.mark.parametrize("name", ["adapt", "inner_step"])
def test_a_result_that_is_forgotten_is_not_zeros(name):
    """Rejects a first-order error of 1, measured on an adaptation that returns None."""
    with pytest.raises(ValueError, match=f"{name}'s result is None: return all"):
        verify(**SQUARES, **{name: lambda t: None})


def test_no_program_passes_on_what_is_not_finite():
    """Rejects "exact" without a remark where the query loss or the step is nan."""
    nan = {"query_loss": lambda t: np.nan}, {"query_loss": SQUARES["meta_loss"]}
    steps = lambda t: 0.8 * t, lambda t: t * np.nan
    for more, step, name in zip(nan, steps, ("query_loss", "inner_step"), strict=True):
        adapt = lambda t: 0.8 * t  # noqa: E731
        report = verify(**SQUARES, **more, adapt=adapt, inner_step=step)
        assert not report.passed
        assert f"{name} is not finite" in str(report)


def test_no_directions_are_no_measurement():
    """Rejects "unmeasurable" for a program, where nothing was asked for."""
    with pytest.raises(ValueError, match="number is 0: pass the number of directions"):
        verify(**SQUARES, number=0)


# ----- A chain written by hand -----

CHAINS = {
    "a plus": ("the second-order term of each step is -1 times the exact one", {"sign": 1}),
    "alpha forgotten": ("of each step is 10 times the exact one", {"times": 10.0}),
    "alpha twice": ("of each step is 2 times the exact one", {"times": 2.0}),
    "forward": ("its chain has the steps in forward order", {"order": 1}),
    "last": ("its chain has every Hessian at the last theta", {"place": -1}),
    "first": ("its chain has every Hessian at theta_0", {"place": 0}),
}


@pytest.mark.parametrize("steps", [2, 3])
@pytest.mark.parametrize("name", CHAINS)
def test_a_wrong_chain_is_named(name, steps):
    """Rejects "no usual cause" for the bugs of nine lines that everybody writes."""
    text, wrong = CHAINS[name]
    rng = np.random.default_rng(0)
    a, b = rng.standard_normal((2, 5, 5))
    aim, theta = rng.standard_normal((2, 5))

    def slope(t):
        return a.T @ np.tanh(a @ t) + t**3

    def hessian(t):
        return a.T @ (a / np.cosh(a @ t)[:, None] ** 2) + np.diag(3 * t**2)

    def step(t):
        return t - 0.1 * slope(t)

    def path(t):
        found = [t]
        for _ in range(steps):
            found.append(step(found[-1]))
        return found

    def meta(t):
        return float(np.sum(np.log(np.cosh(b @ path(t)[-1] - aim))))

    def gradient(t, sign=-1, times=1.0, order=-1, place=None):
        *thetas, last = found = path(t)
        v = b.T @ np.tanh(b @ last - aim)
        for at in thetas[::order]:
            v = v + sign * times * 0.1 * hessian(at if place is None else found[place]) @ v
        return v

    assert verify(meta, gradient, 0.5 * theta, inner_step=step, steps=steps).passed
    report = verify(
        meta, lambda t: gradient(t, **wrong), 0.5 * theta, inner_step=step, steps=steps
    )
    assert report.suspects[0].cause == "second-order term"
    assert text in report.suspects[0].text
