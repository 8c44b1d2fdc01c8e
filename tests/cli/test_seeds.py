"""`train --seeds`: several runs by one command, stopped and gone on with."""

import json
import signal

import pytest

from processes import SMALL, digests, end, here, one_error, run, start, tree, wait_for
from tinymaml.harness import checkpoints, runs
from tinymaml.harness.metrics import read_metrics
from tinymaml.harness.runs import members
from tinymaml.plots import draw


FEW = [*SMALL, "--iterations", "12"]


@pytest.fixture(autouse=True)
def quick(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("tinymaml.plots.draw", lambda path: [])


def test_each_seed_is_the_run_of_that_seed(tmp_path):
    """Rejects runs that share a stream, another option, or the first seed's theta."""
    told = here("train", "sine", *FEW, "--seed", "9", "--seeds", "2", "--out", "all")
    assert told.code == 0, told
    assert [path.name for path in members(tmp_path / "all")] == ["seed-9", "seed-10"]
    for seed in (9, 10):
        assert here("train", "sine", *FEW, "--seed", seed, "--out", f"one-{seed}").code == 0
        alone, among = tmp_path / f"one-{seed}", tmp_path / "all" / f"seed-{seed}"
        assert digests(alone) == digests(among)
        for name in (runs.CONFIG, "evaluation.json"):
            assert (alone / name).read_bytes() == (among / name).read_bytes()
    assert json.loads((tmp_path / "all/evaluation.json").read_text())["seeds"] == [9, 10]
    assert "seeds 9, 10" in told.out


def test_tests_can_wait(tmp_path, monkeypatch):
    """Rejects test tasks that are looked at by every training, so that options are chosen
    by them; the validation score is told, and evaluate gives what train would have."""
    often = ["--validate-every", "6", "--validation-tasks", "4"]
    assert here("train", "sine", *FEW, *often, "--out", "whole").code == 0
    with monkeypatch.context() as without:
        without.setattr("tinymaml.harness.results.judge", None)
        arguments = [*FEW, *often, "--no-test", "--seeds", "2", "--out", "left"]
        told = here("train", "sine", *arguments)
        assert told.code == 0, told
    assert not [*(tmp_path / "left").rglob("evaluation.json")]
    best = checkpoints.load(tmp_path / "whole", runs.read_config(tmp_path / "whole"))
    lines = told.out.splitlines()
    assert lines[0] == (
        f"sine, {best.iteration} iterations, MSE {best.validation:.4f} on validation tasks;"
        " to test it: tinymaml evaluate left/seed-0"
    )
    expected = json.loads((tmp_path / "whole" / "evaluation.json").read_text())
    expected.pop(runs.HASH)
    assert lines[1].startswith("no clear improvement: on 4 validation tasks")
    assert [lines[1]] == expected["remarks"]
    found = here("evaluate", "left/seed-0", "--json").out
    expected["options"]["test"] = False
    assert json.loads(found) == expected
    again = here("train", "--resume", "left/seed-0", "--test")
    assert again.code == 0, again
    assert (tmp_path / "left/seed-0/evaluation.json").exists()


def test_pictures_can_wait_too(tmp_path):
    """Rejects a picture for which the test tasks of a run with --no-test are scored."""
    pytest.importorskip("matplotlib")
    assert here("train", "sine", *FEW, "--no-test", "--out", "left").code == 0
    assert [file.name for file in draw([tmp_path / "left"])] == ["curve.png"]
    assert not (tmp_path / "left" / "evaluation.json").exists()


def test_one_seed_is_a_run_as_ever(tmp_path):
    """Rejects a folder within a folder for one run."""
    assert here("train", "sine", *FEW, "--seeds", "1", "--out", "a").code == 0
    assert (tmp_path / "a" / runs.CHECKPOINT).exists()
    assert members(tmp_path / "a") == [tmp_path / "a"]


def test_a_stopped_command_goes_on_either_way(tmp_path):
    """Rejects seeds that are forgotten when the first one is stopped, results other than
    of one go, and a folder for each try."""
    arguments = ("sine", *SMALL, "--seeds", "2")
    assert run("train", *arguments, "--out", "whole", cwd=tmp_path).code == 0
    for name, again in (
        ("same", (*arguments, "--out", "same")),
        ("resumed", ("--resume", "resumed")),
    ):
        process = start("train", *arguments, "--out", name, cwd=tmp_path)
        wait_for((tmp_path / name / "seed-0" / runs.CHECKPOINT).exists)
        process.send_signal(signal.SIGTERM)
        told = end(process)
        assert told.code == 143
        assert f"tinymaml train --resume {name}" in told.err
        assert len(members(tmp_path / name)) == 2
        told = run("train", *again, cwd=tmp_path)
        assert told.code == 0, told
        for seed in range(2):
            found, whole = (tmp_path / x / f"seed-{seed}" for x in (name, "whole"))
            assert digests(found) == digests(whole)
        evaluation = (tmp_path / name / "evaluation.json").read_bytes()
        assert evaluation == (tmp_path / "whole" / "evaluation.json").read_bytes()


def test_seeds_of_other_options_are_refused(tmp_path):
    """Rejects going on with other options, and a run among runs of several seeds."""
    assert here("train", "sine", *FEW, "--seeds", "2", "--out", "all").code == 0
    before = tree(tmp_path)
    told = here("train", "sine", *FEW, "--seeds", "2", "--alpha", "0.5", "--out", "all")
    assert told.code == 2
    assert "--alpha 0.5: the run was begun with 0.01" in one_error(told)
    told = here("train", "sine", *FEW, "--out", "all")
    assert told.code == 1
    assert "holds runs of several seeds" in one_error(told)
    told = here("train", "--resume", "all", "--seeds", "3")
    assert told.code == 2
    assert "'all' has 2" in one_error(told)
    assert tree(tmp_path) == before


def test_more_seeds_and_iterations_join_the_others(tmp_path):
    """Rejects training again what was trained."""
    assert here("train", "sine", *FEW, "--seeds", "2", "--out", "all").code == 0
    first = digests(tmp_path / "all" / "seed-0")
    told = here("train", "sine", *FEW, "--seeds", "3", "--out", "all")
    assert told.code == 0, told
    assert len(members(tmp_path / "all")) == 3
    assert digests(tmp_path / "all" / "seed-0") == first
    assert here("train", "--resume", "all", "--iterations", "15").code == 0
    for path in members(tmp_path / "all"):
        assert len(read_metrics(path)) == 15


def test_a_file_may_name_the_seeds(tmp_path):
    """Rejects an option of the command line that a file cannot hold."""
    (tmp_path / "c.toml").write_text('seeds = 2\nout = "filed"\n')
    assert here("train", "sine", *FEW, "--config", "c.toml").code == 0
    assert len(members(tmp_path / "filed")) == 2
