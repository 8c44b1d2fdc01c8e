"""`report` and `read` on the command line: their pages, and what is wrong."""

import json
import re
import shlex
import sys
from pathlib import Path

import pytest

from folders import evaluated, folder
from pages import Page, check
from processes import here, one_error, tree
from tinymaml.check import chain
from tinymaml.cli import report as command
from tinymaml.experiments.glyphs import Glyphs
from tinymaml.experiments.omniglot import Omniglot
from tinymaml.experiments.pointnav import PointNav
from tinymaml.experiments.sine import Sine
from tinymaml.harness import results, runs, sessions
from tinymaml.options import flag
from tinymaml.published import presets
from tinymaml.report import page, tables
from tinymaml.speed.workers import Here


FEW = {"hidden": (4,), "test_tasks": 6, "test_steps": 3, "validation_tasks": 4}
RECORDS = [{"iteration": k, "loss": 4.0 - k, "seconds": 0.1} for k in (1, 2, 3)]
NASTY = "<script>alert(1)<b>&amp;\"'"


@pytest.fixture(scope="module")
def world(tmp_path_factory):
    """Evaluated runs: MAML, ANIL, and two seeds that were pooled; and other runs."""
    place = tmp_path_factory.mktemp("world")
    evaluated(folder(place / "maml", Sine(**FEW, shots=5), RECORDS))
    evaluated(folder(place / "sgd", Sine(**FEW, shots=5, algorithm="meta-sgd"), RECORDS))
    evaluated(folder(place / NASTY, Sine(**FEW, seed=3), RECORDS))
    seeds = [
        evaluated(folder(place / f"both/{runs.SEED}{n}", Sine(**FEW, seed=n), RECORDS))
        for n in (0, 1)
    ]
    found = json.loads(here("evaluate", *seeds, "--json", "--quiet").out)
    (place / "both" / runs.EVALUATION).write_text(json.dumps(found))
    folder(place / "twin", Sine(**FEW, shots=5))
    folder(place / "bare", Sine(**FEW, algorithm="reptile", preset="none"), RECORDS)
    lost = Omniglot(data="no <such>.npz", filters=4, ways=5)
    told = {"experiment": "omniglot", "seeds": [0], "split": "test", "shots": 1}
    told |= {"validations": [None], "tasks_sha256": "0", "remarks": [], "tasks": 600}
    told |= {"not_finite": [0, 0]}
    folder(place / "lost", lost, RECORDS, [0.2, 0.9], **told)
    return place


@pytest.fixture(autouse=True)
def there(world, monkeypatch):
    monkeypatch.chdir(world)


@pytest.fixture
def quick(monkeypatch):
    """Leave out the gradient checks, which take seconds."""
    monkeypatch.setattr(command, "checked", lambda configs, show: [])


def made(tmp_path, *names, lines=0):
    """Return the page about runs; so many lines stand on stderr."""
    out = tmp_path / "page.html"
    found = here("report", *names, "--out", out, "--quiet")
    assert (found.code, found.out) == (0, f"{out}\n"), found
    assert len(found.err.splitlines()) == lines, found.err
    read = Page(out.read_bytes())
    check(read)
    return read


def spaced(rows):
    return [[cell.replace("\N{NO-BREAK SPACE}", " ") for cell in row] for row in rows]


# ----- What is on the page -----


@pytest.mark.usefixtures("quick")
def test_the_tables_are_those_of_evaluate(tmp_path):
    """Rejects figures of another run, another rounding, an interval over the wrong
    samples, and published figures that are left out."""
    names = ["maml", "sgd", "both"]
    read = made(tmp_path, *names)
    found = here("evaluate", "maml", "sgd", "both", "--json", "--quiet")
    scored = json.loads(found.out)
    own = [spaced(x) for x in read.tables if x[0][0] == "gradient steps"]
    assert len(own) == len(scored) == 3
    for rows, one in zip(own, scored, strict=True):
        widths = ("mean", "half_width_95", "half_width_95_over_seeds")
        columns = [one[name] for name in widths if name in one]
        wanted = [" ± ".join(f"{x:.4f}" for x in row) for row in zip(*columns, strict=True)]
        assert rows[1:] == [[str(k), text] for k, text in enumerate(wanted)]
    published = [spaced(x) for x in read.tables if x[0][0] == "published"]
    wanted = [one["published"] for one in scored if one["published"]]
    assert [len(rows) - 1 for rows in published] == [len(x) for x in wanted]
    assert published
    for rows, figures in zip(published, wanted, strict=True):
        assert [row[0] for row in rows[1:]] == [x["method"] for x in figures]
        for row, figure in zip(rows[1:], figures, strict=True):
            theirs = [" ± ".join(f"{x:g}" for x in v if x is not None)
                      for _, *v in figure["values"]]  # fmt: skip
            assert row[2] == ", ".join(theirs)


@pytest.mark.usefixtures("quick")
def test_several_runs_are_compared(tmp_path):
    """Rejects a comparison of runs on different tasks, and one that is left out."""
    read = made(tmp_path, "maml", "sgd", "both")
    (rows,) = [spaced(x) for x in read.tables if x[0][:2] == ["run", "0 steps"]]
    cells = tables.cells(Sine.score, tables.read_back(*_one("maml")).scores)
    assert rows[1] == ["MAML, 2 inner steps", *(
        cells[int(head.split()[0])].replace("+-", "±") for head in rows[0][1:]
    )]  # fmt: skip
    assert rows[2][0].startswith("Meta-SGD")
    assert len(rows) == 3
    assert any(x.startswith("not compared, on other tasks") for x in read.texts["p"])


def _one(name):
    """Return the arguments of `read_back` for a run that was not trained."""
    return Path(name), [runs.read_config(Path(name))], [0]


@pytest.mark.usefixtures("quick")
def test_every_text_is_escaped(tmp_path, world):
    """Rejects a script in the name of a folder, a data file or a session that runs."""
    path = world / NASTY / sessions.SESSIONS
    path.write_text(json.dumps({"sessions": [{"seconds": 1, "cpu": NASTY}]}))
    read = made(tmp_path, NASTY, "lost", lines=1)
    assert any(NASTY in x for x in read.texts["h3"])
    assert any(NASTY in cell for rows in read.tables for row in rows for cell in row)
    assert any(
        "no <such>.npz" in cell for rows in read.tables for row in rows for cell in row
    )
    assert any("no <such>.npz" in x for x in read.texts["pre"])
    path.unlink()


@pytest.mark.usefixtures("quick")
def test_runs_whose_data_have_moved_have_a_page(tmp_path):
    """Rejects an error where only the picture of tasks needs the data, and a page that
    says nothing of it."""
    read = made(tmp_path, "lost", lines=1)
    (line,) = [x for x in read.texts["p"] if x.startswith("no picture of tasks")]
    assert "no <such>.npz" in line
    assert len(read.values("src")) == 2  # learning, and steps
    own = [spaced(x) for x in read.tables if x[0][0] == "gradient steps"]
    assert own[0][2] == ["1", "90.00 ± 25.00 %"]


@pytest.mark.usefixtures("quick")
def test_without_matplotlib_there_are_tables(tmp_path, monkeypatch):
    """Rejects a failure, or a traceback, where only pictures cannot be drawn."""
    whole = made(tmp_path, "maml")
    monkeypatch.setitem(sys.modules, "matplotlib.figure", None)
    read = made(tmp_path, "maml", lines=1)
    assert read.tables == whole.tables
    assert read.values("src") == []
    (line,) = [x for x in read.texts["p"] if "matplotlib" in x]
    assert line.startswith("no pictures: ")
    assert len(whole.values("src")) == 3


@pytest.mark.usefixtures("quick")
def test_pictures_of_what_was_learned_are_there(tmp_path, world):
    """Rejects a page without the learned step sizes, or the analysis that was made."""
    assert "learned step sizes" in made(tmp_path, "sgd").texts["figcaption"]
    assert "learned step sizes" not in made(tmp_path, "maml").texts["figcaption"]
    (world / "maml" / "reuse.png").write_bytes(b"a picture")
    assert made(tmp_path, "maml").texts["figcaption"][-1] == "feature reuse"
    (world / "maml" / "reuse.png").unlink()


def test_a_run_on_images_says_how_feature_reuse_is_measured(tmp_path):
    """Rejects a page that is silent about an analysis that the run could have."""
    (found,) = command.reused(tmp_path / "a run", Glyphs())
    assert f"tinymaml reuse &#x27;{tmp_path}/a run&#x27;" in str(found)
    assert command.reused(tmp_path, Sine(**FEW)) == []


@pytest.mark.usefixtures("quick")
def test_a_run_that_was_not_evaluated_says_so(tmp_path, world):
    """Rejects an evaluation of other weights, and a page without a word."""
    for name in ("bare", "maml"):
        if name == "maml":
            file = world / name / runs.EVALUATION
            kept = file.read_text()
            file.write_text(json.dumps(json.loads(kept) | {"iterations": [7]}))
        read = made(tmp_path, name, lines=1)
        (line,) = [x for x in read.texts["p"] if x.startswith(f"{name} was not evaluated")]
        assert line.endswith(f": tinymaml evaluate {name}")
        assert not [x for x in read.tables if x[0][0] == "gradient steps"]
    file.write_text(kept)


@pytest.mark.usefixtures("quick")
def test_an_exported_theta_says_where_its_scores_are(tmp_path):
    """Rejects the advice to evaluate it first, after which there is no table either."""
    assert here("export", "maml", tmp_path / "theta").code == 0
    read = made(tmp_path, tmp_path / "theta", lines=1)
    (line,) = [x for x in read.texts["p"] if "is an exported theta" in x]
    assert line.endswith(f"to print them: tinymaml evaluate {tmp_path / 'theta'}")


@pytest.mark.usefixtures("quick")
def test_runs_of_different_experiments_share_a_page(tmp_path):
    """Rejects the error of `plot`, whose pictures cannot be shared."""
    read = made(tmp_path, "maml", "lost", lines=1)
    assert len(read.values("src")) == 5
    assert read.texts["h1"] == ["Runs: Sine, 5 shots; Omniglot, 5-way 1-shot"]


@pytest.mark.usefixtures("quick")
def test_the_same_runs_give_the_same_page(tmp_path, world):
    """Rejects times, temporary names and random order, and changed run folders."""
    before = tree(world)
    one, two = (made(tmp_path, "maml", "both").source for _ in range(2))
    assert one == two
    assert tree(world) == before


def test_the_gradient_check_is_that_of_the_run(tmp_path):
    """Rejects the check of another algorithm or number of steps, and one without its
    command."""
    read = made(tmp_path, "sgd", "bare", lines=1)
    commands = [x for x in read.texts["code"] if "check" in x]
    wanted = "tinymaml check sine --algorithm meta-sgd --shots 5 --hidden 4"
    assert commands[0] == wanted
    assert "bare" not in commands[1]
    assert any("reptile has no objective" in x for x in read.texts["p"])
    (rows,) = [x for x in read.tables if x[0][1:3] == ["figure", "allowed"]]
    found = json.loads(here(*wanted.split()[1:], "--json", "--quiet").out)
    assert [row[0] for row in rows] == [
        found[0]["title"],
        *(row["check"] for row in found[0]["rows"]),
    ]
    assert any(x.endswith("in float64: passed") for x in read.texts["p"])


@pytest.mark.parametrize(
    ("config", "words"),
    [
        (Sine(inner_steps=3, **FEW), "check sine --algorithm maml --steps 3 --hidden 4"),
        (Glyphs(ways=3), "check glyphs --algorithm maml --ways 3 --filters 4"),
        (Omniglot(data="x y.npz"), "check omniglot --algorithm maml --filters 4"),
        (PointNav(), "check pointnav"),
    ],
    ids=["sine", "glyphs", "omniglot", "pointnav"],
)
def test_the_command_of_a_check_is_what_it_does(config, words, monkeypatch):
    """Rejects a command that checks something else than the page shows."""
    name, verify = command.check.of_run(config)
    assert name == f"tinymaml {words}"
    reached = []
    for place in ("verify", "verify_policies"):
        monkeypatch.setattr(command.check, place, lambda *args: reached.append(args[:2]))
    if name.endswith("pointnav"):
        name, verify = command.check.of_run(config)
    verify(list)
    monkeypatch.setattr(command.check, "finish", lambda *_: None)
    assert here(*words.split(), "--quiet").code == 0
    assert reached[0] == reached[1]


def test_a_failed_check_is_shown(tmp_path, monkeypatch):
    """Rejects a page on which every check passes."""
    monkeypatch.setattr(chain, "ROUNDING", -1.0)
    read = made(tmp_path, "maml")
    assert any(x.endswith("in float64: failed") for x in read.texts["p"])
    assert any("WRONG" in row for rows in read.tables for row in rows)


# ----- Settings and commands -----


def sources(config, *others):
    """Return the value and the source of each option on the page."""
    every = [(None, one) for one in (config, *others)]
    return {row[0]: row[1:3] for row in page.settings(page.Subject(None, every, None))[1:]}


def test_every_setting_has_its_source():
    """Rejects a default as a choice, a preset's value as ours, and options without
    effect."""
    found = sources(Sine(preset="finn2017-paper", tasks=7, shots=5))
    assert found["--preset"] == ["finn2017-paper", "given, in place of default none"]
    assert found["--tasks"][0] == "7"
    assert found["--tasks"][1].startswith("given, in place of preset finn2017-paper ")
    assert found["--alpha"][1].startswith("preset finn2017-paper: ")
    assert found["--dtype"] == ["float32", "default"]
    assert found["--beta"][1].startswith(("preset finn2017-paper: ", "default: "))
    assert "--tune" not in found
    learned = sources(Sine(algorithm="meta-sgd"))
    assert learned["--test-steps"] == ["1", "default of the algorithm: Li et al. 2017"]
    assert learned["--seed"] == ["0", "default"]
    both = sources(Sine(seed=4), Sine(seed=5))
    assert both["--seed"] == ["4, 5", "one for each run"]


def test_the_source_of_a_preset_is_its_columns():
    """Rejects the line of the code beside the paper's value."""
    paper, code = (Sine(preset=f"finn2017-{x}") for x in ("paper", "code"))
    parts = presets.of("sine")["finn2017"].parts
    rows = [
        x for part in parts if part.when.items() <= code.values().items() for x in part.rows
    ]
    assert any(row.paper_source != row.code_source for row in rows)
    for row in rows:
        name = flag(row.option)
        if not code.uses(row.option):
            continue
        assert sources(paper)[name][1] == f"preset finn2017-paper: {row.paper_source}"
        assert sources(code)[name][1] == f"preset finn2017-code: {row.code_source}"


CONFIGS = [
    Sine(**FEW, alpha=0.02, replay=False),
    Sine(preset="finn2017-code", tasks=9),
    Sine(algorithm="meta-sgd", rates="tensor", inner_steps=2),
    Omniglot(data="a 'file' of.npz", preset="finn2017-paper"),
    PointNav(algorithm="fomaml"),
    Glyphs(algorithm="maml++", inner_steps=4, seed=9),
]


@pytest.mark.parametrize("config", CONFIGS, ids=lambda x: f"{x.name} {x.algorithm}")
def test_the_command_repeats_the_run(config, monkeypatch, tmp_path):
    """Rejects a command that trains something else, and unquoted names of files."""
    words = page.train(page.Subject(None, [(None, config)], None))
    assert words[0] == "tinymaml"
    found = []

    def stop(made, out, seeds):
        found.append((made, seeds))
        raise KeyboardInterrupt

    monkeypatch.setattr("tinymaml.harness.plan.new_runs", stop)
    assert here(*words[1:]).code == 130
    assert found == [(config, 1)]
    both = page.train(page.Subject(None, [(None, config)] * 2, None))
    assert both == [*words, "--seeds", "2"]


@pytest.mark.usefixtures("quick")
def test_commands_are_quoted(tmp_path):
    """Rejects a command that a shell splits or runs."""
    read = made(tmp_path, NASTY, "lost", lines=1)
    lines = [shlex.split(x) for text in read.texts["pre"] for x in text.splitlines()]
    assert ["tinymaml", "evaluate", NASTY] in lines
    assert ["tinymaml", "plot", "lost"] in lines
    assert any("no <such>.npz" in line for line in lines)


# ----- Sessions -----


@pytest.mark.usefixtures("quick")
def test_sessions_are_shown_and_stay(tmp_path, world):
    """Rejects versions that are left out, and a damaged file that a reader moves away."""
    file = world / "maml" / sessions.SESSIONS
    session = {"began": "2026-01-31", "seconds": 3.5, "iteration": 2, "numpy": "2.3"}
    file.write_text(json.dumps({"sessions": [session, session | {"cpu": "Z80"}]}))
    read = made(tmp_path, "maml")
    (rows,) = [x for x in read.tables if x[0][0] == "began"]
    assert rows[0] == ["began", "seconds", "iteration", "numpy", "cpu"]
    assert rows[1:] == [["2026-01-31", "3.5", "2", "2.3", x] for x in ("", "Z80")]
    file.write_text("{")
    read = made(tmp_path, "maml")
    assert any(x.startswith("sessions.json is damaged") for x in read.texts["p"])
    assert file.read_text() == "{"
    file.unlink()
    read = made(tmp_path, "maml")
    assert "There is no sessions.json." in read.texts["p"]


# ----- An evaluation.json that was read back -----


def test_what_is_read_back_is_what_was_written(world):
    """Rejects a table, a title or notes that differ from those after training."""
    path, (config,), _ = _one("maml")
    kept = command.checkpoints.load(path, config)
    wanted = results.judge(config, kept, "test", 6, 3, [3], Here())
    found = tables.read_back(path, [config], [0])
    assert tables.titled([found], range(4)) == tables.titled([wanted], range(4))


@pytest.mark.parametrize(
    "change",
    [
        *({"experiment": "glyphs"}, {"seeds": [1]}, {"iterations": [1]}, {"mean": [1.0]}),
        *({"tasks": 0}, {"mean": "x"}, {"mean": []}, {"options": {"shots": 6}}),
        *({"validations": 3}, {"alpha": "x"}, {"remarks": None}, {"seeds": [0, 1]}),
    ],
    ids=str,
)
def test_an_evaluation_of_something_else_is_none(change, world, tmp_path):
    """Rejects the scores of another run, and a traceback for a damaged file."""
    path, configs, iterations = _one("maml")
    found = json.loads((path / runs.EVALUATION).read_text())
    (tmp_path / runs.EVALUATION).write_text(json.dumps(found))
    assert tables.read_back(tmp_path, configs, iterations)
    (tmp_path / runs.EVALUATION).write_text(json.dumps(found | change))
    assert tables.read_back(tmp_path, configs, iterations) is None


def test_scores_that_are_not_finite_are_counted(world, tmp_path):
    """Rejects the mean of the others, and null that becomes 0."""
    path, configs, iterations = _one("maml")
    found = runs.unsealed(path / runs.EVALUATION)
    found["mean"][2] = found["half_width_95"][2] = None
    for lost, text in (([0, 0, 2, 0], "not finite in 2 of 6"), (None, "not finite")):
        found["not_finite"] = lost
        if lost is None:  # an older program wrote none
            del found["not_finite"]
        (tmp_path / runs.EVALUATION).write_text(json.dumps(found))
        result = tables.read_back(tmp_path, configs, iterations)
        cells = tables.cells(Sine.score, result.scores)
        assert cells[2] == text
        assert "+-" in cells[1]


# ----- What is wrong -----


@pytest.mark.parametrize(
    ("arguments", "code", "words"),
    [
        (["none"], 1, "no run in 'none'"),
        ([], 2, "Missing argument 'RUN"),
        ([""], 2, "RUN must not be empty"),
        (["maml", "--out", "x.pdf"], 2, "must end with .html"),
        (["maml", "--out", "no/x.html"], 2, "no folder 'no'"),
        (["maml", "--data", "x.npz"], 2, "has no data file"),
        (["maml", "twin"], 2, "have the same options and seed"),
    ],
)
def test_what_is_wrong_is_one_line(arguments, code, words, world):
    """Rejects a traceback, a wrong exit code, and files written nevertheless."""
    before = tree(world)
    found = here("report", *arguments, "--quiet")
    assert (found.code, found.out) == (code, "")
    assert words in one_error(found)
    assert tree(world) == before


@pytest.mark.usefixtures("quick")
def test_a_page_is_replaced_whole_or_stays(tmp_path, monkeypatch):
    """Rejects half a page in the place of the former one."""
    out = tmp_path / "page.html"
    out.write_text("the former")
    with monkeypatch.context() as patch:
        patch.setattr(
            runs.os, "fsync", lambda _: (_ for _ in ()).throw(OSError(28, "full"))
        )
        assert here("report", "maml", "--out", out, "--quiet").code == 1
    assert out.read_text() == "the former"
    assert [*tmp_path.iterdir()] == [out]


# ----- read -----


def test_read_writes_the_algorithms(tmp_path, monkeypatch):
    """Rejects a page without the chain's picture, and an error without matplotlib."""
    out = tmp_path / "read.html"
    found = here("read", "--out", out)
    assert (found.code, found.out, found.err) == (0, f"{out}\n", "")
    read = Page(out.read_bytes())
    check(read)
    assert len(read.values("src")) == 1
    assert "degrees off the exact one" in read.texts["figcaption"][0]
    monkeypatch.setitem(sys.modules, "matplotlib.figure", None)
    found = here("read", "--out", out)
    assert found.code == 0
    assert re.fullmatch("no picture: .*matplotlib.*\n", found.err)
    read = Page(out.read_bytes())
    check(read)
    assert read.values("src") == []
    assert any(x.startswith("no picture: ") for x in read.texts["p"])
    assert here("read", "--out", "x.pdf").code == 2
