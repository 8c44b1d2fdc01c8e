"""The command line, well used and badly interrupted: real processes, real signals."""

import io
import json
import os
import pty
import random
import resource
import shutil
import signal
import subprocess
import sys
import time
import zipfile
from pathlib import Path

import numpy as np
import pytest

from places import ROOT
from processes import (
    COMMAND,
    SMALL,
    Told,
    digests,
    end,
    environment,
    gone,
    here,
    one_error,
    run,
    start,
    tree,
    wait_for,
)
from tinymaml.__main__ import GRACE
from tinymaml.algorithms import ALGORITHMS
from tinymaml.cli import list as list_
from tinymaml.experiments import MODULES
from tinymaml.harness import runs
from tinymaml.harness.metrics import read_metrics
from tinymaml.options import flag, options_of


LONG = ("--iterations", "100000000")
HEAVY = ("--tasks", "2000", "--chunk", "1000", "--inner-steps", "500", "--queries", "99")


@pytest.fixture(scope="module")
def straight(tmp_path_factory) -> Path:
    """A run of 200 iterations that nothing interrupted."""
    folder = tmp_path_factory.mktemp("straight")
    told = run("train", "sine", *SMALL, "--out", "run", cwd=folder)
    assert told.code == 0, told
    return folder / "run"


@pytest.fixture
def finished(straight, tmp_path, monkeypatch) -> Path:
    """A copy of that run, in the current folder."""
    monkeypatch.chdir(tmp_path)
    shutil.copytree(straight, tmp_path / "run")
    return tmp_path / "run"


def saved(path: Path) -> bytes:
    try:
        return (path / runs.CHECKPOINT).read_bytes()
    except FileNotFoundError:
        return b""


def wait_for_progress(path: Path) -> None:
    """Return when a run that was started has saved a new checkpoint."""
    before = saved(path)
    wait_for(lambda: saved(path) not in (before, b""))


def children(pid: int) -> list[int]:
    """Return the worker processes of a process."""
    found = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
    told = {int(p): Path(f"/proc/{p}/cmdline").read_bytes() for p in found}
    return [p for p, command in told.items() if b"spawn_main" in command]


# ----- Interruptions -----


@pytest.mark.parametrize("extra", [(), ("--workers", "2")], ids=["alone", "workers"])
def test_kill_minus_nine_at_random_moments(tmp_path, straight, extra):
    """Rejects torn checkpoints, lost metrics, and state that no checkpoint has."""
    rng, path, kills = random.Random(len(extra)), tmp_path / "run", 0
    arguments = ("sine", *SMALL, "--out", path)
    for _ in range(3 if not extra else 2):
        process = start("train", *arguments, *extra, cwd=tmp_path)
        wait_for_progress(path)
        time.sleep(rng.uniform(0, 0.03))
        process.kill()
        kills += end(process).code == -signal.SIGKILL
        arguments = ("--resume", path) if rng.random() < 0.5 else ("sine", "--resume", path)
    assert kills
    told = run("train", *arguments, cwd=tmp_path)
    assert told.code == 0, told
    assert digests(path) == digests(straight)


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_signals_can_be_resumed_from(tmp_path, straight, number, code):
    """Rejects click's exit 1 after Ctrl-C, and another result than without it."""
    path = tmp_path / "run"
    process = start("train", "sine", *SMALL, *LONG, "--out", path, cwd=tmp_path)
    wait_for_progress(path)
    process.send_signal(number)
    told = end(process)
    assert told.code == code
    assert told.out == ""
    assert "interrupted at iteration" in told.err
    assert f"tinymaml train --resume {path}" in told.err
    assert "Traceback" not in told.err
    done = read_metrics(path)[-1]["iteration"]
    again = run("train", "--resume", path, "--iterations", max(done, 200), cwd=tmp_path)
    assert again.code == 0, again
    if done <= 200:
        assert saved(path) == saved(straight)
    kept = (path / runs.METRICS).read_bytes()
    assert kept.startswith((straight / runs.METRICS).read_bytes())


def test_an_interrupted_evaluation_says_how_to_repeat_it(monkeypatch, tmp_path):
    """Rejects silence after Ctrl-C, when the training itself is whole."""

    def stopped(*_):
        raise KeyboardInterrupt

    monkeypatch.setattr("tinymaml.cli.train.tested", stopped)
    path = tmp_path / "run"
    told = here("train", "sine", *SMALL, "--out", path)
    assert told.code == 130
    assert f"tinymaml evaluate {path}" in told.err


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_signals_to_the_whole_group(tmp_path, straight, number, code):
    """Rejects workers that the terminal's Ctrl-C stops in the middle, or that stay."""
    path = tmp_path / "run"
    arguments = ("train", "sine", *SMALL, *LONG, "--out", path, "--workers", "2")
    process = start(*arguments, cwd=tmp_path)
    wait_for_progress(path)
    workers = children(process.pid)
    assert len(workers) == 2
    os.killpg(process.pid, number)
    told = end(process)
    assert (told.code, told.out) == (code, ""), told
    assert "Traceback" not in told.err
    wait_for(lambda: all(gone(worker) for worker in workers), 10)
    told = run("train", "--resume", path, "--iterations", "200", cwd=tmp_path)
    assert told.code == 0
    metrics = (path / runs.METRICS).read_bytes()
    assert metrics.startswith((straight / runs.METRICS).read_bytes())


def test_processes_hear_ctrl_c():
    """Rejects tests whose processes ignore Ctrl-C, as the script that started them does."""
    code = "import signal, sys; sys.exit(signal.getsignal(2) is signal.SIG_IGN)"
    assert subprocess.run([sys.executable, "-c", code]).returncode == 0


def test_the_tests_can_run_in_the_background():
    """Rejects tests that fail where SIGINT is ignored, and "kill" unrelated mutants."""
    test = f"{__file__}::{test_processes_hear_ctrl_c.__name__}"
    ignoring = "import os, signal, sys; signal.signal(2, signal.SIG_IGN)"
    ignoring += "; os.execv(sys.executable, [sys.executable, *sys.argv[1:]])"
    command = [sys.executable, "-c", ignoring, "-m", "pytest", "-n0", test]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout


@pytest.mark.parametrize("workers", ["1", "2"])
def test_a_second_ctrl_c_stops_at_once(tmp_path, workers):
    """Rejects making the impatient wait for an iteration of a minute."""
    path = tmp_path / "run"
    arguments = ("train", "sine", *SMALL, *HEAVY, "--out", path, "--workers", workers)
    process = start(*arguments, cwd=tmp_path)
    wait_for(lambda: (path / runs.METRICS).exists())
    time.sleep(0.3)
    os.killpg(process.pid, signal.SIGINT)
    time.sleep(0.2)
    assert process.poll() is None
    os.killpg(process.pid, signal.SIGINT)
    began = time.monotonic()
    told = end(process)
    assert time.monotonic() - began < 10
    assert told.code == 130
    assert "Traceback" not in told.err
    assert run("evaluate", path, cwd=tmp_path).code == 0


def test_ctrl_c_while_workers_start(tmp_path):
    """Rejects the tracebacks of workers that were interrupted before they could begin."""
    process = start("train", "sine", *SMALL, "--out", "run", "--workers", "2", cwd=tmp_path)
    wait_for(lambda: len(children(process.pid)) == 2)
    time.sleep(0.1)  # they import NumPy
    os.killpg(process.pid, signal.SIGINT)
    told = end(process)
    assert told.code == 130
    assert "Traceback" not in told.err, told


def test_sigterm_outside_of_training(finished):
    """Rejects workers that stay, and what multiprocessing says about what it leaked."""
    options = ["--tasks", "1000000", "--workers", "2"]
    process = start("evaluate", "run", *options, cwd=finished.parent)
    wait_for(lambda: len(children(process.pid)) == 2)
    workers = children(process.pid)
    time.sleep(1)
    process.terminate()
    assert end(process) == Told(143, "", "")
    wait_for(lambda: all(gone(worker) for worker in workers), 10)


LOCK_HELD = """
import multiprocessing, queue, signal, sys
from pathlib import Path
from tinymaml.__main__ import main

put, calls = queue.Queue.put, []

def interrupted(self, *arguments):
    put(self, *arguments)
    calls.append(1)
    if len(calls) == 9:
        self.mutex.acquire()  # as Condition.__enter__ leaves it when a signal comes
        pids = [child.pid for child in multiprocessing.active_children()]
        Path("pids").write_text(" ".join(map(str, pids)))
        signal.raise_signal(number)

if __name__ == "__main__":
    number = int(sys.argv.pop(1))
    queue.Queue.put = interrupted
    main()
"""


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_a_signal_while_a_lock_of_the_pool_is_held(finished, number, code):
    """Rejects joining the pool's thread, which waits for this lock."""
    Path("held.py").write_text(LOCK_HELD)
    arguments = ["evaluate", "run", "--tasks", "1000000", "--workers", "2"]
    done = subprocess.run(
        [sys.executable, "held.py", str(int(number)), *arguments],
        env=environment(finished.parent),
        capture_output=True,
        text=True,
        timeout=30,
    )
    assert time.time() - Path("pids").stat().st_mtime < GRACE
    assert Told(done.returncode, done.stdout, done.stderr) == Told(code, "", "")
    workers = [int(pid) for pid in Path("pids").read_text().split()]
    assert len(workers) == 2
    wait_for(lambda: all(gone(worker) for worker in workers), 10)


DEAF = """
import signal, sys, time
from tinymaml import __main__ as program

def deaf(number):
    try:
        signal.raise_signal(number)
    except SystemExit:
        print("deaf", flush=True)
        time.sleep(60)

if __name__ == "__main__":
    number, program.GRACE = int(sys.argv[1]), int(sys.argv[2])
    import tinymaml.cli.main
    tinymaml.cli.main.run = lambda: deaf(number)
    program.main()
"""


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
@pytest.mark.parametrize("grace", [1, 60])
def test_a_second_signal_or_a_while_ends_by_force(tmp_path, number, code, grace):
    """Rejects closing files for ever after a signal."""
    (tmp_path / "deaf.py").write_text(DEAF)
    command = [sys.executable, "deaf.py", str(int(number)), str(grace)]
    with subprocess.Popen(command, cwd=tmp_path, stdout=subprocess.PIPE) as process:
        assert process.stdout.readline() == b"deaf\n"
        if grace == 60:
            process.send_signal(number)
        assert process.wait(20) == code


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_signals_at_random_moments(finished, number):
    """Rejects a command that a signal makes hang now and then."""
    rng, options = random.Random(int(number)), ["--tasks", "1000000", "--workers", "2"]
    together = [start("evaluate", "run", *options, cwd=finished.parent) for _ in "abc"]
    for process in together:
        wait_for(lambda pid=process.pid: len(children(pid)) == 2)
    for process in together:
        time.sleep(rng.uniform(0, 0.5))
        process.send_signal(number)
    assert [end(process) for process in together] == [Told(128 + number, "", "")] * 3


DECIDING = """
from tinymaml.algorithms.algorithm import Algorithm

def gradient(w, task, problem):
    return (0.0, w) if w.sum() > 0 else (1.0, -w)

DECIDING = Algorithm(name="deciding", label="one that decides", gradient=gradient)
"""


def test_what_cannot_be_replayed_is_one_note(tmp_path, monkeypatch):
    """Rejects a traceback of CannotRecordError, and a fallback in silence."""
    monkeypatch.chdir(tmp_path)

    Path("own.py").write_text(DECIDING)
    sizes = [*SMALL, "--no-test", "--seed", "77", "--iterations", "2", "--quiet"]
    told = here("train", "sine", *sizes, "--algorithm", "own.py:DECIDING")
    assert told.code == 0, told
    (note,) = [line for line in told.err.splitlines() if line.startswith("note: ")]
    assert "a Python branch depends on a value" in note
    assert "--no-replay" in note


def test_a_worker_that_is_killed(tmp_path):
    """Rejects hanging, and a traceback of BrokenProcessPool."""
    path = tmp_path / "run"
    arguments = ("train", "sine", *SMALL, *LONG, "--out", path, "--workers", "2")
    process = start(*arguments, cwd=tmp_path)
    wait_for_progress(path)
    os.kill(children(process.pid)[0], signal.SIGKILL)
    told = end(process)
    assert told.code == 1
    assert "a worker process died" in one_error(told)
    assert run("evaluate", path, cwd=tmp_path).code == 0


def test_two_processes_on_one_run(tmp_path):
    """Rejects two loops that write one run; the lock goes with its process."""
    path = tmp_path / "run"
    process = start("train", "sine", *SMALL, *LONG, "--out", path, cwd=tmp_path)
    wait_for_progress(path)
    told = run("train", "--resume", path, cwd=tmp_path)
    assert told.code == 1
    assert f"in use by process {process.pid}" in one_error(told)
    assert process.poll() is None
    process.kill()
    end(process)
    assert run("train", "--resume", path, "--iterations", "1", cwd=tmp_path).code == 0


# ----- Going on -----


def test_seven_and_thirteen_are_twenty(tmp_path, monkeypatch):
    """Rejects --iterations that counts anew; one option on both sides of the name."""
    monkeypatch.chdir(tmp_path)
    options = [*SMALL, "--checkpoint-every", "5"]
    assert here("train", "sine", *options, "--iterations", "20", "--out", "a").code == 0
    assert here("train", "sine", *options, "--iterations", "7", "--out", "sine").code == 0
    assert here("train", "--resume", "sine", "--iterations", "20").code == 0
    for name in (runs.CHECKPOINT, runs.METRICS):
        assert Path("a", name).read_bytes() == Path("sine", name).read_bytes()
    assert runs.read_config(Path("sine")).iterations == 20


def test_a_finished_run_changes_no_more(finished, straight):
    """Rejects one iteration too many, and errors where there is nothing to do."""
    for arguments in (("sine", "--resume", "run"), ("--resume=run", "--iterations", "3")):
        told = here("train", *arguments)
        assert (told.code, told.out.count("+-")) == (0, 2)
        assert digests(finished) == digests(straight)


def test_going_on_with_a_damaged_checkpoint(finished, straight):
    """Rejects giving up, or starting anew, while the previous checkpoint is whole."""
    (finished / runs.CHECKPOINT).write_bytes(saved(straight)[:1000])
    assert here("train", "--resume", "run").code == 0
    assert saved(finished) == saved(straight)
    (finished / runs.CHECKPOINT).write_bytes(b"<html>")
    (finished / runs.PREVIOUS).write_bytes(b"{}")
    before = tree(finished)
    for command in (("train", "--resume", "run"), ("evaluate", "run")):
        told = here(*command)
        assert told.code == 1
        error = one_error(told)
        assert runs.CHECKPOINT in error
        assert runs.PREVIOUS in error
    assert {**tree(finished), runs.LOCK: b""} == {**before, runs.LOCK: b""}


def test_no_room_for_a_file(finished):
    """Rejects a new checkpoint, cut short, in the place of the old one."""
    before = {name: (finished / name).read_bytes() for name in runs_files(finished)}
    script = 'ulimit -f 1; exec "$@"'
    command = ["sh", "-c", script, "sh", COMMAND, "train", "--resume", "run"]
    done = subprocess.run(
        [*command, "--iterations", "300"],
        capture_output=True,
        text=True,
        env=environment(finished.parent),
        timeout=60,
    )
    told = Told(done.returncode, done.stdout, done.stderr)
    assert told.code == 1
    assert "File too large" in one_error(told)
    for name in before:
        if name != runs.CONFIG:
            assert (finished / name).read_bytes() == before[name]
    assert not [*finished.glob(f"{runs.TEMPORARY}*")]


def runs_files(path: Path) -> list[str]:
    return [file.name for file in path.iterdir() if file.name != runs.LOCK]


def test_a_checkpoint_that_claims_seven_tebibytes(finished):
    """Rejects believing the size in a header: memory, and minutes."""
    huge = io.BytesIO()
    claimed = {"descr": "<f4", "fortran_order": False, "shape": (2 * 10**12,)}
    np.lib.format.write_array_header_1_0(huge, claimed)
    for name in (runs.CHECKPOINT, runs.PREVIOUS):
        with zipfile.ZipFile(finished / name) as whole:
            members = {member: whole.read(member) for member in whole.namelist()}
        with zipfile.ZipFile(finished / name, "w") as archive:
            for member, data in (members | {"theta.npy": huge.getvalue()}).items():
                archive.writestr(member, data)
    process = start("evaluate", "run", cwd=finished.parent)
    _, status, usage = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)
    told = end(process)
    assert told.code == 1
    one_error(told)
    # Linux counts in what this process had when it started that one.
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    assert usage.ru_maxrss < max(200 * 2**10, before + 1)  # kilobytes
    assert usage.ru_utime < 5


# ----- What it tells -----


@pytest.mark.parametrize("name", ["train", "evaluate", "export", "plot", "check", "list"])
def test_every_command_has_help_with_an_example(name):
    """Rejects a command that does not show how it is used."""
    told = here(name, "--help")
    assert (told.code, told.err) == (0, "")
    assert f"tinymaml {name}" in told.out.partition("\n")[2]


@pytest.mark.parametrize("name", MODULES)
def test_help_of_training_has_every_default(name):
    """Rejects an option that hides its default, or one that is not explained; and an
    example that fails for want of data."""
    told = here("train", name, "--help")
    assert told.code == 0
    data = f" --data {name}.npz" if "--data" in told.out else ""
    assert f"Example: tinymaml train {name}{data} --seed 1\n" in told.out
    text = " ".join(told.out.split())
    for option in ("--workers", "--out", "--resume", "--config", "--quiet"):
        assert option in text
    for value in ("0.001", "maml", "float32"):
        assert f"[default: {value}]" in text


def test_help_of_training_without_an_experiment_lists_them():
    """Rejects a traceback where there are no arguments to choose an algorithm by."""
    told = here("train", "--help")
    assert (told.code, told.err) == (0, "")
    assert all(f"  {name} " in told.out for name in MODULES)
    assert here("check", "--help").code == 0


def test_help_of_a_run_that_goes_on(finished):
    """Rejects "No such option: --resume"."""
    told = here("train", "--resume", "run", "--help")
    assert told.code == 0
    assert "Usage: tinymaml train sine" in told.out


@pytest.mark.parametrize("command", [[COMMAND], [sys.executable, "-m", "tinymaml"]])
def test_versions(tmp_path, command):
    """Rejects results whose BLAS nobody can name; both ways to start it."""
    done = subprocess.run(
        [*command, "--version"], capture_output=True, text=True, check=True, cwd=tmp_path
    )
    names = [line.split()[0] for line in done.stdout.splitlines()]
    assert names == ["tinymaml", "python", "numpy", "autograd", "blas", "kernel"]
    assert all(len(line.split()) > 1 for line in done.stdout.splitlines())
    assert done.stderr == ""


def test_lists():
    """Rejects numbers without their sources, and JSON that is none."""
    told = here("list", "sine")
    assert "--alpha" in told.out
    assert "source: the paper" in told.out
    assert "--regressors" not in told.out
    told = json.loads(here("list", "--json").out)
    assert {*told} == {*MODULES, *ALGORITHMS}
    assert told["averaged"] == {"regressors": 500, "points": 100}
    assert json.loads(here("list", "sine", "--json").out)["hidden"] == [40, 40]


def test_the_list_has_every_experiment_and_algorithm():
    """Rejects an algorithm that one cannot find, or of which one cannot see what it learns,
    what it adapts and what it costs; and columns that belong to another."""
    lines = here("list").out.splitlines()
    gap = lines.index("")
    assert [line.split()[0] for line in lines[1:gap]] == [*MODULES]
    head, *rows = lines[gap + 1 :]
    starts = [head.index(word) for word in list_.COLUMNS]
    ends = [*starts[1:], None]
    found = [[row[a:b].strip() for a, b in zip(starts, ends, strict=True)] for row in rows]
    assert found == [
        [row.name, row.learns, row.adapts, row.cost, row.source]
        for row in ALGORITHMS.values()
    ]
    assert all(all(cells) for cells in found)


@pytest.mark.parametrize("name", ALGORITHMS)
def test_the_list_of_an_algorithm_has_its_own_options(name):
    """Rejects the options of the experiment, of another algorithm, or an empty answer."""
    told = here("list", name)
    assert told.code == 0
    own = options_of(ALGORITHMS[name].options)
    shown = [line.split()[0] for line in told.out.splitlines() if line.startswith("--")]
    assert shown == [option.flag for option in own.values()]
    for option in own.values():
        assert option.help in told.out
        assert option.source in told.out
    assert own or told.out == f"{name} has no options of its own\n"


@pytest.mark.parametrize("name", ALGORITHMS)
@pytest.mark.parametrize("way", ["typed", "typed twice", "after an =", "in a file"])
def test_help_of_training_has_the_options_of_the_algorithm(
    tmp_path, monkeypatch, name, way
):
    """Rejects help that hides the options of the algorithm that was asked for, or shows
    another's; and the algorithm of a file that is not read before the help is."""
    monkeypatch.chdir(tmp_path)
    Path("c.toml").write_text(f'algorithm = "{name}"')
    given = {
        "typed": ["--algorithm", name],
        "typed twice": ["--algorithm", "random", "--algorithm", name],
        "after an =": [f"--algorithm={name}"],
        "in a file": ["--config", "c.toml"],
    }
    experiment = "sine" if "few-shot" in ALGORITHMS[name].settings else "pointnav"
    told = here("train", experiment, *given[way], "--help")
    assert told.code == 0, told
    flags = {line.split()[0] for line in told.out.splitlines() if line.startswith("  --")}
    own = {*options_of(ALGORITHMS[name].options)}
    every = {one for row in ALGORITHMS.values() for one in options_of(row.options)}
    assert {one for one in every if flag(one) in flags} == own


@pytest.mark.parametrize("name", ALGORITHMS)
def test_help_of_training_is_true_of_the_algorithm(name):
    """Rejects options without effect in the help, and defaults that are not in force."""
    row = ALGORITHMS[name]
    experiment = "sine" if "few-shot" in row.settings else "pointnav"
    text = " ".join(here("train", experiment, "--algorithm", name, "--help").out.split())
    assert not any(f"{flag(option)} " in text for option in row.ignores)
    assert ("--tune /" in text) is not row.inner_loop
    usual = MODULES[experiment].CONFIG
    for option, value in row.defaults({}).items():
        if option not in row.ignores:
            described = options_of(usual)[option].help
            shown = text.partition(described)[2].partition("]")[0]
            assert shown.strip() == f"[default: {value}"


def test_stdout_holds_the_table_only(tmp_path):
    """Rejects progress in a file of results or on a stderr that is no terminal, and files
    that are not named at the end."""
    options = ["train", "sine", *SMALL, "--iterations", "3", "--out", "run"]
    told = run(*options, cwd=tmp_path)
    assert told.code == 0
    lines = told.out.splitlines()
    assert lines[0] == "gradient steps   MSE on 4 tasks (95 % interval)"
    assert [line.split()[0] for line in lines[1:-1]] == ["0", "1", "tasks,", "no"]
    assert lines[-1] == "run/evaluation.json"
    err = told.err.splitlines()
    assert err[0] == "run folder: run"
    assert err[1].startswith("no pictures: ")
    assert len(err) == 2


@pytest.mark.parametrize("quiet", [False, True])
def test_progress_on_a_terminal(tmp_path, quiet):
    """Rejects progress that nobody sees, and one that --quiet does not stop."""
    mine, theirs = pty.openpty()
    options = ["train", "sine", *SMALL, "--iterations", "30", *["--quiet"] * quiet]
    done = subprocess.run(
        [COMMAND, *options],
        cwd=tmp_path,
        stderr=theirs,
        stdout=subprocess.PIPE,
        env=environment(tmp_path, TERM="xterm"),
        text=True,
        check=True,
    )
    os.close(theirs)
    told = b""
    try:
        while piece := os.read(mine, 4096):
            told += piece
    except OSError:  # Linux tells the end of a terminal so
        pass
    os.close(mine)
    assert (b"100%" in told) is not quiet
    assert (b"loss" in told) is not quiet
    assert "100%" not in done.stdout


def test_evaluation_of_a_run(finished, straight):
    """Rejects other tasks than training's end reports, and results that change a run."""
    table = here("evaluate", "run")
    assert table.code == 0
    assert (
        table.out.splitlines()[0]
        == "sine --tasks 4 --hidden 8, 200 iterations, 4 test tasks"
    )
    told = json.loads(here("evaluate", "run", "--json").out)
    assert told == runs.unsealed(finished / "evaluation.json")
    assert (told["experiment"], told["tasks"], len(told["mean"])) == ("sine", 4, 2)
    more = here("evaluate", "run", "--tasks", "50", "--steps", "3", "--workers", "2")
    assert more.out == here("evaluate", "run", "--tasks", "50", "--steps", "3").out
    other = here("evaluate", "run", "--split", "val", "--json")
    assert json.loads(other.out)["mean"] != told["mean"]
    assert digests(finished) == digests(straight)


@pytest.mark.parametrize(
    "algorithm", ["pretrained", "oracle", "averaged", "averaged-l2", "averaged-mean"]
)
def test_a_baseline_is_one_command(tmp_path, monkeypatch, algorithm):
    """Rejects a baseline whose step size is not tuned, not told, or told as another one
    when it is evaluated later."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("tinymaml.plots.draw", lambda path: [])
    options = ["--hidden", "8", "--iterations", "3", "--test-tasks", "4"]
    few = ["--regressors", "5", "--points", "7"] if "averaged" in algorithm else []
    asked = ["--algorithm", algorithm, *options, *few, "--validation-tasks", "20"]
    told = here("train", "sine", *asked, "--out", "run")
    assert told.code == 0, told
    saved = json.loads(Path("run/evaluation.json").read_text())
    line = f"step size {saved['alpha']:g}, the best of 18 on 20 validation tasks"
    assert saved["algorithm"] == algorithm
    *rest, path = told.out[told.out.index("step size") :].splitlines()
    assert path == "run/evaluation.json"
    assert rest[0] == line
    fits = "0 of 5 regressors have an MSE below 0.02 on their own curve"
    told = [line for line in rest[1:] if not line.startswith("no clear improvement")]
    assert told == ([fits] if few else [])
    again = here("evaluate", "run")
    assert again.code == 0, again
    assert again.out[again.out.index("step size") :].splitlines() == rest
    kept = {name: x for name, x in saved.items() if name != runs.HASH}
    assert json.loads(here("evaluate", "run", "--json").out) == kept
    if algorithm == "averaged-mean":
        assert here("evaluate", "run", "--workers", "2").out == again.out


def test_a_training_that_did_not_help_says_so(tmp_path, monkeypatch):
    """Rejects a table of a pretrained net on its plateau without a word, in the report and
    for machines; and that word about one that learned."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("tinymaml.plots.draw", lambda path: [])
    for beta, learned in ((0.001, False), (0.01, True)):
        options = ["--beta", beta, "--seed", 1, "--iterations", 1000, "--test-tasks", 100]
        told = here("train", "sine", "--algorithm", "pretrained", *options, "--out", beta)
        assert told.code == 0, told
        [*_, last, path] = told.out.splitlines()
        assert path == f"{beta}/evaluation.json"
        remarks = json.loads(Path(f"{beta}/evaluation.json").read_text())["remarks"]
        assert last.startswith("no clear improvement: on 100 validation tasks") != learned
        assert remarks[-1] == last
        assert ("a larger --beta or another --seed" in last) != learned


def test_random_initial_values_are_not_trained(tmp_path, monkeypatch):
    """Rejects updates of what is to be random, then and when it goes on."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("tinymaml.plots.draw", lambda path: [])
    options = ["--hidden", "8", "--test-tasks", "4", "--validation-tasks", "4"]
    told = here("train", "sine", "--algorithm", "random", *options, "--out", "run")
    assert told.code == 0, told
    assert "step size" in told.out.splitlines()[-2]  # the last line is a path
    assert runs.read_config(Path("run")).iterations == 0
    assert read_metrics(Path("run")) == []
    told = here("train", "--resume", "run", "--iterations", "5")
    assert told.code == 2
    assert "--iterations has no effect with --algorithm random" in one_error(told)
    assert here("train", "--resume", "run").code == 0


def test_pictures(finished):
    """Rejects pictures that are none, and paths that are not told."""
    pytest.importorskip("matplotlib")
    told = here("plot", "run")
    assert told.code == 0, told
    names = ("curve.png", "steps.png", "fit.png")
    assert told.out.splitlines() == [f"run/{name}" for name in names]
    for line in told.out.splitlines():
        assert Path(line).read_bytes().startswith(b"\x89PNG")
    with open(finished / runs.METRICS, "ab") as file:
        file.write(b'{"iteration": 201, "lo')
    assert here("plot", "run").code == 0


def test_without_matplotlib(finished):
    """Rejects a training that fails at its pictures, and a plot that does not say why."""
    told = run("plot", "run", cwd=finished.parent)
    assert told.code == 1
    assert "pip install" in one_error(told)
    told = run("train", "--resume", "run", cwd=finished.parent)
    assert told.code == 0
    assert "pip install" in told.err


# ----- Poor surroundings -----


def test_no_home_no_stdin_and_another_locale(tmp_path):
    """Rejects needing what a batch job does not have."""
    surroundings = environment(tmp_path, LC_ALL="C")
    surroundings.pop("HOME", None)
    options = ["sine", *SMALL, "--iterations", "2", "--out", "l\u00e4uft"]
    done = subprocess.run(
        ["sh", "-c", 'exec "$@" <&-', "sh", COMMAND, "train", *options],
        cwd=tmp_path,
        env=surroundings,
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert done.returncode == 0, done
    assert "Traceback" not in done.stderr
    assert (tmp_path / "l\u00e4uft" / runs.CHECKPOINT).exists()


def test_a_reader_that_leaves(tmp_path):
    """Rejects a traceback of BrokenPipeError after `| head -1`."""
    script = 'for i in 1 2 3; do "$1" list sine; echo $? >&2; done | head -1'
    done = subprocess.run(
        ["sh", "-c", script, "sh", COMMAND], cwd=tmp_path, capture_output=True, text=True
    )
    assert done.stderr.split() in (["0", "1", "1"], ["1", "1", "1"])


def test_a_full_disk_for_results(tmp_path):
    """Rejects exit 0 when the results were lost."""
    script = '"$@" > /dev/full'
    done = subprocess.run(
        ["sh", "-c", script, "sh", COMMAND, "list"],
        cwd=tmp_path,
        capture_output=True,
        text=True,
    )
    told = Told(done.returncode, done.stdout, done.stderr)
    assert told.code == 1
    assert "No space left" in one_error(told)
    assert len(told.err.splitlines()) == 1


def test_a_current_folder_that_is_gone(tmp_path):
    """Rejects a traceback of os.getcwd."""
    (tmp_path / "gone").mkdir()
    script = 'cd gone; rmdir ../gone; exec "$@"'
    done = subprocess.run(
        ["sh", "-c", script, "sh", COMMAND, "train", "sine", *SMALL],
        cwd=tmp_path,
        env=environment(tmp_path),
        capture_output=True,
        text=True,
    )
    assert done.returncode == 1
    one_error(Told(done.returncode, done.stdout, done.stderr))


@pytest.mark.parametrize(("arguments", "code"), [(["plot", "x"], 1), (["list", "x"], 2)])
def test_debug_shows_where(arguments, code):
    """Rejects a traceback that costs the exit code, and one that nobody asked for."""
    told = here("--debug", *arguments)
    assert told.code == code
    assert ("Traceback" in told.err) is (code == 1)
    assert here(*arguments).code == code
