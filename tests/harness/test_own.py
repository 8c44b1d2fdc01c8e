"""The trial of a user's own algorithm: what is refused, what falls back, in one line."""

import pytest

from places import ROOT
from processes import here, one_error, tree
from tinymaml import algorithms, loading
from tinymaml.errors import WorldError
from tinymaml.experiments import problem
from tinymaml.experiments.glyphs import Glyphs
from tinymaml.experiments.sine import Sine
from tinymaml.harness import loop, own, runs, step
from tinymaml.speed.workers import Here, engine
from trainings import state_of


HEAD = """
import math
import random
import autograd.numpy as np
import numpy
from autograd.tracer import getval
from tinymaml import maml
from tinymaml.algorithms.algorithm import Algorithm

stream = numpy.random.default_rng(0)

def gradient(w, task, problem):
    loss, g = maml.meta_gradient(w, task, problem.alpha, problem.options.inner_steps)
    {}
    return loss, g

OWN = Algorithm("own", "own", gradient)
"""
SMALL = {"hidden": (3,), "tasks": 3, "chunk": 2, "iterations": 3, "checkpoint_every": 1}
COMMAND = (
    *("train", "sine", "--algorithm", "own.py:OWN", "--hidden", "3", "--tasks", "3"),
    *("--chunk", "2", "--iterations", "3", "--no-test", "--out", "run"),
)
# What a recording cannot hold, although it is a function of the inputs alone.
UNRECORDED = {
    "a branch": "g = g if np.sum(g) > 1e9 else 2 * g",
    "a branch per task": "g = np.stack([x if x[0] > 0 else 2 * x for x in g])",
    "a sort": "g = g + 0 * numpy.sort(g)",
    "a float": "g = g * (1.0 if float(np.sum(g)) < 1e9 else 0.0)",
    "math": "g = g + 0 * math.sqrt(np.sum(g**2))",
    "plain NumPy": "g = numpy.array(g)",
    "in place": "g[:, 0] = 0",
    "a hidden value": "g = g * (1 + numpy.abs(getval(g)))",
}
# The last three change no gradient in the trial.
RANDOM = {
    "noise": "g = g + stream.standard_normal(g.shape).astype(g.dtype)",
    "global noise": "g = g + numpy.random.standard_normal(g.shape).astype(g.dtype)",
    "unseeded noise": "g = g * numpy.random.default_rng().uniform()",
    "a rare event": "g = g if stream.random() > 1e-9 else 0 * g",
    "a rare global event": "g = g if numpy.random.random() > 1e-9 else 0 * g",
    "Python's own": "g = g if random.random() > 1e-9 else 0 * g",
}
MIXED = {
    "mean": "g = g / len(w)",
    "joint norm": "g = g / np.sqrt(np.sum(g**2))",
    "sum": "g = g + 0.01 * np.sum(g, axis=0)",
    "neighbour": "g = np.concatenate([g[1:], g[:1]])",
    "nan alone": "g = g * (np.nan if len(w) == 1 else 1.0)",
}
FAILING = {
    "division": ("1 / 0", "line 14: ZeroDivisionError: division by zero"),
    "two lines": ("raise KeyError('a\\nb')", "line 14: KeyError"),
    "nothing": ("return None", "TypeError: cannot unpack non-iterable NoneType"),
    "shape": ("g = g[0]", "has shape (10,), not (2, 10)"),
}


# Kept by the name of an algorithm, which stays when its file changes.
CACHED = loading._loaded, algorithms._loaded, problem, step.gradient_of, step.training


@pytest.fixture
def write(tmp_path, monkeypatch):
    """Return a function that writes own.py with a line, where commands run."""
    monkeypatch.chdir(tmp_path)

    def write(line, more=""):
        text = HEAD.format(line).replace("gradient)\n", f"gradient, {more})\n")
        (tmp_path / "own.py").write_text(text, encoding="utf-8")
        for cached in CACHED:
            cached.cache_clear()

    write("pass")
    return write


def config_of(**changes):
    """A configuration with the algorithm of own.py."""
    return Sine(algorithm="own.py:OWN", **SMALL | changes)


# ----- The fallback -----


@pytest.mark.parametrize("name", UNRECORDED)
def test_what_cannot_be_recorded_trains_without_a_replay(write, tmp_path, name):
    """Rejects a traceback, a refusal, more than one note, and other results than those of
    --no-replay."""
    write(UNRECORDED[name])
    trained = here(*COMMAND)
    assert trained.code == 0, trained
    notes = [line for line in trained.err.splitlines() if line.startswith("note: ")]
    assert len(notes) == 1
    assert notes[0].startswith("note: own.py:OWN cannot be replayed: ")
    plain = here(*COMMAND[:-1], "plain", "--no-replay")
    assert (plain.code, "note:" in plain.err) == (0, False)
    assert state_of(tmp_path / "run") == state_of(tmp_path / "plain")
    resumed = here("train", "--resume", "run", "--iterations", "4", "--no-test")
    assert (resumed.code, "note:" in resumed.err) == (0, False)


def test_workers_fall_back_too(write, tmp_path):
    """Rejects a fallback of one process: a worker would stop the run."""
    write(UNRECORDED["a branch"])
    config = config_of()
    assert "branch" in own.replay_fault(config)
    with engine(2) as pool:
        loop.train(tmp_path, config.with_changes({"replay": False}), pool, lambda *_: None)
    trained = here(*COMMAND, "--workers", "2")
    assert trained.code == 0, trained
    assert trained.err.count("note: ") == 1
    assert state_of(tmp_path / "run") == state_of(tmp_path)


def test_what_can_be_replayed_is(write, tmp_path):
    """Rejects a fallback for everybody, which would be slow, and a trial that changes a
    result."""
    assert own.replay_fault(config_of()) == ""
    trained = here(*COMMAND)
    assert (trained.code, "note:" in trained.err) == (0, False)
    assert runs.read_config(tmp_path / "run").replay is True
    loop.train(tmp_path, Sine(**SMALL), Here(), lambda *_: None)
    assert state_of(tmp_path / "run") == state_of(tmp_path)


# ----- What is refused -----


@pytest.mark.parametrize("name", RANDOM)
def test_random_numbers_need_no_replay(write, tmp_path, name):
    """Rejects one draw that is replayed for ever, in silence or after a traceback; a rare
    one too, which a comparison of two calls does not see."""
    write(RANDOM[name])
    before = tree(tmp_path)
    refused = here(*COMMAND)
    assert refused.code == 1
    assert "draws random numbers" in one_error(refused)
    assert "--no-replay" in one_error(refused)
    assert tree(tmp_path) == before
    allowed = here(*COMMAND, "--no-replay")
    assert allowed.code == 0, allowed


@pytest.mark.parametrize("name", MIXED)
@pytest.mark.parametrize("more", [(), ("--no-replay",)])
def test_tasks_that_mix_are_refused(write, tmp_path, name, more):
    """Rejects a run whose steps are too small by the number of tasks, or that depends on
    which tasks share a chunk; nothing is written."""
    write(MIXED[name])
    before = tree(tmp_path)
    refused = here(*COMMAND, *more)
    assert refused.code == 1
    assert "the gradient of own.py:OWN mixes tasks: " in one_error(refused)
    assert tree(tmp_path) == before


@pytest.mark.parametrize("name", FAILING)
def test_an_error_in_the_gradient_is_one_line(write, tmp_path, name):
    """Rejects a traceback, a line that is not in the user's file, and a run folder."""
    line, message = FAILING[name]
    write(line)
    before = tree(tmp_path)
    refused = here(*COMMAND)
    assert refused.code == 1
    assert message in one_error(refused)
    assert one_error(refused).startswith("Error: the gradient of own.py:OWN ")
    assert len(refused.err.splitlines()) == 1
    assert tree(tmp_path) == before


def test_an_error_in_adaptation_is_one_line(write):
    """Rejects a traceback of what fails after the training; --debug shows it."""
    write("pass", "adapt=lambda *args: [1 / 0]")
    failed = here(*[x for x in COMMAND if x != "--no-test"], "--test-tasks", "2")
    assert failed.code == 1
    assert "ZeroDivisionError: division by zero" in one_error(failed)
    debugged = here("--debug", "evaluate", "run")
    assert "own.py" in debugged.err
    assert "Traceback" in debugged.err


def test_a_diverging_start_is_not_mixing(write):
    """Rejects the wrong reason for a gradient that is not finite."""
    write("g = g * np.inf")
    assert own.replay_fault(config_of(alpha=1e9, inner_steps=3)) == ""


# ----- What is not tried -----


def test_algorithms_of_the_package_are_not_tried(monkeypatch):
    """Rejects a trial that costs every run time, for what the tests prove."""
    monkeypatch.setattr(own, "mixing", lambda *_: pytest.fail("tried"))
    assert own.replay_fault(Sine(**SMALL)) == ""


def test_the_recipe_and_images_pass():
    """Rejects a false alarm in float32, and on a net with batch normalisation."""
    name = f"{ROOT / 'tinymaml' / 'examples' / 'own_algorithm.py'}:MOMENTUM"
    for config in (
        Sine(algorithm=name, inner_steps=2),
        Glyphs(algorithm=name, filters=2, inner_steps=2),
    ):
        assert own.replay_fault(config) == ""


def test_arrays_of_a_phase_are_no_tasks(write):
    """Rejects a trial that cuts the phase's arrays into tasks."""
    phase = "phase=lambda o, i: (None, (numpy.ones(5, o.dtype), numpy.ones((), o.dtype)))"
    write("g = g * problem.arrays[1] * np.sum(problem.arrays[0]) / 5", phase)
    assert own.replay_fault(config_of()) == ""


def test_a_run_in_python_still_raises(write, tmp_path):
    """Rejects a loop that trains without a replay unasked."""
    write(UNRECORDED["a branch"])
    with pytest.raises(WorldError, match=r"cannot replay: .*--no-replay"):
        loop.train(tmp_path, config_of(), Here(), lambda *_: None)
