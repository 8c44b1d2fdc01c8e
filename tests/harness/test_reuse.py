"""The analysis of feature reuse: frozen layers, the head, divergence, the verdict."""

import json
from functools import cache

import numpy as np
import pytest
from numpy.testing import assert_allclose, assert_array_equal

from tinymaml.data import glyphs
from tinymaml.errors import UsageError
from tinymaml.experiments import problem
from tinymaml.experiments.glyphs import Glyphs
from tinymaml.experiments.sine import Sine
from tinymaml.harness import evaluation, loop, reuse
from tinymaml.harness.checkpoints import Kept
from tinymaml.harness.reuse import Reuse
from tinymaml.losses import accuracy
from tinymaml.report.reuse import as_json, as_text, sentence
from tinymaml.speed.workers import Here


SMALL = {"filters": 4, "dtype": "float64", "validation_tasks": 2, "test_queries": 3}
RATES = {"inner_steps": 2, "norm_scale": True}
CONFIGS = {
    "maml": Glyphs(**SMALL),
    "maml, sum": Glyphs(**SMALL, inner_loss="sum_over_shots"),
    "anil": Glyphs(**SMALL, algorithm="anil"),
    "boil": Glyphs(**SMALL, algorithm="boil"),
    "meta-sgd": Glyphs(**SMALL, algorithm="meta-sgd", inner_steps=2),
    "maml++": Glyphs(**SMALL, algorithm="maml++", **RATES),
    "cavia": Glyphs(**SMALL, algorithm="cavia"),
    "context": Glyphs(**SMALL, algorithm="context", context=1),
    "pooled": Glyphs(**SMALL, net="pooled"),
    "dense": Glyphs(**SMALL, net="dense"),
}
STEPS, TASKS = 2, range(3)
every = pytest.mark.parametrize("name", CONFIGS)


@pytest.fixture(autouse=True, scope="module")
def _drawn_once():
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("tinymaml.data.glyphs.draw_classes", cache(glyphs.draw_classes))
        yield


def started(config, seed=0):
    """Return where adaptation starts: everything meta-learned moved a little at random."""
    w = loop.initial_state(config).theta
    w = w + 0.03 * np.random.default_rng(seed).standard_normal(w.shape)
    return config.method.start(w, problem(config))


def figures(config, start=None, steps=STEPS, tasks=TASKS):
    return reuse.chunk(
        config, started(config) if start is None else start, "test", steps, tasks
    )


def adapted(config, family, start):
    episodes = evaluation.held_out(config, "test", TASKS)
    task, starts = family.task(episodes), np.tile(start, (len(TASKS), 1))
    return episodes, task, config.method.adapt(starts, task, family, STEPS)


# ----- Frozen layers and the head's step -----


@every
def test_frozen_layers_stay_to_the_last_bit(name):
    """Rejects a mask that a learned rate or batch norm of each step gets around, and one
    that freezes the layers above too."""
    config = CONFIGS[name]
    family, start = problem(config), started(config)
    model, places = family.model, reuse.layers(family.model)
    episodes, _, free = adapted(config, family, start)
    theta = free[0]
    for layer in [*places][:-1]:
        s = (np.arange(theta.shape[-1]) >= places[layer].stop).astype(float)
        view = reuse.scaled(family, theta, s)
        _, task, thetas = adapted(config, view, start)
        now = s * thetas[-1] + (1 - s) * theta
        assert_array_equal(now[:, s == 0], theta[:, s == 0])
        outputs = task.apply(thetas[-1], episodes.x_query)
        assert_array_equal(outputs, model.apply(now, episodes.x_query))
        moved = (free[-1] != theta).any(axis=0) & (s == 1)
        assert (now != theta)[:, moved].any() == moved.any()


@pytest.mark.parametrize("name", [n for n in CONFIGS if n != "maml++"])
def test_frozen_is_a_mask_on_step_sizes(name):
    """Rejects frozen layers by another adaptation than with step sizes 0. (In MAML++ the
    batch norm of each step would change frozen layers.)"""
    config = CONFIGS[name]
    family, start = problem(config), started(config)
    episodes, _, (theta, *_) = adapted(config, family, start)
    found = figures(config, start)
    for layer, place in [*reuse.layers(family.model).items()][:-1]:
        mask = np.arange(theta.shape[-1]) >= place.stop
        masked = family._replace(alpha=family.alpha * mask)
        _, _, thetas = adapted(config, masked, start)
        _, view, same = adapted(config, reuse.scaled(family, theta, mask), start)
        outputs = family.model.apply(thetas[-1], episodes.x_query)
        assert_allclose(view.apply(same[-1], episodes.x_query), outputs, rtol=1e-9)
        expected = accuracy(outputs, episodes.y_query)
        assert_array_equal(found["frozen", layer], expected)


@pytest.mark.parametrize("name", ["maml", "anil", "meta-sgd"])
def test_the_factor_multiplies_the_head_s_step(name):
    """Rejects a factor that learned rates ignore, the factor's square, and its root."""
    config = CONFIGS[name]
    family, start = problem(config), started(config)
    size, factor = sum(np.prod(s) for s in family.model.shapes.values()), 5
    place = reuse.layers(family.model)["head"]
    episodes, _, (theta, *_) = adapted(config, family, start)
    of_head = np.arange(size) >= place.start
    _, view, thetas = adapted(
        config, reuse.scaled(family, theta, np.sqrt(factor) * of_head), start
    )
    found = view.apply(thetas[-1], episodes.x_query)
    other, faster = family._replace(alpha=factor * family.alpha * of_head), start.copy()
    faster[size:][of_head[: len(start) - size]] *= factor  # learned rates
    _, _, thetas = adapted(config, other, faster)
    assert_allclose(found, family.model.apply(thetas[-1], episodes.x_query), rtol=1e-8)
    scores = figures(config, start)["head step", str(factor)]
    assert_array_equal(scores, accuracy(found, episodes.y_query))


@every
def test_steps_of_the_head_alone_move_the_head(name):
    """Rejects an axis of equal points where the algorithm leaves the head alone."""
    found = figures(CONFIGS[name])
    assert (found["head", "step size"] > 0).all()
    if name not in ("boil", "cavia", "context"):  # the head's step is their own
        body = [row for group, row in found if group == "frozen"]
        assert_array_equal(found["head step", "1"], found["frozen", body[-1]])


def test_layers_that_do_not_move_are_the_same():
    """Rejects a change or a similarity other than exactly 0 and 1 for ANIL's body."""
    found = figures(CONFIGS["anil"])
    for layer in ("conv0", "conv1", "conv2", "conv3"):
        assert_array_equal(found["change", layer], 0)
        assert_array_equal(found["CKA", layer], 1)
        cca = found["CCA", layer]
        assert_array_equal(cca[np.isfinite(cca)], 1)
    assert (found["change", "head"] > 0).all()
    assert (found["CKA", "head"] < 1).all()


# ----- Other figures -----


def test_nil_ignores_the_head():
    """Rejects an accuracy that takes the head's word."""
    config = CONFIGS["maml"]
    start, place = started(config), reuse.layers(problem(config).model)["head"]
    other = start.copy()
    other[place] = np.random.default_rng(1).standard_normal(place.stop - place.start)
    one, two = figures(config, start), figures(config, other)
    assert_array_equal(one["NIL", "before"], two["NIL", "before"])
    assert (one["accuracy", "before"] != two["accuracy", "before"]).any()
    assert (one["NIL", "after"] > 0).all()


@pytest.mark.parametrize("name", ["maml", "maml, sum", "meta-sgd"])
def test_the_reach_is_that_of_its_formula(name):
    """Rejects a gain that features share, another step size, and the steps forgotten."""
    config = CONFIGS[name]
    start, family = started(config), problem(config)
    place = reuse.layers(family.model)["head"]
    start[place] *= 1e-7  # equal probabilities
    if name == "meta-sgd":
        start[family.model.init(np.random.default_rng(0)).size :] = 0.3
    found = figures(config, start)
    episodes, ways = evaluation.held_out(config, "test", TASKS), config.ways
    theta = np.tile(start[: place.stop], (len(TASKS), 1))
    m, q = (reuse.features(family.model, theta, x) for x in (episodes[0], episodes[2]))
    dots = q @ np.swapaxes(m, -1, -2)  # at one shot, examples are class means
    gain = reuse.margins(dots, episodes.y_query).mean(axis=-1) / ways
    alpha = {"maml": config.alpha, "maml, sum": ways * config.alpha, "meta-sgd": 0.3}[name]
    assert_allclose(found["head", "step size"], alpha, rtol=1e-6)
    assert_allclose(found["head", "gain"], alpha * gain, rtol=1e-4, atol=1e-8)
    norm = (m**2).sum(axis=-1).mean(axis=-1) + 1
    assert_allclose(found["head", "feature norm^2"], norm, rtol=1e-12)
    assert_allclose(found["head", "self gain"], alpha * norm / ways, rtol=1e-6)
    assert_allclose(found["head", "share"], gain / norm * ways, rtol=1e-4, atol=1e-8)
    assert_allclose(found["head", "reach"], STEPS * found["head", "share"], rtol=1e-12)


def test_margins():
    """Rejects the best of the others, or a mean with the class itself."""
    outputs = np.array([[[3.0, 1.0, 5.0], [0.0, 2.0, 4.0]]])
    assert_allclose(reuse.margins(outputs, np.array([[0, 2]])), [[0.0, 3.0]])


def test_gradients_and_changes_are_those_of_each_layer():
    """Rejects places of another layer, and the gradient after adaptation."""
    config = CONFIGS["maml"]
    found = figures(config, steps=1)
    start = started(config)
    for layer, place in reuse.layers(problem(config).model).items():
        names = [f"w{layer[-1]}", f"beta{layer[-1]}"]
        moved = config.alpha * found["gradient", layer]
        size = np.linalg.norm(start[place])
        if layer == "head":
            assert_allclose(found["change", layer], moved / size, rtol=1e-10)
        else:  # offsets of batch norm stay
            shapes = problem(config).model.shapes
            assert sum(np.prod(shapes[n]) for n in names) == place.stop - place.start
            assert (found["change", layer] <= moved / size).all()
            assert (found["change", layer] > 0).all()


def test_tasks_do_not_see_each_other():
    """Rejects figures that depend on the tasks beside."""
    config = CONFIGS["maml"]
    together, last = figures(config), figures(config, tasks=range(2, 3))
    for key, values in together.items():
        assert_allclose(values[2:], last[key], rtol=1e-9, err_msg=str(key))


def test_queries_are_as_many_as_the_data_have():
    """Rejects 15 queries where a class has fewer drawings, and fewer where it has them."""
    assert reuse.asking(Glyphs(shots=8), "test", None).test_queries == 12
    assert reuse.asking(Glyphs(shots=5), "val", None).test_queries == 15
    assert reuse.asking(Glyphs(shots=8), "train", None).queries == 12
    assert reuse.asking(Glyphs(), "test", 4).test_queries == 4
    with pytest.raises(UsageError, match="8 shots and 13 queries"):
        reuse.asking(Glyphs(shots=8), "test", 13)


def test_the_control_is_the_run_before_its_training():
    """Rejects a control of another seed, other tasks, or the trained net itself."""
    config = CONFIGS["maml"]
    kept = Kept(7, started(config), float("nan"))
    how = "test", 3, STEPS, 3, Here()
    trained, untrained = reuse.analyse(config, kept, *how)
    assert (trained.iteration, untrained.iteration) == (7, 0)
    assert trained.tasks_sha256 == untrained.tasks_sha256
    first = figures(config, loop.initial_state(config).theta)
    for key, values in untrained.figures.items():
        assert_allclose(values, first[key], rtol=1e-9, err_msg=str(key))
    assert (
        trained.figures["change", "conv0"] != untrained.figures["change", "conv0"]
    ).any()
    with pytest.raises(UsageError, match="run of sine"):
        reuse.analyse(Sine(), kept, *how)


# ----- Divergence and the verdict -----


def test_a_diverged_task_is_no_number():
    """Rejects nan logits that count as an answer: one class is then always right."""
    config = Glyphs(**SMALL | {"dtype": "float32"})
    w = loop.initial_state(config).theta
    place = reuse.layers(problem(config).model)["head"]
    w[place] = 3e38 * (-1) ** np.arange(place.stop - place.start)  # logits overflow
    theta = Kept(1, w, float("nan"))
    pair = reuse.analyse(config, theta, "test", 3, STEPS, 3, Here())
    for key in (("accuracy", "after"), ("frozen", "conv0"), ("head step", "50")):
        assert np.isnan(pair[0].figures[key]).all()
    assert np.isnan(pair[0].figures["NIL", "after"]).all()
    assert np.isfinite(pair[0].figures["NIL", "before"]).all()
    assert reuse.verdict(*pair).reuse is None
    (found,) = json.loads(as_json({"run": pair}))
    cell = {"mean": None, "half_width_95": None, "not_finite": 3}
    assert found["figures"]["accuracy"]["after"] == cell
    assert found["verdict"] == dict.fromkeys(("reuse", "reused", "suffice", "changed"))
    text = as_text({"run": pair})
    assert "not finite in 3 of 3" in text
    assert "feature reuse: unknown; a figure is not finite" in text


def test_a_theta_that_is_not_finite_is_like_no_other():
    """Rejects a CKA of 1 for layers below a head that has diverged."""
    config = Glyphs(**SMALL)
    family, episodes = problem(config), evaluation.held_out(config, "test", range(2))
    theta = np.tile(loop.initial_state(config).theta, (2, 1))
    last = theta.copy()
    last[0, -1] = np.inf
    found = reuse.by_layer(family.model, family.task(episodes), theta, last)
    assert np.isnan(found["CKA", "conv0"]).tolist() == [True, False]


def made(**changes):
    """Return figures of two tasks like those of the kept theta, as a Reuse."""
    found = {
        "accuracy before": 0.2,
        "accuracy after": 0.97,
        "NIL before": 0.89,
        "frozen conv0": 0.97,
        "frozen conv1": 0.971,
        "frozen conv2": 0.969,
        "frozen conv3": 0.58,
        "CKA conv0": 1.0,
        "CKA conv1": 0.999,
        "CKA conv2": 0.996,
        "CKA conv3": 0.874,
        "head reach": 1.4,
    }
    names = ("conv0", "conv1", "conv2", "conv3", "head")
    rows = {tuple(k.split()): v + np.array([-0.001, 0.001]) for k, v in found.items()}
    rows |= {tuple(k.split("_")): np.array([v, v]) for k, v in changes.items()}
    return Reuse(CONFIGS["maml"], 1, "test", 10, "", names, rows)


UNTRAINED = made(NIL_before=0.42)
REUSED = {"frozen_conv3": 0.97, "CKA_conv3": 0.95}


@pytest.mark.parametrize(
    ("changes", "reuse_", "reused", "suffice", "changed"),
    [
        ({}, False, 3, True, ["conv3"]),
        (REUSED, True, 4, True, []),
        (REUSED | {"CKA_conv1": 0.8}, False, 4, True, ["conv1"]),
        (REUSED | {"NIL_before": 0.6}, False, 4, False, []),
        (REUSED | {"frozen_conv1": 0.9}, False, 1, True, []),
        (REUSED | {"accuracy_before": 0.97}, None, 4, True, []),
    ],
)
def test_the_verdict_follows_its_rule(changes, reuse_, reused, suffice, changed):
    """Rejects a yes on one sign alone, or without adaptation."""
    found = reuse.verdict(made(**changes), UNTRAINED)
    body = ("conv0", "conv1", "conv2", "conv3")
    assert found == (reuse_, body[:reused], suffice, tuple(changed))


@pytest.mark.parametrize("value", [np.nan, np.inf])
@pytest.mark.parametrize("figure", ["CKA_conv1", "frozen_conv1", "NIL_before"])
def test_no_part_of_a_verdict_rests_on_what_is_not_finite(figure, value):
    """Rejects a yes on such a figure, and features that then "do not suffice"."""
    found = made(**REUSED | {figure: value})
    assert reuse.verdict(found, UNTRAINED) == (None, None, None, None)
    assert sentence(found, UNTRAINED) == "feature reuse: unknown; a figure is not finite"


def test_the_verdict_in_words():
    """Rejects a sentence that contradicts its figures."""
    words = sentence(made(), UNTRAINED)
    assert words.startswith("feature reuse: no; conv0, conv1, conv2 reused, conv3 not;")
    assert "97.0 % -> 58.0 %" in words
    assert "features suffice, NIL before 89.0 %; changed: conv3" in words
    words = sentence(made(**REUSED), UNTRAINED)
    assert words.startswith("feature reuse: yes; conv0, conv1, conv2, conv3 reused;")
    assert "changed: none" in words
    poor = sentence(made(NIL_before=0.5), UNTRAINED)
    assert "features do not suffice, NIL before 50.0 %" in poor
