"""A theta for some number of ways, used for another."""

import numpy as np
import pytest

from processes import here, one_error
from tinymaml import params, study
from tinymaml.errors import UsageError
from tinymaml.experiments import problem
from tinymaml.experiments.glyphs import Glyphs
from tinymaml.experiments.sine import Sine
from tinymaml.harness import results
from tinymaml.harness.loop import initial_state
from tinymaml.harness.ways import resized


SMALL = {"filters": 3, "ways": 3, "tasks": 2, "test_tasks": 6, "test_steps": 2}


def learned(config):
    """A w without equal numbers."""
    w = initial_state(config).theta
    return np.arange(1, len(w) + 1, dtype=w.dtype)


def arrays(config, w):
    """The arrays in w by name."""
    return params.unpack(w, config.method.shapes(problem(config)))


@pytest.mark.parametrize("algorithm", ["maml", "meta-sgd", "anil"])
@pytest.mark.parametrize("net", ["conv", "dense"])
def test_learned_outputs_are_kept_and_the_mean_is_added(algorithm, net):
    """Rejects a cut along an axis of filters, outputs in another order, and zeros."""
    config = Glyphs(**SMALL, algorithm=algorithm, net=net)
    w = learned(config)
    before = arrays(config, w)
    size = len(before.get("alpha", ())) or None
    wider, more, line = resized(config, w, 5)
    how = "outputs 4 to 5 begin as the mean of the first 3"
    assert line == f"5-way tasks, trained for 3 ways: {how}"
    found = arrays(wider, more)
    fewer, less, line = resized(config, w, 2)
    assert line == "2-way tasks, trained for 3 ways: the head has its first 2 outputs"
    changed = 0
    for name, array in before.items():
        kept = arrays(fewer, less)[name]
        if found[name].shape == array.shape:
            np.testing.assert_array_equal(found[name], array)
            np.testing.assert_array_equal(kept, array)
            continue
        if name == "alpha":  # a step size for each parameter: as theta itself
            whole = {k: x for k, x in before.items() if k != "alpha"}
            assert size == sum(x.size for x in whole.values())
            rates = params.unpack(array, problem(config).model.shapes)
            more_rates = params.unpack(found[name], problem(wider).model.shapes)
            for k, x in rates.items():
                cut = tuple(slice(n) for n in x.shape)
                np.testing.assert_array_equal(more_rates[k][cut], x)
            continue
        changed += 1
        np.testing.assert_array_equal(found[name][..., :3], array)
        mean = np.broadcast_to(array.mean(-1, keepdims=True), found[name][..., 3:].shape)
        np.testing.assert_allclose(found[name][..., 3:], mean, rtol=1e-6)
        np.testing.assert_array_equal(kept, array[..., :2])
    assert changed >= 2
    assert more.dtype == w.dtype


def test_the_same_number_changes_nothing():
    """Rejects a remark about nothing, and a copy with other bits."""
    config = Glyphs(**SMALL)
    w = learned(config)
    same, found, line = resized(config, w, 3)
    assert (same, line) == (config, "")
    assert found is w


def test_what_has_no_ways_is_refused():
    """Rejects a regression with classes, and an array that is for one number of ways."""
    with pytest.raises(UsageError, match="a run of sine has no classes"):
        resized(Sine(), learned(Sine()), 3)
    config = Glyphs(**SMALL, algorithm="t-net")
    with pytest.raises(UsageError, match="for 3 ways only"):
        resized(config, learned(config), 4)


def test_evaluate_takes_other_ways_and_keeps_its_result_to_itself(tmp_path, monkeypatch):
    """Rejects an evaluation with other ways that becomes the run's own."""
    monkeypatch.chdir(tmp_path)
    run = study.train(Glyphs(**SMALL, iterations=1), folder="run")
    told = here("evaluate", "run", "--ways", "4", "--tasks", "6", "--alone", "none")
    assert told.code == 0, told
    line = "4-way tasks, trained for 3 ways: output 4 begins as the mean of the first 3"
    assert line in told.out.splitlines()
    assert not (tmp_path / "run" / "evaluation.json").exists()
    scores = run.evaluate(ways=4)
    assert not results.is_final(scores.result)
    assert scores.result.config.ways == 4
    told = here("evaluate", "run", "--ways", "10000", "--tasks", "6")
    assert told.code == 2
    assert "10000 ways asked for" in one_error(told)


def test_a_task_of_one_s_own_has_its_own_number_of_classes():
    """Rejects labels beyond the outputs, and outputs without a class."""
    run = study.train(Glyphs(**SMALL, iterations=1))
    x = np.random.default_rng(0).uniform(size=(4, 28, 28, 1))
    assert run.adapt(x, [0, 1, 2, 3])(x[:2]).shape == (2, 4)
    assert run.adapt(x, [0, 1, 0, 1])(x[:2]).shape == (2, 2)
