"""Training from Python: the same bytes as the command line, and nothing besides."""

import runpy
import sys
import threading
from inspect import cleandoc
from itertools import islice
from textwrap import dedent
from types import ModuleType
from typing import ClassVar

import matplotlib.figure
import numpy as np
import pytest

from places import ROOT
from processes import here, tree
from tinymaml import losses, models, study
from tinymaml.errors import UsageError, WorldError
from tinymaml.experiments.common import FewShot, configuration
from tinymaml.fewshot import Episode, Problem, as_task, each
from tinymaml.harness import evaluation, runs
from tinymaml.maml import value_and_gradient
from tinymaml.report import tables


SMALL = {"hidden": (5,), "tasks": 3, "chunk": 2, "iterations": 4, "checkpoint_every": 2}
COMMAND = (
    *("train", "sine", "--hidden", "5", "--tasks", "3", "--chunk", "2"),
    *("--iterations", "4", "--checkpoint-every", "2", "--no-test"),
)


@pytest.fixture(autouse=True)
def folder(tmp_path, monkeypatch):
    """An empty folder, where everything runs."""
    monkeypatch.chdir(tmp_path)
    return tmp_path


# ----- Training -----


def test_it_trains_what_the_command_line_trains(folder, capfd):
    """Rejects another loop, prints, and files that nobody asked for."""
    run = study.train(study.options("sine", **SMALL))
    assert capfd.readouterr() == ("", "")
    assert tree(folder) == {}
    here(*COMMAND, "--out", "run")
    kept = study.open_run("run")
    assert run.theta.tobytes() == kept.theta.tobytes()
    assert [one["loss"] for one in run.records] == [one["loss"] for one in kept.records]
    assert (run.iteration, len(run.records)) == (4, 4)


def test_a_folder_gets_the_bytes_of_the_command_line(folder, capfd):
    """Rejects a run that only Python can resume, and one that begins anew."""
    config = study.options("sine", **SMALL)
    study.train(config.with_changes({"iterations": 2}), folder="python")
    seen = []
    study.train(config, seen.append, folder="python")
    assert capfd.readouterr() == ("", "")
    assert [record["iteration"] for record in seen] == [3, 4]
    here(*COMMAND, "--out", "run")
    for name in (runs.CHECKPOINT, runs.METRICS):
        assert (folder / "python" / name).read_bytes() == (
            folder / "run" / name
        ).read_bytes()
    assert here("train", "--resume", "python", "--iterations", "5", "--no-test").code == 0


def test_a_folder_with_another_run_is_refused(folder):
    """Rejects a run whose options change in the middle."""
    study.train(study.options("sine", **SMALL), folder="run")
    before = tree(folder)
    with pytest.raises(UsageError, match="the run was begun with 0"):
        study.train(study.options("sine", **SMALL, alpha=0.5), folder="run")
    assert tree(folder) == before


def test_records_go_where_the_documentation_sends_them(folder, monkeypatch):
    """Rejects a documented callback that fails: TensorBoard and W&B are stand-ins with
    the functions of the real ones."""
    told = []

    class SummaryWriter:
        def __init__(self, log_dir):
            told.append(log_dir)

        def add_scalar(self, tag, scalar_value, global_step):
            told.append((tag, scalar_value, global_step))

    class WandbRun:
        def log(self, data, step):
            told.append((data, step))

    wandb, board = ModuleType("wandb"), ModuleType("torch.utils.tensorboard")
    wandb.init = lambda project, config: told.append(config) or WandbRun()
    board.SummaryWriter = SummaryWriter
    for name in ("torch", "torch.utils"):
        monkeypatch.setitem(sys.modules, name, ModuleType(name))
    for module in (wandb, board):
        monkeypatch.setitem(sys.modules, module.__name__, module)
    config = study.options("sine", **SMALL)
    _, *blocks = cleandoc(study.train.__doc__).split("\n\n    ")
    assert [len(block.splitlines()) for block in blocks] == [3, 3, 3]
    for block in blocks:
        exec(dedent(f"    {block}"), {"train": study.train, "config": config})
    losses = [(x["iteration"], x["loss"]) for x in study.train(config).records]
    rows = [line.split(",") for line in (folder / "log.csv").read_text().splitlines()]
    assert [(int(k), float(x)) for k, x in rows] == losses
    assert told[:5] == ["board", *(("loss", x, k) for k, x in losses)]
    assert told[5] == config.values()
    assert [(k, x["loss"]) for x, k in told[6:]] == losses


def test_a_typed_script_runs(capsys):
    """Rejects a script of a user, which passes mypy --strict, that fails."""
    runpy.run_path(str(ROOT / "tests" / "recipes" / "script.py"), run_name="__main__")
    assert "gradient steps" in capsys.readouterr().out


@pytest.mark.parametrize("place", [None, "run"])
def test_it_runs_in_a_thread(place):
    """Rejects signal handlers, which only the main thread may install."""
    found = []
    work = lambda: found.append(study.train(study.options("sine", **SMALL), folder=place))  # noqa: E731
    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    assert found[0].iteration == 4


def test_an_interrupted_training_returns_the_state_so_far():
    """Rejects a notebook that loses an hour by the stop button."""

    def stop(record):
        if record["iteration"] == 3:
            raise KeyboardInterrupt

    try:
        run = study.train(study.options("sine", **SMALL), stop)
    except KeyboardInterrupt:
        pytest.fail("the training is lost")
    assert (run.iteration, len(run.records)) == (3, 3)
    whole = [one.theta for one in study.iterate(study.options("sine", **SMALL))]
    assert run.theta.tobytes() == whole[2].tobytes()


def test_records_can_be_iterated():
    """Rejects an iterator that trains to the end before it yields."""
    endless = study.options("sine", **SMALL | {"iterations": 10**8})
    numbers = [run.records[-1]["iteration"] for run in islice(study.iterate(endless), 3)]
    assert numbers == [1, 2, 3]


def test_divergence_is_an_error():
    """Rejects a theta of nan as a result, and advice about files that are not there."""
    with pytest.raises(WorldError, match=r"diverged at iteration 1.*take smaller steps"):
        study.train(study.options("sine", **SMALL, alpha=1e9, inner_steps=3))


# ----- A problem of a notebook -----


@configuration
class Line(FewShot):
    """Fit a line through the origin."""

    score: ClassVar[losses.Score] = losses.MSE
    alpha: float = 0.5


def setup(config):
    """Return the problem: slopes from 1 to 3."""
    block = models.Block(
        "line", {"slope": (1,)}, {}, lambda p, x: p["slope"][..., None, :] * x
    )
    model = models.Model((block,))

    def draw(split, rng):
        x = rng.uniform(-1, 1, (2, 4, 1)).astype(config.dtype)
        y = (rng.uniform(1, 3) * x).astype(config.dtype)
        return Episode(x[0], y[0], x[1], y[1])

    return Problem(
        model,
        config.method.step_sizes(model, config),
        config,
        each(draw),
        lambda e: as_task(e, model.apply, losses.mse),
        lambda theta, e: losses.squared_error(model.apply(theta, e.x_query), e.y_query),
    )


def test_a_problem_needs_no_file():
    """Rejects a loop that only files can enter."""
    line = study.experiment(Line, setup)
    run = study.train(study.options(line, iterations=200, beta=0.05))
    assert run.theta == pytest.approx(2.0, abs=0.2)
    scores = run.evaluate(tasks=100, steps=3)
    assert scores.mean[3] < 0.5 * scores.mean[0]


# ----- Using it -----


def test_scores_are_those_of_evaluate(folder):
    """Rejects other tasks, other steps, and an interval of something else."""
    run = study.train(study.options("sine", **SMALL), folder="run")
    scores = run.evaluate(tasks=7, steps=2)
    told = here("evaluate", "run", "--tasks", "7", "--steps", "2")
    for line in str(scores).splitlines():
        assert line in told.out
    assert scores.mean.shape == scores.half.shape == (3,)
    fewer = run.evaluate(tasks=7, steps=1, shots=2)
    assert fewer.result.config.shots == 2
    compared = study.train(study.options("sine", **SMALL, shots=5)).evaluate(2, 1)
    assert "published" in tables.as_text([compared.result], (0, 1))
    assert "published" not in str(compared)  # a net and a training unlike this one


def test_an_adapted_net_is_that_of_the_inner_loop(folder):
    """Rejects an adaptation with other steps, and outputs that are not the net's."""
    run = study.train(study.options("sine", **SMALL, dtype="float64"))
    rng = np.random.default_rng(0)
    x, y = rng.uniform(-5, 5, (2, 6, 1))
    adapted = run.adapt(x, y, steps=3)
    family = study.problem(run.config)
    theta = run.theta
    for _ in range(3):
        task = as_task(Episode(x, y, x, y), family.model.apply, losses.mse)
        theta = theta - run.config.alpha * value_and_gradient(task.support(theta), theta)[1]
    np.testing.assert_allclose(adapted.theta, theta, rtol=1e-12)
    np.testing.assert_allclose(adapted(x[:2]), family.model.apply(theta, x[:2]), rtol=1e-12)


def test_each_input_of_an_image_net_is_answered_for_itself():
    """Rejects answers that depend on the other inputs, through batch normalisation."""
    config = study.options("glyphs", filters=2, tasks=2, iterations=1, ways=3)
    run = study.train(config)
    episode = evaluation.held_out(config, "test", range(1))
    adapted = run.adapt(episode.x_support[0], episode.y_support[0], steps=2)
    all_of_them = adapted(episode.x_query[0])
    assert all_of_them.shape == (3, 3)
    np.testing.assert_allclose(all_of_them[:1], adapted(episode.x_query[0][:1]), rtol=1e-5)


@pytest.mark.parametrize(
    ("x", "y", "error"),
    [
        (np.zeros((3, 1)), np.zeros((2, 1)), ValueError),
        (np.zeros((0, 1)), np.zeros((0, 1)), ValueError),
        (np.zeros((3, 2)), np.zeros((3, 1)), ValueError),
        (np.zeros((3, 1)), np.zeros((3, 2)), ValueError),
        (np.full((3, 1), 1e30), np.zeros((3, 1)), ValueError),
    ],
)
def test_what_does_not_fit_is_refused(x, y, error):
    """Rejects a broadcast between examples, and a net that has diverged."""
    run = study.train(study.options("sine", **SMALL))
    with pytest.raises(error):
        run.adapt(x, y)
    with pytest.raises(ValueError, match="inputs are"):
        run.adapt(np.zeros((3, 1)), np.zeros((3, 1)))(np.zeros((3, 2)))


def test_pictures_go_into_given_axes():
    """Rejects a picture that needs a folder, and one without its data."""
    run = study.train(study.options("sine", **SMALL))
    left, right = matplotlib.figure.Figure().subplots(1, 2)
    run.plot(left, label="training")
    scores = run.evaluate(tasks=4, steps=2)
    scores.plot(right)
    assert left.lines[0].get_xdata().tolist() == [1, 2, 3, 4]
    assert left.lines[0].get_label() == "training"
    np.testing.assert_allclose(right.lines[0].get_ydata(), scores.mean)
