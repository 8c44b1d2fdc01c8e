"""`evaluate` and `export` on the command line: runs, seeds, shots, thetas given away."""

import json
import re
import shutil
from pathlib import Path

import numpy as np
import pytest

from processes import SMALL, digests, here, one_error, tree
from tinymaml.experiments import problem
from tinymaml.harness import checkpoints, evaluation, runs
from tinymaml.speed.workers import Here


SHORT = [*SMALL, "--iterations", "20", "--validate-every", "4", "--validation-tasks", "5"]


@pytest.fixture(scope="module")
def world(tmp_path_factory):
    """Runs of two seeds, one of other options, and one of glyphs."""
    folder = tmp_path_factory.mktemp("world")
    glyphs = ["--iterations", "1", "--tasks", "2", "--filters", "2", "--test-tasks", "4"]
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        patch.setattr("tinymaml.plots.draw", lambda path: [])
        for arguments in (
            (
                "sine",
                *SHORT,
                "--beta",
                "0.05",
                "--seed",
                "4",
                "--seeds",
                "2",
                "--out",
                "both",
            ),
            ("sine", *SHORT, "--alpha", "0.1", "--out", "other"),
            ("glyphs", *glyphs, "--test-steps", "2", "--out", "glyphs"),
        ):
            told = here("train", *arguments)
            assert told.code == 0, told
    return folder


@pytest.fixture(autouse=True)
def there(world, monkeypatch):
    monkeypatch.chdir(world)


def told(*arguments):
    answer = here("evaluate", *arguments)
    assert (answer.code, answer.err) == (0, ""), answer
    return answer.out


def as_json(*arguments):
    return json.loads(told(*arguments, "--json"))


# ----- Which theta -----


def scores_of(path, theta, **changes):
    """The means on the test tasks, computed here."""
    config = runs.read_config(Path(path)).with_changes(changes)
    scores = evaluation.evaluate(config, theta, "test", 4, 1, Here())
    return pytest.approx(scores.mean(axis=1), rel=1e-6)


def test_the_best_theta_is_evaluated_and_said_to_be(world):
    """Rejects the last theta where validation chose another, at the end of the training
    too, and a choice that is not told."""
    path = world / "both" / "seed-5"
    config = runs.read_config(path)
    (_, best), _ = checkpoints.best_of(path, config, 20)
    last = checkpoints.load(path, config, last=True)
    assert best.iteration < last.iteration
    expected = scores_of(path, best.theta)
    assert as_json("both/seed-5")["mean"] == expected
    assert as_json("both/seed-5", "--last")["mean"] == scores_of(path, last.theta)
    at_the_end = json.loads((path / "evaluation.json").read_text())
    assert at_the_end["mean"] == expected
    assert at_the_end["iterations"] == [best.iteration]
    assert at_the_end["validations"] == [best.validation]
    first = told("both/seed-5").splitlines()[0]
    options = "sine --tasks 4 --beta 0.05 --hidden 8"
    expected = f"{options}, {best.iteration} iterations, 4 test tasks, chosen on"
    assert first.startswith(expected)
    assert "chosen" not in told("both/seed-5", "--last")


# ----- Several runs -----


def test_runs_of_several_seeds_are_told_together(world):
    """Rejects the first run only, a mean over other tasks, and a folder of runs that is
    taken for none."""
    together = as_json("both/seed-4", "both/seed-5")
    each = [as_json(f"both/seed-{seed}") for seed in (4, 5)]
    assert together["seeds"] == [4, 5]
    mean = np.mean([one["mean"] for one in each], axis=0)
    assert together["mean"] == pytest.approx(mean.tolist(), rel=1e-12)
    apart = np.abs(np.diff([one["mean"] for one in each], axis=0)[0]) / 2
    expected = (12.706204736 * apart).tolist()
    assert together["half_width_95_over_seeds"] == pytest.approx(expected, rel=1e-9)
    assert {one["tasks_sha256"] for one in each} == {together["tasks_sha256"]}
    assert as_json("both") == together
    assert runs.unsealed(world / "both" / "evaluation.json") == together


def test_other_shots_do_not_hide_those_of_the_training():
    """Rejects a title and options with 5 shots of a run that was trained with ten."""
    [line, *_] = told("other", "--shots", "5").splitlines()
    assert "--shots" not in line
    assert as_json("other", "--shots", "5")["options"]["shots"] == 10


def test_a_run_does_not_count_twice():
    """Rejects an interval over seeds that one run given twice makes zero."""
    for again in ("both/seed-4", "both"):
        wrong = here("evaluate", "both/seed-4", again)
        assert (wrong.code, wrong.out) == (2, "")
        assert "same options and seed" in one_error(wrong)


def test_runs_with_other_options_are_told_apart():
    """Rejects one mean over runs that were trained differently, and runs on the same tasks
    that are not compared, or runs on different ones that are."""
    found = as_json("both", "other")
    assert [one["seeds"] for one in found] == [[4, 5], [0]]
    assert [one["alpha"] for one in found] == [0.01, 0.1]
    text = told("both", "other")
    *tables, compared = text.split("\n\n")
    assert len(tables) == 2
    title, head, *rows = compared.splitlines()
    assert title.startswith("Sine, 10 shots: MSE on the same 4 test tasks")
    assert head.split("   ")[0] == "run"
    assert [row.partition("   ")[0] for row in rows] == [
        "MAML, 2 inner steps, alpha 0.01, beta 0.05, 2 seeds",
        "MAML, 2 inner steps, alpha 0.1, beta 0.001",
    ]
    assert rows[1].split()[-3:] == tables[1].splitlines()[3].split()[-3:]
    in_markdown = told("both", "other", "--markdown")
    assert f"{title}\n\n| run " in in_markdown
    assert told("both", "glyphs").endswith(
        "\nno comparison: the tasks of these runs differ\n"
    )
    assert "compar" not in told("other", "--shots", "5,10")


# ----- Several numbers of shots -----


def test_shots_change_the_tasks_and_nothing_else(world):
    """Rejects --shots that are told but not used, and columns of one task list."""
    theta = checkpoints.load(world / "other", runs.read_config(world / "other")).theta
    found = as_json("other", "--shots", "5,10,20")
    assert [one["shots"] for one in found] == [5, 10, 20]
    for one in found:
        assert one["mean"] == scores_of("other", theta, shots=one["shots"])
    assert len({one["tasks_sha256"] for one in found}) == 3
    assert found[1] == as_json("other")
    text = told("other", "--shots", "5,20")
    assert text.splitlines()[1].count("MSE with") == 2
    assert "MAML" in text  # the paper's 5-shot figures stand beside ours
    assert "Finn et al. 2017, table 2" in told("other", "--shots", "5", "--markdown")


# ----- Images -----


def test_each_query_alone_beside_the_batch(world):
    """Rejects a net with batch norm that is judged in one way only; which steps."""
    found = as_json("glyphs")
    assert found["alone"]["steps"] == [2]
    config = runs.read_config(world / "glyphs")
    theta = checkpoints.load(world / "glyphs", config, last=True).theta
    scores = evaluation.evaluate_alone(config, theta, "test", 4, (0, 1, 2), Here())
    assert found["alone"]["mean"] == scores[2:].mean(axis=1).tolist()
    every = as_json("glyphs", "--alone", "all")["alone"]
    assert (every["steps"], every["mean"]) == ([0, 1, 2], scores.mean(axis=1).tolist())
    assert "alone" not in as_json("glyphs", "--alone", "none")
    assert "each query alone" in told("glyphs")
    assert problem(runs.read_config(world / "other")).score_alone is None


# ----- To give away -----


def test_what_was_exported_evaluates_alike(world, tmp_path):
    """Rejects a folder that only looks like a run, and another theta in it."""
    told_folder = here("export", "both/seed-5", tmp_path / "given")
    assert (told_folder.code, told_folder.out) == (0, f"{tmp_path / 'given'}\n")
    assert {*tree(tmp_path / "given")} == {runs.CONFIG, runs.THETA}
    assert as_json(tmp_path / "given") == as_json("both/seed-5")
    last = here("export", "both/seed-5", tmp_path / "last", "--last")
    assert last.code == 0
    assert as_json(tmp_path / "last") == as_json("both/seed-5", "--last")
    # And on from there, to another name.
    assert here("export", tmp_path / "given", tmp_path / "again").code == 0
    for name in (runs.CONFIG, runs.THETA):
        assert (tmp_path / "again" / name).read_bytes() == (
            tmp_path / "given" / name
        ).read_bytes()


def test_evaluating_changes_no_run(world, tmp_path):
    """Rejects an evaluation that writes into what it judges."""
    shutil.copytree(world / "other", tmp_path / "run")
    before = tree(tmp_path)
    told(tmp_path / "run", "--shots", "5")
    here("export", tmp_path / "run", tmp_path / "given")
    assert {k: v for k, v in tree(tmp_path).items() if "given" not in k} == before
    assert digests(tmp_path / "run") == digests(world / "other")


def test_a_folder_that_cannot_be_written_hides_no_result(world, tmp_path):
    """Rejects an evaluation that is lost since it cannot be kept for the pictures."""
    shutil.copytree(world / "other", tmp_path / "run")
    (tmp_path / "run/evaluation.json").unlink()
    (tmp_path / "run/evaluation.json").mkdir()  # which even root cannot replace
    answer = here("evaluate", tmp_path / "run", "--quiet")
    assert answer.code == 0
    assert answer.out == told("other", "--quiet")
    assert re.fullmatch(r"note: '.*evaluation.json' was not written: Is a .*\n", answer.err)


@pytest.mark.parametrize("name", ["kept:omniglot-5w1s", "kept:omniglot-20w1s"])
def test_a_kept_theta_is_exported_without_its_data(tmp_path, name):
    """Rejects a data file asked for where no task is drawn."""
    told_folder = here("export", name, tmp_path / "given")
    assert (told_folder.code, told_folder.err) == (0, ""), told_folder
    config = runs.read_config(tmp_path / "given")
    theta = checkpoints.load(tmp_path / "given", config).theta
    kept = checkpoints.locate(name)
    assert theta.tobytes() == checkpoints.load(kept, runs.read_config(kept)).theta.tobytes()


def test_an_export_checks_the_folder_under_its_lock(world, tmp_path, monkeypatch):
    """Rejects two exports into one folder, of which the second writes over the first."""
    locked = runs.locked

    def later(path):
        shutil.copy(world / "other" / runs.CONFIG, path)  # another export was faster
        return locked(path)

    monkeypatch.setattr(runs, "locked", later)
    refused = here("export", "both/seed-5", tmp_path)
    assert (refused.code, refused.out) == (1, "")
    assert "already holds a run" in one_error(refused)
    assert {*tree(tmp_path)} == {runs.CONFIG}


def test_data_are_for_the_runs_that_have_some(world):
    """Rejects --data refused because one of the runs has no data file."""
    for names in (("other",), ("other", "glyphs")):
        refused = here("evaluate", *names, "--data", "x.npz")
        assert refused.code == 2
        assert "--data: a run of sine has no data file" in one_error(refused)
    found = runs.read_configs(
        [world / "other", checkpoints.locate("kept:omniglot-5w1s")], "x"
    )
    assert [config.values().get("data") for config in found] == [None, "x"]


@pytest.mark.data
def test_the_kept_theta_is_as_good_as_it_is_said_to_be(omniglot_npz, tmp_path):
    """Rejects a kept theta that does not go with the code any more.

    98.6 % on 600 tasks; with a standard deviation of 6.3 % of a task, the mean of the
    first 60 lies within 2.5 % of that.
    """
    asked = (
        "--data",
        omniglot_npz,
        "--tasks",
        "60",
        "--steps",
        "3",
        "--alone",
        "none",
        "--quiet",
    )
    found = as_json("kept:omniglot-5w1s", *asked)
    assert found["mean"][3] == pytest.approx(0.986, abs=0.025)
    assert found["mean"][0] < 0.3
    assert found["iterations"] == [10000]


@pytest.mark.data
def test_the_kept_theta_for_twenty_ways_is_as_good_as_it_is_said_to_be(omniglot_npz):
    """Rejects learned step sizes that are lost, or in the wrong order: it is no better
    than a guess after two steps. 96.1 % on 600 tasks, 4.5 % standard deviation of a task.
    """
    asked = ("--data", omniglot_npz, "--tasks", "20", "--alone", "none", "--quiet")
    found = as_json("kept:omniglot-20w1s", *asked)
    assert len(found["mean"]) == 6
    assert found["mean"][5] == pytest.approx(0.961, abs=0.03)
    assert found["mean"][2] < 0.4
    assert found["iterations"] == [5000]
