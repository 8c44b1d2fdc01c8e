"""`train --set NAME=A,B,...`, and `--config` with a run's own config.json."""

import json

import pytest

from processes import here, one_error, tree
from tinymaml.harness import runs


SMALL = (
    *("--hidden", "3", "--tasks", "2", "--iterations", "2", "--test-tasks", "4"),
    *("--test-steps", "1", "--quiet"),
)


@pytest.fixture(autouse=True)
def folder(tmp_path, monkeypatch):
    """An empty folder, where commands run."""
    monkeypatch.chdir(tmp_path)
    return tmp_path


def options(path):
    """The options in a run's config.json."""
    return json.loads((path / runs.CONFIG).read_text())["options"]


def test_each_value_is_a_run_and_one_table_compares_them(folder):
    """Rejects values that do not arrive, one folder for all, and a table of one."""
    told = here("train", "sine", *SMALL, "--set", "alpha=0.01,0.5")
    assert told.code == 0, told
    below = folder / "runs" / "sine-1"
    for value in (0.01, 0.5):
        alone = here("train", "sine", *SMALL, "--alpha", value, "--out", f"alone-{value}")
        assert alone.code == 0
        assert options(below / f"alpha-{value}")["alpha"] == value
        assert (
            tree(below / f"alpha-{value}")[runs.CHECKPOINT]
            == tree(folder / f"alone-{value}")[runs.CHECKPOINT]
        )
    table = told.out.partition("on the same 4 test tasks")[2]
    assert "alpha 0.01" in table
    assert "alpha 0.5" in table
    assert here("list", "runs", "runs/sine-1").out.count("finished") == 2


def test_flags_and_texts_can_be_swept(folder):
    """Rejects a sweep of numbers only."""
    assert (
        here(
            "train", "sine", *SMALL, "--no-test", "--set", "grid=yes,no", "--out", "s"
        ).code
        == 0
    )
    assert [options(folder / "s" / f"grid-{x}")["grid"] for x in (True, False)] == [
        True,
        False,
    ]
    told = here("train", "sine", *SMALL, "--set", "algorithm=maml,fomaml", "--out", "t")
    assert told.code == 0
    assert options(folder / "t" / "algorithm-fomaml")["algorithm"] == "fomaml"


def test_a_sweep_goes_on_where_it_was_stopped(folder):
    """Rejects a sweep that trains again what is trained, or refuses to go on."""
    asked = ("train", "sine", *SMALL, "--out", "s", "--set")
    here(*asked, "seed=1,2")
    before = tree(folder / "s" / "seed-1")[runs.CHECKPOINT]
    told = here(*asked, "seed=1,2,3")
    assert told.code == 0, told
    assert tree(folder / "s" / "seed-1")[runs.CHECKPOINT] == before
    assert (folder / "s" / "seed-3" / runs.CHECKPOINT).exists()


WRONG = {
    "alpha": "is not NAME=A,B,... with the name of an option",
    "alpah=1": "is not NAME=A,B,... with the name of an option",
    "alpha=": "is not NAME=A,B,... with the name of an option",
    "alpha=1,x": "'x' is not a number",
    "alpha=1,1.0": "has a value twice",
    "grid=1,0": "'1' is not yes or no",
    "hidden=3,4": "values of --hidden have commas themselves",
    "beta=1,-1": "-1 is not above 0",
    "beta_end=0.1": "--beta-end has no effect",
}


@pytest.mark.parametrize("text", WRONG)
def test_a_wrong_sweep_writes_nothing(folder, text):
    """Rejects a sweep that stops in the middle for a value that cannot be."""
    told = here("train", "sine", *SMALL, "--set", text)
    assert told.code == 2
    assert WRONG[text] in one_error(told)
    assert tree(folder) == {}


@pytest.mark.parametrize(
    "given",
    [
        ("--alpha", "0.1", "--set", "algorithm=maml,pretrained"),
        ("--queries", "3", "--set", "grid=no,yes"),
    ],
)
def test_a_value_that_does_not_fit_the_others_writes_nothing(folder, given):
    """Rejects a sweep that trains its first value before it looks at the second."""
    assert here("train", "sine", *SMALL, *given).code == 2
    assert tree(folder) == {}


def test_a_sweep_and_a_resume_exclude_each_other(folder):
    """Rejects a sweep over an option that a run has fixed."""
    here("train", "sine", *SMALL, "--out", "run")
    told = here("train", "--resume", "run", "--set", "alpha=1,2")
    assert (told.code, "exclude each other" in one_error(told)) == (2, True)


def test_a_run_s_own_file_repeats_it(folder):
    """Rejects options that get lost, and those that the algorithm has no use for."""
    given = ("--algorithm", "anil", "--alpha", "0.07", "--seed", "5", "--rates", "tensor")
    assert here("train", "sine", *SMALL, *given, "--out", "one").code == 0
    again = here("train", "--config", "one/config.json", "--out", "two", "--quiet")
    assert again.code == 0, again
    assert options(folder / "two") == options(folder / "one")
    other = here("train", "--config", "one/config.json", "--seed", "6", "--out", "six")
    assert other.code == 0
    assert options(folder / "six") == options(folder / "one") | {"seed": 6}


def test_a_file_of_another_experiment_is_refused(folder):
    """Rejects options of one experiment in another that happens to have them too."""
    here("train", "sine", *SMALL, "--out", "one")
    told = here("train", "glyphs", "--config", "one/config.json", "--out", "two")
    assert told.code == 2
    assert "is of sine, not glyphs" in one_error(told)
    (folder / "one" / runs.CONFIG).write_text("{}")
    told = here("train", "sine", "--config", "one/config.json", "--out", "two")
    assert (told.code, "is damaged" in one_error(told)) == (1, True)
    assert not (folder / "two").exists()
