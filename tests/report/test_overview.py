"""The list of runs: their states, without their data or their model."""

import json
import re

import pytest

from folders import folder
from processes import here, one_error
from tinymaml.experiments.omniglot import Omniglot
from tinymaml.experiments.sine import Sine
from tinymaml.harness import checkpoints, loop, runs
from tinymaml.report import overview


SMALL = Sine(hidden=(3,), iterations=20)
LEARNED = [{"iteration": 1, "loss": 1.0}]


@pytest.fixture(autouse=True)
def there(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)


def run_of(path, iteration=20, config=SMALL, **more):
    """A run with a checkpoint of some iteration."""
    folder(path, config, LEARNED, **more)
    state = loop.initial_state(config)._replace(iteration=iteration)
    checkpoints.save(path, config, state)
    return path


def states(path):
    return {str(x.path.relative_to(path)): x.state for x in overview.read(path)}


def test_every_state_is_seen(tmp_path):
    """Rejects a run that is called finished though it is not, and a folder that is left
    out, or that is none."""
    run_of(tmp_path / "r/finished")
    run_of(tmp_path / "r/longer", 30)
    run_of(tmp_path / "r/interrupted", 15)
    folder(tmp_path / "r/begun", SMALL)
    (tmp_path / "r/begun/checkpoint.npz").unlink()
    run_of(tmp_path / "r/config")
    (tmp_path / "r/config/config.json").write_text('{"experiment": "sine", "opt')
    flipped = bytearray((run_of(tmp_path / "r/bit") / "checkpoint.npz").read_bytes())
    flipped[len(flipped) // 2] ^= 1
    (tmp_path / "r/bit/checkpoint.npz").write_bytes(flipped)
    run_of(tmp_path / "r/running", 15)
    run_of(tmp_path / "r/seeds/seed-2")
    run_of(tmp_path / "r/seeds/seed-10", 4)
    assert here("export", "r/finished", "r/given").code == 0
    (tmp_path / "r/no run").mkdir()
    (tmp_path / "r/file").write_text("")
    with runs.locked(tmp_path / "r/running"):
        assert states(tmp_path / "r") == {
            "begun": "interrupted",
            "bit": "damaged",
            "config": "damaged",
            "finished": "finished",
            "given": "exported",
            "interrupted": "interrupted",
            "longer": "finished",
            "running": "running",
            "seeds/seed-2": "finished",
            "seeds/seed-10": "interrupted",
        }
    assert states(tmp_path / "r")["running"] == "interrupted"
    assert states(tmp_path / "r/seeds") == {
        "seed-2": "finished",
        "seed-10": "interrupted",
    }
    assert states(tmp_path / "r/bit") == {".": "damaged"}


def test_looking_changes_nothing_and_holds_no_lock(tmp_path):
    """Rejects a lock that stays, a lock file in a folder without one, or that is cut."""
    path = run_of(tmp_path / "runs/a")
    overview.read(tmp_path / "runs")
    assert not (path / runs.LOCK).exists()
    with runs.locked(path):
        before = (path / runs.LOCK).read_bytes()
        assert overview.read(path)[0].state == "running"
        assert (path / runs.LOCK).read_bytes() == before
    overview.read(path)
    with runs.locked(path):
        pass


def test_numbers_are_in_their_order(tmp_path):
    """Rejects sine-10 before sine-2."""
    for number in (10, 2, 1):
        folder(tmp_path / f"runs/sine-{number}", SMALL)
    found = overview.read(tmp_path / "runs")
    assert [one.path.name for one in found] == ["sine-1", "sine-2", "sine-10"]


def test_the_table_has_iterations_and_score(tmp_path):
    """Rejects the score before the steps, that of another iteration as if it were of the
    last, and a fault that is not named."""
    run_of(tmp_path / "runs/a", 15, means=[3.0, 1.0, 0.5], iterations=[15])
    run_of(tmp_path / "runs/b", 15, means=[3.0, 1.0], iterations=[10])
    run_of(tmp_path / "runs/c", 7)
    (tmp_path / "runs/d").mkdir()
    (tmp_path / "runs/d/config.json").write_text("{")
    found = here("list", "runs")
    assert found.code == 0
    head, a, b, c, d, fault = (re.split("   +", x) for x in found.out.splitlines())
    assert head == ["run", "state", "experiment", "algorithm", "iterations", "score"]
    kind = "interrupted", "sine", "maml"
    score = "MSE 0.5000 +- 0.2500 after 2 steps"
    assert a == ["runs/a", *kind, "15 of 20", score]
    early = "MSE 1.0000 +- 0.2500 after 1 step, of iteration 10"
    assert b == ["runs/b", *kind, "15 of 20", early]
    assert c == ["runs/c", *kind, "7 of 20"]
    assert d == ["runs/d", "damaged"]
    assert "'runs/d/config.json' is damaged" in fault[0]
    every = json.loads(here("list", "runs", "runs", "--json").out)
    assert [one["run"] for one in every] == ["runs/a", "runs/b", "runs/c", "runs/d"]
    assert every[0]["evaluation"]["mean"] == [3.0, 1.0, 0.5]
    assert (every[2]["evaluation"], every[3]["experiment"]) == (None, None)
    assert (every[0]["iteration"], every[0]["iterations"]) == (15, 20)


def test_a_list_needs_no_data(tmp_path):
    """Rejects a list that opens the data of image runs."""
    path, config = tmp_path / "runs/a", Omniglot(data="gone.npz", iterations=5)
    path.mkdir(parents=True)
    runs.write_config(path, config, {})
    data = checkpoints._packed(config, 5, {})
    (path / runs.CHECKPOINT).write_bytes(data)
    assert states(tmp_path / "runs") == {"a": "finished"}


def test_a_run_whose_algorithm_is_elsewhere_is_not_called_damaged(tmp_path, monkeypatch):
    """Rejects "damaged" for a sound run that was begun in another folder."""
    own = "from tinymaml.algorithms.mamls import MAML\nMINE = MAML._replace(name='mine')\n"
    (tmp_path / "own.py").write_text(own)
    config = SMALL.with_changes({"algorithm": "own.py:MINE"})
    path = folder(tmp_path / "runs/a", config)
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path / "elsewhere")
    (one,) = overview.read(tmp_path / "runs")
    assert one.state == "unreadable"
    assert "needs the file of its algorithm" in one.fault
    text = (path / "config.json").read_text()
    (path / "config.json").write_text(text.replace('"seed": 0', '"seed": 1'))
    assert overview.read(path)[0].state == "damaged"


def test_wrong_arguments_of_the_list(tmp_path):
    """Rejects a traceback without runs, and an argument without effect."""
    assert "no folder 'runs'" in one_error(here("list", "runs"))
    (tmp_path / "runs").mkdir()
    assert here("list", "runs").out == "no runs\n"
    for wrong in (("sine", "runs"), ("runs", "runs", "--presets")):
        assert here("list", *wrong).code == 2


def test_a_result_that_cannot_be_read_hides_no_run(tmp_path):
    """Rejects an error in place of the list, for a file without permission."""
    run_of(tmp_path / "runs/a")
    (tmp_path / "runs/a/evaluation.json").mkdir()  # a file that even root cannot read
    run_of(tmp_path / "runs/b")
    assert states(tmp_path / "runs") == {"a": "finished", "b": "finished"}
