"""The run folder: whole files whatever happens, and none but ours believed."""

import fcntl
import io
import json
import os
import pickle
import random
import subprocess
import sys
import time
import tracemalloc
import zipfile
from contextlib import suppress
from pathlib import Path

import numpy as np
import pytest

import processes
from processes import tree, wait_for
from tinymaml.cli.main import one_line
from tinymaml.errors import UsageError, WorldError
from tinymaml.experiments.common import check_resumable
from tinymaml.experiments.glyphs import Glyphs
from tinymaml.experiments.sine import Sine
from tinymaml.harness import runs
from tinymaml.harness.checkpoints import FORMAT, read_state, save, states
from tinymaml.harness.metrics import Metrics
from tinymaml.optim import Moments, State


CONFIG, COUNT = Sine(hidden=(2,)), 7
VERSIONS = {"tinymaml": "0"}
GOOD = {
    "format": np.int64(FORMAT),
    "experiment": np.str_("sine"),
    "iteration": np.int64(3),
    "theta": np.linspace(-1, 1, COUNT, dtype="float32"),
    "m": np.ones(COUNT, "float32"),
    "v": np.ones(COUNT, "float32"),
}


def state(iteration: int = 3) -> State:
    moments = Moments(GOOD["m"], GOOD["v"])
    return State(iteration, GOOD["theta"] * np.float32(iteration), moments)


def same(one: State, other: State) -> bool:
    pairs = zip((one[1], *one[2]), (other[1], *other[2]), strict=True)
    return one[0] == other[0] and all(a.tobytes() == b.tobytes() for a, b in pairs)


def newest(path: Path) -> State | None:
    """Return the newest whole checkpoint."""
    return next((one for _, one in states(path, CONFIG, [])), None)


def npz(**changes: object) -> bytes:
    """Return a good checkpoint with arrays changed, added, or left out where None."""
    arrays = {k: v for k, v in (GOOD | changes).items() if v is not None}
    buffer = io.BytesIO()
    np.savez(buffer, **arrays)
    return buffer.getvalue()


def zipped(method: int, **members: bytes) -> bytes:
    """Return a good checkpoint with members' bytes changed and compressed."""
    buffer = io.BytesIO()
    with (
        zipfile.ZipFile(io.BytesIO(npz())) as good,
        zipfile.ZipFile(buffer, "w", method) as archive,
    ):
        for name in good.namelist():
            archive.writestr(name, members.get(name[:-4], good.read(name)))
    return buffer.getvalue()


def header(shape: tuple[int, ...]) -> bytes:
    """Return an .npy file that claims a shape and holds nothing."""
    buffer = io.BytesIO()
    told = {"descr": "<f4", "fortran_order": False, "shape": shape}
    np.lib.format.write_array_header_1_0(buffer, told)
    return buffer.getvalue()


# ----- Saving and loading -----


def test_save_load_save_gives_the_same_bytes(tmp_path):
    """Rejects a dtype or shape lost on the way, and a clock inside the file."""
    save(tmp_path, CONFIG, state())
    first = (tmp_path / runs.CHECKPOINT).read_bytes()
    loaded = newest(tmp_path)
    assert same(loaded, state())
    time.sleep(2.1)  # zip files tell the time in steps of two seconds
    save(tmp_path, CONFIG, loaded)
    assert (tmp_path / runs.CHECKPOINT).read_bytes() == first
    assert (tmp_path / runs.PREVIOUS).read_bytes() == first


@pytest.mark.parametrize("part", ["theta", "m", "v"])
@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        (np.ones(COUNT), "is float64"),
        (np.ones(COUNT + 1, "float32"), r"is float32 \(8,\)"),
        (np.full(COUNT, np.nan, "float32"), "is not finite"),
    ],
    ids=["dtype", "size", "nan"],
)
def test_a_state_that_would_be_refused_is_not_saved(tmp_path, part, wrong, message):
    """Rejects writing a checkpoint that the next command does not take."""
    save(tmp_path, CONFIG, state(1))
    before = tree(tmp_path)
    vectors = {name: GOOD[name] for name in ("theta", "m", "v")} | {part: wrong}
    bad = State(2, vectors["theta"], Moments(vectors["m"], vectors["v"]))
    with pytest.raises(WorldError, match=f"{part} {message}"):
        save(tmp_path, CONFIG, bad)
    assert tree(tmp_path) == before


def test_the_previous_checkpoint_is_kept(tmp_path):
    """Rejects one checkpoint only, and any number of them."""
    for iteration in (1, 2, 3):
        save(tmp_path, CONFIG, state(iteration))
    assert {*tree(tmp_path)} == {runs.CHECKPOINT, runs.PREVIOUS}
    for name, iteration in ((runs.CHECKPOINT, 3), (runs.PREVIOUS, 2)):
        read = read_state(tmp_path / name, CONFIG)
        assert same(read, state(iteration))


def test_no_checkpoint_is_no_error(tmp_path):
    """Rejects taking a run that was killed at its start for a damaged one."""
    assert newest(tmp_path) is None


# ----- Nothing is half written -----


@pytest.mark.parametrize("call", ["fsync", "replace"])
def test_a_full_disk_leaves_the_old_files(tmp_path, monkeypatch, call):
    """Rejects writing in place, moving the old one away first, and swallowing errors."""
    for iteration in (1, 2):
        save(tmp_path, CONFIG, state(iteration))
    before = tree(tmp_path)

    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, call, full)
    with pytest.raises(OSError, match="No space left"):
        save(tmp_path, CONFIG, state(3))
    assert tree(tmp_path) == before


def test_a_file_is_on_the_disk_before_it_moves_and_its_place_after(tmp_path, monkeypatch):
    """Rejects a move of what is not on the disk yet, the old file moved away before, and
    a folder that is not synced: a crash of the machine would undo the move."""
    calls = []
    fsync, replace = os.fsync, os.replace

    def synced(descriptor):
        calls.append(("sync", Path(os.readlink(f"/proc/self/fd/{descriptor}")).name))
        fsync(descriptor)

    def moved(source, target):
        calls.append(("move", source.name, target.name))
        replace(source, target)

    monkeypatch.setattr(os, "fsync", synced)
    monkeypatch.setattr(os, "replace", moved)
    new, old = f"{runs.TEMPORARY}{os.getpid()}-a.npz", tmp_path / "b.npz"
    for data in (b"one", b"two"):
        runs.write(tmp_path / "a.npz", data, previous=old)
    begins, ends = ("sync", new), [("move", new, "a.npz"), ("sync", tmp_path.name)]
    assert calls == [begins, *ends, begins, ("move", "a.npz", "b.npz"), *ends]
    assert ((tmp_path / "a.npz").read_bytes(), old.read_bytes()) == (b"two", b"one")


def test_killed_between_the_two_moves(tmp_path, monkeypatch):
    """Rejects giving up when only the previous checkpoint is there."""
    for iteration in (1, 2):
        save(tmp_path, CONFIG, state(iteration))
    replace = os.replace

    def once(source: Path, target: Path) -> None:
        if target.name == runs.CHECKPOINT:
            raise OSError(5, "killed here")
        replace(source, target)

    monkeypatch.setattr(os, "replace", once)
    with pytest.raises(OSError, match="killed here"):
        save(tmp_path, CONFIG, state(3))
    assert same(newest(tmp_path), state(2))


SAVE_FOR_EVER = """
import itertools, sys
from pathlib import Path
sys.path[:0] = sys.argv[1:3]
from test_runs import CONFIG, save, state
for i in itertools.count(1):
    save(Path(sys.argv[3]), CONFIG, state(i % 1000))
"""


def test_killed_while_saving(tmp_path):
    """Rejects np.savez straight to its place: torn eleven times of twelve."""
    rng = random.Random(0)

    def checkpoint() -> bytes | None:
        try:
            return (tmp_path / runs.CHECKPOINT).read_bytes()
        except FileNotFoundError:  # between two renames
            return None

    for _ in range(6):
        before = checkpoint()
        places = Path(__file__).parent, Path(processes.__file__).parent, tmp_path
        arguments = [sys.executable, "-c", SAVE_FOR_EVER, *places]
        with subprocess.Popen(arguments) as process:
            try:
                wait_for(lambda old=before: checkpoint() not in (old, None))
                time.sleep(rng.uniform(0, 0.05))
            finally:
                process.kill()
        found = newest(tmp_path)
        assert same(found, state(found.iteration))
        for name in (runs.CHECKPOINT, runs.PREVIOUS):
            if (tmp_path / name).exists():
                read_state(tmp_path / name, CONFIG)


def test_a_full_disk_is_reported_with_the_file(tmp_path, monkeypatch):
    """Rejects "No space left on device" without a name: which device?"""

    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    metrics = Metrics(tmp_path, 0)
    monkeypatch.setattr(os, "fsync", full)
    for write, name in (
        (lambda: runs.write(tmp_path / "x.json", b"1"), "x.json"),
        (lambda: save(tmp_path, CONFIG, state()), runs.CHECKPOINT),
        (metrics.sync, runs.METRICS),
    ):
        with pytest.raises(OSError, match="No space left") as told:
            write()
        assert one_line(told.value) == f"{str(tmp_path / name)!r}: No space left on device"
    metrics.file.close()
    metrics.file = open("/dev/full", "w")  # noqa: SIM115
    metrics.add({"iteration": 1, "loss": 0.5})
    with pytest.raises(OSError, match="No space left") as told, metrics:
        pass  # closing writes what is left
    assert told.value.filename == str(tmp_path / runs.METRICS)


def test_what_a_killed_process_left_is_swept(tmp_path):
    """Rejects temporary files that pile up."""
    (tmp_path / f"{runs.TEMPORARY}checkpoint.npz").write_bytes(b"half")
    (tmp_path / "mine.txt").write_bytes(b"kept")
    with runs.locked(tmp_path):
        assert {*tree(tmp_path)} == {"mine.txt", runs.LOCK}
    assert {*tree(tmp_path)} == {"mine.txt"}


# ----- Damage -----


def judged(file: Path, data: bytes) -> bool:
    """Return whether a checkpoint file loads; it must then be as it was."""
    file.write_bytes(data)
    try:
        read = read_state(file, CONFIG)
    except WorldError as error:
        return str(file) not in str(error)  # an error names its file
    assert same(read, State(3, GOOD["theta"], Moments(GOOD["m"], GOOD["v"])))
    return True


def test_every_truncation_is_told(tmp_path):
    """Rejects zeros where the end is missing, and exceptions of zipfile's and NumPy's."""
    whole, file = npz(), tmp_path / "c.npz"
    assert judged(file, whole)
    assert not any(judged(file, whole[:size]) for size in range(len(whole)))


def test_flipped_bits_and_mutations_are_told(tmp_path):
    """Rejects a format without checksums, and a list of exceptions with one missing."""
    whole, file, rng = npz(), tmp_path / "c.npz", random.Random(1)
    loaded = 0
    for _ in range(2000):
        data = bytearray(whole)
        if rng.random() < 0.5:
            bit = rng.randrange(8 * len(data))
            data[bit // 8] ^= 1 << bit % 8
        else:
            at = rng.randrange(len(data))
            data[at : at + rng.randrange(9)] = rng.randbytes(rng.randrange(9))
        loaded += judged(file, bytes(data))
    assert loaded < 500


NOT_OURS = {
    "empty": (b"", "not a tinymaml checkpoint"),
    "html": (b"<!DOCTYPE html><html></html>", "not a tinymaml checkpoint"),
    "json": (b'{"theta": [1, 2]}', "not a tinymaml checkpoint"),
    "png": (b"\x89PNG\r\n\x1a\n" + bytes(100), "not a tinymaml checkpoint"),
    "pickle": (pickle.dumps(GOOD), "not a tinymaml checkpoint"),
    "empty-zip": (b"PK\x05\x06" + bytes(18), "lacks or has too many arrays"),
    "objects": (npz(theta=np.array([{}, 1], dtype=object)), "an array of objects"),
    "seven-tebibytes": (zipped(0, theta=header((2 * 10**12,))), "is damaged"),
    "bomb": (
        zipped(zipfile.ZIP_DEFLATED, theta=header((5000000,)) + bytes(20000000)),
        "claims to be larger",
    ),
    "much-too-large": (npz(theta=np.ones(10**5, "float32")), "too large"),
    "nan": (npz(theta=GOOD["theta"] * np.float32("nan")), "theta is not finite"),
    "infinite-moment": (npz(v=GOOD["v"] * np.float32("inf")), "v is not finite"),
    "no-array": (zipped(0, theta=b"NUMPY" + bytes(150)), "is damaged: theta is no array"),
    "no-scalar": (zipped(0, iteration=b"3"), "is damaged: iteration is no array"),
    "options-no-json": (npz(options=np.bytes_(b'{"seed"')), "its options are no JSON"),
    "options-a-list": (npz(options=np.bytes_(b"[1]")), "its options are no JSON"),
    "options-of-numbers": (npz(options=np.arange(3)), "its options are no JSON"),
    "missing": (npz(m=None), "too many arrays: m$"),
    "extra": (npz(w0=np.ones(2)), "too many arrays: w0$"),
    "mis-shaped": (npz(theta=np.ones(8, "float32")), r"theta is float32 \(8,\)"),
    "two-axes": (npz(theta=np.ones((1, 7), "float32")), r"theta is float32 \(1, 7\)"),
    "mis-typed": (npz(theta=np.ones(7)), r"theta is float64 \(7,\), not float32"),
    "other-endian": (npz(m=np.ones(7, ">f4")), "m is >f4"),
    "text": (npz(theta=np.str_("x")), "theta is <U1"),
    "other-model": (npz(experiment=np.str_("glyphs")), "is of glyphs"),
    "other-format": (npz(format=np.int64(2)), "has format 2, not 1"),
    "negative-iteration": (npz(iteration=np.int64(-1)), "has iteration -1"),
    "float-iteration": (npz(iteration=np.float64(2)), "has iteration 2.0"),
    "many-iterations": (npz(iteration=np.arange(3)), "has iteration"),
}


@pytest.mark.parametrize("kind", NOT_OURS)
def test_what_is_not_ours_is_refused(tmp_path, kind):
    """Rejects believing a file by its name; quickly, and in little memory."""
    data, message = NOT_OURS[kind]
    file = tmp_path / "c.npz"
    file.write_bytes(data)
    tracemalloc.start()
    began = time.monotonic()
    with pytest.raises(WorldError, match=message) as told:
        read_state(file, CONFIG)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert time.monotonic() - began < 1
    assert peak < 2**21 or kind == "seven-tebibytes"  # asked for, never touched
    assert "unsafe" not in str(told.value)
    assert "\n" not in str(told.value)


def test_a_code_in_a_pickle_does_not_run(tmp_path):
    """Rejects allow_pickle=True."""

    class Evil:
        def __reduce__(self):
            return (Path.touch, (tmp_path / "ran",))

    file = tmp_path / "c.npz"
    file.write_bytes(npz(theta=np.array([Evil()], dtype=object)))
    with pytest.raises(WorldError, match="an array of objects"):
        read_state(file, CONFIG)
    assert not (tmp_path / "ran").exists()


def test_both_damaged_are_both_named(tmp_path):
    """Rejects starting anew over a run whose checkpoints are damaged."""
    for name in (runs.CHECKPOINT, runs.PREVIOUS):
        (tmp_path / name).write_bytes(b"PK")
    complaints = []
    assert not [*states(tmp_path, CONFIG, complaints)]
    assert complaints == [
        f"{str(tmp_path / name)!r} is damaged: File is not a zip file"
        for name in (runs.CHECKPOINT, runs.PREVIOUS)
    ]


# ----- The folder, its lock and its configuration -----


def test_new_folders_are_numbered(tmp_path, monkeypatch):
    """Rejects training into the folder of the run before."""
    monkeypatch.chdir(tmp_path)
    assert runs.new_folder(None, "sine") == Path("runs/sine-1")
    Path("runs/sine-1").mkdir(parents=True)
    assert runs.new_folder(None, "sine") == Path("runs/sine-2")


def test_folders_that_will_not_do(tmp_path):
    """Rejects writing over a run, a file, or the current folder."""
    runs.write_config(tmp_path, CONFIG, VERSIONS)
    with pytest.raises(WorldError, match=r"already holds a run.*--resume"):
        runs.new_folder(str(tmp_path), "sine")
    with pytest.raises(UsageError, match="is a file"):
        runs.new_folder(str(tmp_path / runs.CONFIG), "sine")
    with pytest.raises(UsageError, match="empty"):
        runs.new_folder("", "sine")


def test_two_cannot_hold_one_run(tmp_path):
    """Rejects a lock file that only its being there makes a lock, and temporary files of
    the holder that are swept before the lock is held."""
    held = rf"in use by process {os.getpid()}$"
    with runs.locked(tmp_path):
        half = tmp_path / f"{runs.TEMPORARY}checkpoint.npz"
        half.write_bytes(b"half of what the holder writes")
        with pytest.raises(WorldError, match=held), runs.locked(tmp_path):
            pass
        assert half.exists()
        with pytest.raises(WorldError, match=held), runs.locked(tmp_path):
            pass  # the one who was refused must not have let it go
    (tmp_path / runs.LOCK).write_text("1234567890 of a process that has ended")
    with runs.locked(tmp_path):
        assert (tmp_path / runs.LOCK).read_text() == str(os.getpid())


def test_a_lock_that_was_deleted_is_lost(tmp_path):
    """Rejects two processes that both believe to hold a run, and a process that takes away
    the lock of the one after it."""
    with runs.locked(tmp_path) as check:
        check()
        (tmp_path / runs.LOCK).unlink()
        with pytest.raises(WorldError, match="lock' was deleted"):
            check()
        other = runs.locked(tmp_path)
        check_other = other.__enter__()
        with pytest.raises(WorldError, match="lock' was deleted"):
            check()
    check_other()
    other.__exit__(None, None, None)
    assert not (tmp_path / runs.LOCK).exists()


def test_a_lock_is_of_the_file_that_stands_there(tmp_path, monkeypatch):
    """Rejects the lock of a file that its last holder deleted after it was opened."""
    flock = fcntl.flock

    def late(file, how):
        flock(file, how)
        monkeypatch.setattr(fcntl, "flock", flock)
        (tmp_path / runs.LOCK).unlink()

    monkeypatch.setattr(fcntl, "flock", late)
    with runs.locked(tmp_path) as check:
        check()
        with pytest.raises(WorldError, match="in use"), runs.locked(tmp_path):
            pass


@pytest.mark.parametrize("content", [b"\xff\xfe\x00", b"", b"4 2", b"9" * 50, b"-1"])
def test_a_held_lock_may_hold_anything(tmp_path, content):
    """Rejects a traceback for a lock whose content is no number, or not UTF-8."""
    with runs.locked(tmp_path):
        (tmp_path / runs.LOCK).write_bytes(content)
        held = "in use by process unknown$"
        with pytest.raises(WorldError, match=held), runs.locked(tmp_path):
            pass


@pytest.mark.parametrize("config", [CONFIG, Glyphs(adapt_norm=True, ways=3)])
def test_a_configuration_comes_back(tmp_path, config):
    """Rejects a tuple that comes back as a list, and a forgotten option."""
    runs.write_config(tmp_path, config, VERSIONS)
    assert runs.read_config(tmp_path) == config


def test_a_library_that_has_changed_is_reported(tmp_path):
    """Rejects a note on what is the same, or is not known of a run that is old."""
    runs.write_config(tmp_path, CONFIG, {"numpy": "2", "mujoco": "4.0.0"})
    assert runs.changed_versions(tmp_path, {"mujoco": "4.0.0"}) == {}
    assert runs.changed_versions(tmp_path, {}) == {}
    found = runs.changed_versions(tmp_path, {"mujoco": "4.0.1", "numpy": "2"})
    assert found == {"mujoco": "4.0.0"}
    assert runs.changed_versions(tmp_path, {"gymnasium": "1"}) == {}
    told = json.loads((tmp_path / runs.CONFIG).read_text())
    del told["versions"]
    (tmp_path / runs.CONFIG).write_text(json.dumps(told))
    assert runs.changed_versions(tmp_path, {"mujoco": "4.0.1"}) == {}


DAMAGED = {
    "empty": "",
    "torn": '{"experiment": "si',
    "list": "[1]",
    "no-experiment": "{}",
    "unknown-experiment": '{"experiment": "cosine", "options": {}}',
    "experiment-list": '{"experiment": [], "options": {}}',
    "options-list": '{"experiment": "sine", "options": [1]}',
    "unknown-option": '{"experiment": "sine", "options": {"alhpa": 1}}',
    "text-for-number": '{"experiment": "sine", "options": {"alpha": "much"}}',
    "nan": '{"experiment": "sine", "options": {"alpha": NaN}}',
    "out-of-range": '{"experiment": "sine", "options": {"tasks": 0}}',
    "number-for-list": '{"experiment": "sine", "options": {"hidden": 3}}',
    "deep": "[" * 100000,
    "long-number": '{"experiment": "sine", "options": {"seed": ' + "9" * 5000 + "}}",
}


@pytest.mark.parametrize("kind", DAMAGED)
def test_a_damaged_configuration_is_told(tmp_path, kind):
    """Rejects options that were not checked again, which fail later and elsewhere."""
    (tmp_path / runs.CONFIG).write_text(DAMAGED[kind])
    with pytest.raises(WorldError, match=r"config\.json' is damaged"):
        runs.read_config(tmp_path)


def test_a_flipped_bit_of_a_configuration_is_reported(tmp_path):
    """Rejects another seed, number of iterations or file that one flipped bit makes."""
    runs.write_config(tmp_path, CONFIG, VERSIONS)
    file = tmp_path / runs.CONFIG
    whole, found = file.read_bytes(), []
    for bit in random.Random(0).sample(range(8 * len(whole)), 500):
        data = bytearray(whole)
        data[bit // 8] ^= 1 << bit % 8
        file.write_bytes(data)
        try:
            found.append(runs.read_config(tmp_path))
        except WorldError as error:
            found.append(str(error))
    errors = [x for x in found if isinstance(x, str)]
    assert all(one == CONFIG for one in found if not isinstance(one, str))
    assert all(str(file) in error and "\n" not in error for error in errors)
    assert len(errors) > 400  # spaces between the entries do not matter


def test_a_changed_configuration_names_what_the_checkpoint_has(tmp_path):
    """Rejects "damaged" where the checkpoint can tell which option was changed."""
    runs.write_config(tmp_path, CONFIG, VERSIONS)
    save(tmp_path, CONFIG, state())
    text = (tmp_path / runs.CONFIG).read_text()
    for old, new, told in (
        ('"seed": 0', '"seed": 4', "; checkpoint.npz has --seed 0, not 4$"),
        ('"iterations": 12000', '"iterations": 92000', "its content$"),
    ):
        (tmp_path / runs.CONFIG).write_text(text.replace(old, new))
        with pytest.raises(WorldError, match=rf"its sha256 is not that of {told}|{told}"):
            runs.read_config(tmp_path)
    for name in ("sha256", "options_sha256"):
        lacking = json.loads(text)
        del lacking[name]
        (tmp_path / runs.CONFIG).write_text(json.dumps(lacking))
        with pytest.raises(WorldError, match="its sha256 is not that of its content"):
            runs.read_config(tmp_path)


def test_a_configuration_of_an_older_program_has_no_hashes(tmp_path):
    """Rejects a run that can no longer be read, and a hash that a resume replaces: then the
    lines before it would be of another run."""
    runs.write_config(tmp_path, CONFIG, VERSIONS)
    told = json.loads((tmp_path / runs.CONFIG).read_text())
    begun = told.pop("options_sha256")
    assert told.pop("sha256")
    (tmp_path / runs.CONFIG).write_text(json.dumps(told))
    assert runs.read_config(tmp_path) == CONFIG
    assert runs.begun_as(tmp_path, CONFIG) == begun
    longer = CONFIG.with_changes({"iterations": 7, "test_tasks": 9})
    assert runs.begun_as(tmp_path / "no", longer) == begun
    assert runs.begun_as(tmp_path / "no", CONFIG.with_changes({"seed": 1})) != begun
    told["options_sha256"] = "an older hash"
    (tmp_path / runs.CONFIG).write_text(json.dumps(told))
    runs.write_config(tmp_path, longer, VERSIONS)
    assert runs.begun_as(tmp_path, longer) == "an older hash"
    assert runs.read_config(tmp_path) == longer


def test_no_configuration_is_no_run(tmp_path):
    """Rejects a run made of defaults where there is none."""
    with pytest.raises(WorldError, match="no run in"):
        runs.read_config(tmp_path)


def test_only_harmless_options_may_change():
    """Rejects going on with another inner step size; names it, the saved, the given."""
    check_resumable(CONFIG, CONFIG.with_changes({"iterations": 1, "test_tasks": 2}))
    with pytest.raises(UsageError, match=r"--alpha 0\.5: .* begun with 0\.01"):
        check_resumable(CONFIG, CONFIG.with_changes({"alpha": 0.5}))
    with pytest.raises(UsageError, match=r"--hidden 3,4: .* begun with 2$"):
        check_resumable(CONFIG, CONFIG.with_changes({"hidden": (3, 4)}))


def test_configuration_is_for_people(tmp_path):
    """Rejects a run that does not tell what made it."""
    runs.write_config(tmp_path, CONFIG, VERSIONS)
    told = json.loads((tmp_path / runs.CONFIG).read_text())
    assert told["experiment"] == "sine"
    assert told["options"]["hidden"] == [2]
    assert told["versions"] == VERSIONS


def test_a_flipped_bit_gives_no_other_content(tmp_path):
    """Rejects a file whose figures a flipped bit changes, unlike the one it was."""
    content = {"mean": [7.25, None], "seeds": [0], "score": "MSE"}
    data, file = runs.sealed(content), tmp_path / runs.EVALUATION
    file.write_bytes(data)
    assert runs.unsealed(file) == content
    for bit in range(8 * len(data)):
        damaged = bytearray(data)
        damaged[bit // 8] ^= 1 << bit % 8
        file.write_bytes(damaged)
        with suppress(ValueError):
            found = runs.unsealed(file)
            assert content.items() <= found.items(), bytes(damaged)


def test_two_commands_write_one_file_at_once(tmp_path, monkeypatch):
    """Rejects one name for the unfinished files of two processes: one of them would find
    its own gone."""
    replace, file = os.replace, tmp_path / runs.EVALUATION

    def later(source, target):
        monkeypatch.setattr(os, "replace", replace)
        with monkeypatch.context() as other:
            other.setattr(os, "getpid", lambda: 1)
            runs.write(file, b"other")
        replace(source, target)

    monkeypatch.setattr(os, "replace", later)
    runs.write(file, b"this")
    assert tree(tmp_path) == {runs.EVALUATION: b"this"}


@pytest.mark.parametrize("parent", ["none", "file"])
def test_an_error_names_the_file_and_not_its_unfinished_one(tmp_path, parent):
    """Rejects the name of a temporary file, which a user does not know."""
    (tmp_path / "file").touch()
    with pytest.raises(OSError, match="directory") as caught:
        runs.write(tmp_path / parent / "a.png", b"")
    assert caught.value.filename == str(tmp_path / parent / "a.png")


def test_a_full_disk_names_the_lock(tmp_path, monkeypatch):
    """Rejects "standard output" as the name of a lock that has no room, and its remains."""

    class Full(io.FileIO):
        def write(self, data):
            raise OSError(28, "No space left on device")

    def opened(place, mode, buffering=-1):
        raw = Full(place, mode.replace("b", ""))
        return raw if buffering == 0 else io.BufferedRandom(raw)

    monkeypatch.setattr("builtins.open", opened)
    with pytest.raises(OSError, match="No space") as caught, runs.locked(tmp_path):
        pass
    assert caught.value.filename == str(tmp_path / runs.LOCK)
    assert not tree(tmp_path)
