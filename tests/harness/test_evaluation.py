"""Evaluation: the fixed tasks and their hash, the scores after each step."""

import hashlib
from functools import partial

import numpy as np
import pytest
from autograd import grad

from tinymaml import losses, maml
from tinymaml.data import sine as curves
from tinymaml.experiments import problem
from tinymaml.experiments.glyphs import Glyphs
from tinymaml.experiments.images import Images, build
from tinymaml.experiments.pointnav import PointNav
from tinymaml.experiments.sine import Sine
from tinymaml.fewshot import apply_alone, drawn, stream
from tinymaml.harness import evaluation, loop
from tinymaml.harness.evaluation import evaluate, evaluate_alone, fingerprint
from tinymaml.harness.metrics import read_metrics
from tinymaml.rl.pointnav import PointNav as World
from tinymaml.speed.workers import Here
from trainings import state_of


CONFIG = Sine(hidden=(8,), shots=5, queries=3, alpha=0.05, dtype="float64")
# The same task alone and among others: only the order of sums in a product differs.
ROUNDING = 1e-12


@pytest.fixture(scope="module")
def theta():
    """Parameters off the zeros, whose gradients are not small."""
    rng = np.random.default_rng(0)
    return 0.5 * rng.standard_normal(loop.initial_state(CONFIG).theta.shape)


# ----- The tasks and their scores -----


def by_hand(theta, split, task, steps):
    """One task's scores, one at a time, loss and step in full."""
    family = problem(CONFIG)
    one = curves.sample(
        partial(stream, 0, split, 0), range(task, task + 1), 5, 3, "float64"
    )
    x, y, x_query, y_query = (array[0] for array in one)
    told = []
    for _ in range(steps + 1):
        residual = family.model.apply(theta, x_query) - y_query
        told.append(np.mean(residual**2))
        loss = grad(lambda at: losses.mse(family.model.apply(at, x), y))
        theta = theta - 0.05 * loss(theta)
    return told


@pytest.mark.parametrize("split", ["val", "test"])
def test_tasks_are_of_the_split_asked_for(theta, split, monkeypatch):
    """Rejects held-out tasks drawn from the training classes."""
    asked = []
    family = problem(CONFIG)

    def noting(split, streams, tasks):
        asked.append((split, tasks))
        return family.sample(split, streams, tasks)

    monkeypatch.setattr(evaluation, "problem", lambda _: family._replace(sample=noting))
    evaluate(CONFIG, theta, split, 3, 1, Here())
    assert asked == [(split, range(3))]


def test_scores_are_those_of_each_task_alone(theta):
    """Rejects scores on the support, steps on the query, a score one step late, tasks
    that adapt from each other's parameters, and another order of the tasks."""
    scores = evaluate(CONFIG, theta, "test", 23, 3, Here())
    assert scores.shape == (4, 23)
    expected = np.transpose([by_hand(theta, "test", task, 3) for task in range(23)])
    np.testing.assert_allclose(scores, expected, rtol=ROUNDING)


@pytest.mark.parametrize("steps", [0, 1])
def test_number_of_steps(theta, steps):
    """Rejects a path that is one step too long or short; after none, theta itself."""
    scores = evaluate(CONFIG, theta, "val", 3, steps, Here())
    assert scores.shape == (steps + 1, 3)
    expected = [by_hand(theta, "val", task, 0)[0] for task in range(3)]
    np.testing.assert_allclose(scores[0], expected, rtol=ROUNDING)
    assert steps == 0 or (scores[1] != scores[0]).all()


@pytest.mark.parametrize("chunk", [1, 7, 100])
def test_chunks_do_not_matter(theta, chunk, monkeypatch):
    """Rejects a last chunk that is dropped or filled up, and chunks out of order."""
    whole = evaluate(CONFIG, theta, "test", 23, 2, Here())
    monkeypatch.setattr(Sine, "test_chunk", chunk)
    chunked = evaluate(CONFIG, theta, "test", 23, 2, Here())
    np.testing.assert_allclose(chunked, whole, rtol=ROUNDING)


def test_tasks_are_the_same_for_every_run(theta):
    """Rejects tasks keyed by the run's seed or its iterations, or drawn in one stream:
    results of two runs would then be of different tasks."""
    first = evaluate(CONFIG, theta, "test", 20, 1, Here())
    changes = {"seed": 5, "iterations": 3, "tasks": 2, "test_tasks": 7, "beta": 1.0}
    other = evaluate(CONFIG.with_changes(changes), theta, "test", 20, 1, Here())
    np.testing.assert_array_equal(first, other)
    # And the first tasks of a longer list.
    longer = evaluate(CONFIG, theta, "test", 40, 1, Here())
    np.testing.assert_array_equal(first, longer[:, :20])
    assert len(np.unique(longer[0])) == 40


def test_splits_have_tasks_of_their_own(theta):
    """Rejects a validation on the test tasks."""
    told = [evaluate(CONFIG, theta, s, 20, 0, Here()) for s in ("train", "val", "test")]
    assert len(np.unique(told)) == 60


# ----- The hash -----


def test_hash_is_that_of_every_array_of_every_task():
    """Rejects a hash of some of the arrays, without shapes, or of the chunks they are in.

    The sha256 of the tasks' sha256s, each of dtype, shape and bytes of its four arrays.
    """
    told = []
    episodes = drawn(problem(CONFIG), 0, "test", 0, range(23))
    for arrays in zip(*episodes, strict=True):
        one = hashlib.sha256()
        for array in arrays:
            one.update(f"{array.dtype.str} {array.shape}\n".encode() + array.tobytes())
        told.append(one.digest())
    expected = hashlib.sha256(b"".join(told)).hexdigest()
    assert fingerprint(CONFIG, "test", 23, Here()) == expected


SAME = {"seed": 5, "hidden": (3,), "alpha": 1.0, "iterations": 3, "algorithm": "fomaml"}
OTHER = [{"shots": 6}, {"queries": 4}, {"dtype": "float32"}]


def test_hashes_agree_exactly_when_tasks_do(monkeypatch):
    """Rejects a hash of the options, and one that a net or a run's seed changes."""
    told = fingerprint(CONFIG, "test", 5, Here())
    assert fingerprint(CONFIG.with_changes(SAME), "test", 5, Here()) == told
    others = [fingerprint(CONFIG.with_changes(c), "test", 5, Here()) for c in OTHER]
    others += [
        fingerprint(CONFIG, "val", 5, Here()),
        fingerprint(CONFIG, "test", 6, Here()),
    ]
    monkeypatch.setattr(evaluation, "TASK_SEED", 1)
    others.append(fingerprint(CONFIG, "test", 5, Here()))
    assert len({told, *others}) == 1 + len(others)


@pytest.mark.parametrize(
    "other", [{"algorithm": "oracle"}, {"algorithm": "context", "context": 2}]
)
def test_hash_is_of_what_all_methods_see(other):
    """Rejects a hash with the amplitude and phase that the oracle alone is told, which
    could not show that it has the curves and points of MAML."""
    told = fingerprint(CONFIG, "test", 5, Here())
    assert fingerprint(CONFIG.with_changes(other), "test", 5, Here()) == told


def test_hash_does_not_depend_on_chunks(monkeypatch):
    """Rejects a hash that another number of tasks side by side would change."""
    told = fingerprint(CONFIG, "test", 23, Here())
    monkeypatch.setattr(Sine, "test_chunk", 7)
    assert fingerprint(CONFIG, "test", 23, Here()) == told


# ----- Each query example alone -----


@pytest.fixture(scope="module")
def images():
    """A family on 8 x 8 noise, a theta off the zeros, and its options."""
    sizes = {"ways": 3, "shots": 2, "queries": 2, "filters": 3, "validate_every": 0}
    config = Images(**sizes, alpha=0.5, dtype="float64")
    noise = np.random.default_rng(0).integers(0, 256, (5, 6, 8, 8), np.uint8)
    family = build(config, noise, {"test": np.arange(5)}, rotate=False)
    rng = np.random.default_rng(1)
    theta = family.model.init(rng)
    return config, family, theta + 0.3 * rng.standard_normal(theta.shape)


def test_alone_is_each_query_with_the_support_only(images, monkeypatch):
    """Rejects statistics of all queries, of none of the support, or of the query alone;
    scores at other steps than asked for, and in another order."""
    config, family, theta = images
    monkeypatch.setattr(evaluation, "problem", lambda _: family)
    told = evaluate_alone(config, theta, "test", 23, (0, 2), Here())
    assert told.shape == (2, 23)
    for task in range(23):
        episode = drawn(family, 0, "test", 0, range(task, task + 1))
        path = maml.path(theta[None], family.task(episode), family.alpha, 2)
        for row, theta_k in zip(told, (path[0], path[2]), strict=True):
            right = []
            for image, label in zip(episode.x_query[0], episode.y_query[0], strict=True):
                seen = np.concatenate([episode.x_support[0], image[None]])
                logits = family.model.apply(theta_k[0], seen)
                right.append(logits[-1].argmax() == label)
            assert row[task] == np.mean(right)
    together = evaluate(config, theta, "test", 23, 2, Here())
    assert (together[[0, 2]] != told).any()


def test_a_query_alone_does_not_see_the_others(images):
    """Rejects any way from one query example to another's answer."""
    _, family, theta = images
    episode = drawn(family, 0, "test", 0, range(2))
    theta = np.stack([theta, theta])
    before = apply_alone(family.model.apply, theta, episode)
    x = episode.x_query.copy()
    x[:, 3] = 1 - x[:, 3]
    after = apply_alone(family.model.apply, theta, episode._replace(x_query=x))
    unchanged = np.delete(before, 3, axis=1), np.delete(after, 3, axis=1)
    np.testing.assert_array_equal(*unchanged)
    assert (before[:, 3] != after[:, 3]).any()
    batched = family.model.apply(theta, episode.x_query)
    changed = family.model.apply(theta, x)
    assert (np.delete(batched, 3, axis=1) != np.delete(changed, 3, axis=1)).all()


def test_evaluation_does_not_change_the_training(tmp_path):
    """Rejects an evaluation that draws from the training's stream (law 25): the
    checkpoints with and without validation are equal to the bit."""
    told = []
    for every in (0, 2):
        config = CONFIG.with_changes(
            {"iterations": 6, "validate_every": every, "validation_tasks": 3}
        )
        folder = tmp_path / str(every)
        folder.mkdir()
        loop.train(folder, config, Here(), lambda *_: None)
        told.append(state_of(folder))
        validated = ["validation" in r for r in read_metrics(folder)]
        assert validated == ([False, True] * 3 if every else [False] * 6)
    assert told[0] == told[1]


def test_theta_is_not_changed(theta):
    """Rejects steps in place, after which the next evaluation starts elsewhere."""
    before = theta.copy()
    evaluate(CONFIG, theta, "test", 5, 3, Here())
    np.testing.assert_array_equal(theta, before)


def test_divergence_is_told_by_the_scores(theta):
    """Rejects a crash or a warning when steps diverge: warnings are errors here."""
    config = CONFIG.with_changes({"alpha": 1e6})
    scores = evaluate(config, theta, "test", 4, 10, Here())
    assert not np.isfinite(scores[-1]).all()


WORLDS = {
    "sine": CONFIG.with_changes({"activation": "tanh"}),
    "glyphs": Glyphs(filters=2, net="dense", activation="tanh"),
    "pointnav": PointNav(hidden=(3,), horizon=4, test_trajectories=2, activation="tanh"),
}


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("name", WORLDS)
def test_a_theta_that_is_not_finite_has_no_score(name, value):
    """Rejects the accuracy of one class, the return of a walk, an error from the outputs
    of a net whose units are saturated: tanh(inf) is 1."""
    config = WORLDS[name]
    w = loop.initial_state(config).theta
    w[0] = value
    scores = evaluate(config, w, "test", 3, 2, Here())
    assert np.isnan(scores).all()


def test_one_task_that_diverges_has_no_score(monkeypatch):
    """Rejects a score of a task whose theta is not finite, and others that lose theirs.

    Infinite weights of its first layer only saturate a net with tanh.
    """
    config = Sine(hidden=(3,), activation="tanh")
    path = maml.path

    def spoiled(*args):
        first, *others = path(*args)
        for theta in others:
            theta[1, :3] = np.inf
        return [first, *others]

    monkeypatch.setattr(maml, "path", spoiled)
    w = loop.initial_state(config).theta
    scores = evaluate(config, w, "test", 3, 2, Here())
    assert np.isnan(scores).tolist() == [[False] * 3, *[[False, True, False]] * 2]


def test_one_query_alone_that_diverges_leaves_its_task_no_score(monkeypatch):
    """Rejects the share of right answers among the finite ones."""
    config = Glyphs(filters=2)
    family = problem(config)

    def outputs(theta, episodes):
        logits = np.zeros((*episodes.y_query.shape, config.ways))
        logits[1, 0, 0] = np.nan
        return losses.accuracy(logits, episodes.y_query)

    monkeypatch.setattr(
        evaluation, "problem", lambda _: family._replace(score_alone=outputs)
    )
    w = loop.initial_state(config).theta
    scores = evaluate_alone(config, w, "test", 3, [0, 1], Here())
    assert np.isnan(scores).tolist() == [[False, True, False]] * 2


def test_a_policy_that_breaks_the_world_in_one_task(monkeypatch):
    """Rejects the return until then, and the whole evaluation that ends with an error."""
    config = WORLDS["pointnav"]
    step = World.step

    def breaking(self, positions, goals, actions, alive):
        positions, rewards, done = step(self, positions, goals, actions, alive)
        rewards[1, 0] = np.nan
        return positions, rewards, done

    monkeypatch.setattr(World, "step", breaking)
    w = loop.initial_state(config).theta
    scores = evaluate(config, w, "test", 3, 1, Here())
    assert np.isnan(scores).tolist() == [[False, True, False]] * 2
