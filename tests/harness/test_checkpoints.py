"""Thetas that are kept: the best on validation tasks, and what is given away."""

import io
import json
import math
import os
import re
import shutil
import signal

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from processes import here, one_error, tree
from tinymaml.errors import Interrupted, UsageError, WorldError
from tinymaml.experiments.glyphs import Glyphs
from tinymaml.experiments.omniglot import Omniglot
from tinymaml.experiments.sine import Sine
from tinymaml.harness import checkpoints, loop, runs
from tinymaml.harness.checkpoints import Kept
from tinymaml.harness.metrics import read_metrics
from tinymaml.speed.workers import Here
from trainings import COUNT, VALIDATED, begin, train


def kept(iteration, validation=math.nan):
    return Kept(iteration, np.full(COUNT, iteration, "float32"), validation)


# ----- Which is the better -----


@given(st.lists(st.floats(), min_size=1, max_size=9))
def test_the_best_is_the_first_of_the_best(scores):
    """Rejects the highest error, the lowest accuracy, the last of equals, and a nan that
    nothing is better than."""
    finite = [x for x in scores if math.isfinite(x)]
    for config, choose in ((Sine(), min), (Glyphs(), max)):
        best = None
        for iteration, score in enumerate(scores):
            best = checkpoints.better(config, best, kept(iteration, score))
        if finite:
            assert best.iteration == scores.index(choose(finite))
        else:
            assert best is None


# ----- The best of a run -----


def best_of(path, iteration=10**9):
    found, wrong = checkpoints.best_of(path, VALIDATED, iteration)
    assert not wrong
    return found and found[1]


@pytest.fixture(scope="module")
def straight(tmp_path_factory):
    """A run of twenty iterations in one go."""
    path = tmp_path_factory.mktemp("straight")
    train(path, VALIDATED)
    return path


def test_the_best_is_the_theta_that_was_best(straight, tmp_path):
    """Rejects the last theta, one from before the update, and the worst."""
    told = {
        record["iteration"]: record["validation"]
        for record in read_metrics(straight)
        if "validation" in record
    }
    assert [*told] == [*range(2, 21, 2)]
    best = best_of(straight)
    assert told[best.iteration] == min(told.values()) == best.validation
    assert best.iteration < 20  # else this test could not tell it from the last
    train(tmp_path, VALIDATED.with_changes({"iterations": best.iteration}))
    theta = checkpoints.load(tmp_path, VALIDATED, last=True).theta
    np.testing.assert_array_equal(best.theta, theta)


@pytest.mark.parametrize("stops", [(3,), (4, 5), (7, 13, 19), (10, 18)])
def test_going_on_finds_the_best_of_one_go(straight, tmp_path, stops):
    """Rejects a best that a resume forgets, or finds again and takes for another."""
    for stop in stops:
        train(tmp_path, VALIDATED.with_changes({"iterations": stop}))
    train(tmp_path, VALIDATED)
    for name in (runs.CHECKPOINT, runs.METRICS, runs.BEST):
        assert (tmp_path / name).read_bytes() == (straight / name).read_bytes(), name


@pytest.mark.parametrize("times", [1, 2, 3])
@pytest.mark.parametrize("at", [8, 12, 16, 20])
def test_killed_between_the_best_and_its_checkpoint(
    straight, tmp_path, monkeypatch, at, times
):
    """Rejects a best from after the checkpoint that a run goes on from, and one that is
    lost when the process is killed there again and again."""
    save = checkpoints.save

    def killed(path, config, state):
        if state.iteration == at:
            raise KeyboardInterrupt
        save(path, config, state)

    monkeypatch.setattr(checkpoints, "save", killed)
    for _ in range(times):
        with pytest.raises(KeyboardInterrupt):
            train(tmp_path, VALIDATED)
        state = checkpoints.load(tmp_path, VALIDATED, last=True)
        assert state.iteration == at - 4
        records = read_metrics(straight)
        scores = {r["iteration"]: r["validation"] for r in records if "validation" in r}
        before = {k: v for k, v in scores.items() if k <= state.iteration}
        assert best_of(tmp_path, at - 4).validation == min(before.values())
        assert checkpoints.load(tmp_path, VALIDATED).iteration == min(
            before, key=before.get
        )
    monkeypatch.setattr(checkpoints, "save", save)
    train(tmp_path, VALIDATED)
    assert (tmp_path / runs.BEST).read_bytes() == (straight / runs.BEST).read_bytes()


@pytest.mark.parametrize("at", [4, 8, 12, 16])
def test_killed_after_a_checkpoint(straight, tmp_path, monkeypatch, at):
    """Rejects a checkpoint that is written before the best that it counts."""
    save = checkpoints.save

    def killed(path, config, state):
        save(path, config, state)
        if state.iteration == at:
            raise KeyboardInterrupt

    monkeypatch.setattr(checkpoints, "save", killed)
    with pytest.raises(KeyboardInterrupt):
        train(tmp_path, VALIDATED)
    monkeypatch.setattr(checkpoints, "save", save)
    train(tmp_path, VALIDATED)
    assert (tmp_path / runs.BEST).read_bytes() == (straight / runs.BEST).read_bytes()


def test_a_best_that_stays_does_not_take_the_place_of_the_one_before(tmp_path, monkeypatch):
    """Rejects writing the same best again at every checkpoint: the best before it is then
    lost, which the previous checkpoint needs when the newest is damaged."""
    scores = dict(zip(range(2, 21, 2), [9, 8, 7, 6, 5, 6, 6, 6, 6, 6], strict=True))

    def scored(config, state, engine):
        due = state.iteration in scores
        return {"validation": float(scores[state.iteration])} if due else {}

    monkeypatch.setattr(loop, "validate", scored)
    train(tmp_path / "straight", VALIDATED)
    save = checkpoints.save

    def killed(path, config, state):
        if state.iteration == 16:
            raise KeyboardInterrupt
        save(path, config, state)

    monkeypatch.setattr(checkpoints, "save", killed)
    run = tmp_path / "run"
    with pytest.raises(KeyboardInterrupt):
        train(run, VALIDATED)
    monkeypatch.setattr(checkpoints, "save", save)
    (run / runs.CHECKPOINT).write_bytes(b"PK")
    train(run, VALIDATED)
    for name in (runs.CHECKPOINT, runs.METRICS, runs.BEST):
        assert (run / name).read_bytes() == (tmp_path / "straight" / name).read_bytes()


def test_a_run_that_stops_before_its_best_has_another(straight, tmp_path):
    """Rejects a best that is of more iterations than were asked for."""
    train(tmp_path, VALIDATED)
    best = best_of(tmp_path)
    assert best_of(tmp_path, best.iteration).iteration == best.iteration
    earlier = best_of(tmp_path, best.iteration - 1)
    assert earlier is None or earlier.iteration < best.iteration


def test_without_validation_nothing_is_chosen(tmp_path):
    """Rejects a file that says best of a theta that was compared with nothing."""
    config = VALIDATED.with_changes({"validate_every": 0, "iterations": 2})
    train(tmp_path, config)
    assert not (tmp_path / runs.BEST).exists()
    told = checkpoints.load(tmp_path, config)
    assert (told.iteration, told.chosen) == (2, False)


def test_the_last_can_be_asked_for(straight):
    """Rejects a best that cannot be passed by."""
    assert checkpoints.load(straight, VALIDATED).chosen
    told = checkpoints.load(straight, VALIDATED, last=True)
    assert (told.iteration, told.chosen) == (20, False)


def test_test_tasks_have_no_part_in_the_choice(tmp_path, monkeypatch):
    """Rejects a selection that looks at test tasks."""
    seen = []
    evaluate = loop.evaluate

    def noting(config, theta, split, *more):
        seen.append(split)
        return evaluate(config, theta, split, *more)

    monkeypatch.setattr(loop, "evaluate", noting)
    train(tmp_path, VALIDATED)
    assert seen == ["val"] * 10


# ----- Damaged files -----


def changed(file, **changes):
    """The bytes of a file with arrays changed, or left out where None."""
    with np.load(file) as found:
        arrays = {**found, **changes}
    buffer = io.BytesIO()
    np.savez(buffer, **{k: x for k, x in arrays.items() if x is not None})
    return buffer.getvalue()


SINE = "sine".encode("utf-32-le")  # as NumPy keeps the name of the experiment
DAMAGE = {
    "cut": lambda file: file.read_bytes()[:300],
    "empty": lambda file: b"",
    "flipped": lambda file: file.read_bytes().replace(SINE, SINE.upper()),
    "shape": lambda file: changed(file, theta=np.ones(3, "float32")),
    "dtype": lambda file: changed(file, theta=np.ones(COUNT)),
    "missing": lambda file: changed(file, theta=None),
    "iteration": lambda file: changed(file, iteration=np.int64(-1)),
    "nan": lambda file: changed(file, theta=np.full(COUNT, np.nan, "float32")),
}
# A damaged file, what is used in its stead, and where training then goes on.
FILES = [
    ((), runs.CHECKPOINT, (runs.PREVIOUS_BEST, 16)),
    (("--last",), runs.CHECKPOINT, (runs.PREVIOUS, 16)),
    ((), runs.BEST, (runs.PREVIOUS_BEST, 16)),
]


@pytest.fixture
def run(straight, tmp_path):
    """A copy of the run, as the command line finds it: two checkpoints, two best."""
    path = shutil.copytree(straight, tmp_path / "run")
    runs.write_config(path, VALIDATED, {})
    assert {*tree(path)} >= {runs.PREVIOUS, runs.PREVIOUS_BEST}
    return path


def evaluated(path, *more):
    return here("evaluate", path, "--tasks", "3", "--steps", "1", "--json", *more)


def notes(told):
    """The lines on stderr, but for the one that says why a picture is missing."""
    return [line for line in told.err.splitlines() if "was not evaluated" not in line]


@pytest.mark.parametrize("kind", DAMAGE)
@pytest.mark.parametrize(("more", "name", "instead"), FILES)
def test_an_older_theta_takes_no_place_in_silence(run, more, name, instead, kind):
    """Rejects results of an older theta where the newest is damaged, an error that does
    not name the file or what else there is, and --fallback that does not use it."""
    (run / name).write_bytes(DAMAGE[kind](run / name))
    expected = f"add --fallback to use {str(run / instead[0])!r} of iteration {instead[1]}"
    given = run.parent / "given"
    commands = [lambda *x: evaluated(run, *more, *x)]
    commands += [lambda *x: here("export", run, given, *more, *x)]
    if not more and kind in ("cut", "nan"):
        commands += [lambda *x: here("plot", run, *x)]
    for command in commands:
        told = command()
        assert (told.code, told.out) == (1, "")
        line = one_error(told)
        assert repr(str(run / name)) in line
        assert expected in line
        told = command("--fallback")
        assert told.code == 0
        assert [repr(str(run / name)) in line for line in notes(told)] == [True]
    assert json.loads(evaluated(run, *more, "--fallback").out)["iterations"] == [16]
    assert checkpoints.load(given, VALIDATED).iteration == 16


@pytest.mark.parametrize("kind", DAMAGE)
@pytest.mark.parametrize("name", [runs.CHECKPOINT, runs.BEST])
def test_going_on_without_a_damaged_file_gives_the_same_bytes(run, straight, name, kind):
    """Rejects a resume that says nothing of it, and a best theta that is lost though an
    earlier checkpoint knows its own."""
    (run / name).write_bytes(DAMAGE[kind](run / name))
    told = here("train", "--resume", run, "--no-test")
    assert told.code == 0, told
    [line] = [line for line in told.err.splitlines() if "damaged" in line or name in line]
    assert line.startswith(repr(str(run / name)))
    assert line.endswith(f"; using {str(run / runs.PREVIOUS)!r} of iteration 16")
    assert {k: x for k, x in tree(run).items() if k in tree(straight)} == tree(straight)


@pytest.mark.parametrize("name", [runs.CHECKPOINT, runs.BEST])
def test_a_kill_between_two_moves_is_no_damage(run, straight, name):
    """Rejects a run that was killed in a save, and is told to be damaged."""
    previous = {runs.CHECKPOINT: runs.PREVIOUS, runs.BEST: runs.PREVIOUS_BEST}[name]
    if name == runs.BEST:  # it is written before the checkpoint that counts it
        (run / runs.PREVIOUS).replace(run / runs.CHECKPOINT)
    (run / name).unlink()
    assert (run / previous).exists()
    told = evaluated(run)
    assert (told.code, told.err) == (0, "")
    assert json.loads(told.out)["iterations"] == [16]
    assert here("export", run, run.parent / "given").err == ""
    resumed = here("train", "--resume", run, "--no-test")
    assert (resumed.code, notes(resumed)) == (0, [f"run folder: {run}"])
    for file in (runs.CHECKPOINT, runs.METRICS, runs.BEST):
        assert (run / file).read_bytes() == (straight / file).read_bytes()


@pytest.mark.parametrize("name", [runs.PREVIOUS, runs.PREVIOUS_BEST])
def test_damage_to_what_nobody_needs_is_no_matter(run, name):
    """Rejects an error for a file that nothing is read from."""
    (run / name).write_bytes(b"PK")
    for told in (evaluated(run), here("train", "--resume", run, "--no-test")):
        assert (told.code, "damaged" in told.err) == (0, False)


def test_the_last_whole_checkpoint_outlives_the_next_save(run, monkeypatch):
    """Rejects a save that moves the damaged file over the whole one before it."""
    (run / runs.CHECKPOINT).write_bytes(b"PK")
    replace = os.replace

    def killed(source, target):
        if source.name.startswith(runs.TEMPORARY) and target.name == runs.CHECKPOINT:
            raise KeyboardInterrupt
        replace(source, target)

    monkeypatch.setattr(os, "replace", killed)
    with pytest.raises(KeyboardInterrupt):
        train(run, VALIDATED)
    monkeypatch.setattr(os, "replace", replace)
    assert checkpoints.load(run, VALIDATED, last=True).iteration == 16


def test_a_best_theta_of_another_iteration_is_not_the_best(run):
    """Rejects a file that reads well, but is of a theta that validation did not choose."""
    (run / runs.BEST).write_bytes(changed(run / runs.BEST, iteration=np.int64(17)))
    line = one_error(evaluated(run))
    assert f"{str(run / runs.BEST)!r} is not of iteration 18, the best" in line


def test_a_best_theta_without_metrics_is_believed(run):
    """Rejects a run that cannot be evaluated because only its thetas were copied."""
    (run / runs.METRICS).unlink()
    assert json.loads(evaluated(run).out)["iterations"] == [18]
    (run / runs.PREVIOUS).replace(run / runs.CHECKPOINT)
    assert json.loads(evaluated(run).out)["iterations"] == [16]
    (run / runs.BEST).write_bytes(b"PK")
    assert evaluated(run).code == 1
    told = here("train", "--resume", run)
    assert told.code == 1
    assert "no checkpoint is left that has its best theta" in one_error(told)


def test_the_last_theta_is_left_when_no_best_is(run):
    """Rejects giving up while the checkpoint is whole, and using it unasked."""
    for name in (runs.BEST, runs.PREVIOUS_BEST):
        (run / name).write_bytes(b"PK")
    line = one_error(evaluated(run))
    assert f"to use {str(run / runs.CHECKPOINT)!r} of iteration 20" in line
    assert json.loads(evaluated(run, "--fallback").out)["iterations"] == [20]
    assert evaluated(run, "--last").err == ""


def test_no_whole_theta_is_one_line(run, tmp_path):
    """Rejects a traceback, exit 0, and a fallback that is none."""
    given = tmp_path / "given"
    given.mkdir()
    checkpoints.export(given, VALIDATED, kept(3))
    for path, names in ((run, (runs.CHECKPOINT, runs.PREVIOUS)), (given, (runs.THETA,))):
        for name in names:
            (path / name).write_bytes(b"PK")
        for more in ((), ("--fallback",)):
            told = evaluated(path, *more)
            assert told.code == 1
            assert all(name in one_error(told) for name in names)
            assert "add --fallback" not in told.err


# ----- To give away -----


def test_what_is_exported_is_what_is_evaluated(straight, tmp_path):
    """Rejects Adam's moments in the file, another theta, and a score that is lost."""
    best = checkpoints.load(straight, VALIDATED)
    checkpoints.export(tmp_path, VALIDATED, best)
    assert {file.name for file in tmp_path.iterdir()} == {runs.CONFIG, runs.THETA}
    assert (tmp_path / runs.THETA).stat().st_size < 2000
    config = runs.read_config(tmp_path)
    told = checkpoints.load(tmp_path, config)
    assert config == VALIDATED
    assert (told.iteration, told.validation) == (best.iteration, best.validation)
    np.testing.assert_array_equal(told.theta, best.theta)


def test_the_path_of_the_data_is_not_given_away(tmp_path):
    """Rejects a file of one's own machine in what others get."""
    checkpoints.export(tmp_path, Omniglot(data="/home/me/omniglot.npz"), kept(3))
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
    np.savez(tmp_path / runs.BEST, **data, **arrays)
    found, (told,) = checkpoints.best_of(tmp_path, VALIDATED, 1)
    assert found is None
    assert re.search(message, told)
    assert runs.BEST in told


# ----- The package's own -----


def test_kept_names_are_folders_of_the_package():
    """Rejects a way out of the folder, and an unknown name that is not told."""
    assert checkpoints.locate("runs/x").parts == ("runs", "x")
    folder = checkpoints.locate("kept:omniglot-5w1s")
    assert json.loads((folder / runs.CONFIG).read_text())["experiment"] == "omniglot"
    for name in (
        "kept:",
        "kept:.",
        "kept:..",
        "kept:nothing",
        "kept:../kept/omniglot-5w1s",
    ):
        with pytest.raises(UsageError, match="there are: kept:omniglot-5w1s"):
            checkpoints.locate(name)


def test_what_is_kept_is_small_and_names_no_file_of_ours():
    """Rejects a checkpoint with moments, and a path of the machine it was made on."""
    for folder in checkpoints.FOLDER.iterdir():
        assert {file.name for file in folder.iterdir()} == {runs.CONFIG, runs.THETA}
        assert (folder / runs.THETA).stat().st_size < 2 * 2**20
        assert runs.read_config(folder).data == ""


def test_a_signal_keeps_the_best(tmp_path, straight, monkeypatch):
    """Rejects a stop that saves the checkpoint but not the best it counts."""

    def stop(iteration, _):
        if iteration == 11:
            os.kill(os.getpid(), signal.SIGINT)

    with pytest.raises(Interrupted):
        loop.train(tmp_path, VALIDATED, Here(), stop)
    records = [r for r in read_metrics(tmp_path) if "validation" in r]
    assert best_of(tmp_path).validation == min(r["validation"] for r in records)
    train(tmp_path, VALIDATED)
    assert (tmp_path / runs.BEST).read_bytes() == (straight / runs.BEST).read_bytes()


def test_metrics_with_a_gap_do_not_say_which_is_the_best(tmp_path):
    """Rejects taking metrics that begin anew for the whole story: the best is lost."""
    path = tmp_path / "run"
    begin(path, VALIDATED)
    best = checkpoints.load(path, VALIDATED)
    assert best.chosen
    lines = (path / runs.METRICS).read_text().splitlines(keepends=True)
    (path / runs.METRICS).write_text("".join(lines[-2:]))
    assert checkpoints.load(path, VALIDATED).iteration == best.iteration


def test_missing_best_thetas_are_missed(tmp_path):
    """Rejects the last theta in place of the best, with nothing said."""
    path = tmp_path / "run"
    begin(path, VALIDATED)
    for name in (runs.BEST, runs.PREVIOUS_BEST):
        (path / name).unlink(missing_ok=True)
    with pytest.raises(WorldError, match=r"best.npz' is missing, of iteration"):
        checkpoints.load(path, VALIDATED)


# ----- Files of another run -----


OTHER = VALIDATED.with_changes({"seed": 5, "alpha": 0.02})


@pytest.fixture(scope="module")
def other(tmp_path_factory):
    """A run of equal size with other options."""
    path = tmp_path_factory.mktemp("other")
    train(path, OTHER)
    return path


@pytest.mark.parametrize("name", [runs.CHECKPOINT, runs.BEST])
def test_a_file_of_another_run_is_refused(run, straight, other, name):
    """Rejects theta of seed 5 with the options of seed 1, and an error that does not name
    what differs."""
    shutil.copy(other / name, run / name)
    line = one_error(evaluated(run))
    assert f"{str(run / name)!r} is of another run: --seed 5, not 1; --alpha 0.02" in line
    told = here("train", "--resume", run, "--no-test")
    assert told.code == 0, told
    assert "is of another run" in told.err
    assert f"using {str(run / runs.PREVIOUS)!r} of iteration 16" in told.err
    for file in (runs.CHECKPOINT, runs.BEST, runs.METRICS):
        assert (run / file).read_bytes() == (straight / file).read_bytes()


def test_a_theta_of_another_run_is_refused(straight, other, tmp_path):
    """Rejects an exported theta beside the options of another."""
    for config, path, name in ((VALIDATED, straight, "a"), (OTHER, other, "b")):
        (tmp_path / name).mkdir()
        checkpoints.export(tmp_path / name, config, checkpoints.load(path, config))
    shutil.copy(tmp_path / "b" / runs.THETA, tmp_path / "a")
    assert "is of another run: --seed 5, not 1" in one_error(evaluated(tmp_path / "a"))


def test_options_that_may_change_do_not_make_another_run(run):
    """Rejects a run that cannot be tested with more tasks, or after its data moved."""
    longer = {"iterations": 30, "test_tasks": 9, "test_steps": 1, "replay": False}
    assert checkpoints.load(run, VALIDATED.with_changes(longer)).iteration == 18


def test_files_of_an_older_program_are_read(run):
    """Rejects checkpoints without options, and best thetas that a resume finds again and
    takes for others: the best before is then lost."""
    for name in (runs.CHECKPOINT, runs.PREVIOUS, runs.BEST, runs.PREVIOUS_BEST):
        (run / name).write_bytes(changed(run / name, options=None))
    before = {name: (run / name).read_bytes() for name in (runs.BEST, runs.PREVIOUS_BEST)}
    (run / runs.PREVIOUS).replace(run / runs.CHECKPOINT)
    (run / runs.BEST).replace(run / "later.npz")
    (run / runs.PREVIOUS_BEST).replace(run / runs.BEST)
    train(run, VALIDATED.with_changes({"iterations": 17}))
    assert (run / runs.BEST).read_bytes() == before[runs.PREVIOUS_BEST]
    assert not (run / runs.PREVIOUS_BEST).exists()
