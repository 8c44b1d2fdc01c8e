"""The loop: what a run computes, however often it was stopped and wherever it ran."""

import json
import os
import signal

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tinymaml.algorithms import ALGORITHMS
from tinymaml.algorithms.mamls import MAML
from tinymaml.errors import Interrupted, WorldError
from tinymaml.experiments.sine import Sine
from tinymaml.harness import checkpoints, loop, runs, step
from tinymaml.harness.evaluation import evaluate
from tinymaml.harness.metrics import Metrics, read_metrics
from tinymaml.speed.workers import Here, engine, spans
from tinymaml.summary import interval
from trainings import COUNT, SMALL, VALIDATED, results, state_of, train


def at(iteration: int, *numbers: int):
    """Return a progress that sends this process signals after an iteration."""

    def send(now: int, _: dict) -> None:
        if now == iteration:
            for number in numbers:
                os.kill(os.getpid(), number)

    return send


@pytest.fixture(scope="module")
def straight(tmp_path_factory) -> tuple[bytes, bytes]:
    """The results of twenty iterations in one go."""
    path = tmp_path_factory.mktemp("straight")
    train(path)
    return results(path)


# ----- The same bytes -----


@pytest.mark.parametrize("first", [0, 1, 5, 7, 19, 20])
def test_going_on_gives_the_bytes_of_one_go(tmp_path, straight, first):
    """Rejects forgetting Adam's moments or count, or where the tasks' streams were."""
    train(tmp_path, SMALL.with_changes({"iterations": first}))
    train(tmp_path)
    assert results(tmp_path) == straight


def test_without_a_checkpoint_it_starts_anew(tmp_path, straight):
    """Rejects appending to metrics that no checkpoint counts (killed at the start)."""
    (tmp_path / runs.METRICS).write_text('{"iteration": 1, "loss": 0.5}\n{"itera')
    train(tmp_path)
    assert results(tmp_path) == straight


def test_going_on_from_the_previous_checkpoint(tmp_path, straight):
    """Rejects keeping the metrics of iterations that will be done again."""
    train(tmp_path)
    (tmp_path / runs.CHECKPOINT).write_bytes(b"PK damaged")
    assert checkpoints.load(tmp_path, SMALL, fallback=True).iteration == 15
    train(tmp_path)
    assert results(tmp_path) == straight


def test_metrics_are_cut_to_the_checkpoint(tmp_path, straight):
    """Rejects counting iterations twice, and choking on a torn last line."""
    train(tmp_path, SMALL.with_changes({"iterations": 7}))
    with open(tmp_path / runs.METRICS, "a", encoding="utf-8") as file:
        file.write('{"iteration": 8, "loss": 123.0}\n{"iteration": 9, "lo')
    train(tmp_path)
    assert results(tmp_path) == straight
    iterations = [record["iteration"] for record in read_metrics(tmp_path)]
    assert iterations == [*range(1, 21)]


def test_a_finished_run_stays_as_it_is(tmp_path, straight):
    """Rejects saving again, which would lose the previous checkpoint."""
    train(tmp_path)
    previous = (tmp_path / runs.PREVIOUS).read_bytes()
    train(tmp_path, SMALL.with_changes({"iterations": 3}))
    assert results(tmp_path) == straight
    assert (tmp_path / runs.PREVIOUS).read_bytes() == previous


@pytest.mark.parametrize("workers", [2, 4])
def test_workers_do_not_change_a_bit(tmp_path, straight, workers):
    """Rejects chunks cut by the number of workers, and sums in order of arrival."""
    theta = np.linspace(-1, 1, COUNT, dtype="float32")
    alone = evaluate(SMALL, theta, "test", 45, 2, Here())
    with engine(workers) as pool:
        train(tmp_path, pool=pool)
        scores = evaluate(SMALL, theta, "test", 45, 2, pool)
    assert results(tmp_path) == straight
    assert scores.tobytes() == alone.tobytes()


def test_another_seed_is_another_run(tmp_path, straight):
    """Rejects a seed that nothing uses."""
    train(tmp_path, SMALL.with_changes({"seed": 1}))
    assert results(tmp_path) != straight


def test_chunks_hold_the_same_tasks():
    """Rejects streams keyed by a task's place in its chunk."""
    configs = [SMALL.with_changes({"chunk": c, "dtype": "float64"}) for c in (1, 3, 99)]
    state = loop.initial_state(configs[0])
    found = [step.average_gradient(config, state, Here()) for config in configs]
    for loss, gradient in found[1:]:
        np.testing.assert_allclose(loss, found[0][0], rtol=1e-13)
        np.testing.assert_allclose(gradient, found[0][1], rtol=1e-11, atol=1e-13)


@given(st.integers(0, 50), st.integers(1, 60))
def test_spans_cover_every_task_once(total, size):
    """Rejects leaving the last, shorter chunk out."""
    found = spans(total, size)
    assert [task for span in found for task in span] == [*range(total)]
    assert all(len(span) == size for span in found[:-1])


# ----- Validation and evaluation leave the run alone -----


def test_evaluation_changes_nothing(tmp_path):
    """Rejects a validation that adapts theta in place or draws from the tasks' streams, and
    a standard error for half its interval."""
    config = SMALL.with_changes({"validate_every": 5, "validation_tasks": 3})
    theta = train(tmp_path, config).theta
    train(tmp_path / "plain")
    assert state_of(tmp_path) == state_of(tmp_path / "plain")
    records = read_metrics(tmp_path)
    assert [r["iteration"] for r in records if "validation" in r] == [5, 10, 15, 20]
    mean, half = interval(evaluate(config, theta, "val", 3, 2, Here())[-1])
    last = records[-1]
    assert last["validation"] == pytest.approx(mean)
    assert last["validation_half_width_95"] == half
    before = theta.copy()
    first, second = (evaluate(SMALL, theta, "test", 4, 2, Here()) for _ in range(2))
    assert first.tobytes() == second.tobytes()
    assert theta.tobytes() == before.tobytes()


# ----- Divergence -----


def unreplayed(config: Sine) -> Sine:
    """The options for an algorithm that counts its calls, which a tape cannot."""
    step.gradient_of.cache_clear()  # it holds the algorithm that was
    return config.with_changes({"replay": False})


def breaking(iteration: int, value: float):
    """Return an algorithm whose gradient is `value` in one iteration."""
    calls = []

    def gradient(w, task, problem):
        calls.append(1)
        broken = len(calls) == 3 * iteration  # three chunks an iteration
        return 1.0, np.full_like(w, value if broken else 0.1)

    return MAML._replace(gradient=gradient)


@pytest.mark.parametrize("value", [np.nan, np.inf, 1e30], ids=["nan", "inf", "square"])
def test_divergence_keeps_the_last_good_checkpoint(tmp_path, monkeypatch, value):
    """Rejects saving what is not finite, a square that overflows in Adam included."""
    monkeypatch.setitem(ALGORITHMS, "maml", breaking(8, value))
    with pytest.raises(WorldError, match=r"diverged at iteration 8 \(alpha=0.01"):
        train(tmp_path, unreplayed(SMALL))
    assert checkpoints.load(tmp_path, SMALL).iteration == 5
    records = read_metrics(tmp_path)
    assert all(np.isfinite(record["loss"]) for record in records)


def test_a_loss_that_is_nan_stops(tmp_path, monkeypatch):
    """Rejects looking at the gradient only."""
    lost = MAML._replace(gradient=lambda w, *_: (np.nan, np.zeros_like(w)))
    monkeypatch.setitem(ALGORITHMS, "maml", lost)
    with pytest.raises(WorldError, match="diverged at iteration 1 "):
        train(tmp_path, unreplayed(SMALL))
    assert checkpoints.load(tmp_path, SMALL).iteration == 0


@pytest.mark.parametrize("lost", [np.nan, np.inf])
def test_a_validation_that_is_not_finite_chooses_no_theta(tmp_path, monkeypatch, lost):
    """Rejects such a theta as the best, a mean over the other tasks, and metrics that are
    no JSON, or that a resumed run cannot read."""
    scored, calls = loop.evaluate, []

    def evaluate(*args):
        found = scored(*args)
        calls.append(1)
        found[-1, 1] = {2: 3.0, 3: 2.0}.get(len(calls), lost)
        return found

    monkeypatch.setattr(loop, "evaluate", evaluate)
    config = SMALL.with_changes({"validate_every": 5, "validation_tasks": 3})
    train(tmp_path, config.with_changes({"iterations": 15}))
    train(tmp_path, config)
    text = (tmp_path / runs.METRICS).read_text()
    records = [json.loads(x, parse_constant=pytest.fail) for x in text.splitlines()]
    assert len(records) == 20
    named = [(r["validation"], r["validation_half_width_95"]) for r in records[4::5]]
    assert named[0] == named[3] == (None, None)
    assert None not in (*named[1], *named[2])
    best = checkpoints.load(tmp_path, config)
    assert (best.iteration, best.validation) == (15, named[2][0])


def test_a_run_without_a_finite_validation_says_so(tmp_path, monkeypatch, capsys):
    """Rejects the last theta in silence, as if validation tasks had chosen it."""
    monkeypatch.setattr(loop, "evaluate", lambda *_: np.full((2, 3), np.nan))
    config = SMALL.with_changes({"validate_every": 10, "validation_tasks": 3})
    train(tmp_path, config)
    assert capsys.readouterr().err == ""
    kept = checkpoints.load(tmp_path, config)
    assert (kept.iteration, kept.chosen) == (20, False)
    told = f"validation chose no theta of {str(tmp_path)!r}: using that of iteration 20\n"
    assert capsys.readouterr().err == told
    checkpoints.load(tmp_path, config, last=True)
    assert capsys.readouterr().err == ""


# ----- Signals -----


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_a_signal_saves_and_stops(tmp_path, straight, number, code):
    """Rejects stopping without a checkpoint, and handlers that outlive the loop."""
    before = signal.getsignal(number)
    with pytest.raises(Interrupted) as stop:
        train(tmp_path, progress=at(3, number))
    assert (stop.value.exit_code, stop.value.iteration) == (code, 3)
    assert checkpoints.load(tmp_path, SMALL).iteration == 3
    assert signal.getsignal(number) is before
    train(tmp_path)
    assert results(tmp_path) == straight


def test_a_second_signal_stops_at_once(tmp_path):
    """Rejects a first Ctrl-C that makes the next ones deaf."""
    with pytest.raises(KeyboardInterrupt):
        train(tmp_path, progress=at(3, signal.SIGINT, signal.SIGINT))
    assert checkpoints.load(tmp_path, SMALL).iteration == 0


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_second_signal_stops_where_it_was_ignored(tmp_path, number):
    """Rejects a job of the background that no second signal ends."""
    before = signal.signal(number, signal.SIG_IGN)
    try:
        with pytest.raises(KeyboardInterrupt):
            train(tmp_path, progress=at(3, number, number))
        assert signal.getsignal(number) is signal.SIG_IGN
    finally:
        signal.signal(number, before)


def test_what_answers_a_second_signal_stays(tmp_path):
    """Rejects taking away the handler by which a third signal ends the process."""

    def third(*_):
        """Stand for what ends the process by force."""

    def second(*_):
        signal.signal(signal.SIGTERM, third)
        raise SystemExit(143)

    before = signal.signal(signal.SIGTERM, second)
    try:
        with pytest.raises(SystemExit):
            train(tmp_path, progress=at(3, signal.SIGTERM, signal.SIGTERM))
        assert signal.getsignal(signal.SIGTERM) is third
    finally:
        signal.signal(signal.SIGTERM, before)


def test_a_signal_in_the_last_iteration_counts(tmp_path, monkeypatch):
    """Rejects a Ctrl-C during the last save that is forgotten."""
    interrupt_save(monkeypatch, 20)
    with pytest.raises(Interrupted, match="at iteration 20"):
        train(tmp_path)


def test_a_signal_during_a_save_saves_again(tmp_path, monkeypatch):
    """Rejects telling an iteration that no checkpoint has."""
    interrupt_save(monkeypatch, 5)
    with pytest.raises(Interrupted, match="at iteration 6"):
        train(tmp_path)
    assert checkpoints.load(tmp_path, SMALL).iteration == 6


def interrupt_save(monkeypatch, iteration: int) -> None:
    save = checkpoints.save

    def interrupted(path, config, state):
        save(path, config, state)
        if state.iteration == iteration:
            os.kill(os.getpid(), signal.SIGINT)

    monkeypatch.setattr(checkpoints, "save", interrupted)


def test_what_a_checkpoint_counts_on_is_on_the_disk_before_it(tmp_path, monkeypatch):
    """Rejects a checkpoint that is saved before the metrics of its iterations or before its
    best theta: after a crash of the machine they would be missing."""
    calls, sync = [], Metrics.sync

    def synced(metrics):
        sync(metrics)
        calls.append(("metrics", len(read_metrics(tmp_path))))

    monkeypatch.setattr(Metrics, "sync", synced)
    for name in ("save_best", "save"):
        function = getattr(checkpoints, name)

        def saved(path, config, what, name=name, function=function):
            function(path, config, what)
            calls.append((name, what.iteration))

        monkeypatch.setattr(checkpoints, name, saved)
    train(tmp_path, VALIDATED)
    order = [name for name, _ in calls]
    assert order == ["save", *("metrics", "save_best", "save") * 5]
    counts = [count for name, count in calls[1:] if name != "save_best"]
    assert counts == [4, 4, 8, 8, 12, 12, 16, 16, 20, 20]


def test_progress_sees_every_iteration(tmp_path):
    """Rejects telling only the iterations that are saved."""
    seen = []
    train(tmp_path, progress=lambda *told: seen.append(told))
    lines = (tmp_path / runs.METRICS).read_text().splitlines()
    assert seen == [(r["iteration"], r) for r in map(json.loads, lines)]


@pytest.mark.parametrize("inner_steps", [0, 1, 3])
def test_validation_adapts(inner_steps):
    """Rejects validation before the first step where training has none, with test steps,
    on test tasks, and its first step's score."""
    config = SMALL.with_changes({"inner_steps": inner_steps, "validate_every": 1})
    state = loop.initial_state(config)._replace(iteration=1)
    steps = max(inner_steps, 1)
    scores = evaluate(config, state.theta, "val", config.validation_tasks, steps, Here())
    mean, half = interval(scores[-1])
    expected = {"validation": mean, "validation_half_width_95": half}
    assert loop.validate(config, state, Here()) == pytest.approx(expected, rel=1e-6)


def test_the_update_is_the_average_over_tasks():
    """Rejects a sum, an average of chunks of unequal size, and a task left out."""
    state = loop.initial_state(SMALL)
    loss, gradient = step.average_gradient(SMALL, state, Here())
    alone = [
        step.chunk_gradient(SMALL, state.theta, 0, range(task, task + 1))
        for task in range(7)
    ]
    # float32 sums in another order.
    assert loss == pytest.approx(np.mean([one for one, _ in alone]), rel=1e-5)
    expected = np.mean([one for _, one in alone], axis=0)
    np.testing.assert_allclose(gradient, expected, rtol=1e-4, atol=1e-6)


def test_the_average_is_clipped_before_adam():
    """Rejects clipping each task's gradient, the update, or nothing at all."""
    config = SMALL.with_changes({"clip": 0.01})
    state = loop.initial_state(SMALL)
    _, average = step.average_gradient(config, state, Here())
    _, unclipped = step.average_gradient(SMALL, state, Here())
    np.testing.assert_array_equal(average, unclipped)
    assert np.abs(average).max() > 0.02
    after = step.update(config, state, average)
    expected = step.update(SMALL, state, np.clip(average, -0.01, 0.01))
    for told, wanted in zip(after.moments, expected.moments, strict=True):
        np.testing.assert_array_equal(told, wanted)
    assert np.abs(after.moments.m).max() == pytest.approx(0.001, rel=1e-6)


@pytest.mark.parametrize("algorithm", ["meta-sgd", "maml++"])
def test_the_clip_leaves_learned_step_sizes_alone(algorithm):
    """Rejects a clip of all that is meta-learned, of the wrong end of it, or of nothing:
    gradient descent moves theta by the bound, and step sizes by all of their gradient."""
    config = Sine(algorithm=algorithm, hidden=(3,), clip=0.01, outer="sgd", beta=0.5)
    state = loop.initial_state(config)
    gradient = np.linspace(1, 2, state.theta.size, dtype="float32")
    moved = state.theta - step.update(config, state, gradient).theta
    np.testing.assert_allclose(moved[:COUNT], 0.005, rtol=1e-4)
    np.testing.assert_allclose(moved[COUNT:], 0.5 * gradient[COUNT:], rtol=1e-5)
    assert len(moved) > COUNT


@pytest.mark.parametrize("schedule", ["linear", "cosine"])
@pytest.mark.parametrize("outer", ["adam", "sgd"])
def test_a_schedule_that_was_interrupted_gives_the_same_bytes(tmp_path, schedule, outer):
    """Rejects a schedule that starts anew at a resume, and one that is not used."""
    changes = {"schedule": schedule, "outer": outer, "beta": 0.02, "beta_end": 0.001}
    config = SMALL.with_changes(changes)
    if schedule == "cosine":
        config = config.with_changes({"epoch": 3})
    train(tmp_path / "straight", config)
    for stop in (7, 11):
        with pytest.raises(Interrupted):
            train(tmp_path / "parts", config, progress=at(stop, signal.SIGTERM))
    train(tmp_path / "parts", config)
    assert results(tmp_path / "parts") == results(tmp_path / "straight")
    constant = SMALL.with_changes({"outer": outer, "beta": 0.02})
    train(tmp_path / "constant", constant)
    assert results(tmp_path / "constant") != results(tmp_path / "straight")


def test_gradient_descent_is_a_step_along_the_average():
    """Rejects Adam under the name of gradient descent, and another iteration's rate."""
    changes = {"outer": "sgd", "schedule": "linear", "beta": 0.5, "beta_end": 0.1}
    config = SMALL.with_changes(changes)
    state = loop.initial_state(config)._replace(iteration=5)
    gradient = np.linspace(-1, 1, COUNT, dtype="float32")
    after = step.update(config, state, gradient)
    np.testing.assert_allclose(after.theta, state.theta - 0.4 * gradient, rtol=1e-6)
    assert after.iteration == 6


def test_a_replayed_run_has_the_bytes_of_one_that_is_not(tmp_path, straight):
    """Rejects a replay whose last bits differ, after any number of updates."""
    step.gradient_of.cache_clear()
    path = tmp_path / "eager"
    train(path, SMALL.with_changes({"replay": False}))
    assert results(path) == straight


# ----- One dtype -----


def widening(theta, *_):
    """An algorithm whose gradient is float64, whatever theta is."""
    return theta.sum(), 0.1 * theta.astype("float64")


@pytest.mark.parametrize("replay", [True, False])
def test_a_gradient_of_another_dtype_is_an_error(tmp_path, monkeypatch, replay):
    """Rejects training on in float64, and then testing the theta before training."""
    step.gradient_of.cache_clear()
    monkeypatch.setitem(ALGORITHMS, "maml", MAML._replace(gradient=widening))
    config = SMALL.with_changes({"replay": replay, "seed": 7})
    with pytest.raises(WorldError, match=r"gradient became float64 .* theta is float32"):
        train(tmp_path, config)
    assert checkpoints.load(tmp_path, config).iteration == 0


def test_a_gradient_of_another_size_is_an_error(tmp_path, monkeypatch):
    """Rejects a gradient of theta alone, of an algorithm that learns more: a traceback."""
    step.gradient_of.cache_clear()
    short = MAML._replace(gradient=lambda w, task, problem: (w.sum(), w[:, :-1]))
    monkeypatch.setitem(ALGORITHMS, "maml", short)
    with pytest.raises(WorldError, match=rf"shape \(3, {COUNT - 1}\), not \(3, {COUNT}\)"):
        train(tmp_path, SMALL.with_changes({"seed": 78}))


@pytest.mark.parametrize("part", ["theta", "m", "v"])
def test_a_state_of_another_dtype_is_an_error(tmp_path, monkeypatch, part):
    """Rejects an update that converts what it returns, Adam's moments included."""

    def wide(config, state, engine):
        after, told = step.iterate(config, state, engine)
        if part == "theta":
            return after._replace(theta=after.theta.astype("float64")), told
        moments = after.moments._asdict()
        moments[part] = moments[part].astype("float64")
        return after._replace(moments=after.moments._replace(**moments)), told

    monkeypatch.setitem(loop.ITERATIONS, "few-shot", wide)
    with pytest.raises(WorldError, match=f"{part} became float64 while theta is float32"):
        train(tmp_path)
    assert checkpoints.load(tmp_path, SMALL).iteration == 0


# ----- A lock that is lost, metrics that are damaged -----


def test_a_run_whose_lock_was_deleted_is_not_written(tmp_path):
    """Rejects two processes that write one run: the lines of one are lost without a word,
    or its checkpoint is of iterations that the metrics do not have."""
    tmp_path.mkdir(exist_ok=True)

    def deleted(iteration, record):
        if iteration == 7:  # and another process takes over
            (tmp_path / runs.LOCK).unlink()
            with runs.locked(tmp_path):
                train(tmp_path, SMALL.with_changes({"iterations": 12}))

    with runs.locked(tmp_path) as check, pytest.raises(WorldError, match="was deleted"):
        loop.train(tmp_path, SMALL, Here(), deleted, check)
    assert checkpoints.load(tmp_path, SMALL).iteration == 12
    faults = []
    found = [r["iteration"] for r in read_metrics(tmp_path, faults)]
    assert (found, faults) == ([*range(1, 13)], [])


def test_a_resume_reports_damaged_metrics(tmp_path, capsys):
    """Rejects later lines that are dropped, or silence about what was left out."""
    train(tmp_path, SMALL.with_changes({"iterations": 7}))
    file = tmp_path / runs.METRICS
    file.write_bytes(file.read_bytes().replace(b'"iteration": 3', b'"ite2ation": 3'))
    train(tmp_path)
    lines = capsys.readouterr().err.splitlines()
    assert lines == [f"line 3 of {str(file)!r} is damaged: left out"]
    found = [record["iteration"] for record in read_metrics(tmp_path)]
    assert found == [1, 2, *range(4, 21)]
