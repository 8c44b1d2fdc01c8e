"""Which runs a training consists of, before anything is written."""

import pytest

from processes import here, one_error, tree
from tinymaml.errors import UsageError, WorldError
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
