"""Every option of every command arrives where it has its effect."""

import inspect
from contextlib import suppress
from types import SimpleNamespace

import click
import pytest
from PIL import Image

from cases import others
from processes import here
from tinymaml import algorithms, plots, study
from tinymaml.algorithms.algorithm import FEW_SHOT, Algorithm
from tinymaml.check import chain, policy_gradients
from tinymaml.cli import check, main, terminal
from tinymaml.errors import UsageError
from tinymaml.experiments import MODULES
from tinymaml.experiments.glyphs import Glyphs
from tinymaml.harness import checkpoints, plan, results, reuse, runs
from tinymaml.options import flags
from tinymaml.plots import figures
from tinymaml.report import html
from tinymaml.speed import workers
from trainings import begin


class Reached(BaseException):
    """A function was called; the arguments by name."""


def reached(monkeypatch, function, place):
    """Let a function at a place end the command with its arguments."""

    def stop(*args, **given):
        bound = inspect.signature(function).bind(*args, **given)
        bound.apply_defaults()
        raise Reached(bound.arguments)

    monkeypatch.setattr(place, stop)


@pytest.fixture(scope="module")
def glyphs(tmp_path_factory):
    """The folder of a run of glyphs that was not trained."""
    few = {"iterations": 0, "filters": 2, "ways": 2, "test_tasks": 4, "test_steps": 3}
    path = tmp_path_factory.mktemp("glyphs")
    begin(path, Glyphs(**few))
    return path


@pytest.fixture(scope="module")
def images(tmp_path_factory):
    """A folder with an image in each of two sub-folders."""
    folder = tmp_path_factory.mktemp("images")
    for name in ("a", "b"):
        (folder / name).mkdir()
        Image.new("L", (9, 9), 255).save(folder / name / "1.png")
    return folder


# ----- The options of commands -----

JUDGE = results.judge, "tinymaml.harness.results.judge"
LOAD = checkpoints.load, "tinymaml.harness.checkpoints.load"
READ = runs.read_configs, "tinymaml.harness.runs.read_configs"
ANALYSE = reuse.analyse, "tinymaml.harness.reuse.analyse"
OPEN = study.open_run, "tinymaml.study.open_run"
DRAW = plots.draw, "tinymaml.plots.draw"
SAVE = figures.save, "tinymaml.plots.figures.save"
WRITE = html.write, "tinymaml.report.html.write"
NEW = plan.new_runs, "tinymaml.harness.plan.new_runs"
RESUMED = plan.resumed_runs, "tinymaml.harness.plan.resumed_runs"
CHAIN = chain.verify, "tinymaml.check.chain.verify"
POLICIES = policy_gradients.verify, "tinymaml.check.policy_gradients.verify"


def engine(command):
    """The function that starts workers, as a command has it."""
    return workers.engine, f"tinymaml.cli.{command}.engine"


def bar(command):
    """The function that shows progress, as a command has it."""
    return terminal.progress, f"tinymaml.cli.{command}.progress"


PREDICT = f"predict RUN --support IMAGES --query {__file__}"
TRAINED = "glyphs --iterations 0 --filters 2 --test-tasks 4 --test-steps 2 --out new"
# A command line, the function that must be called, its argument, and what that must be.
ROWS = [
    *(("evaluate RUN --tasks 7", *JUDGE, "tasks", 7),),
    *(("evaluate RUN --steps 5", *JUDGE, "steps", 5),),
    *(("evaluate RUN --shots 4,5", *JUDGE, "shots", 4),),
    *(("evaluate RUN --ways 4", *JUDGE, "ways", 4),),
    *(("evaluate RUN --within group", *JUDGE, "within", "group"),),
    *(("evaluate RUN --split val", *JUDGE, "split", "val"),),
    *(("evaluate RUN --alone last", *JUDGE, "alone_steps", (3,)),),
    *(("evaluate RUN --alone all", *JUDGE, "alone_steps", (0, 1, 2, 3)),),
    *(("evaluate RUN --alone none", *JUDGE, "alone_steps", ()),),
    *(("evaluate RUN --workers 3", *engine("evaluate"), "workers", 3),),
    *(("reuse RUN --tasks 7", *ANALYSE, "tasks", 7),),
    *(("reuse RUN --steps 5", *ANALYSE, "steps", 5),),
    *(("reuse RUN --queries 6", *ANALYSE, "queries", 6),),
    *(("reuse RUN --split val", *ANALYSE, "split", "val"),),
    *(("reuse RUN --workers 3", *engine("reuse"), "workers", 3),),
    *(("reuse RUN --tasks 2 --out a.png", *SAVE, "path", "a.png"),),
    *((f"{x} RUN --last", *LOAD, "last", True) for x in ("evaluate", "reuse")),
    *((f"{x} RUN --fallback", *LOAD, "fallback", True) for x in ("evaluate", "reuse")),
    *((f"{x} RUN --data d.npz", *READ, "data", "d.npz") for x in ("evaluate", "reuse")),
    *((f"export RUN new --{x}", *LOAD, x, True) for x in ("last", "fallback")),
    *((f"adapt RUN {__file__} --last", *OPEN, "last", True),),
    *((f"{PREDICT} --{x}", *OPEN, x, True) for x in ("last", "fallback")),
    *((f"{PREDICT} --quiet", *bar("predict"), "quiet", True),),
    *(("plot RUN --data d.npz", *DRAW, "data", "d.npz"),),
    *(("plot RUN --fallback", *DRAW, "fallback", True),),
    *(("plot RUN --task 9", *DRAW, "task", 9),),
    *(("plot RUN --out new", *DRAW, "into", "new"),),
    *(("chain --out a.png", *SAVE, "path", "a.png"),),
    *(("report RUN --data d.npz", *READ, "data", "d.npz"),),
    *(("report RUN --fallback", *LOAD, "fallback", True),),
    *(("report RUN --quiet", *bar("report"), "quiet", True),),
    *((f"{x} --out a.html", *WRITE, "out", "a.html") for x in ("report RUN", "read")),
    *(("train sine --workers 3 --out new", *engine("train"), "workers", 3),),
    *(("train sine --out new", *NEW, "out", "new"),),
    *(("train sine --seeds 3", *NEW, "seeds", 3),),
    *((f"train {TRAINED}", *JUDGE, *x) for x in (("split", "test"), ("tasks", 4))),
    *((f"train {TRAINED}", *JUDGE, *x) for x in (("steps", 2), ("alone_steps", (2,)))),
    *(("train --resume RUN", *RESUMED, "folder", "RUN"),),
    *(("train sine --out new --quiet", *bar("train"), "quiet", True),),
    *(("plot RUN --quiet", *bar("main"), "quiet", True),),
    *((f"{x} RUN --quiet", *bar(x), "quiet", True) for x in ("evaluate", "reuse")),
    *((f"check {x}--quiet", *bar("check"), "quiet", True) for x in ("", "sine ")),
    *(("check pointnav --quiet", *bar("check"), "quiet", True),),
    *(("check sine --tasks 7", *CHAIN, "tasks", 7),),
    *(("check pointnav --seed 7", *POLICIES, "seed", 7),),
]
# Options whose effect is a text: see the tests of that text.
TEXTS = {
    *(("evaluate", x) for x in ("as_json", "as_markdown")),
    *(("list", x) for x in ("published", "as_json")),
    *(("train sine", x) for x in ("config_file", "sweep")),
    *(("adapt", x) for x in ("steps", "as_csv", "as_json")),
    *(("predict", x) for x in ("steps", "invert", "as_csv", "as_json", "out")),
    ("reuse", "as_json"),
    *((name, "as_json") for name in ("check", "check sine", "check pointnav")),
}


@pytest.mark.parametrize(
    ("line", "function", "place", "argument", "value"), ROWS, ids=[x for x, *_ in ROWS]
)
def test_an_option_arrives(
    monkeypatch, tmp_path, glyphs, images, line, function, place, argument, value
):
    """Rejects an option that the help shows and that nothing reads."""
    monkeypatch.chdir(tmp_path)
    reached(monkeypatch, function, place)
    places = {"RUN": glyphs, "IMAGES": images}
    words = [str(places.get(word, word)) for word in line.split()]
    with pytest.raises(Reached) as found:
        here(*words)
    arrived = found.value.args[0][argument]
    if isinstance(value, tuple):
        assert tuple(arrived) == value
    else:
        assert str(arrived) == (str(glyphs) if value == "RUN" else str(value))


def test_the_seed_of_a_check_is_that_of_its_policies(monkeypatch):
    """Rejects other worlds with the same trajectories."""
    reached(monkeypatch, *POLICIES)
    with pytest.raises(Reached) as found:
        here("check", "pointnav", "--seed", 7)
    acting = found.value.args[0]["acting"]
    assert [(x.options.seed, x.options.inner_steps) for x in acting] == [(7, 1), (7, 2)]


def test_every_option_has_a_row():
    """Rejects an option of a command that is added and that nothing here tries."""
    commands = {name: x for name, x in main.main.commands.items() if name != "train"}
    context = click.Context(main.main)
    for name in ("train sine", "check sine", "check pointnav"):
        group, experiment = name.split()
        found = main.main.commands[group].get_command(context, experiment)
        commands[name] = found
    own = {}
    for name, command in commands.items():
        kind = MODULES[name.split()[1]].CONFIG if " " in name else None
        options = kind.options_for(algorithms.find("maml")) if kind else {}
        own |= {
            (name, param.name): param.opts
            for param in command.params
            if isinstance(param, click.Option) and param.name not in options
        }
    tried = {
        (name, param)
        for (name, param), flags in own.items()
        for line, *_ in ROWS
        if line.split()[0] == name.split()[0] and {*flags} & {*line.split()}
    }
    assert own.keys() - tried == TEXTS


@pytest.mark.parametrize(("passed", "code"), [((True, True), 0), ((False, True), 1)])
def test_one_failed_check_of_several_is_a_failure(monkeypatch, passed, code):
    """Rejects an exit code that says that all is well when one of the examples failed."""
    reports = iter(passed)
    monkeypatch.setattr(check, "EXAMPLES", check.EXAMPLES[: len(passed)])
    made = lambda *_: SimpleNamespace(passed=next(reports), as_dict=dict)  # noqa: E731
    monkeypatch.setattr(check, "verify", made)
    assert here("check", "--json").code == code


# ----- The options of configurations -----


PAIRS = [
    (module.CONFIG, name)
    for module in MODULES.values()
    for name in algorithms.available(module.CONFIG.setting, module.CONFIG.offers)
]


def typed(kind, algorithm):
    """Yield options of an algorithm, configurations with others, and what is typed."""
    needed = {"surrogate": "naive"} if algorithm == "e-maml" else {}
    usual = kind(**{"algorithm": algorithm} | needed)
    for name, option in usual.options.items():
        if name not in ("preset", "algorithm"):
            for value in others(option, getattr(usual, name)):
                with suppress(UsageError):
                    changed = kind(**{"algorithm": algorithm} | {name: value})
                    yield option, changed, flags({name: value}).split()


@pytest.mark.parametrize(("kind", "algorithm"), PAIRS)
def test_what_is_typed_is_the_configuration(monkeypatch, tmp_path, kind, algorithm):
    """Rejects an option of `train` that the configuration does not receive, or another."""
    monkeypatch.chdir(tmp_path)
    reached(monkeypatch, *NEW)
    for _, changed, words in typed(kind, algorithm):
        with pytest.raises(Reached) as found:
            here("train", kind.name, "--algorithm", algorithm, *words)
        assert found.value.args[0]["config"] == changed


FEW_SHOT_PAIRS = [(kind, name) for kind, name in PAIRS if kind.setting == FEW_SHOT]


@pytest.mark.parametrize(("kind", "algorithm"), FEW_SHOT_PAIRS)
def test_what_is_typed_is_checked(monkeypatch, kind, algorithm):
    """Rejects an option of `check` with which another gradient is verified."""
    monkeypatch.setattr("tinymaml.cli.check.stand_in", lambda config: config)
    monkeypatch.setattr(Algorithm, "size", lambda method, problem: 0)
    reached(monkeypatch, *CHAIN)
    for option, changed, words in typed(kind, algorithm):
        if not option.role.checked or option.name == "tasks":
            continue
        words = ["--steps", *words[1:]] if option.name == "inner_steps" else words
        with pytest.raises(Reached) as found:
            here("check", kind.name, "--algorithm", algorithm, *words)
        for part in ("rough", "smooth"):
            value = getattr(found.value.args[0][part], option.name)
            assert value == getattr(changed, option.name)
