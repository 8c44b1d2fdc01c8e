"""Which runs a training consists of, before anything is written."""

from pathlib import Path

import numpy as np
import pytest

from processes import here, one_error, tree
from tinymaml.errors import UsageError, WorldError
from tinymaml.experiments import glyphs, problem
from tinymaml.experiments.glyphs import Glyphs
from tinymaml.experiments.sine import Sine
from tinymaml.harness import checkpoints, plan, runs
from trainings import SMALL, begin


def test_seeds_have_folders_of_their_own(tmp_path):
    """Rejects several runs of one seed, and seeds that do not begin with the one given."""
    config = SMALL.with_changes({"seed": 5})
    folder = tmp_path / "run"
    planned = plan.new_runs(config, str(folder), 3)
    assert planned.folder == folder
    assert planned.runs == [
        (folder / f"seed-{seed}", config.with_changes({"seed": seed})) for seed in (5, 6, 7)
    ]
    assert plan.new_runs(config, str(folder), 1).runs == [(folder, config)]
    assert not folder.exists()


def test_seeds_that_are_there_are_resumed(tmp_path):
    """Rejects a seed that is trained on with other options, and a run of one seed among
    those of several."""
    begin(tmp_path / "seed-0", SMALL.with_changes({"iterations": 1}))
    assert len(plan.new_runs(SMALL, str(tmp_path), 2).runs) == 2
    other = SMALL.with_changes({"alpha": 0.5})
    with pytest.raises(UsageError, match=r"--alpha 0\.5: the run was begun with 0\.01"):
        plan.new_runs(other, str(tmp_path), 2)
    with pytest.raises(WorldError, match="holds runs of several seeds"):
        plan.new_runs(SMALL, str(tmp_path), 1)


def test_a_run_is_resumed_with_its_own_options(tmp_path):
    """Rejects defaults in the place of what the run was begun with, and a change of what
    the next iteration depends on."""
    begin(tmp_path, SMALL.with_changes({"iterations": 1, "beta": 0.25}))
    before = tree(tmp_path)
    [(path, config)] = plan.resumed_runs(tmp_path, {"iterations": 7}).runs
    assert (path, config.iterations, config.beta) == (tmp_path, 7, 0.25)
    for changes in ({"beta": 0.5}, {"hidden": (4,)}, {"algorithm": "fomaml"}):
        with pytest.raises(UsageError, match="the run was begun with"):
            plan.resumed_runs(tmp_path, changes)
    assert tree(tmp_path) == before


@pytest.mark.parametrize("schedule", ["linear", "cosine"])
def test_a_schedule_keeps_its_length(tmp_path, monkeypatch, schedule):
    """Rejects a resume that stretches a schedule: its first iterations would have had
    other rates. One line, exit 2, nothing written."""
    begin(tmp_path / "run", SMALL.with_changes({"iterations": 2, "schedule": schedule}))
    monkeypatch.chdir(tmp_path)
    before = tree(tmp_path)
    refused = here("train", "--resume", "run", "--iterations", "7")
    assert refused.code == 2
    line = f"--iterations 7: --schedule {schedule} was begun for 2 iterations"
    assert line in one_error(refused)
    assert tree(tmp_path) == before
    for other in ({"schedule": "constant"}, {"beta_end": 0.1}):
        with pytest.raises(UsageError, match="the run was begun with"):
            plan.resumed_runs(tmp_path / "run", other)
    assert plan.resumed_runs(tmp_path / "run", {"iterations": 2}).runs


def test_a_theta_alone_cannot_be_resumed(tmp_path):
    """Rejects training from what `export` wrote, which has no moments."""
    kept = checkpoints.Kept(3, begin(tmp_path / "run").theta, 0.0)
    (tmp_path / "given").mkdir()
    checkpoints.export(tmp_path / "given", SMALL, kept)
    with pytest.raises(WorldError, match="holds a theta only"):
        plan.resumed_runs(tmp_path / "given", {})


def test_a_resumed_run_must_fit_its_data(tmp_path, monkeypatch):
    """Rejects a resume that fails after its configuration was written."""
    begin(tmp_path, SMALL.with_changes({"iterations": 1}))

    def small(_):
        raise UsageError("the split has 5 classes")

    monkeypatch.setattr(plan, "training", small)
    with pytest.raises(UsageError, match="has 5 classes"):
        plan.resumed_runs(tmp_path, {})


def test_huge_models_are_refused(tmp_path):
    """Rejects options that would fill the memory, new or at a resume."""
    with pytest.raises(UsageError, match="more than 10000000"):
        plan.new_runs(Sine(hidden=(4000, 4000)), str(tmp_path / "run"), 1)
    plan.check_size(Glyphs())
    averaged = Sine(algorithm="averaged", regressors=10000, hidden=(40, 40))
    with pytest.raises(UsageError, match="17610000 parameters"):
        plan.check_size(averaged)
    assert runs.members(tmp_path) == [tmp_path]


# ----- Under the locks -----


def test_what_began_meanwhile_is_not_written_over(tmp_path):
    """Rejects a check that is made before the lock only: the second of two trainings into
    one folder then goes on from the checkpoint of the first, with other options."""
    folder = tmp_path / "run"
    plans = []

    def make(out):
        plans.append(out)
        if len(plans) == 2:  # the first process has begun and ended since
            begin(folder, SMALL.with_changes({"iterations": 1}))
        return plan.new_runs(SMALL.with_changes({"seed": 2}), out, 1)

    held = "already holds a run; resume it with --resume"
    with pytest.raises(WorldError, match=held), plan.held(make, str(folder)):
        pytest.fail("it trains")
    assert runs.read_config(folder).seed == 0
    assert plans == [str(folder)] * 2


def test_a_number_is_taken_by_one_only(tmp_path, monkeypatch):
    """Rejects two trainings in runs/sine-1, both of which found it free."""
    monkeypatch.chdir(tmp_path)
    asked = []

    def make(out):
        found = plan.new_runs(SMALL, out, 1)
        asked.append(out)
        if len(asked) == 1:
            Path("runs/sine-1").mkdir(parents=True)  # by another process
        return found

    with plan.held(make, None) as (found, (check,)):
        assert found.folder == Path("runs/sine-2")
        check()
        used = "in use by process"
        with pytest.raises(WorldError, match=used), plan.held(make, "runs/sine-2"):
            pass
    assert asked[:3] == [None, None, "runs/sine-2"]


def test_a_resume_takes_the_options_under_the_lock(tmp_path):
    """Rejects options from before the lock: they undo what another resume has changed."""
    begin(tmp_path, SMALL.with_changes({"iterations": 1}))
    plans = []

    def make(out):
        if plans:
            runs.write_config(tmp_path, SMALL.with_changes({"test_tasks": 9}), {})
        plans.append(plan.resumed_runs(tmp_path, {"iterations": 7}))
        return plans[-1]

    with plan.held(make, str(tmp_path)) as (found, _):
        [(_, config)] = found.runs
        assert (config.iterations, config.test_tasks) == (7, 9)
    assert plans[0].runs[0][1].test_tasks != 9


def test_runs_that_appear_meanwhile_are_not_trained_without_a_lock(tmp_path):
    """Rejects a run whose lock nobody took."""
    begin(tmp_path / "seed-0", SMALL.with_changes({"iterations": 1}))

    def make(out):
        found = plan.resumed_runs(tmp_path, {})
        begin(tmp_path / "seed-1", SMALL.with_changes({"iterations": 1, "seed": 1}))
        return found

    changed = "have changed meanwhile"
    with pytest.raises(WorldError, match=changed), plan.held(make, str(tmp_path)):
        pass


def test_fewer_iterations_than_there_are_do_not_count(tmp_path, monkeypatch):
    """Rejects a config.json that says 3 iterations of a theta of 20, and silence."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("tinymaml.plots.draw", lambda path: [])
    begin(tmp_path / "run" / "seed-0", SMALL)
    done = here("train", "--resume", "run", "--iterations", "3")
    assert done.code == 0
    note = "note: 'run/seed-0' has 20 iterations already; --iterations 3 has no effect"
    assert note in done.err.splitlines()
    assert runs.read_config(tmp_path / "run" / "seed-0").iterations == 20
    more = here("train", "--resume", "run", "--iterations", "21")
    assert "note:" not in more.err
    assert runs.read_config(tmp_path / "run" / "seed-0").iterations == 21
    found = plan.new_runs(SMALL.with_changes({"iterations": 2}), str(tmp_path / "run"), 2)
    assert [config.iterations for _, config in found.runs] == [21, 2]
    begin(tmp_path / "half", SMALL.with_changes({"iterations": 5}))
    runs.write_config(tmp_path / "half", SMALL, {})  # interrupted at 5 of 20
    found = plan.resumed_runs(tmp_path / "half", {"iterations": 2})
    assert found.runs[0][1].iterations == 5


# ----- What a run does not use -----


IMAGES = {"filters": 1, "validate_every": 0, "tasks": 2}


@pytest.fixture
def classes(monkeypatch):
    """The number of classes of each split, of noise, for problems that are set up anew."""
    sizes = dict.fromkeys(("train", "val", "test"), 5)

    def draw():
        rows = np.arange(sum(sizes.values()))
        parts = np.split(rows, np.cumsum([*sizes.values()])[:-1])
        noise = np.random.default_rng(0).integers(0, 256, (len(rows), 2, 28, 28), np.uint8)
        return noise, dict(zip(sizes, parts, strict=True))

    monkeypatch.setattr(glyphs, "draw", draw)
    problem.cache_clear()
    yield sizes
    problem.cache_clear()


@pytest.mark.parametrize(
    ("options", "missing"),
    [
        ({"test": False}, "test"),
        ({"iterations": 0}, "train"),
        ({}, "val"),
        ({"validate_every": 9, "iterations": 0}, "val"),
    ],
)
def test_a_split_that_is_not_used_may_be_too_small(classes, options, missing):
    """Rejects 5 classes asked of a split with 3 that no task is drawn from; and no check of
    a split that is used."""
    classes[missing] = 3
    plan.check_size(Glyphs(**IMAGES | options))
    used = {"test": {"test": True}, "train": {"iterations": 1}}
    used = used.get(missing, {"validate_every": 9, "iterations": 1})
    with pytest.raises(UsageError, match=f"split '{missing}': 5 ways asked for"):
        plan.check_size(Glyphs(**IMAGES | options | used, seed=1))


def test_a_step_size_is_tuned_on_validation_tasks(classes):
    """Rejects a baseline that is trained, and then cannot be tested."""
    classes["val"] = 3
    config = Glyphs(**IMAGES, algorithm="pretrained")
    with pytest.raises(UsageError, match="to tune the step size on; add --no-tune and"):
        plan.check_size(config)
    plan.check_size(config.with_changes({"tune": False, "alpha": 0.1}))


def test_options_of_training_tasks_are_checked(classes):
    """Rejects a run that fails at its first iteration: its training tasks are larger."""
    with pytest.raises(UsageError, match="split 'train': 9 shots and 1 queries"):
        plan.check_size(Glyphs(**IMAGES, algorithm="reptile", train_shots=9))
