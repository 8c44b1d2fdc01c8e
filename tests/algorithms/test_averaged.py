"""The baselines: what each is trained on, the regressors' objective, the same bytes."""

import json
from types import SimpleNamespace
from unittest.mock import patch

import numpy as np
import pytest
from autograd import grad
from hypothesis import given
from hypothesis import strategies as st

from tinymaml import losses, models, params
from tinymaml.algorithms import ALGORITHMS
from tinymaml.algorithms import averaged as module
from tinymaml.algorithms.averaged import fitted, training
from tinymaml.algorithms.baselines import support_gradient
from tinymaml.check.differences import directions, slopes_error
from tinymaml.errors import WorldError
from tinymaml.experiments import problem
from tinymaml.experiments.sine import Sine
from tinymaml.fewshot import Episode, as_task, drawn
from tinymaml.harness import checkpoints, evaluation, loop, step
from tinymaml.harness.metrics import read_metrics
from tinymaml.optim import Moments, State, adam
from tinymaml.options import options_of
from tinymaml.speed.workers import Here, engine
from trainings import results_of, train


AVERAGES = ("averaged", "averaged-l2", "averaged-mean")
UNPULLED = ("averaged", "averaged-l2")  # by each other
# Ten parameters; chunks of unequal size.
SMALL = {"hidden": (3,), "chunk": 2, "dtype": "float64"}
# Waves of 1, 1, 2 and 3; a pull that is not small beside the loss.
OWN = {"regressors": 7, "points": 6, "pull": 0.3, "wave": 2}


def of(algorithm: str, **changes) -> Sine:
    """Options of an average: small, smooth for the differences."""
    kind = ALGORITHMS[algorithm].options
    own = {name: value for name, value in OWN.items() if name in options_of(kind)}
    options = {"activation": "tanh", "replay": False}
    return Sine(**{"algorithm": algorithm, **SMALL, **own, **options, **changes})


def generic(config: Sine) -> np.ndarray:
    """Parameters off the zeros (R * P,)."""
    return np.random.default_rng(0).standard_normal(checkpoints.size(config))


def own_tasks(config: Sine) -> Episode:
    """The tasks of all regressors."""
    return step.fixed_tasks(config, range(config.regressors))


def own_gradients(config: Sine, theta: np.ndarray, iteration: int):
    """The loss that an iteration records, and the gradients (R * P,) that it takes."""
    found = np.zeros_like(theta)

    def noting(state, _, some, gradient, number):
        found.reshape(config.regressors, -1)[some] = gradient.reshape(-1, 10)
        return state._replace(iteration=state.iteration + 1)

    state = State(iteration, theta, Moments(0 * theta, 0 * theta))
    with patch.object(module, "step", noting):
        _, record = step.iterate(config, state, Here())
    return record["loss"], found


# ----- One theta for all tasks -----


def test_pretraining_is_on_support_points_without_a_step():
    """Rejects the query loss, an inner step, and the sum of support and query."""
    rng = np.random.default_rng(0)
    model = models.mlp([1, 4, 1])
    theta = rng.standard_normal((3, 13))
    episode = Episode(*rng.standard_normal((4, 3, 5, 1)))
    task = as_task(episode, model.apply, losses.mse)
    loss, gradient = support_gradient(theta, task, None)

    def support(at):
        return losses.mse(model.apply(at, episode.x_support), episode.y_support)

    assert loss == support(theta)
    np.testing.assert_array_equal(gradient, grad(support)(theta))


@pytest.mark.parametrize("algorithm", ["pretrained", "oracle"])
def test_the_update_is_the_average_of_the_support_gradients(algorithm):
    """Rejects an algorithm that the loop replaces by another, or a first-order one."""
    config = Sine(hidden=(3,), tasks=4, algorithm=algorithm, dtype="float64")
    state = loop.initial_state(config)
    loss, gradient = step.average_gradient(config, state, Here())
    family = problem(config)
    alone = zip(*drawn(family, 0, "train", 0, range(4)), strict=True)
    terms = [
        support_gradient(state.theta, family.task(Episode(*arrays)), family)
        for arrays in alone
    ]
    assert loss == pytest.approx(np.mean([one for one, _ in terms]), rel=1e-12)
    expected = np.mean([one for _, one in terms], axis=0)
    np.testing.assert_allclose(gradient, expected, rtol=1e-10, atol=1e-14)


# ----- One theta for each -----


def objective(config: Sine, theta: np.ndarray, wave: list[int]) -> float:
    """The objectives of the module's text, one regressor of a wave at a time."""
    model = models.mlp((1, 3, 1), models.ACTIVATIONS["tanh"])
    thetas = theta.reshape(config.regressors, params.count(model.shapes))
    total = 0.0
    points = config.with_changes({"shots": 6, "queries": 6})
    x_all, y_all, *_ = drawn(problem(points), 0, "train", 0, range(7))
    for i in wave:
        total += np.mean((model.apply(thetas[i], x_all[i]) - y_all[i]) ** 2)
        if config.algorithm == "averaged-l2":
            total += config.pull * np.sum(thetas[i] ** 2)
        if config.algorithm == "averaged-mean" and wave[0] > 0:
            mean = sum(thetas[: wave[0]]) / wave[0]
            total += config.pull * np.sum((thetas[i] - mean) ** 2)
    return total


WAVES = {0: [0], 2: [1], 4: [2, 3], 5: [2, 3], 6: [4, 5, 6], 99: [4, 5, 6]}
CASES = [
    *(
        (algorithm, iteration, [*range(7)])
        for algorithm in UNPULLED
        for iteration in (0, 9)
    ),
    *(("averaged-mean", *case) for case in WAVES.items()),
]


@pytest.mark.parametrize(("algorithm", "iteration", "wave"), CASES)
def test_own_gradients_are_those_of_the_objective(algorithm, iteration, wave):
    """Rejects half of the pull's gradient, a pull to another centre or of the average,
    tasks that change places, and a regressor left out or trained too soon: the loss
    itself, and its central differences."""
    config = of(algorithm)
    theta = generic(config)
    loss, gradient = own_gradients(config, theta, iteration)
    assert loss == pytest.approx(objective(config, theta, wave) / len(wave), rel=1e-12)
    trained = gradient.reshape(7, 10).any(axis=1)
    assert np.flatnonzero(trained).tolist() == wave
    rng = np.random.default_rng(1)
    # What a regressor is pulled to stays as it is: no slopes by those before it.
    ways = [way * trained.repeat(10) for way in directions(rng, theta.shape, 8)]
    error = slopes_error(lambda at: objective(config, at, wave), theta, ways, gradient)
    assert error < 1e-8


def test_waves_double_what_there_is():
    """Rejects a wave that is left out or comes twice, and 500 regressors in more than
    the ten waves that the default of 12,000 iterations has."""
    config = Sine(algorithm="averaged-mean")
    waves = [training(config, i)[0] for i in range(0, 12000, config.wave)]
    assert [len(wave) for wave in waves] == [1, 1, 2, 4, 8, 16, 32, 64, 128, 244]
    assert [i for wave in waves for i in wave] == [*range(500)]
    assert training(config, config.wave - 1) == (range(1), 0)
    assert training(config, 10**8) == (waves[-1], 9 * config.wave)


@given(st.integers(2, 70), st.integers(1, 9))
def test_every_regressor_trains_in_one_wave(regressors, length):
    """Rejects an empty wave at the end, as with a power of two, and one that is cut."""
    options = SimpleNamespace(regressors=regressors, wave=length)
    waves = [training(options, i) for i in range(0, 9 * length, length)]
    found = [*dict.fromkeys(waves)]
    assert [i for nets, _ in found for i in nets] == [*range(regressors)]
    assert all(len(nets) for nets, _ in found)
    assert [begun for _, begun in found] == [*range(0, len(found) * length, length)]


@pytest.mark.parametrize("algorithm", [*AVERAGES])
def test_a_wave_has_an_adam_of_its_own(algorithm):
    """Rejects moments that are corrected by the run's iterations, with which a later
    wave's first step is three times as long, and regressors that drift after their wave."""
    config = of(algorithm, beta=0.01)
    state = loop.initial_state(config)
    theta = state.theta.reshape(7, 10)
    moments, updates = np.zeros((2, 7, 10)), [0] * 7
    for iteration in range(10):
        _, gradient = own_gradients(config, state.theta, iteration)
        state, _ = step.iterate(config, state, Here())
        wave, _ = training(config, iteration)
        for i in wave:
            updates[i] += 1
            own = Moments(*moments[:, i])
            rows = theta[i], gradient.reshape(7, 10)[i], own, updates[i], 0.01
            theta[i], moments[:, i] = adam(*rows)
        np.testing.assert_array_equal(state.theta, theta.ravel())
    assert updates == ([2, 2, 2, 2, 4, 4, 4] if algorithm == "averaged-mean" else [10] * 7)


def test_free_regressors_do_not_touch_each_other():
    """Rejects one theta for all, and gradients that are summed or averaged."""
    config = of("averaged")
    theta = generic(config)
    _, before = own_gradients(config, theta, 0)
    moved = theta.reshape(7, -1).copy()
    moved[2] += 1
    _, after = own_gradients(config, moved.ravel(), 0)
    changed = (before != after).reshape(7, -1).any(axis=1)
    assert changed.tolist() == [False, False, True, False, False, False, False]


def test_a_regressor_has_many_points_of_one_curve():
    """Rejects a curve drawn anew, points of the shots only, and one curve for all."""
    config = of("averaged", points=100)
    tasks = own_tasks(config)
    assert tasks.x_support.shape == tasks.x_query.shape == (7, 100, 1)
    waves_of = []
    for x, y, x_query, y_query in zip(*tasks, strict=True):
        waves = np.concatenate([np.sin(x), np.cos(x)], axis=1)
        a_b, *_ = np.linalg.lstsq(waves, y, rcond=None)
        waves_of.append(a_b[:, 0])
        unseen = np.concatenate([np.sin(x_query), np.cos(x_query)], axis=1)
        np.testing.assert_allclose(unseen @ a_b, y_query, atol=1e-10)
    assert len(np.unique(np.round(waves_of, 6), axis=0)) == 7
    for split in ("train", "test"):  # as many points as shots, whatever the regressors had
        tasks = drawn(problem(config), 0, split, 0, range(1))
        assert tasks.x_support.shape == (1, 10, 1)


def test_fitted_counts_the_regressors_below_the_bound(monkeypatch):
    """Rejects the error on the points that they were trained on, the average's, and a
    count of the others. Zero parameters predict zero: the errors are mean squares."""
    config = of("averaged", regressors=40, points=3)
    theta = np.zeros(checkpoints.size(config))
    unseen = np.mean(own_tasks(config).y_query ** 2, axis=(1, 2))
    seen = np.mean(own_tasks(config).y_support ** 2, axis=(1, 2))
    monkeypatch.setattr(module, "FITTED", 2.0)
    assert (unseen < 2).sum() not in ((seen < 2).sum(), 0, 40, (unseen >= 2).sum())
    assert (
        fitted(theta, problem(config), step.own_tasks(config, Here())) == (unseen < 2).sum()
    )


def test_held_out_tasks_adapt_from_the_average():
    """Rejects the first regressor, and the average over parameters."""
    config = of("averaged-l2", alpha=0.05, tune=False)
    theta = generic(config)
    mean = np.mean(theta.reshape(7, 10), axis=0)
    found = evaluation.evaluate(config, theta, "test", 5, 3, Here())
    plain = config.with_changes({"algorithm": "maml"})
    np.testing.assert_array_equal(
        found, evaluation.evaluate(plain, mean, "test", 5, 3, Here())
    )


def test_regressors_start_apart():
    """Rejects one draw for all, of which the average would be too good."""
    config = of("averaged")
    thetas = loop.initial_state(config).theta.reshape(7, 10)
    assert len(np.unique(thetas[:, 0])) == 7
    # The first is what a single net would start from.
    alone = loop.initial_state(Sine(hidden=(3,), dtype="float64")).theta
    np.testing.assert_array_equal(thetas[0], alone)


def test_regressors_learn_their_own_curves(tmp_path, monkeypatch):
    """Rejects a training that learns the average curve, and a record that does not count
    them. Measured: errors of 0.01 to 0.27 on their own curves, 3 to 19 on another's."""
    monkeypatch.setattr(module, "FITTED", 0.1)
    options = {"regressors": 4, "points": 40, "hidden": (20, 20), "beta": 0.02}
    options |= {"iterations": 300, "checkpoint_every": 100, "seed": 5}
    config = Sine(algorithm="averaged", **options)
    state = train(tmp_path, config)
    records = read_metrics(tmp_path)
    assert records[-1]["loss"] < 0.1 * records[0]["loss"]
    counts = {r["iteration"]: r["fitted"] for r in records if "fitted" in r}
    assert [*counts] == [100, 200, 300]
    thetas, tasks = state.theta.reshape(4, -1), own_tasks(config)
    own = problem(config).score(thetas, tasks)
    assert counts[300] == (own < 0.1).sum() > 0
    # Each on the task of the next: nobody knows another's curve.
    other = problem(config).score(np.roll(thetas, 1, axis=0), tasks)
    assert own.mean() < 0.5
    assert other.mean() > 2


# ----- The same bytes, of each -----

KINDS = {
    **{name: {"algorithm": name} for name in ("pretrained", "oracle", *AVERAGES)},
    "context": {"algorithm": "context", "context": 2, "alpha": 0.5},
    "first-order context": {"algorithm": "context", "context": 2, "order": "first"},
}


def config_of(kind: str) -> Sine:
    own = {}
    if KINDS[kind]["algorithm"] in AVERAGES:
        names = options_of(ALGORITHMS[kind].options)
        own = {name: (OWN | {"wave": 3})[name] for name in names}
    else:
        own["tasks"] = 7
    shared = {**SMALL, "dtype": "float32", "iterations": 12, "checkpoint_every": 5}
    often = {"validate_every": 6, "validation_tasks": 3}
    return Sine(**shared, **often, **own, **KINDS[kind])


@pytest.mark.parametrize("kind", KINDS)
def test_stopping_and_replaying_change_no_byte(tmp_path, kind):
    """Rejects a baseline whose state is not all in the checkpoint, or whose record of
    NumPy calls decides by values."""
    config = config_of(kind)
    straight = results_of(tmp_path / "straight", config)
    for first in (0, 5, 8):
        results_of(tmp_path / f"{first}", config.with_changes({"iterations": first}))
        assert results_of(tmp_path / f"{first}", config) == straight
    eager = config.with_changes({"replay": False})
    assert results_of(tmp_path / "eager", eager) == straight
    records = [json.loads(line) for line in straight[1].splitlines()]
    assert [r["iteration"] for r in records if "validation" in r] == [6, 12]
    assert all(np.isfinite(r["loss"]) for r in records)


@pytest.mark.parametrize("workers", [2, 4])
def test_workers_change_no_byte(tmp_path, workers):
    """Rejects chunks cut by the number of workers, or that get another's parameters."""
    with engine(workers) as pool:
        for kind in ("oracle", "averaged-mean", "context"):
            alone = results_of(tmp_path / f"{kind}-alone", config_of(kind))
            assert results_of(tmp_path / kind, config_of(kind), pool) == alone


def test_a_state_of_one_net_starts_where_it_is():
    """Rejects an average that changes the last bits of a theta that is alone."""
    config = Sine(hidden=(3,))
    theta = np.random.default_rng(0).standard_normal(10).astype("float32")
    start = config.method.start(theta, problem(config))
    assert start.tobytes() == theta.tobytes()


@pytest.mark.parametrize("algorithm", AVERAGES)
def test_a_gradient_of_another_dtype_is_an_error(monkeypatch, algorithm):
    """Rejects a conversion to theta's dtype that nobody asked for."""
    config = of(algorithm, dtype="float32")
    wide = lambda _, chunk: (0.0, chunk[1].astype("float64"))  # noqa: E731
    monkeypatch.setattr(step, "chunk_gradients", wide)
    with pytest.raises(WorldError, match="gradient became float64 while theta is float32"):
        step.iterate(config, loop.initial_state(config), Here())
