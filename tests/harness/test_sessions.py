"""sessions.json: how long a run took, when, and on what."""

import json
import os
import platform
import subprocess
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import pytest

import tinymaml
from processes import here
from tinymaml.harness import loop, runs, sessions
from tinymaml.speed.workers import Here
from trainings import SMALL, results


def train(path: Path, config=SMALL, progress=lambda *_: None) -> None:
    """Train as the command line does, in a session of its own."""
    path.mkdir(exist_ok=True)
    loop.train(path, config, Here(), progress, saved=sessions.Session(path).save)


def content(path: Path) -> dict:
    """Return what sessions.json has."""
    return json.loads((path / sessions.SESSIONS).read_text(encoding="utf-8"))


@pytest.fixture
def clock(monkeypatch):
    """A clock in the place of the system's: `clock[0]` is its time in seconds."""
    now = [1000.0]
    monkeypatch.setattr(sessions.time, "monotonic", lambda: now[0])
    return now


def takes(clock, seconds):
    """Return a progress on which every iteration takes so many seconds."""
    return lambda *_: clock.__setitem__(0, clock[0] + seconds)


def test_sessions_add_up(tmp_path, clock):
    """Rejects a resume that replaces the time before it, a clock that another session
    started, and a count of the last checkpoint only."""
    before = datetime.now(UTC).replace(microsecond=0)
    train(tmp_path, SMALL.with_changes({"iterations": 7}), takes(clock, 2.0))
    clock[0] += 500.0  # nobody trains
    train(tmp_path, SMALL, takes(clock, 1.5))
    found = content(tmp_path)
    assert found["seconds"] == 7 * 2.0 + 13 * 1.5
    assert [one["seconds"] for one in found["sessions"]] == [14.0, 19.5]
    assert [one["iteration"] for one in found["sessions"]] == [7, 20]
    for one in found["sessions"]:
        assert before <= datetime.fromisoformat(one["began"]) <= datetime.now(UTC)


def test_a_finished_run_gains_no_session(tmp_path):
    """Rejects a session for every `train --resume` that finds nothing to do."""
    train(tmp_path)
    before = content(tmp_path)
    train(tmp_path)
    assert content(tmp_path) == before


def test_what_a_kill_leaves_is_the_time_of_the_checkpoint(tmp_path, clock):
    """Rejects a time that is written at the end only: a killed run would have none. Also
    the time of iterations that no checkpoint holds."""

    def killed(iteration, _):
        clock[0] += 1.0
        if iteration == 13:
            raise MemoryError

    with pytest.raises(MemoryError):
        train(tmp_path, SMALL, killed)
    assert content(tmp_path)["seconds"] == 10.0
    assert content(tmp_path)["sessions"][0]["iteration"] == 10


def test_it_is_the_only_file_that_differs(tmp_path, clock):
    """Rejects a time or a machine in a file whose bytes are compared."""
    for name, start in (("one", 0.0), ("two", 5.0)):
        clock[0] = start
        path = tmp_path / name
        path.mkdir()
        runs.write_config(path, SMALL, {})
        train(path, SMALL, takes(clock, start))
    differing = [
        file.name
        for file in (tmp_path / "one").iterdir()
        if file.read_bytes() != (tmp_path / "two" / file.name).read_bytes()
    ]
    assert differing == [sessions.SESSIONS]


DAMAGED = {
    "torn": '{"seconds": 1, "sess',
    "list": "[1]",
    "number": '{"sessions": 3}',
    "no-seconds": '{"sessions": [{}]}',
    "text": '{"sessions": [{"seconds": "long"}]}',
    "nan": '{"sessions": [{"seconds": NaN}]}',
    "deep": "[" * 100000,
    "not-text": b"\xff\xfe",
}


@pytest.mark.parametrize("kind", DAMAGED)
def test_a_damaged_file_stops_no_training(tmp_path, capsys, kind):
    """Rejects a run that cannot be resumed because of its clock, or that loses the file."""
    text = DAMAGED[kind]
    data = text if isinstance(text, bytes) else text.encode()
    (tmp_path / sessions.SESSIONS).write_bytes(data)
    train(tmp_path)
    line = capsys.readouterr().err
    assert len(line.splitlines()) == 1
    assert "sessions.json' is damaged" in line
    assert (tmp_path / sessions.DAMAGED).read_bytes() == data
    assert len(content(tmp_path)["sessions"]) == 1


def test_a_damaged_file_changes_no_result(tmp_path):
    """Rejects a result that depends on the clock's file."""
    path = tmp_path / "damaged"
    path.mkdir()
    (path / sessions.SESSIONS).write_text("{")
    train(path)
    train(tmp_path / "new")
    assert results(path) == results(tmp_path / "new")


# ----- The environment -----


def test_the_environment_is_this_one():
    """Rejects a record that does not say where a figure comes from."""
    found = sessions.environment(("hypothesis",))
    assert found["tinymaml"] == tinymaml.__version__
    assert found["python"] == platform.python_version()
    assert found["numpy"] == np.__version__
    assert {"autograd", "blas", "kernel", "hypothesis"} <= {*found}
    assert found["cores"] == len(os.sched_getaffinity(0))
    assert found["platform"] == platform.platform()
    checkout = Path(tinymaml.__file__).parents[1]  # or where the package is installed
    here = git(checkout, "rev-parse", "HEAD") if (checkout / ".git").exists() else ""
    assert found["commit"].removesuffix("-dirty") == here


def git(folder: Path, *args: str) -> str:
    """Run Git in a folder, without the user's configuration."""
    names = (
        "GIT_AUTHOR_NAME",
        "GIT_COMMITTER_NAME",
        "GIT_AUTHOR_EMAIL",
        "GIT_COMMITTER_EMAIL",
    )
    env = {**os.environ, **dict.fromkeys(names, "x"), "GIT_CONFIG_GLOBAL": os.devnull}
    done = subprocess.run(
        ["git", *args], cwd=folder, env=env, capture_output=True, text=True, check=True
    )
    return done.stdout.strip()


@pytest.fixture
def checkout(tmp_path) -> Path:
    """A Git checkout with one commit and a tag."""
    git(tmp_path, "init", "-q")
    (tmp_path / "file").write_text("one")
    (tmp_path / "inner").mkdir()
    git(tmp_path, "add", "file")
    git(tmp_path, "commit", "-qm", "one")
    git(tmp_path, "tag", "v1")
    return tmp_path


def test_the_commit_of_a_checkout(checkout, monkeypatch):
    """Rejects a tag or a short name for the commit, a changed checkout that looks clean,
    and the commit of the checkout that a Git hook runs in."""
    head = git(checkout, "rev-parse", "HEAD")
    assert sessions.commit(checkout) == head
    (checkout / "file").write_text("two")
    assert sessions.commit(checkout) == f"{head}-dirty"
    monkeypatch.setenv("GIT_DIR", str(checkout / "nowhere"))
    assert sessions.commit(checkout) == f"{head}-dirty"


def test_no_commit_of_another_project(checkout, monkeypatch):
    """Rejects the commit of the project in whose folder the package is installed; and a
    traceback without Git, or in a checkout that Git refuses."""
    assert sessions.commit(checkout / "inner") == ""
    monkeypatch.setenv("PATH", "")
    assert sessions.commit(checkout) == ""
    monkeypatch.undo()
    (checkout / ".git" / "HEAD").write_text("damaged")
    assert sessions.commit(checkout) == ""


def test_the_command_line_writes_it(tmp_path, monkeypatch):
    """Rejects a run of the command line without its time; and a configuration with
    versions that change, so that equal runs differ in it."""
    monkeypatch.chdir(tmp_path)
    sizes = ["--iterations", "2", "--hidden", "3", "--tasks", "2", "--no-test", "--quiet"]
    trained = here("train", "sine", *sizes, "--out", "run")
    assert trained.code == 0, trained
    assert here("train", "--resume", "run", "--iterations", "3").code == 0
    assert [one["iteration"] for one in content(tmp_path / "run")["sessions"]] == [2, 3]
    assert json.loads((tmp_path / "run" / runs.CONFIG).read_text())["versions"] == {}
