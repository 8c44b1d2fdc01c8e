"""Locomotion as an experiment: its runs, its starts, what breaks, and what is missing."""

import json
import os
import random
import re
import signal
import subprocess
import sys
import time

import numpy as np
import pytest

import in_workers
from processes import digests, end, here, one_error, run, start, wait_for
from tinymaml.check import policy_gradients
from tinymaml.experiments import acting, problem
from tinymaml.experiments.locomotion import Locomotion
from tinymaml.harness import checkpoints, evaluation, loop, runs
from tinymaml.harness.metrics import read_metrics
from tinymaml.rl import locomotion, rollout
from tinymaml.speed.workers import Here, engine
from trainings import begin, results


mujoco = pytest.importorskip("mujoco")
pytest.importorskip("mujoco.batch")

SMALL = Locomotion(
    iterations=3,
    tasks=5,
    trajectories=3,
    horizon=8,
    frame_skip=3,
    hidden=(6,),
    chunk=2,
    checkpoint_every=2,
    test_tasks=3,
    test_trajectories=2,
    test_steps=2,
)
ANT = SMALL.with_changes({"task": "ant-vel"})
bodies = pytest.mark.parametrize("config", [SMALL, ANT], ids=["cheetah", "ant"])


@pytest.fixture(scope="module")
def pool():
    """Two workers, which have one BLAS thread as the program has."""
    with engine(2) as found:
        yield found


@pytest.fixture(scope="module")
def straight(tmp_path_factory, pool):
    """The folders of runs in one go, by their task, each by one worker alone."""
    folders = {}
    for config in (SMALL, ANT):
        folders[config.task] = tmp_path_factory.mktemp(config.task)
        pool.submit(begin, folders[config.task], config).result()
    return folders


# ----- Runs -----


@bodies
def test_going_on_gives_the_bytes_of_one_go(tmp_path, straight, pool, config):
    """Rejects simulations that depend on what the process simulated before."""
    for part in (config.with_changes({"iterations": 1}), config):
        pool.submit(begin, tmp_path, part).result()
    assert results(tmp_path) == results(straight[config.task])


@bodies
def test_workers_do_not_change_a_bit(tmp_path, straight, pool, config):
    """Rejects simulations that a worker kept, and a start that depends on the chunk."""
    begin(tmp_path, config, pool)
    assert results(tmp_path) == results(straight[config.task])
    theta = checkpoints.load(tmp_path, config, last=True).theta
    args = config, theta, "test", 3, 2
    scores = evaluation.evaluate(*args, pool)
    alone = pool.submit(evaluation.evaluate, *args, Here()).result()
    assert scores.tobytes() == alone.tobytes()


def test_kill_minus_nine_does_not_change_a_bit(tmp_path):
    """Rejects a state of the simulator that no checkpoint has."""
    few = "--iterations 20 --tasks 2 --trajectories 2 --horizon 30 --hidden 5"
    test = "--checkpoint-every 1 --test-tasks 2 --test-trajectories 2 --test-steps 1"
    arguments = "locomotion", *few.split(), *test.split()
    whole, path = tmp_path / "whole", tmp_path / "run"
    assert run("train", *arguments, "--out", whole, cwd=tmp_path).code == 0
    process = start("train", *arguments, "--out", path, cwd=tmp_path)
    wait_for((path / runs.CHECKPOINT).exists)
    time.sleep(random.Random(0).uniform(0, 0.05))
    process.kill()
    assert end(process).code == -signal.SIGKILL
    assert len(read_metrics(path)) < 20
    done = run("train", "--resume", path, cwd=tmp_path)
    assert done.code == 0, done
    assert "note:" not in done.err
    assert digests(path) == digests(whole)
    versions = json.loads((path / runs.CONFIG).read_text())["versions"]
    assert versions["mujoco"] == mujoco.__version__


@pytest.mark.parametrize(
    "changes",
    [
        *({"task": task} for task in locomotion.TASKS[1:]),
        *({"rules": "gymnasium"}, {"velocity": "root"}, {"frame_skip": 4}, {"seed": 1}),
    ],
)
def test_every_option_of_the_world_matters(tmp_path, straight, changes):
    """Rejects an option that never reaches the world."""
    begin(tmp_path, SMALL.with_changes(changes | {"iterations": 1}))
    folders = tmp_path, straight[SMALL.task]
    one, other = (read_metrics(folder)[0]["return_before"] for folder in folders)
    assert abs(one - other) > 1e-3


@pytest.mark.slow
@pytest.mark.parametrize("shuffled", [False, True])
def test_it_learns_to_adapt(tmp_path, pool, shuffled):
    """Rejects a gain from anything but the goal: with others after adapting there is none.

    One step gained 18 over the last ten iterations, 3.5 with goals of other tasks.
    """
    config = Locomotion(iterations=30, tasks=10, trajectories=10, horizon=100)
    pool.submit(in_workers.act_and_adapt, tmp_path, config, shuffled).result()
    last = read_metrics(tmp_path)[-10:]
    gain = np.mean([r["return_after"] - r["return_before"] for r in last])
    assert (gain > 10) == (not shuffled)


def test_the_oracle_sees_the_goal():
    """Rejects a baseline that sees no goal, and other algorithms that do."""
    widths = {"maml": 20, "pretrained": 20, "oracle": 21}
    for name, width in widths.items():
        config = SMALL.with_changes({"algorithm": name})
        family = problem(config)
        task = family.task(evaluation.held_out(config, "test", range(2)))
        task.support(np.tile(loop.initial_state(config).theta, (2, 1)))
        assert task.path[0].observations.shape[-1] == width


def test_the_trust_region_is_that_of_the_divergence():
    """Rejects a check of this experiment that acts in another one's world."""
    config = Locomotion(**policy_gradients.SMALL, inner_steps=1)
    assert policy_gradients.metric_error(problem(config)) < 1e-5
    done = here("check", "locomotion", "--help")
    assert "tinymaml check locomotion --seed 7" in done.out


# ----- Starts -----


def starts(config, calls):
    """Return what the tasks' policies met: the starts' noise, and that of the actions."""
    family = problem(config)
    draws = evaluation.held_out(config, "test", range(3))
    theta = np.tile(loop.initial_state(config).theta, (3, 1))
    task = family.task(draws)
    for _ in range(calls):
        task.support(theta)
    noises = [
        (x.actions - x.mean)[:, :, 0] / np.exp(x.log_std)[:, None, 0] for x in task.path
    ]
    return [x.observations[:, :, 0, :17] for x in task.path], noises


def test_no_start_is_used_twice():
    """Rejects one start for two tasks, gradient steps or trajectories, or all alike."""
    config = SMALL.with_changes({"dtype": "float64", "test_trajectories": 4})
    found, noises = starts(config, 3)
    flat = np.concatenate([x.ravel() for x in found])
    assert len(np.unique(flat)) == flat.size == 3 * 3 * 4 * 17
    again, _ = starts(config, 3)
    assert np.array_equal(again, found)
    scales = np.repeat([0.01, 0.1], [8, 9])
    start = np.concatenate([(x / scales).ravel() for x in found])
    action = np.concatenate([x.ravel() for x in noises])
    assert 0.8 < start.std() < 1.2
    assert 0.8 < action.std() < 1.2
    gaps = np.abs(start[:, None] - action)
    assert (gaps < 1e-9).sum() == 0  # with one stream for both, the first would be equal


def test_the_score_has_starts_of_its_own(monkeypatch):
    """Rejects a score from the starts that the policy adapted on."""
    config = SMALL.with_changes({"dtype": "float64", "test_trajectories": 4})
    family, met, act = problem(config), [], rollout.act
    monkeypatch.setattr(rollout, "act", lambda *args: met.append(act(*args)) or met[-1])
    draws = evaluation.held_out(config, "test", range(3))
    theta = np.tile(loop.initial_state(config).theta, (3, 1))
    task = family.task(draws)
    task.support(theta)
    family.score(theta, draws)
    one, other = (x.observations[:, :, 0] for x in met)
    assert not np.isclose(one[..., :17], other[..., :17], rtol=0, atol=1e-12).any()
    assert acting.STARTS > acting.SCORE


# ----- What breaks -----


def test_lost_trajectories_are_counted(tmp_path, monkeypatch, capfd, straight):
    """Rejects a count of one chunk or rollout, a nan, a log in the user's folder."""
    step, steps = locomotion.Locomotion.step, []

    def breaking(world, now, goals, actions, alive):
        if not steps or steps[-1] is not now.batch:
            steps.append(now.batch)
        elif len(steps) <= 6 and len(goals) == 2:  # the first iteration, its chunks of two
            now.qvel[1, 0] = 1e12
        return step(world, now, goals, actions, alive)

    monkeypatch.setattr(locomotion.Locomotion, "step", breaking)
    monkeypatch.chdir(tmp_path)
    begin(tmp_path / "run", SMALL)
    first, *others = read_metrics(tmp_path / "run")
    assert first["lost"] == 4  # two chunks of two tasks, each before and after adapting
    assert [*first] == [
        *("iteration", "loss", "return_before", "return_after", "improvement", "kl"),
        *("backtracks", "refused", "lost", "std", "second_order"),
    ]
    assert len(others) == 2
    for record in (*others, *read_metrics(straight[SMALL.task])):
        assert "lost" not in record
    assert np.isfinite([*first.values()]).all()
    assert os.listdir() == ["run"]
    assert capfd.readouterr() == ("", "")


# ----- What is missing, or another -----


@pytest.fixture
def without_mujoco(tmp_path, monkeypatch):
    """A world without MuJoCo, and without pictures, which would take long."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setitem(sys.modules, "matplotlib.figure", None)
    monkeypatch.setitem(sys.modules, "mujoco", None)
    monkeypatch.setitem(sys.modules, "mujoco.batch", None)
    locomotion.compiled.cache_clear()
    problem.cache_clear()


def test_without_mujoco_one_line_says_what_to_install(tmp_path, without_mujoco):
    """Rejects a traceback, and a folder of a run that cannot begin."""
    done = here("train", "locomotion")
    assert done.code == 1
    assert "pip install 'tinymaml[mujoco]'" in one_error(done)
    assert len(done.err.splitlines()) == 1
    assert done.out == ""
    assert not list(tmp_path.iterdir())
    begin_by_hand = tmp_path / "run"
    begin_by_hand.mkdir()
    runs.write_config(begin_by_hand, SMALL, {})
    for command in (("train", "--resume"), ("evaluate",)):
        done = here(*command, "run")
        assert done.code == 1, done
        one_error(done)


def test_an_old_mujoco_is_reported(monkeypatch):
    """Rejects advice that pip follows by doing nothing."""
    monkeypatch.setitem(sys.modules, "mujoco.batch", None)
    monkeypatch.delattr(mujoco, "batch", raising=False)
    locomotion.compiled.cache_clear()
    done = here("train", "locomotion", "--hidden", "3")
    assert done.code == 1
    assert "--force-reinstall --no-deps 'mujoco-core>=4'" in one_error(done)


def test_without_mujoco_all_else_works(tmp_path, without_mujoco):
    """Rejects an import of MuJoCo by whom it does not concern."""
    assert "locomotion" in here("list").out
    assert "--frame-skip" in here("list", "locomotion").out
    assert "--frame-skip" in here("train", "locomotion", "--help").out
    few = ("--iterations", 1, "--tasks", 2, "--trajectories", 2, "--horizon", 3)
    done = here("train", "pointnav", *few, "--test-tasks", 2, "--test-trajectories", 2)
    assert done.code == 0, done
    code = "import sys, tinymaml.cli.main; sys.exit('mujoco' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code]).returncode == 0


def test_another_mujoco_is_noted(tmp_path, monkeypatch):
    """Rejects a run that goes on with other bits and does not say so each time."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setitem(sys.modules, "matplotlib.figure", None)
    begin(tmp_path / "run", SMALL)
    runs.write_config(tmp_path / "run", SMALL, {"mujoco": "3.17.0", "numpy": "1.0"})
    notes = [
        re.findall("note: .*", here("train", "--resume", "run", "--no-test").err)
        for _ in range(2)
    ]
    was = f"the run was begun with mujoco 3.17.0, this is {mujoco.__version__}"
    assert notes == [[f"note: {was}: the simulations differ"]] * 2
    versions = json.loads((tmp_path / "run" / runs.CONFIG).read_text())["versions"]
    assert versions["mujoco"] == "3.17.0"
    for command in (("evaluate", "run", "--tasks", "2"), ("plot", "run")):
        assert f"note: {was}: the simulations differ" in here(*command).err, command
    assert here("export", "run", "given").code == 0
    assert f"note: {was}" in here("evaluate", "given", "--tasks", "2").err


def test_without_mujoco_a_theta_is_exported(tmp_path, straight, without_mujoco):
    """Rejects a simulator, and its version, asked for where nothing is simulated."""
    run = straight[SMALL.task]
    done = here("export", run, "given")
    assert (done.code, done.err) == (0, ""), done
    theta = checkpoints.load(tmp_path / "given", SMALL).theta
    assert theta.tobytes() == checkpoints.load(run, SMALL).theta.tobytes()
    assert "mujoco" in one_error(here("evaluate", "given"))


@pytest.mark.parametrize(
    "given",
    [
        ("--task", "cheetah"),
        ("--task", "humanoid-dir"),
        ("--rules", "rllib"),
        ("--velocity", "torso"),
        ("--frame-skip", "0"),
        ("--frame-skip", "101"),
    ],
)
def test_options_out_of_range_write_nothing(tmp_path, monkeypatch, given):
    """Rejects a run in a world that there is not."""
    monkeypatch.chdir(tmp_path)
    done = here("train", "locomotion", *given)
    assert done.code == 2
    assert given[1] in done.err
    assert not list(tmp_path.iterdir())
