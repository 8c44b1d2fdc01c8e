"""A user's own experiment in a file: every command takes it like one of ours."""

import json
import pickle
import re

import numpy as np
import pytest

from places import ROOT
from processes import here, one_error, tree
from tinymaml import algorithms, experiments, loading
from tinymaml.errors import UsageError, WorldError
from tinymaml.experiments import problem
from tinymaml.experiments.sine import Sine
from tinymaml.harness import runs, step
from tinymaml.harness.metrics import read_metrics


TEMPLATE = (ROOT / "tinymaml" / "examples" / "cooling.py").read_text(encoding="utf-8")
FILE = "mine.py"
TRAIN = (
    *("train", FILE, "--tasks", "5", "--chunk", "2", "--inner-steps", "2"),
    *("--checkpoint-every", "2", "--test-tasks", "4", "--test-steps", "2"),
)
FILES = (runs.CHECKPOINT, runs.METRICS)
CACHED = (
    loading._loaded,
    algorithms._loaded,
    experiments._in_file,
    problem,
    step.gradient_of,
    step.training,
)


@pytest.fixture
def write(tmp_path, monkeypatch):
    """Return a function that writes mine.py, the template with replacements."""
    monkeypatch.chdir(tmp_path)

    def write(*changes, text=TEMPLATE):
        for old, new in changes:
            assert text.count(old) == 1, old
            text = text.replace(old, new)
        (tmp_path / FILE).write_text(text, encoding="utf-8")
        for cached in CACHED:
            cached.cache_clear()

    write()
    return write


# ----- The commands -----


def test_every_command_takes_it(write, tmp_path):
    """Rejects a command that knows the package's experiments only."""
    trained = here(*TRAIN, "--iterations", "4", "--readings", "3")
    assert trained.code == 0, trained
    folder = tmp_path / "runs" / "mine-1"
    written = json.loads((folder / runs.CONFIG).read_text())
    assert (written["experiment"], written["options"]["readings"]) == (FILE, 3)
    assert written["experiment_sha256"] == loading.fingerprint(FILE)
    evaluated = here("evaluate", "runs/mine-1", "--tasks", "4")
    assert re.search(r"gradient steps +MSE on 4 tasks", evaluated.out)
    for command in (
        ["plot", "runs/mine-1"],
        ["check", FILE, "--steps", "2", "--readings", "2"],
        ["list", FILE],
        ["list", FILE, "--json"],
        ["train", FILE, "--help"],
        ["export", "runs/mine-1", "exported"],
    ):
        told = here(*command)
        assert told.code == 0, (command, told)
    assert "--readings" in here("list", FILE).out
    assert FILE in here("list", "runs").out


def test_resumed_and_with_workers_it_has_the_same_bytes(write, tmp_path):
    """Rejects a configuration that a worker or a resume reads otherwise."""
    here(*TRAIN, "--iterations", "4", "--no-test", "--out", "whole")
    here(*TRAIN, "--iterations", "2", "--no-test", "--out", "parts")
    assert here("train", "--resume", "parts", "--iterations", "4", "--no-test").code == 0
    shared = here(*TRAIN, "--iterations", "4", "--no-test", "--out", "w", "--workers", "2")
    assert shared.code == 0, shared
    for file in FILES:
        whole = (tmp_path / "whole" / file).read_bytes()
        assert (tmp_path / "parts" / file).read_bytes() == whole
        assert (tmp_path / "w" / file).read_bytes() == whole


@pytest.mark.parametrize("algorithm", ["maml", f"{FILE}:EVERY_STEP"])
def test_a_worker_has_the_same_file_or_says_so(write, monkeypatch, tmp_path, algorithm):
    """Rejects workers, as of Dask, that train with a file as it was before a change, and
    "no file" for one that they would find in another folder."""
    record = (ROOT / "tinymaml" / "examples" / "every_step.py").read_text(encoding="utf-8")
    both = f"{record}\n{TEMPLATE}"
    write(text=both)
    kind = Sine if algorithm != "maml" else experiments.find(FILE).kind
    config = kind(algorithm=algorithm)
    sent = pickle.dumps(config)
    assert pickle.loads(sent) == config
    write(text=f"{both}\n# changed")
    with pytest.raises(WorldError, match=r"has another .mine\.py. in memory"):
        pickle.loads(sent)
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path / "elsewhere")
    with pytest.raises(WorldError, match=r"finds no 'mine.py' in .*: give its full path"):
        pickle.loads(sent)


def test_it_learns(write):
    """Rejects an example that does not adapt, or whose training has no effect."""
    here(*TRAIN[:2], "--iterations", "150", "--no-test", "--out", "run")
    losses = [record["loss"] for record in read_metrics(runs.Path("run"))]
    assert np.mean(losses[-20:]) < 0.35 * losses[0]


def test_a_changed_file_is_reported(write):
    """Rejects a resume that takes another problem for the same in silence."""
    here(*TRAIN, "--iterations", "2", "--no-test", "--out", "run")
    resume = ["train", "--resume", "run", "--no-test", "--iterations"]
    assert "note:" not in here(*resume, "3").err
    write(("[3, 8, 0]", "[3, 9, 0]"))
    changed = here(*resume, "4")
    notes = [line for line in changed.err.splitlines() if line.startswith("note: ")]
    assert notes == [f"note: the file of {FILE} has changed since the run was begun"]


MODEL = 'model = models.Model((models.Block("cup", ARRAYS, {}, temperature),))'


def test_a_model_that_changed_under_a_run_is_named_as_such(write, tmp_path):
    """Rejects "theta has another size" for a file that was edited, and a failed resume
    after which the run takes the new file for its own."""
    here(*TRAIN, "--iterations", "2", "--no-test", "--out", "run")
    before = (tmp_path / "run" / runs.CONFIG).read_bytes()
    write(
        ('"rate": (1,)}', '"rate": (1,), "more": (1,)}'),
        ("in ARRAYS)", "in [*ARRAYS][:3])"),
        ("zip(ARRAYS", "zip([*ARRAYS][:3]"),
    )
    lines = [
        "'run/checkpoint.npz': theta is float32 (3,), not float32 (4,)",
        f"the file of {FILE} has changed since the run was begun",
    ]
    for command in (["evaluate", "run"], ["train", "--resume", "run", "--iterations", "3"]):
        told = here(*command)
        assert told.code == 1
        assert one_error(told).startswith(f"Error: {'; '.join(lines)}"), told
    assert (tmp_path / "run" / runs.CONFIG).read_bytes() == before


def test_matrices_that_stay_at_0_are_noted(write):
    """Rejects a net that cannot learn in silence, and a note about arrays that can."""
    zeros = "{'w0': (1, 6), 'b0': (1, 6), 'w1': (6, 1), 'b1': (1, 1)}"
    lines = (
        "    shapes = SHAPES",
        "    net = lambda p, x: np.tanh(x @ p['w0'] + p['b0']) @ p['w1'] + p['b1']",
        "    model = models.Model((models.Block('net', shapes, DRAWS, net),))",
    )
    net = "\n".join(lines)[4:].replace("SHAPES", zeros)
    draws = "{x: models.uniform(6) for x in ('w0', 'w1')}"
    for model, noted in ((net.replace("DRAWS", "{}"), True), (net, False)):
        write((MODEL, model.replace("DRAWS", draws)))
        told = here(*TRAIN, "--iterations", "1", "--no-test")
        assert told.code == 0, told
        assert (f"note: {FILE}: w0, b0, w1 of the model begin at 0" in told.err) == noted
    write()
    assert "begin at 0" not in here(*TRAIN, "--iterations", "1", "--no-test").err


@pytest.mark.parametrize(
    ("algorithm", "changes", "line"),
    [
        ("reptile", (), f"and {FILE} has no option `shots`"),
        ("t-net", (), "T-net needs its maps T in the model: model = config.method.build("),
        (
            "t-net",
            ((MODEL, f"{MODEL}; model = config.method.build(model, config)"),),
            "(1,)",
        ),
        (
            "meta-curvature",
            (),
            "transforms matrices (rows, columns); room of the model has",
        ),
        ("context", (), "models.with_context(model, (10,))"),
        ("cavia", (), "['z']; it needs model = config.method.build(model, config)"),
        (
            "cavia",
            ((MODEL, f"{MODEL}; model = config.method.build(model, config)"),),
            'a regression says offers: ClassVar[tuple[str, ...]] = ("regression",)',
        ),
    ],
)
def test_what_an_algorithm_needs_of_an_experiment_is_said(write, algorithm, changes, line):
    """Rejects an AttributeError for an option that is missing, T-net without its maps,
    which is MAML, and "lacks z" without a way to have it."""
    write(*changes)
    told = here(*TRAIN, "--algorithm", algorithm, "--iterations", "1")
    assert told.code == 2
    assert line in one_error(told)


def test_a_run_without_its_file_says_so(write, tmp_path):
    """Rejects "damaged" for a run whose file has moved."""
    here(*TRAIN, "--iterations", "2", "--no-test", "--out", "run")
    (tmp_path / FILE).unlink()
    for cached in CACHED:
        cached.cache_clear()
    told = here("evaluate", "run")
    assert (
        one_error(told)
        == f"Error: 'run' needs the file of its experiment: no file '{FILE}'"
    )


# ----- Broken files -----

# The change, and what the one line must say. Lines are those of the changed file.
BROKEN = {
    "syntax": (
        (("def draw(split, rng):", "def draw(split, rng)"),),
        "mine.py' cannot be loaded: line 45: SyntaxError",
    ),
    "missing name": (
        (("alpha=config.method", "alpha=confg.method"),),
        "'mine.py' line 53: NameError",
    ),
    "a name in a loss": (
        (("np.exp(-np.exp(rate) * t)", "np.exp(-rates * t)"),),
        "'mine.py' line 36: NameError: name 'rates' is not defined",
    ),
    "no CONFIG": ((("CONFIG = Cooling", "OTHER = Cooling"),), "defines no CONFIG"),
    "no setup": ((("def setup(", "def set_up("),), "defines no setup"),
    "no class": ((("CONFIG = Cooling", "CONFIG = 1"),), "CONFIG is not a class of options"),
    "no score": ((("score: ClassVar[Score] = losses.MSE", "pass"),), "has no `score`"),
    "option without help": (
        (("beta: float", "other: int = 3\n    beta: float"),),
        "other has no help: other = option(DEFAULT, HELP)",
    ),
    "loss per task": (
        (
            ("as_task(e, model.apply, losses.mse)", "as_task(e, model.apply, per_task)"),
            ("CONFIG = Cooling", "CONFIG = Cooling\nper_task = losses.squared_error"),
        ),
        "the support loss has shape (2,), not ()",
    ),
    "mean over tasks": (
        (("losses.mse)", "lambda p, y: np.mean((p - y) ** 2))"),),
        "mixes tasks",
    ),
    "score of all": (
        (
            ("losses.squared_error(", "np.mean(losses.squared_error("),
            ("e.y_query\n", "e.y_query)\n"),
        ),
        "'mine.py' line 57: the scores of 2 tasks have shape ()",
    ),
    "wrong size": (
        (('(1,), "excess": (1,)', '(1,), "excess": (2,)'),),
        "the support loss fails: 'mine.py' line 56: ValueError",
    ),
    "no return": (
        (("    return Problem(", "    _ = Problem("),),
        "'mine.py' line 39: setup returned NoneType, not a tinymaml.fewshot.Problem",
    ),
    "a sampler of one task": (
        (("sample=each(draw)", "sample=draw"),),
        "for one task at a time: sample=each(draw)",
    ),
    "data that are not finite": (
        (("rng.uniform(0, 9, (2,", "np.nan * rng.uniform(0, 9, (2,"),),
        "x_support of train tasks is not finite",
    ),
    "tasks that depend on each other": (
        (
            (
                "sample=each(draw)",
                "sample=lambda s, g, t: each(draw)(s, lambda i: g(i - t.start), t)",
            ),
        ),
        "depends on the tasks beside it",
    ),
    "episode of another shape": (
        (("sample=each(draw)", "sample=lambda s, g, t: draw(s, g(0))"),),
        "x_support of 2 tasks has shape (4, 1), not (2, ...)",
    ),
    "wrong option": ((("beta: float = redefault(0.01)", "beta: float = 'x'"),), "--beta"),
}


@pytest.mark.parametrize("name", BROKEN)
def test_a_broken_file_gives_one_line(write, tmp_path, name):
    """Rejects a traceback, an error without its place, and a folder without a run."""
    changes, expected = BROKEN[name]
    write(*changes)
    told = here(*TRAIN, "--iterations", "2", "--no-test", "--out", "run")
    assert told.code in (1, 2)
    assert expected in one_error(told), told
    assert not (tmp_path / "run").exists()


def test_an_unknown_experiment_is_refused(write):
    """Rejects an error that does not name the choices."""
    with pytest.raises(UsageError, match=r"no experiment 'sin'; there are sine, "):
        experiments.find("sin")
    assert one_error(here("train", "other.py")) == "Error: no file 'other.py'"


# ----- A file to begin with -----


def test_new_writes_what_trains(write, tmp_path):
    """Rejects a template that has to be mended first, and one that names another file."""
    assert here("new", "tea.py").code == 0
    assert "FILE.py" not in (tmp_path / "tea.py").read_text(encoding="utf-8")
    assert here("train", "tea.py", *TRAIN[2:], "--iterations", "2").code == 0


@pytest.mark.parametrize("file", ["tea", "tea.txt", FILE, "no/tea.py", ""])
def test_new_overwrites_nothing(write, tmp_path, file):
    """Rejects a command that destroys a file, or writes what `train` does not take."""
    before = tree(tmp_path)
    assert here("new", file).code == 2
    assert tree(tmp_path) == before
