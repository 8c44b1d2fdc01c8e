"""`reuse` on the command line: its table, JSON, picture and errors."""

import json

import pytest
from PIL import Image

from folders import folder
from processes import here, one_error, run, tree
from tinymaml.experiments.glyphs import Glyphs
from tinymaml.experiments.sine import Sine
from tinymaml.harness import runs
from tinymaml.report.reuse import ROWS


SMALL = {"filters": 4, "test_steps": 2, "validation_tasks": 2}
FEW = ("--tasks", 6, "--queries", 2)


@pytest.fixture(scope="module")
def world(tmp_path_factory):
    """Two runs on glyphs, one on sine."""
    place = tmp_path_factory.mktemp("world")
    folder(place / "maml", Glyphs(**SMALL))
    folder(place / "anil", Glyphs(**SMALL, algorithm="anil"))
    folder(place / "sine", Sine())
    return place


@pytest.fixture(autouse=True)
def there(world, monkeypatch):
    monkeypatch.chdir(world)


def test_the_json_has_every_figure(world):
    """Rejects figures that are missing, and anything but JSON on stdout."""
    found = here("reuse", "maml", "anil", *FEW, "--json", "--quiet")
    assert (found.code, found.err) == (0, "maml+anil/reuse.png\n")
    one, two = json.loads(found.out)
    assert (one["run"], two["run"]) == ("maml", "anil")
    assert (one["tasks"], one["steps"], one["split"]) == (6, 2, "test")
    assert one["tasks_sha256"] == two["tasks_sha256"]
    layers = ["conv0", "conv1", "conv2", "conv3", "head"]
    assert one["layers"] == layers
    for figures in (one["figures"], one["untrained"], two["figures"]):
        assert list(figures) == [*ROWS]
        for group in ("change", "gradient", "CKA", "CCA"):
            assert [*figures[group]] == layers
        assert [*figures["frozen"]] == layers[:-1]
        assert [*figures["head step"]] == ["1", "2", "5", "10", "50"]
        for rows in figures.values():
            for cell in rows.values():
                assert set(cell) == {"mean", "half_width_95", "not_finite"}
                assert (cell["mean"] is None) == (cell["not_finite"] > 0)
    assert one["figures"] == one["untrained"]  # these runs were not trained
    assert set(two["verdict"]) == {"reuse", "reused", "suffice", "changed"}
    assert two["figures"]["change"]["conv0"]["mean"] == 0
    with Image.open(world / "maml+anil" / "reuse.png") as drawn:
        assert drawn.format == "PNG"


def test_workers_give_the_same_numbers(tmp_path):
    """Rejects figures that depend on the number of processes."""
    how = *FEW, "--json", "--out", tmp_path / "x.png"
    one, two = (here("reuse", "maml", *how, "--workers", n) for n in (1, 2))
    assert (one.code, two.code) == (0, 0)
    assert one.out == two.out


def test_runs_stand_side_by_side(tmp_path):
    """Rejects columns of one run twice, and a table without verdict or rule."""
    how = *FEW, "--out", tmp_path / "x.png", "--quiet"
    found = here("reuse", "maml", "anil", *how, "--steps", 1)
    assert (found.code, found.err) == (0, "")
    lines = found.out.splitlines()
    assert lines[0].endswith("6 test tasks, 2 queries per class, 1 gradient steps")
    (head,) = [line.split() for line in lines if line.startswith("   ")]
    assert head == ["maml", "untrained", "1", "anil", "untrained", "2"]
    (change,) = [line for line in lines if line.startswith("relative change of conv3")]
    assert "0.000 +- 0.000" in change
    assert "maml: feature reuse: " in found.out
    assert "anil: feature reuse: " in found.out
    assert lines[-1] == str(tmp_path / "x.png")


@pytest.mark.parametrize(
    ("arguments", "code", "words"),
    [
        (["sine"], 2, "run of sine"),
        (["maml", "sine"], 2, "run of sine"),
        (["none"], 1, "no run in 'none'"),
        (["kept:none"], 2, "there are: kept:omniglot-5w1s"),
        ([], 2, "Missing argument 'RUN"),
        (["maml", "--out", "x.pdf"], 2, "must end with .png"),
        (["maml", "--tasks", "1"], 2, "1 is below 2"),
        (["maml", "--steps", "0"], 2, "0 is below 1"),
        (["maml", "--queries", "30"], 2, "1 shots and 30 queries"),
        (["kept:omniglot-5w1s"], 1, "no data file given"),
    ],
)
def test_what_is_wrong_is_one_line(arguments, code, words, world):
    """Rejects a traceback, a wrong exit code, and files written nevertheless."""
    before = tree(world)
    found = here("reuse", *arguments)
    assert (found.code, found.out) == (code, "")
    assert words in one_error(found)
    assert tree(world) == before


def test_without_matplotlib_there_is_a_table(world):
    """Rejects a failure, or a traceback, where only the picture cannot be drawn."""
    found = run("reuse", world / "maml", *FEW, "--quiet", cwd=world)
    assert found.code == 0, found
    assert "CKA of conv3" in found.out
    (line,) = found.err.splitlines()
    assert line.startswith("no picture: ")
    assert "pip install" in line


def test_seeds_are_analysed_one_by_one(world, tmp_path):
    """Rejects the first of several seeds only, under the name of their folder."""
    for seed in (0, 1):
        folder(tmp_path / f"both/{runs.SEED}{seed}", Glyphs(**SMALL, seed=seed))
    found = here("reuse", tmp_path / "both", *FEW, "--json")
    names = [one["run"] for one in json.loads(found.out)]
    assert names == [str(tmp_path / f"both/seed-{seed}") for seed in (0, 1)]
    assert (tmp_path / "both" / "reuse.png").exists()


@pytest.mark.slow
@pytest.mark.data
def test_the_kept_theta_reuses_three_layers(omniglot_npz, tmp_path):
    """Rejects a claim of feature reuse where the last convolution must adapt."""
    how = "--data", omniglot_npz, "--out", tmp_path / "x.png", "--json"
    (found,) = json.loads(here("reuse", "kept:omniglot-5w1s", *how).out)
    verdict = found["verdict"]
    assert verdict["reuse"] is False
    assert verdict["reused"] == ["conv0", "conv1", "conv2"]
    assert (verdict["suffice"], verdict["changed"]) == (True, ["conv3"])
    frozen = found["figures"]["frozen"]["conv3"]["mean"]
    assert frozen == pytest.approx(0.58, abs=0.05)
    nil = found["figures"]["NIL"]["before"]["mean"]
    assert nil == pytest.approx(0.89, abs=0.03)
