"""A user's own algorithm in a file: every command takes it like one of ours."""

import json
import re
import shutil
from itertools import product

import numpy as np
import pytest

from places import ROOT
from processes import here, one_error, run, tree
from tinymaml import algorithms, loading
from tinymaml.algorithms.algorithm import Algorithm
from tinymaml.errors import UsageError, WorldError
from tinymaml.experiments import problem
from tinymaml.experiments.glyphs import Glyphs
from tinymaml.experiments.sine import Sine
from tinymaml.fewshot import drawn
from tinymaml.harness import loop, runs, step
from tinymaml.harness.metrics import read_metrics


FILE = "own_algorithm.py"
RECIPE = ROOT / "tinymaml" / "examples" / FILE
NAME = f"{FILE}:MOMENTUM"
TRAIN = (
    *("train", "sine", "--algorithm", NAME, "--momentum", "0.3"),
    *("--hidden", "3", "--tasks", "5", "--chunk", "2", "--inner-steps", "3"),
    *("--checkpoint-every", "2", "--test-tasks", "4", "--test-steps", "2"),
)
FILES = (runs.CHECKPOINT, runs.METRICS)


@pytest.fixture(autouse=True)
def folder(tmp_path, monkeypatch):
    """A folder with the recipe, where commands run; what was loaded before is forgotten."""
    shutil.copy(RECIPE, tmp_path)
    monkeypatch.chdir(tmp_path)
    loading._loaded.cache_clear()
    algorithms._loaded.cache_clear()
    return tmp_path


def write(folder, text, name=FILE):
    """Write a file of algorithms, and forget what it was."""
    (folder / name).write_text(text, encoding="utf-8")
    loading._loaded.cache_clear()
    algorithms._loaded.cache_clear()


# ----- The recipe -----


@pytest.mark.parametrize(
    "experiment", [["sine", "--hidden", "7,5"], ["glyphs", "--filters", "2"]]
)
@pytest.mark.parametrize("steps", [1, 3])
def test_its_gradient_is_exact(experiment, steps):
    """Rejects a recipe whose reverse pass drops the momentum or pairs it with v_k."""
    asked = ["--algorithm", NAME, "--momentum", "0.7", "--steps", steps, "--tasks", "1"]
    checked = here("check", *experiment, *asked)
    assert checked.code == 0, checked
    assert "WRONG" not in checked.out
    assert "central differences" in checked.out


def test_a_wrong_recipe_is_found(folder):
    """Rejects a check of one's own algorithm that cannot fail: n without momentum."""
    text = RECIPE.read_text(encoding="utf-8")
    assert text.count("n = mu * n - alpha * v") == 1
    write(folder, text.replace("n = mu * n - alpha * v", "n = -alpha * v"))
    checked = here("check", "sine", "--algorithm", NAME, "--steps", "3", "--tasks", "1")
    assert checked.code == 1
    failed = [line.split()[0] for line in checked.out.splitlines() if "WRONG" in line]
    assert failed == ["autodiff", "central", "rate", "rate"]


def test_without_momentum_it_is_maml():
    """Rejects a recipe that is no extension of MAML: with mu = 0, the same bits."""
    options = {"hidden": (3,), "inner_steps": 3, "dtype": "float64"}
    own = Sine(algorithm=NAME, momentum=0.0, **options)
    maml = Sine(**options)
    family = problem(maml)
    task = family.task(drawn(family, 0, "train", 0, range(4)))
    w = 0.5 * np.random.default_rng(0).standard_normal((4, 10))
    loss, gradient = own.method.gradient(w, task, problem(own))
    expected = maml.method.gradient(w, task, problem(maml))
    assert loss == expected[0]
    np.testing.assert_array_equal(gradient, expected[1])
    other = Sine(algorithm=NAME, momentum=0.5, **options)
    assert np.any(other.method.gradient(w, task, problem(other))[1] != gradient)


def test_it_stays_in_single_precision_where_a_part_is_not_adapted():
    """Rejects step sizes in float64 for a net of which inner steps change a part: what
    multiplies them as they are would then leave float32, and the run be refused."""
    config = Glyphs(algorithm=NAME, filters=2, inner_steps=2)
    family = problem(config)
    assert np.ndim(family.alpha) == 1
    task = family.task(drawn(family, 0, "train", 0, range(2)))
    w = np.tile(loop.initial_state(config).theta, (2, 1))
    loss, gradient = config.method.gradient(w, task, family)
    thetas = config.method.adapt(w, task, family, 2)
    assert {x.dtype.name for x in (loss, gradient, *thetas)} == {"float32"}


# ----- Every command -----


def test_its_options_are_in_the_help():
    """Rejects a help of ours only, and options that have another's limits."""
    shown = here(*TRAIN[:4], "--help")
    assert shown.code == 0
    assert re.search(r"--momentum NUMBER\s+momentum mu of the inner steps", shown.out)
    assert "--momentum" not in here("train", "sine", "--help").out
    refused = here(*TRAIN[:4], "--momentum", "3", "--out", "run")
    assert refused.code == 2
    assert re.search(r"--momentum.*3(\.0)? is above 1", one_error(refused))
    refused = here("train", "sine", "--momentum", "0.5")
    assert (refused.code, refused.out) == (2, "")


def test_stopping_and_workers_change_no_byte(folder):
    """Rejects an algorithm that --resume forgets or takes for MAML, and one that a worker
    process cannot load."""
    for more in (
        ("--iterations", "6", "--out", "straight"),
        ("--iterations", "3", "--out", "parts"),
        ("--iterations", "6", "--out", "workers", "--workers", "2"),
    ):
        trained = run(*TRAIN, *more, cwd=folder)
        assert trained.code == 0, trained
    resumed = run("train", "--resume", "parts", "--iterations", "6", cwd=folder)
    assert resumed.code == 0, resumed
    assert "note:" not in resumed.err
    for name in FILES:
        whole = (folder / "straight" / name).read_bytes()
        assert (folder / "parts" / name).read_bytes() == whole, name
        assert (folder / "workers" / name).read_bytes() == whole, name
    other = [*TRAIN, "--momentum", "0.4", "--iterations", "6", "--out", "other"]
    assert here(*other, "--no-test").code == 0
    other = (folder / "other" / runs.CHECKPOINT).read_bytes()
    assert other != (folder / "straight" / runs.CHECKPOINT).read_bytes()


def test_a_run_is_evaluated_exported_and_drawn(folder):
    """Rejects a command that reads a run's configuration with our algorithms only, or
    adapts by another rule; a label without the option's value."""
    pytest.importorskip("matplotlib")
    trained = here(*TRAIN, "--iterations", "4", "--out", "run")
    assert trained.code == 0, trained
    evaluated = here("evaluate", "run", "--json")
    assert evaluated.code == 0, evaluated
    written = json.loads((folder / "run" / runs.EVALUATION).read_text())
    assert json.loads(evaluated.out)["mean"] == written["mean"]
    assert here("export", "run", "given").code == 0
    given = here("evaluate", "given", "--json")
    assert json.loads(given.out)["mean"] == written["mean"]
    drawn_files = here("plot", "run")
    assert drawn_files.code == 0, drawn_files
    assert [*map(str.strip, drawn_files.out.splitlines())] == [
        "run/curve.png",
        "run/steps.png",
        "run/fit.png",
    ]
    config = runs.read_config(folder / "run")
    assert config.momentum == 0.3
    assert config.method.label.format_map(config.values()) == "MAML with momentum 0.3"


def test_seeds_are_pooled(folder):
    """Rejects a run's configuration that does not compare equal to that of another seed."""
    trained = here(*TRAIN, "--iterations", "2", "--seeds", "2", "--out", "run")
    assert trained.code == 0, trained
    assert json.loads(here("evaluate", "run", "--json").out)["seeds"] == [0, 1]


# ----- Arrays that change with the iteration -----

PHASED = """
import numpy as np
from tinymaml import maml
from tinymaml.algorithms.algorithm import Algorithm

def phase(options, iteration):
    late = iteration >= 3
    return late, (np.array(1 + iteration, options.dtype), np.zeros(2, options.dtype))

def gradient(w, task, problem):
    c, zeros = problem.arrays
    way = maml.first_order if problem.phase else maml.meta_gradient
    loss, v = way(w, task, problem.alpha, problem.options.inner_steps)
    return c * loss + zeros.sum(), c * v

PHASED = Algorithm(name="phased", label="phased", gradient=gradient, phase=phase,
                   uses=("epoch",))
"""


def test_an_own_phase_has_its_arrays_and_recordings(folder):
    """Rejects arrays that a recording keeps from its first call, a phase that is that of
    another iteration, and a resume that counts iterations anew: with an outer step of
    next to nothing, iteration i has i + 1 times MAML's loss."""
    write(folder, PHASED, "phased.py")
    shape = [*TRAIN[2:], "--iterations", "6", "--beta", "1e-30", "--no-test"]
    momentum = shape.index("--momentum")
    del shape[momentum : momentum + 2]
    shape[shape.index("--checkpoint-every") + 1] = "1"
    losses = {}
    for name, algorithm, more in (
        ("maml", "maml", []),
        ("own", "phased.py:PHASED", ["--epoch", "2"]),
        ("eager", "phased.py:PHASED", ["--epoch", "2", "--no-replay"]),
    ):
        asked = [algorithm if x == NAME else x for x in shape]
        trained = here("train", "sine", *asked, *more, "--out", name)
        assert trained.code == 0, trained
        losses[name] = [x["loss"] for x in read_metrics(folder / name)]
    factors = np.arange(1, 7)
    np.testing.assert_allclose(losses["own"], factors * losses["maml"], rtol=1e-5)
    asked = ["phased.py:PHASED" if x == NAME else x for x in shape]
    for stop in ("2", "4", "6"):
        asked[asked.index("--iterations") + 1] = stop
        more = ["--resume", "parts", "--iterations", stop, "--no-test"]
        new = ["sine", *asked, "--epoch", "2", "--out", "parts"]
        assert here("train", *(new if stop == "2" else more)).code == 0
    for name, file in product(("eager", "parts"), FILES):
        assert (folder / name / file).read_bytes() == (folder / "own" / file).read_bytes()


def test_an_own_phase_chooses_the_gradient(folder):
    """Rejects a recording of one phase that is replayed in the other: the exact gradient
    in the first three iterations, then the first-order one."""
    write(folder, PHASED, "phased.py")
    config = Sine(algorithm="phased.py:PHASED", hidden=(3,), inner_steps=2, alpha=0.5)
    theta = loop.initial_state(config).theta + np.float32(0.3)
    for other, iteration in (("maml", 2), ("fomaml", 3), ("maml", 0)):
        plain = config.with_changes({"algorithm": other})
        for _ in range(3):
            found = step.chunk_gradient(config, theta, iteration, range(2))[1]
            expected = step.chunk_gradient(plain, theta, iteration, range(2))[1]
            np.testing.assert_allclose(found, (iteration + 1) * expected, rtol=1e-5)


# ----- The file -----


def test_the_hash_of_the_file_is_kept(folder):
    """Rejects a run that does not say which code made it."""
    import hashlib

    here(*TRAIN, "--iterations", "2", "--out", "run", "--no-test")
    here("export", "run", "given")
    expected = hashlib.sha256(RECIPE.read_bytes()).hexdigest()
    for name in ("run", "given"):
        written = json.loads((folder / name / runs.CONFIG).read_text())
        assert written["algorithm_sha256"] == expected
        assert written["options"]["algorithm"] == NAME
    plain = [x for x in TRAIN if x not in ("--momentum", "0.3")]
    plain[plain.index(NAME)] = "maml"
    here(*plain, "--iterations", "2", "--out", "ours", "--no-test")
    assert "algorithm_sha256" not in (folder / "ours" / runs.CONFIG).read_text()


def test_a_changed_file_is_reported(folder):
    """Rejects a resume that takes other code for the same in silence, that refuses it, or
    that repeats the note for ever."""
    here(*TRAIN, "--iterations", "2", "--out", "run", "--no-test")
    resume = ["train", "--resume", "run", "--no-test", "--iterations"]
    assert "note:" not in here(*resume, "3").err
    write(folder, RECIPE.read_text(encoding="utf-8") + "\n# changed\n")
    changed = here(*resume, "4")
    assert changed.code == 0
    notes = [line for line in changed.err.splitlines() if line.startswith("note: ")]
    assert notes == [
        f"note: the file of --algorithm {NAME} has changed since the run was begun"
    ]
    assert "note:" not in here(*resume, "5").err


BAD = {
    "missing": (None, 2, "--algorithm: no file"),
    "raises": (
        "raise ValueError('of mine\\nand more')",
        1,
        "line 1: ValueError: of mine and more",
    ),
    "exits": ("import sys; sys.exit(0)", 1, "line 1: SystemExit"),
    "no-python": ("def f(:", 1, "cannot be loaded: line 1: SyntaxError"),
    "not-text": ("\x00\x01", 1, "cannot be loaded"),
    "no-name": ("OTHER = 1", 2, "has no Algorithm called 'MOMENTUM'"),
    "no-algorithm": ("MOMENTUM = 1", 2, "has no Algorithm called 'MOMENTUM'"),
    "no-defaults": (
        RECIPE.read_text(encoding="utf-8").replace(" = option(0.5,", " = option(MISSING,"),
        1,
        "no frozen dataclass",
    ),
    "not-frozen": (
        RECIPE.read_text(encoding="utf-8").replace("(frozen=True)", ""),
        1,
        "no frozen dataclass",
    ),
    "same-option": (
        RECIPE.read_text(encoding="utf-8").replace("momentum:", "alpha:"),
        2,
        "sine has its own --alpha",
    ),
    "hidden-method": (
        RECIPE.read_text(encoding="utf-8").replace("momentum:", "values:"),
        2,
        "sine has its own --values",
    ),
}


@pytest.mark.parametrize("kind", BAD)
def test_what_is_no_algorithm_is_one_line(folder, kind):
    """Rejects a traceback, exit 0, a folder that is left behind, and an option of one's
    own that hides one of the experiment's."""
    text, code, message = BAD[kind]
    if text is None:
        (folder / FILE).unlink()
    else:
        write(
            folder,
            text.replace("option(MISSING", "option(__import__('dataclasses').MISSING"),
        )
    before = tree(folder)
    for command in (
        ["train", "sine", "--algorithm", NAME],
        ["train", "sine", "--algorithm", NAME, "--help"],
        ["check", "sine", "--algorithm", NAME],
    ):
        refused = here(*command)
        assert (refused.code, refused.out) == (code, ""), command
        assert message in one_error(refused)
        assert len(refused.err.splitlines()) == 1
    assert {k: x for k, x in tree(folder).items() if "__pycache__" not in k} == before


@pytest.mark.parametrize("kind", ["missing", "raises", "no-name"])
def test_a_run_without_its_algorithm_says_so(folder, kind):
    """Rejects a run that is called damaged when the file of its algorithm is."""
    here(*TRAIN, "--iterations", "2", "--out", "run", "--no-test")
    text, _, message = BAD[kind]
    write(folder, text or "")
    if text is None:
        (folder / FILE).unlink()
    for command in (["evaluate", "run"], ["train", "--resume", "run"], ["plot", "run"]):
        refused = here(*command)
        assert refused.code == 1, command
        assert one_error(refused).startswith("Error: 'run' needs the file of its algorithm")
        assert message in refused.err
        assert "damaged" not in refused.err


def test_an_algorithm_of_one_s_own_may_not_fit(folder):
    """Rejects an experiment that trains what needs more than it has."""
    refused = here("train", "pointnav", "--algorithm", NAME)
    assert refused.code == 2
    assert f"--algorithm {NAME} does not work on pointnav; choose from maml, " in one_error(
        refused
    )
    refused = here("train", "sine", "--algorithm", FILE)
    assert refused.code == 2
    assert "is not one of maml" in one_error(refused)


def test_python_raises_what_the_command_line_prints(folder):
    """Rejects checks that only the command line makes."""
    record = algorithms.find(NAME)
    assert isinstance(record, Algorithm)
    assert record.name == NAME
    assert Sine(algorithm=NAME).momentum == 0.5
    with pytest.raises(UsageError, match="no Algorithm called 'adapt'"):
        Sine(algorithm=f"{FILE}:adapt")
    with pytest.raises(UsageError, match="no algorithm 'mamml'"):
        algorithms.find("mamml")
    write(folder, "1 / 0")
    with pytest.raises(WorldError, match=r"cannot be loaded: .* line 1: ZeroDivisionError"):
        Sine(algorithm=NAME)
    (folder / FILE).unlink()
    with pytest.raises(WorldError, match="cannot be read"):
        loading.fingerprint(NAME)
    assert algorithms.file_of("maml") == ""
