"""The time to an accuracy: when a target is met, what an interruption costs, the page."""

import json
import os
import signal
from itertools import pairwise

import pytest
import time_to_accuracy as tta
from time_to_accuracy import Moment

from tinymaml import study
from tinymaml.losses import ACCURACY, MSE


TINY = {"hidden": (5,), "tasks": 3, "chunk": 3, "iterations": 12, "inner_steps": 1}
TINY |= {"validate_every": 2, "checkpoint_every": 2, "validation_tasks": 5}
NEVER, AT_ONCE = 0.0, 1e9  # targets of a mean squared error


class Clock:
    """Seconds that pass only when they are asked for, and by `pass_by`."""

    def __init__(self, step=1.0):
        self.now, self.step = 1000.0, step

    def __call__(self):
        self.now += self.step
        return self.now


@pytest.fixture
def clocks(monkeypatch):
    """The clocks of wall and CPU time."""
    wall, cpu = Clock(), Clock(0.5)
    monkeypatch.setattr(tta.time, "monotonic", wall)
    monkeypatch.setattr(tta.measure, "cpu_seconds", cpu)
    return wall, cpu


@pytest.fixture
def config():
    return study.options("sine", **TINY)


def stopped_at(iteration, stop=KeyboardInterrupt):
    """What is called at every moment, and stops the training at one."""

    def each(moment):
        if moment.iteration == iteration:
            raise stop

    return each


# ----- Targets -----


def test_a_target_is_met_by_the_first_score_that_is_as_good():
    """Rejects the best score instead of the first, a score that only comes near, the wrong
    direction, and a training without a score for one that met its target."""
    points = [Moment(2, 1.0, 1.0), *(Moment(n, n, n, n / 10) for n in (4, 6, 8))]
    points.insert(2, Moment(5, 5.0, 5.0, None))
    assert tta.met(ACCURACY, points, (0.6, 0.61, 0.9)) == [points[3], points[4], None]
    assert tta.met(MSE, points, (0.5, 0.1)) == [points[1], None]


def test_training_ends_with_the_checkpoint_that_met_all_targets(config, tmp_path):
    """Rejects a training to its end, one that stops at the first target, and one whose
    last checkpoint is older than the target."""
    moments = tta.trained(config, tmp_path / "met", (AT_ONCE,))
    assert [m.iteration for m in moments] == [2]
    assert study.open_run(tmp_path / "met", last=True).iteration == 2
    for targets in (AT_ONCE, NEVER), ():
        folder = tmp_path / f"{len(targets)}"
        moments = tta.trained(config, folder, targets)
        assert [m.iteration for m in moments] == [2, 4, 6, 8, 10, 12]


def test_a_finished_row_is_not_trained_again(config, tmp_path, monkeypatch):
    """Rejects a second training, and another time, when the same command is given again."""
    moments = tta.trained(config, tmp_path / "run", (AT_ONCE,))
    monkeypatch.delattr(study, "train")
    assert tta.trained(config, tmp_path / "run", (AT_ONCE,)) == moments


# ----- Interruptions -----


def test_an_interruption_takes_no_time(config, tmp_path, clocks):
    """Rejects the time between sessions, that of iterations which are made again, and a
    clock that begins anew; and another training than one without interruptions."""
    whole = tta.trained(config, tmp_path / "whole", ())
    with pytest.raises(KeyboardInterrupt):
        tta.trained(config, tmp_path / "cut", (), each=stopped_at(6))
    kept = tta.moments_in(tmp_path / "cut.times.jsonl", 4)
    assert [m.iteration for m in kept] == [2, 4]
    for clock in clocks:
        clock.now += 10_000
    found = tta.trained(config, tmp_path / "cut", ())
    assert found[:2] == kept
    assert [m[::3] for m in found] == [m[::3] for m in whole]  # iteration, validation
    for before, after in pairwise(found):
        assert 0 < after.wall - before.wall < 100
        assert 0 < after.cpu - before.cpu < 100


def test_a_stopped_process_takes_no_time(config, tmp_path, clocks):
    """Rejects the time between Ctrl-Z and `fg`; that of the iteration before it left out,
    so that there is less wall than CPU time; and a handler that stays."""
    before = signal.getsignal(signal.SIGCONT)

    def stop(moment):
        if moment.iteration == 6:
            clocks[0].now += 10_000
            clocks[1].now += 50
            os.kill(os.getpid(), signal.SIGCONT)

    moments = tta.trained(config, tmp_path / "run", (), each=stop)
    assert len(moments) == 6
    assert 50 < moments[-1].cpu <= moments[-1].wall < 100
    assert signal.getsignal(signal.SIGCONT) is before


def test_a_torn_line_of_times_is_left_out(tmp_path):
    """Rejects a run that cannot go on after a power cut, and later moments."""
    file = tmp_path / "run.times.jsonl"
    file.write_text("[2, 1.0, 0.5, 0.3]\n[4, 2.0, 1.0, null]\n[6, 3.0, 1.5, null]\n[8, 4")
    kept = [Moment(2, 1.0, 0.5, 0.3), Moment(4, 2.0, 1.0)]
    assert tta.moments_in(file, 4) == kept
    assert [m.iteration for m in tta.moments_in(file, 100)] == [2, 4, 6]
    assert tta.moments_in(tmp_path / "none", 100) == []


# ----- Rows and page -----


def test_a_finished_row_keeps_its_times(config, tmp_path, capsys):
    """Rejects times of one process under the name of two, and a repetition that trains
    nothing and does not say so."""
    row = tta.Row("sine", (AT_ONCE,), {})

    def measured(*more):
        options = tta.parser().parse_args(["--runs", str(tmp_path), *more])
        return tta.measured("sine/maml", row, config, options), capsys.readouterr().out

    first, printed = measured()
    assert "trained before" not in printed
    again, printed = measured()
    assert "trained before" in printed
    assert again["end"] == first["end"]
    assert again["machine"]["blas"] == first["machine"]["blas"]
    two, printed = measured("--workers", "2")
    assert "trained before" not in printed
    assert two["end"] != first["end"]


def test_every_row_has_valid_options():
    """Rejects an option that does not exist, has no effect or is out of range; a row whose
    targets get worse; and a row that would lose more than it must to an interruption."""
    for name in tta.ROWS:
        row = tta.row_of(name)
        config = study.options(row.experiment, **row.options)
        better = config.score.better
        assert all(map(better, row.targets[1:], row.targets))
        assert config.validate_every % config.checkpoint_every == 0
    assert tta.chosen(["sine/maml", "glyphs"])[:2] == ["sine/maml", "glyphs/maml"]
    with pytest.raises(ValueError, match="no row 'sin'"):
        tta.chosen(["sin"])


def test_the_peer_has_the_shape_of_the_meta_step():
    """Rejects an estimate from a meta-step of another size, order or algorithm."""
    work = tta.work_of(study.options("glyphs", ways=3, shots=2, queries=4, filters=8))
    assert (work.family, work.tasks, work.ways, work.shots) == ("conv", 32, 3, 2)
    assert (work.queries, work.filters, work.steps, work.order) == (4, 8, 1, "exact")
    sine = tta.work_of(study.options("sine", algorithm="fomaml", shots=5))
    assert (sine.family, sine.shots, sine.queries, sine.filters) == ("sine", 5, 5, 40)
    assert (sine.steps, sine.order) == (2, "first")
    assert tta.work_of(study.options("sine", algorithm="anil")) is None


def line(row="sine/maml", peer=True):
    """A finished row."""
    return {
        "row": row,
        "command": "tinymaml train sine --seed 3",
        "workers": 1,
        "machine": {"cpu": "C", "cores": 2, "blas": "b", "python": "3", "versions": {}},
        "targets": {"0.5": [4, 2.0, 1.5, 0.4], "0.2": None},
        "curve": [[2, 1.0, 0.7, 0.6], [4, 2.0, 1.5, 0.4], [6, 200.0, 180.0, None]],
        "end": [6, 200.0, 180.0, None],
        "sessions": 2,
        "test": {"iteration": 4, "steps": 1, "score": [0.45, 0.05]},
        "peer": {"name": "P", "work": "", "ms": 30.0, "ours_ms": 10.0} if peer else None,
    }


def test_the_page_has_what_was_measured_and_calls_the_rest_an_estimate(tmp_path):
    """Rejects the time to the end as the time to a target, a target that was not met as
    met, an estimate without its label, and a page without the rows before."""
    file = tmp_path / "page.md"
    tta.keep(line(), file)
    tta.keep(line("sine/anil", peer=False), file)
    tta.keep(line(), file)  # again: in place of the first
    text = file.read_text()
    assert "| sine/maml | 0.5000 | 4 | 2 s | 2 s | 2 |  | 0 s (3.0x) |" in text
    missed = "| sine/maml | 0.2000 | not in 6 | 3.3 min | 3.0 min | 2 |"
    assert f"{missed} 0.4500 +- 0.0500 after 1 step |  |" in text
    assert "| sine/anil | 0.5000 | 4 | 2 s | 2 s | 2 |  |  |" in text
    assert "PyTorch loop, estimated" in text
    assert "| sine/maml | 2: 0.6000, 4: 0.4000, 6: not finite |" in text
    assert text.count("# sine/maml\ntinymaml train sine --seed 3\n") == 1
    lines = file.with_suffix(".jsonl").read_text().splitlines()
    rows = [json.loads(one)["row"] for one in lines]
    assert rows == ["sine/maml", "sine/anil"]
