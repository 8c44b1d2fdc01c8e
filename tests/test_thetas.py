"""Thetas that are kept: the best on validation tasks, and what is given away."""

import json
import math
import os
import signal

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tinymaml.errors import Interrupted, UsageError, WorldError
from tinymaml.experiments.glyphs import Glyphs
from tinymaml.experiments.omniglot import Omniglot
from tinymaml.experiments.sine import Sine
from tinymaml.harness import loop as loop
from tinymaml.harness import runs, thetas
from tinymaml.harness.thetas import Kept
from tinymaml.speed.workers import Here


COUNT = 10  # parameters of a net with three hidden units
CONFIG = Sine(
    seed=1,
    iterations=20,
    tasks=3,
    hidden=(3,),
    beta=0.05,
    checkpoint_every=4,
    validate_every=2,
    validation_tasks=5,
)


def kept(iteration, validation=math.nan):
    return Kept(iteration, np.full(COUNT, iteration, "float32"), validation)


def train(path, config=CONFIG):
    path.mkdir(exist_ok=True)
    return loop.train(path, config, Here(), lambda *_: None)


# ----- Which is the better -----


@given(st.lists(st.floats(), min_size=1, max_size=9))
def test_the_best_is_the_first_of_the_best(scores):
    """Rejects the highest error, the lowest accuracy, the last of equals, and a nan that
    nothing is better than."""
    finite = [x for x in scores if math.isfinite(x)]
    for config, choose in ((Sine(), min), (Glyphs(), max)):
        best = None
        for iteration, score in enumerate(scores):
            best = thetas.better(config, best, kept(iteration, score))
        if finite:
            assert best.iteration == scores.index(choose(finite))
        else:
            assert best is None


# ----- The best of a run -----


def best_of(path, iteration=10**9):
    return thetas.load_best(path, CONFIG, iteration)


@pytest.fixture(scope="module")
def straight(tmp_path_factory):
    """A run of twenty iterations in one go."""
    path = tmp_path_factory.mktemp("straight")
    train(path)
    return path


def test_the_best_is_the_theta_that_was_best(straight, tmp_path):
    """Rejects the last theta, one from before the update, and the worst."""
    told = {
        record["iteration"]: record["validation"]
        for record in runs.read_metrics(straight)
        if "validation" in record
    }
    assert [*told] == [*range(2, 21, 2)]
    best = best_of(straight)
    assert told[best.iteration] == min(told.values()) == best.validation
    assert best.iteration < 20  # else this test could not tell it from the last
    train(tmp_path, CONFIG.with_changes({"iterations": best.iteration}))
    theta = runs.last_state(tmp_path, CONFIG).theta
    np.testing.assert_array_equal(best.theta, theta)


@pytest.mark.parametrize("stops", [(3,), (4, 5), (7, 13, 19), (10, 18)])
def test_going_on_finds_the_best_of_one_go(straight, tmp_path, stops):
    """Rejects a best that a resume forgets, or finds again and takes for another."""
    for stop in stops:
        train(tmp_path, CONFIG.with_changes({"iterations": stop}))
    train(tmp_path)
    for name in (runs.CHECKPOINT, runs.METRICS, thetas.BEST):
        assert (tmp_path / name).read_bytes() == (straight / name).read_bytes(), name


@pytest.mark.parametrize("times", [1, 2, 3])
@pytest.mark.parametrize("at", [8, 12, 16, 20])
def test_killed_between_the_best_and_its_checkpoint(
    straight, tmp_path, monkeypatch, at, times
):
    """Rejects a best from after the checkpoint that a run goes on from, and one that is
    lost when the process is killed there again and again."""
    save = runs.save

    def killed(path, config, state):
        if state.iteration == at:
            raise KeyboardInterrupt
        save(path, config, state)

    monkeypatch.setattr(runs, "save", killed)
    for _ in range(times):
        with pytest.raises(KeyboardInterrupt):
            train(tmp_path)
        state = runs.last_state(tmp_path, CONFIG)
        assert state.iteration == at - 4
        records = runs.read_metrics(straight)
        scores = {r["iteration"]: r["validation"] for r in records if "validation" in r}
        before = {k: v for k, v in scores.items() if k <= state.iteration}
        assert best_of(tmp_path, at - 4).validation == min(before.values())
        assert thetas.load(tmp_path, CONFIG).iteration == min(before, key=before.get)
    monkeypatch.setattr(runs, "save", save)
    train(tmp_path)
    assert (tmp_path / thetas.BEST).read_bytes() == (straight / thetas.BEST).read_bytes()


@pytest.mark.parametrize("at", [4, 8, 12, 16])
def test_killed_after_a_checkpoint(straight, tmp_path, monkeypatch, at):
    """Rejects a checkpoint that is written before the best that it counts."""
    save = runs.save

    def killed(path, config, state):
        save(path, config, state)
        if state.iteration == at:
            raise KeyboardInterrupt

    monkeypatch.setattr(runs, "save", killed)
    with pytest.raises(KeyboardInterrupt):
        train(tmp_path)
    monkeypatch.setattr(runs, "save", save)
    train(tmp_path)
    assert (tmp_path / thetas.BEST).read_bytes() == (straight / thetas.BEST).read_bytes()


def test_a_run_that_stops_before_its_best_has_another(straight, tmp_path):
    """Rejects a best that is of more iterations than were asked for."""
    train(tmp_path)
    best = best_of(tmp_path)
    assert best_of(tmp_path, best.iteration).iteration == best.iteration
    earlier = best_of(tmp_path, best.iteration - 1)
    assert earlier is None or earlier.iteration < best.iteration


def test_without_validation_nothing_is_chosen(tmp_path):
    """Rejects a file that says best of a theta that was compared with nothing."""
    config = CONFIG.with_changes({"validate_every": 0, "iterations": 2})
    train(tmp_path, config)
    assert not (tmp_path / thetas.BEST).exists()
    told = thetas.load(tmp_path, config)
    assert (told.iteration, told.chosen) == (2, False)


def test_the_last_can_be_asked_for(straight):
    """Rejects a best that cannot be passed by."""
    assert thetas.load(straight, CONFIG).chosen
    told = thetas.load(straight, CONFIG, last=True)
    assert (told.iteration, told.chosen) == (20, False)


def test_test_tasks_have_no_part_in_the_choice(tmp_path, monkeypatch):
    """Rejects a selection that looks at test tasks."""
    seen = []
    evaluate = loop.evaluate

    def noting(config, theta, split, *more):
        seen.append(split)
        return evaluate(config, theta, split, *more)

    monkeypatch.setattr(loop, "evaluate", noting)
    train(tmp_path)
    assert seen == ["val"] * 10


# ----- To give away -----


def test_what_is_exported_is_what_is_evaluated(straight, tmp_path):
    """Rejects Adam's moments in the file, another theta, and a score that is lost."""
    best = thetas.load(straight, CONFIG)
    thetas.export(tmp_path, CONFIG, best)
    assert {file.name for file in tmp_path.iterdir()} == {runs.CONFIG, thetas.THETA}
    assert (tmp_path / thetas.THETA).stat().st_size < 2000
    config = runs.read_config(tmp_path)
    told = thetas.load(tmp_path, config)
    assert config == CONFIG
    assert (told.iteration, told.validation) == (best.iteration, best.validation)
    np.testing.assert_array_equal(told.theta, best.theta)


def test_the_path_of_the_data_is_not_given_away(tmp_path):
    """Rejects a file of one's own machine in what others get."""
    thetas.export(tmp_path, Omniglot(data="/home/me/omniglot.npz"), kept(3))
    assert "/home/me" not in (tmp_path / runs.CONFIG).read_text()


BAD = {
    "missing": ({"validation": None}, "too many arrays: validation"),
    "vector": ({"validation": np.ones(2)}, "has validation"),
    "text": ({"validation": np.str_("x")}, "has validation x"),
    "moments": ({"m": np.ones(COUNT, "float32")}, "too many arrays: m"),
    "other-model": ({"theta": np.ones(3, "float32")}, r"theta is float32 \(3,\)"),
    "nan": ({"theta": np.full(COUNT, np.nan, "float32")}, "not finite"),
}


@pytest.mark.parametrize("case", BAD)
def test_what_is_not_ours_is_refused(tmp_path, case):
    """Rejects believing a file by its name."""
    changes, message = BAD[case]
    arrays = {"theta": kept(1).theta, "validation": np.float64(1)} | changes
    arrays = {name: array for name, array in arrays.items() if array is not None}
    data = {"format": np.int64(1), "experiment": "sine", "iteration": np.int64(1)}
    np.savez(tmp_path / thetas.BEST, **data, **arrays)
    with pytest.raises(WorldError, match=message) as told:
        best_of(tmp_path)
    assert thetas.BEST in str(told.value)


# ----- The package's own -----


def test_kept_names_are_folders_of_the_package():
    """Rejects a way out of the folder, and an unknown name that is not told."""
    assert thetas.locate("runs/x").parts == ("runs", "x")
    folder = thetas.locate("kept:omniglot-5w1s")
    assert json.loads((folder / runs.CONFIG).read_text())["experiment"] == "omniglot"
    for name in (
        "kept:",
        "kept:.",
        "kept:..",
        "kept:nothing",
        "kept:../kept/omniglot-5w1s",
    ):
        with pytest.raises(UsageError, match="there are: kept:omniglot-5w1s"):
            thetas.locate(name)


def test_what_is_kept_is_small_and_names_no_file_of_ours():
    """Rejects a checkpoint with moments, and a path of the machine it was made on."""
    for folder in thetas.FOLDER.iterdir():
        assert {file.name for file in folder.iterdir()} == {runs.CONFIG, thetas.THETA}
        assert (folder / thetas.THETA).stat().st_size < 2 * 2**20
        assert runs.read_config(folder).data == ""


def test_a_signal_keeps_the_best(tmp_path, straight, monkeypatch):
    """Rejects a stop that saves the checkpoint but not the best it counts."""

    def stop(iteration, _):
        if iteration == 11:
            os.kill(os.getpid(), signal.SIGINT)

    with pytest.raises(Interrupted):
        loop.train(tmp_path, CONFIG, Here(), stop)
    records = [r for r in runs.read_metrics(tmp_path) if "validation" in r]
    assert best_of(tmp_path).validation == min(r["validation"] for r in records)
    train(tmp_path)
    assert (tmp_path / thetas.BEST).read_bytes() == (straight / thetas.BEST).read_bytes()
