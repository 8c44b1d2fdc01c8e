"""What a terminal of any width shows: lines that fit, one line of progress, no flood."""

import os
import sys
from contextlib import redirect_stderr, redirect_stdout
from functools import partial
from io import StringIO
from itertools import pairwise
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as some

from folders import folder
from processes import here
from terminals import left, on_terminal, states, terminal
from tinymaml.cli import main, prepare
from tinymaml.cli.terminal import STAGES, Progress, Watched, columns, fitted, progress
from tinymaml.experiments.glyphs import Glyphs
from tinymaml.harness import evaluation
from tinymaml.speed.workers import Here, gather


SHORT = (
    *("--iterations", "30", "--hidden", "8", "--tasks", "4"),
    *("--test-tasks", "4", "--test-steps", "1"),
)
WALK = (
    *("--iterations", "2", "--tasks", "2", "--trajectories", "3", "--horizon", "4"),
    *("--hidden", "3", "--test-tasks", "4", "--test-trajectories", "2"),
)
# The README's commands, as far as they print, on small runs.
COMMANDS = {
    "train": ("train", "sine", *SHORT, "--out", "again", "--seeds", "2", "--shots", "5"),
    "train, chosen": ("train", "sine", *SHORT, "--out", "v", "--validate-every", "10"),
    "train, untested": ("train", "sine", *SHORT, "--out", "untested", "--no-test"),
    "train pointnav": ("train", "pointnav", *WALK, "--out", "walk"),
    "evaluate": ("evaluate", "one", "other", "third"),
    "evaluate shots": ("evaluate", "one", "--shots", "5,10,20"),
    "reuse": ("reuse", "images", "--tasks", "4", "--steps", "1", "--queries", "2"),
    "check": ("check", "sine", "--steps", "3"),
    "check pointnav": ("check", "pointnav"),
    "plot": ("plot", "one", "third"),
    "chain": ("chain",),
    "list": ("list",),
    "list sine": ("list", "sine"),
    "list anil": ("list", "anil"),
    "list --presets": ("list", "--presets"),
    "list runs": ("list", "runs", "."),
}


@pytest.fixture(scope="module")
def world(tmp_path_factory):
    """Three runs on sine, of which two have the same tasks, and one on images."""
    place = tmp_path_factory.mktemp("world")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(place)
        for arguments in (
            ("--out", "one"),
            ("--algorithm", "anil", "--out", "other"),
            ("--shots", "5", "--out", "third"),
        ):
            found = here("train", "sine", *SHORT, *arguments)
            assert found.code == 0, found
    folder(place / "images", Glyphs(filters=2, inner_steps=1, test_steps=1, test_tasks=4))
    return place


@pytest.fixture(autouse=True)
def there(world, monkeypatch):
    monkeypatch.chdir(world)
    monkeypatch.delenv("COLUMNS", raising=False)


# ----- Lines that fit -----


SLOW = ("train, chosen", "train, untested", "check pointnav", "plot", "chain")
WIDTHS = [
    *((name, 40) for name in COMMANDS),
    *((name, 80) for name in COMMANDS if name not in SLOW),
    *((name, 200) for name in COMMANDS if name.startswith(("evaluate", "list"))),
]


@pytest.mark.parametrize(("name", "width"), WIDTHS)
def test_every_command_fits(name, width, tmp_path, world, monkeypatch):
    """Rejects tables that are wider than the terminal, a bar that floods it, and tables
    that are wrapped though there is room."""
    arguments = COMMANDS[name]
    if "--out" in arguments:  # trainings begin in a folder of their own
        monkeypatch.chdir(tmp_path)
    found = on_terminal(width, *arguments)
    assert found.code == 0, found
    # A command that the reader should copy is whole, and the terminal wraps it.
    long = [x for x in states(found.out) if len(x) > width and "tinymaml evaluate" not in x]
    assert long == []
    if "--out" in arguments:
        return
    plain = here(*arguments).out
    if max(map(len, plain.splitlines())) <= width:
        shown = [line for line in left(found.out) if line]
        assert shown == [line for line in plain.splitlines() if line]


def test_progress_of_training_is_one_line():
    """Rejects a line for each iteration, and the loss of a surrogate for the return."""
    found = on_terminal(40, "train", "pointnav", *WALK, "--out", "walked")
    lines = left(found.out)
    assert lines[0] == "run folder: walked"
    assert lines[1].startswith("100%  2/2")
    assert "return -" in lines[1]
    assert lines[2].startswith("gradient steps")
    assert "loss" not in found.out


@pytest.mark.parametrize("command", ["evaluate", "check", "plot", "reuse"])
def test_other_commands_show_progress_and_remove_it(command):
    """Rejects minutes of silence, a rest of the line of progress, and --quiet without
    effect."""
    which = {"check": "sine", "reuse": "images"}.get(command, "one")
    few = ["--tasks", 4] * (command == "reuse")
    found = on_terminal(80, command, which, *few)
    label = {"evaluate": "evaluation", "plot": "pictures"}.get(command, command)
    assert f"\r{label}  " in found.out
    assert not [line for line in left(found.out) if line.startswith(f"{label}  ")]
    quiet = on_terminal(80, command, which, *few, "--quiet")
    assert "\r" not in quiet.out
    assert [x for x in left(found.out) if x] == [x for x in left(quiet.out) if x]


def test_the_tests_after_training_show_progress_too(tmp_path):
    """Rejects an evaluation of minutes after the last state of the bar."""
    found = on_terminal(80, "train", "sine", *SHORT, "--out", tmp_path / "a")
    assert "\revaluation  " in found.out
    assert "scores" in found.out
    assert "\rpictures  " in found.out
    quiet = on_terminal(80, "train", "sine", *SHORT, "--out", tmp_path / "b", "--quiet")
    assert "\r" not in quiet.out


def test_options_before_the_experiment_are_its_own():
    """Rejects `check --json sine` that prints no JSON."""
    assert here("check", "--json", "sine").out == here("check", "sine", "--json").out
    assert "\r" not in on_terminal(80, "check", "--quiet", "sine").out


# ----- The line -----


@given(
    label=some.text(
        some.characters(codec="ascii", categories=["L", "N"]), min_size=1, max_size=60
    ),
    total=some.integers(1, 10**8),
    share=some.floats(0, 1),
    figure=some.sampled_from(["", "loss 0.1234", "return -1234.5678"]),
    width=some.integers(19, 250),
)
def test_the_line_of_progress_fits(label, total, share, figure, width):
    """Rejects a line of more characters than there is room, and one without its share."""
    done = round(share * total)
    line = fitted(label, done, total, "12:34:56 left", figure, width)
    assert len(line) <= width
    if width >= 39:
        assert f"{100 * done // total}%" in line
        assert figure in line
    if width >= len(label) + 90:
        assert line.startswith(label)
        assert f"{done}/{total}" in line
        assert line.count("#") + line.count("-") >= 8


def test_the_bar_is_as_full_as_the_work_is_done():
    """Rejects a bar of another share, or that is full too early."""
    for done, full in ((0, 0), (1, 0), (50, 15), (99, 29), (100, 30)):
        line = fitted("x", done, 100, "", "", 200)
        assert f"[{'#' * full}{'-' * (30 - full)}]" in line


def test_the_width_is_that_of_the_stream(monkeypatch):
    """Rejects stdout's width for stderr, a terminal of 0 columns, and COLUMNS without
    effect."""
    assert columns(StringIO()) is None
    for size, width in ((40, 40), (200, 200), (0, 80), (3, 20)):
        with terminal(size) as (stream, _):
            assert columns(stream) == width
    monkeypatch.setenv("COLUMNS", "100")
    with terminal(40) as (stream, _):
        assert columns(stream) == 100
        monkeypatch.setenv("COLUMNS", "wide")
        assert columns(stream) == 40
    assert columns(StringIO()) is None


def test_progress_fits_when_stdout_is_a_file():
    """Rejects a bar as wide as a terminal that only stderr is not."""
    with (
        terminal(40) as (stream, text),
        redirect_stderr(stream),
        redirect_stdout(StringIO()) as out,
        pytest.raises(SystemExit),
    ):
        main.run(["evaluate", "one", "other"])
    assert max(map(len, states(text[0]))) <= 40
    assert max(map(len, out.getvalue().splitlines())) > 80


class Clock:
    """Seconds that pass only when they are told to."""

    def __init__(self):
        self.now = 1000.0

    def __call__(self):
        return self.now


def lines_of(seconds, each):
    """The lines of a file after so many seconds, with an iteration in each of them."""
    clock, file = Clock(), StringIO()
    shown = Progress("sine", file, clock)
    for done in range(1, seconds // each + 1):
        clock.now += each
        shown.show(done, 10**5, f"loss {done}")
    shown.close(stays=True)
    return file.getvalue().splitlines()


def test_without_a_terminal_a_line_comes_now_and_then():
    """Rejects silence for hours, a line an iteration, and bars in a file."""
    assert lines_of(9, 1) == []
    first, second, *_ = lines_of(100, 1)
    assert first == "sine: 10 of 100000, 1 day, 3:46:30 left, loss 10"
    assert second.startswith("sine: 20 of 100000, ")
    hour = lines_of(3600, 1)
    assert 10 < len(hour) < 30
    assert len(lines_of(36000, 60)) > 50  # never more than ten minutes of silence
    seen = [int(line.split()[1]) for line in lines_of(36000, 60)]
    assert max(b - a for a, b in pairwise(seen)) <= 10


def test_on_a_terminal_a_line_is_drawn_ten_times_a_second():
    """Rejects a redraw for each iteration, and a last state that was not drawn."""
    clock = Clock()
    with terminal(80) as (stream, text):
        shown = Progress("sine", stream, clock)
        for done in range(1, 1001):
            clock.now += 0.001
            shown.show(done, 1000, "loss 1")
        shown.close(stays=True)
    assert 10 <= text[0].count("\r") <= 13
    (last,) = [line for line in left(text[0]) if line]
    assert "100%  1000/1000  in 0:00:01  loss 1" in last


def test_the_time_left_is_that_of_the_pass():
    """Rejects the time of an earlier pass, or of iterations before a resume."""
    clock = Clock()
    with terminal(80) as (stream, text):
        shown = Progress("sine", stream, clock)
        for start, total in ((5000, 6000), (0, 10)):
            for done in range(start + 1, start + 4):
                clock.now += 2
                shown.show(done, total, "")
    drawn = [state for state in states(text[0]) if state]
    assert "left" not in drawn[0]
    assert "0:33:14 left" in drawn[2]
    assert "left" not in drawn[3]
    assert "0:00:14 left" in drawn[5]


def test_a_failure_leaves_no_rest_of_the_line():
    """Rejects an error message behind a bar."""

    def fail():
        with progress("evaluation", quiet=False) as show:
            show(1, 2, "")
            raise ZeroDivisionError

    with terminal(80) as (stream, text), redirect_stderr(stream):
        with pytest.raises(ZeroDivisionError):
            fail()
        stream.write("Error: it failed")
    assert left(text[0]) == ["Error: it failed"]


def test_a_line_on_stderr_stands_above_the_progress():
    """Rejects a warning behind a bar, and a bar that does not come back after it."""
    with (
        terminal(80) as (stream, text),
        redirect_stderr(stream),
        progress("evaluation", quiet=False, stays=True) as show,
    ):
        show(1, 2, "")
        print("a file is damaged", file=sys.stderr)
        show(2, 2, "")
    first, second, rest = left(text[0])
    assert (first, rest) == ("a file is damaged", "")
    assert second.endswith("100%  2/2  in 0:00:00")
    file = StringIO()
    with redirect_stderr(file), progress("evaluation", quiet=False) as show:
        show(1, 2, "")
        print("a file is damaged", file=sys.stderr)
        show(2, 2, "")
    assert file.getvalue() == "a file is damaged\n"


def test_chunks_are_counted_with_their_stage():
    """Rejects a count of other calls, another order of the results, and a lost one."""
    seen = []
    pool = Watched(Here(), lambda *one: seen.append(one))
    function = partial(evaluation.chunk_scores)
    assert gather(pool, divmod, (7,), [2, 3, 4]) == [(3, 1), (2, 1), (1, 3)]
    assert seen == [(1, 3, ""), (2, 3, ""), (3, 3, "")]
    assert STAGES[function.func] == "scores"


def test_the_paths_stand_at_the_end(tmp_path):
    """Rejects pictures that nobody finds."""
    found = here("train", "sine", *SHORT, "--out", tmp_path / "a")
    names = ("evaluation.json", "curve.png", "steps.png", "fit.png")
    assert found.out.splitlines()[-4:] == [str(tmp_path / "a" / name) for name in names]
    os.remove(tmp_path / "a" / "evaluation.json")
    found = here("evaluate", tmp_path / "a")
    assert found.out.splitlines()[-1] == str(tmp_path / "a" / "evaluation.json")
    os.remove(tmp_path / "a" / "evaluation.json")
    found = here("evaluate", tmp_path / "a", "--json")
    assert found.err == f"{tmp_path / 'a' / 'evaluation.json'}\n"
    assert here("evaluate", tmp_path / "a").out.splitlines()[-1] != found.err.strip()
    assert Path(found.err.strip()).exists()


@pytest.mark.parametrize("command", ["train", "evaluate"])
def test_a_result_that_cannot_be_written_is_shown(tmp_path, monkeypatch, command):
    """Rejects minutes of evaluation that are lost on a full disk or in a read-only
    folder."""
    run = tmp_path / "a"
    assert here("train", "sine", *SHORT, "--out", run).code == 0
    (run / "evaluation.json").unlink()

    def full(path, result):
        raise OSError(30, "Read-only file system", str(path / "evaluation.json"))

    monkeypatch.setattr("tinymaml.report.tables.save", full)
    how = ("train", "--resume") if command == "train" else ("evaluate",)
    found = here(*how, run)
    assert "MSE on 4 tasks" in found.out
    assert "evaluation.json'" in found.err
    assert "Read-only file system" in found.err
    assert "Traceback" not in found.err
    assert found.code == (command == "train")


@pytest.mark.parametrize("names", [("train", "sine"), ("prepare", "miniimagenet")])
def test_help_fits_a_terminal(monkeypatch, names):
    """Rejects a list of choices in one word, which no terminal can wrap."""
    for width, most in ((80, 80), (40, 50)):  # click's narrowest help has 50
        monkeypatch.setenv("COLUMNS", str(width))
        assert max(map(len, here(*names, "--help").out.split("\n"))) <= most


def test_the_hash_of_the_drawings_fits_a_terminal():
    """Rejects lines of `prepare` that are wider than the terminal."""
    with terminal(40) as (stream, text), redirect_stdout(stream):
        prepare.report(Path("a.npz"), ["sha256 of the drawings: " + 64 * "0"])
    assert max(map(len, text[0].split("\n"))) <= 40
