"""Bad input: the right exit code, one line that says what is wrong, nothing written."""

import os
import shutil
import subprocess
from pathlib import Path

import pytest

from processes import COMMAND, SMALL, Told, environment, here, one_error, run, tree
from tinymaml.harness import runs


SINE = ("train", "sine")
GLYPHS = ("train", "glyphs")
MAMLPP = ["--algorithm", "maml++"]
ORACLE, RANDOM, AVERAGED, CONTEXT = (
    (*SINE, "--algorithm", name) for name in ("oracle", "random", "averaged", "context")
)
LONG = 250 * "a"  # a temporary file's name is longer than 255 characters
BAD_BYTES = b"\xff\xfe".decode("utf-8", "surrogateescape")

# What is typed, the exit code, and words of the one error line.
TYPED = {
    "no-such-command": (["bogus"], 2, "No such command 'bogus'"),
    "no-such-option": ([*SINE, "--bogus"], 2, "--bogus: no such option"),
    "option-misspelt": ([*SINE, "--alph", ".1"], 2, "did you mean --alpha?"),
    "extra-argument": ([*SINE, "extra"], 2, "unexpected extra argument"),
    "no-such-experiment": (["train", "cosine"], 2, "No such command 'cosine'"),
    "no-value": ([*SINE, "--alpha"], 2, "requires an argument"),
    "resume-no-value": (["train", "--resume"], 2, "--resume"),
    "option-before-name": (["train", "--alpha", "1", "sine"], 2, "--alpha"),
    "alpha-text": ([*SINE, "--alpha", "abc"], 2, "'abc' is not a number"),
    "alpha-empty": ([*SINE, "--alpha", ""], 2, "'' is not a number"),
    "alpha-nan": ([*SINE, "--alpha", "nan"], 2, "not finite"),
    "alpha-inf": ([*SINE, "--alpha", "inf"], 2, "not finite"),
    "alpha-1e400": ([*SINE, "--alpha", "1e400"], 2, "not finite"),
    "alpha-negative": ([*SINE, "--alpha", "-0.1"], 2, "-0.1 is below 0"),
    "alpha-large": ([*SINE, "--alpha", "1e10"], 2, "is above"),
    "beta-zero": ([*SINE, "--beta", "0"], 2, "--beta: 0 is not above 0"),
    "beta-negative": ([*SINE, "--beta", "-1"], 2, "is not above 0"),
    "beta-nan": ([*SINE, "--beta", "nan"], 2, "not finite"),
    "steps-negative": ([*SINE, "--inner-steps", "-1"], 2, "-1 is below 0"),
    "steps-fraction": ([*SINE, "--inner-steps", "1.5"], 2, "'1.5' is not an integer"),
    "steps-empty": ([*SINE, "--inner-steps", ""], 2, "'' is not an integer"),
    "ways-zero": ([*GLYPHS, "--ways", "0"], 2, "0 is below 2"),
    "ways-one": ([*GLYPHS, "--ways", "1"], 2, "1 is below 2"),
    "shots-zero": ([*SINE, "--shots", "0"], 2, "0 is below 1"),
    "shots-other-script": ([*SINE, "--shots", "٣"], 2, "'٣' is not an integer"),
    "shots-underscore": ([*SINE, "--shots", "1_000"], 2, "'1_000' is not an integer"),
    "shots-huge": ([*SINE, "--shots", "9" * 23], 2, "is above"),
    "iterations-negative": ([*SINE, "--iterations", "-5"], 2, "-5 is below 0"),
    "tasks-zero": ([*SINE, "--tasks", "0"], 2, "0 is below 1"),
    "seed-negative": ([*SINE, "--seed", "-1"], 2, "-1 is below 0"),
    "seed-large": ([*SINE, "--seed", str(2**200)], 2, "is above"),
    "seed-beyond-floats": ([*SINE, "--seed", "9" * 400], 2, "is above"),
    "seed-beyond-int": ([*SINE, "--seed", "9" * 5000], 2, "is not an integer"),
    "workers-zero": ([*SINE, "--workers", "0"], 2, "0 is below 1"),
    "workers-negative": ([*SINE, "--workers", "-2"], 2, "-2 is below 1"),
    "workers-many": ([*SINE, "--workers", "100000"], 2, "100000 is above 256"),
    "algorithm-last": ([*ORACLE, "--algorithm", "no"], 2, "'no' is not one of maml"),
    "algorithm-no-file": ([*SINE, "--algorithm", "no.py:X"], 2, "no file "),
    "algorithm-case": ([*SINE, "--algorithm", "MAML"], 2, "not one of maml, fomaml"),
    "oracle-steps": (
        [*ORACLE, "--inner-steps", "1"],
        2,
        "--inner-steps has no effect with --algorithm",
    ),
    "oracle-alpha": ([*ORACLE, "--alpha", "1"], 2, "oracle unless --no-tune"),
    "maml-untuned": ([*SINE, "--no-tune"], 2, "--tune has no effect with"),
    "oracle-context": (
        [*ORACLE, "--context", "1"],
        2,
        "of --algorithm context or cavia, not of oracle",
    ),
    "boil-alpha-head": (
        [*SINE, "--algorithm", "boil", "--alpha-head", "0.5"],
        2,
        "--alpha-head: inner steps do not change the head",
    ),
    "multi-step-epochs": (
        [*SINE, *MAMLPP, "--no-multi-step-loss", "--multi-step-epochs", "3"],
        2,
        "--multi-step-epochs has no effect with --no-multi-step-loss",
    ),
    "first-order-epochs": (
        [*SINE, *MAMLPP, "--order", "first", "--first-order-epochs", "3"],
        2,
        "--first-order-epochs has no effect with --order first",
    ),
    "pointnav-reptile": (
        ["train", "pointnav", "--algorithm", "reptile"],
        2,
        "pointnav: its inner steps draw minibatches of examples; choose from",
    ),
    "random-iterations": ([*RANDOM, "--iterations", "9"], 2, "--algorithm random"),
    "random-in-a-file": ([*RANDOM, "--config", "beta.toml"], 2, "--beta has no effect"),
    "averaged-tasks": ([*AVERAGED, "--tasks", "500"], 2, "--tasks has no effect with"),
    "averaged-pull": ([*AVERAGED, "--pull", "1"], 2, "averaged-mean, not of averaged"),
    "averaged-one": ([*AVERAGED, "--regressors", "1"], 2, "1 is below 2"),
    "averaged-huge": ([*AVERAGED, "--regressors", "9999"], 2, "parameters, more than"),
    "regressors-of-maml": ([*SINE, "--regressors", "9"], 2, "averaged-mean, not of maml"),
    "regressors-in-a-file": ([*SINE, "--config", "nets.toml"], 2, "not of maml"),
    "context-negative": ([*CONTEXT, "--context", "-1"], 2, "-1 is below 1"),
    "context-order": ([*CONTEXT, "--order", "second"], 2, "not one of exact, first"),
    "context-and-norm": ([*GLYPHS, *CONTEXT[2:], "--adapt-norm"], 2, "z alone"),
    "oracle-of-images": (
        [*GLYPHS, "--algorithm", "oracle"],
        2,
        "work on glyphs; choose from maml",
    ),
    "dtype": ([*SINE, "--dtype", "float16"], 2, "not one of float32, float64"),
    "net": ([*GLYPHS, "--net", "big"], 2, "not one of conv, pooled, dense"),
    "hidden-gap": ([*SINE, "--hidden", "40,,40"], 2, "'' is not an integer"),
    "hidden-text": ([*SINE, "--hidden", "40,x"], 2, "'x' is not an integer"),
    "hidden-zero": ([*SINE, "--hidden", "40,0"], 2, "0 is below 1"),
    "hidden-empty": ([*SINE, "--hidden", ""], 2, "'' is not an integer"),
    "hidden-huge": ([*SINE, "--hidden", "1000000000"], 2, "is above"),
    "model-huge": ([*SINE, "--hidden", "10000,10000"], 2, "parameters, more than"),
    "checkpoint-every": ([*SINE, "--checkpoint-every", "0"], 2, "0 is below 1"),
    "config-missing": ([*SINE, "--config", "no.toml"], 2, "'no.toml' does not exist"),
    "config-folder": ([*SINE, "--config", "folder"], 2, "is a directory"),
    "config-fifo": ([*SINE, "--config", "fifo"], 2, "not a regular file"),
    "config-device": ([*SINE, "--config", "/dev/zero"], 2, "not a regular file"),
    "config-large": ([*SINE, "--config", "large.toml"], 2, "is too large"),
    "config-syntax": ([*SINE, "--config", "syntax.toml"], 2, "line 2"),
    "config-deep": ([*SINE, "--config", "deep.toml"], 2, "deep.toml"),
    "config-bytes": ([*SINE, "--config", "bytes.toml"], 2, "utf-8"),
    "config-unknown": ([*SINE, "--config", "unknown.toml"], 2, "did you mean --alpha?"),
    "config-workers": ([*SINE, "--config", "workers.toml"], 2, "is above 256"),
    "out-holds-a-run": ([*SINE, "--out", "run"], 1, "--resume run"),
    "out-file": ([*SINE, "--out", "file"], 2, "is a file"),
    "out-empty": ([*SINE, "--out", ""], 2, "must not be empty"),
    "out-below-a-file": ([*SINE, "--out", "file/run"], 1, "Not a directory"),
    "out-in-proc": ([*SINE, "--out", "/proc/1/run"], 1, "/proc/1/run"),
    "out-newline": ([*SINE, "--out", "a\nb"], 2, r"'a\nb'"),
    "out-bytes": ([*SINE, "--out", BAD_BYTES], 2, r"'\udcff\udcfe'"),
    "out-long": ([*SINE, "--out", "x" * 5000], 2, "File name too long"),
    "resume-long": ([*SINE, "--resume", "x" * 5000], 2, "File name too long"),
    "evaluate-long": (["evaluate", "x" * 5000], 2, "File name too long"),
    "export-long": (["export", "run", "x" * 5000], 2, "File name too long"),
    "plot-long": (["plot", "x" * 5000], 2, "File name too long"),
    "data-long": (["train", "omniglot", "--data", "x" * 5000], 2, "File name too long"),
    "choice-long": ([*SINE, "--dtype", "x" * 5000], 2, "is not one of float32"),
    "command-long": (["x" * 5000], 2, "No such command"),
    "number-long": ([*SINE, "--tasks", "9" * 4000], 2, "is above 1000000"),
    "out-and-resume": ([*SINE, "--out", "a", "--resume", "run"], 2, "exclude each other"),
    "resume-nothing": ([*SINE, "--resume", "no"], 1, "no run in 'no'"),
    "resume-nothing-short": (["train", "--resume", "no"], 1, "no run in 'no'"),
    "resume-folder": (["train", "--resume", "folder"], 1, "no run in 'folder'"),
    "resume-file": (["train", "--resume", "file"], 1, "no run in 'file'"),
    "resume-empty": ([*SINE, "--resume", ""], 2, "--resume: must not be empty"),
    "resume-empty-short": (["train", "--resume", ""], 2, "--resume: must not be empty"),
    "resume-newline": ([*SINE, "--resume", "a\nb"], 2, r"'a\nb'"),
    "resume-alpha": (["train", "--resume", "run", "--alpha", ".5"], 2, "--alpha 0.5"),
    "resume-seed": ([*SINE, "--resume", "run", "--seed", "7"], 2, "begun with 0"),
    "resume-as-other": ([*GLYPHS, "--resume", "run"], 2, "a run of sine, not glyphs"),
    "resume-torn-config": (["train", "--resume", "torn"], 1, "is damaged"),
    "resume-odd-config": (["train", "--resume", "odd"], 1, "'much' is not a number"),
    "resume-changed-config": (
        ["train", "--resume", "other"],
        1,
        "'other/config.json' is damaged: its sha256 is not that of its content;"
        " checkpoint.npz has --hidden 8, not 9",
    ),
    "checkpoint-html": (["evaluate", "html"], 1, "not a tinymaml checkpoint"),
    "checkpoint-torn": (["evaluate", "short"], 1, "is damaged"),
    "no-data": (["train", "omniglot"], 1, "--data"),
    "data-missing": (["train", "omniglot", "--data", "no"], 1, "tinymaml prepare omniglot"),
    "data-not-ours": (["train", "omniglot", "--data", "file"], 1, "'file'"),
    "no-photographs": (["train", "miniimagenet"], 1, "--data"),
    "no-images": (["train", "images"], 1, "tinymaml prepare images --from FOLDER"),
    "images-not-ours": (["train", "images", "--data", "file"], 1, "'file' is damaged"),
    "photographs-not-ours": (["train", "miniimagenet", "--data", "file"], 1, "'file'"),
    "data-newline": (["train", "omniglot", "--data", "a\nb"], 2, r"'a\nb'"),
    "ways-too-many": ([*GLYPHS, "--ways", "2000"], 2, "2000 ways asked for"),
    "shots-too-many": ([*GLYPHS, "--shots", "15", "--queries", "6"], 2, "15 shots and 6"),
    "evaluate-empty": (["evaluate", ""], 2, "RUN must not be empty"),
    "evaluate-data-empty": (["evaluate", "run", "--data", ""], 2, "--data: must not be"),
    "export-empty": (["export", "run", ""], 2, "FOLDER must not be empty"),
    "export-of-empty": (["export", "", "new-folder"], 2, "RUN must not be empty"),
    "plot-empty": (["plot", ""], 2, "RUN must not be empty"),
    "report-empty": (["report", "run", ""], 2, "RUN must not be empty"),
    "report-nothing": (["report", "no"], 1, "no run in 'no'"),
    "report-pdf": (["report", "run", "--out", "x.pdf"], 2, "must end with .html"),
    "read-pdf": (["read", "--out", "x.pdf"], 2, "must end with .html"),
    "read-nowhere": (["read", "--out", "no/x.html"], 2, "no folder 'no'"),
    "reuse-empty": (["reuse", "run", ""], 2, "RUN must not be empty"),
    "dask-host": ([*SINE, "--workers", "dask:127.0.0.1"], 2, "write dask:tcp://HOST:PORT"),
    "dask-http": ([*SINE, "--workers", "dask:http://h:1"], 2, "dask:http://h:1: write"),
    "dask-bracket": (["evaluate", "run", "--workers", "dask:tcp://["], 2, "dask:tcp://["),
    "config-twice": ([*SINE, "--config", "twice.toml"], 2, "--alpha-head is there twice"),
    "config-odd-key": ([*SINE, "--config", "key.toml"], 2, r"'--hidden\x00': no such"),
    "prepare-long": (["prepare", "omniglot", "--out", f"{LONG}.npz"], 2, "name too long"),
    "evaluate-file": (["evaluate", "file"], 1, "no run in 'file'"),
    "reuse-file": (["reuse", "file"], 1, "no run in 'file'"),
    "evaluate-nothing": (["evaluate", "no"], 1, "no run in 'no'"),
    "evaluate-no-run": (["evaluate"], 2, "Missing argument 'RUN"),
    "evaluate-no-tasks": (["evaluate", "run", "--tasks", "0"], 2, "0 is below 2"),
    "evaluate-one-task": (["evaluate", "run", "--tasks", "1"], 2, "1 is below 2"),
    "evaluate-steps": (["evaluate", "run", "--steps", "-1"], 2, "-1 is below 0"),
    "evaluate-split": (["evaluate", "run", "--split", "x"], 2, "'val', 'test'"),
    "evaluate-data": (["evaluate", "run", "--data", "x"], 2, "has no data file"),
    "evaluate-new": (["evaluate", "new"], 1, "no checkpoint in 'new'"),
    "evaluate-one-of-two": (["evaluate", "run", "no"], 1, "no run in 'no'"),
    "evaluate-shots": (["evaluate", "run", "--shots", "5,0"], 2, "0 is below 1"),
    "evaluate-shots-text": (["evaluate", "run", "--shots", "5,x"], 2, "'x' is not an"),
    "evaluate-alone": (["evaluate", "run", "--alone", "some"], 2, "'last', 'all', 'none'"),
    "evaluate-both": (["evaluate", "run", "--json", "--markdown"], 2, "exclude each other"),
    "evaluate-kept": (["evaluate", "kept:x"], 2, "no 'kept:x'; there are: kept:omni"),
    "evaluate-kept-data": (["evaluate", "kept:omniglot-5w1s"], 1, "--data"),
    "export-nothing": (["export", "no", "new-folder"], 1, "no run in 'no'"),
    "export-over-a-run": (["export", "run", "other"], 1, "'other' already holds a run"),
    "export-over-a-file": (["export", "run", "file"], 1, "'file'"),
    "resume-a-theta": (["train", "--resume", "given"], 1, "holds a theta only"),
    "seeds-zero": ([*SINE, "--seeds", "0"], 2, "0 is below 1"),
    "seeds-beyond": ([*SINE, "--seed", str(2**64 - 2), "--seeds", "3"], 2, "is above"),
    "seeds-of-one-run": (["train", "--resume", "run", "--seeds", "3"], 2, "'run' has 1"),
    "plot-nothing": (["plot", "no"], 1, "no run in 'no'"),
    "plot-no-run": (["plot"], 2, "Missing argument 'RUN"),
    "plot-new": (["plot", "new"], 1, "no checkpoint in 'new'"),
    "plot-torn": (["plot", "run", "torn"], 1, "is damaged"),
    "plot-twins": (["plot", "run", "short"], 2, "have the same options and seed"),
    "plot-task": (["plot", "run", "--task", "-1"], 2, "-1 is below 0"),
    "plot-data": (["plot", "run", "--data", "x"], 2, "has no data file"),
    "check-case": (["check", "bogus"], 2, "'bogus'"),
    "check-option": (["check", "sine", "--bogus"], 2, "--bogus: no such option"),
    "check-unused": (["check", *ORACLE[1:], "--steps", "1"], 2, "--steps: no such"),
    "check-nothing": (["check", *AVERAGED[1:]], 2, "nothing to check"),
    "check-first-order": (
        ["check", "sine", "--algorithm", "context", "--order", "first"],
        2,
        "--order first is the gradient of no function",
    ),
    "check-huge": (
        ["check", "sine", "--hidden", "10000,10000"],
        2,
        "the model has 100040001 parameters, more than 10000000",
    ),
    "check-huge-rates": (
        ["check", "sine", "--algorithm", "meta-sgd", "--hidden", "2300,2300"],
        2,
        "parameters, more than",
    ),
    "check-huge-net": (["check", "omniglot", "--filters", "4096"], 2, "parameters, more"),
    "check-steps": (["check", "sine", "--steps", "-1"], 2, "-1 is below 0"),
    "list-case": (["list", "bogus"], 2, "'bogus' is not one of"),
}
# The real console script, for a few of each kind.
IN_A_PROCESS = (
    *("no-such-command", "option-misspelt", "alpha-nan", "shots-other-script"),
    *("seed-beyond-floats", "config-fifo", "config-bytes", "out-holds-a-run"),
    *("out-in-proc", "out-bytes", "resume-alpha", "resume-odd-config"),
    *("checkpoint-html", "data-missing", "plot-nothing"),
)


@pytest.fixture(scope="module")
def world(tmp_path_factory) -> Path:
    """A folder with a run, damaged runs, and files that are not what they should be."""
    folder = tmp_path_factory.mktemp("world")
    options = [*SMALL, "--iterations", "2", "--out", "run"]
    assert run("train", "sine", *options, cwd=folder).code == 0
    (folder / "file").write_text("mine")
    (folder / "folder").mkdir()
    os.mkfifo(folder / "fifo")
    (folder / "large.toml").write_bytes(b"#" * 2**21)
    (folder / "syntax.toml").write_text("alpha = 1\nbeta 2\n")
    (folder / "deep.toml").write_text("alpha = " + "[" * 5000)
    (folder / "bytes.toml").write_bytes(b'out = "\xff"')
    (folder / "unknown.toml").write_text("alhpa = 0.1")
    (folder / "beta.toml").write_text("beta = 0.1")
    (folder / "twice.toml").write_text("alpha-head = 0.1\nalpha_head = 0.2")
    (folder / "key.toml").write_text(r'"hidden\u0000" = 8')
    (folder / "nets.toml").write_text("regressors = 9")
    (folder / "workers.toml").write_text("workers = 100000")
    for name in ("torn", "odd", "other", "html", "short", "new"):
        shutil.copytree(folder / "run", folder / name)
    config = (folder / "run" / runs.CONFIG).read_text()
    (folder / "torn" / runs.CONFIG).write_text(config[:100])
    odd = config.replace('"alpha": 0.01', '"alpha": "much"')
    (folder / "odd" / runs.CONFIG).write_text(odd)
    (folder / "other" / runs.CONFIG).write_text(config.replace("8\n", "9\n"))
    for name in (runs.CHECKPOINT, runs.PREVIOUS):
        (folder / "html" / name).write_text("<!DOCTYPE html>")
        (folder / "short" / name).write_bytes((folder / "run" / name).read_bytes()[:-9])
    for name in (runs.CHECKPOINT, runs.PREVIOUS, runs.METRICS):
        (folder / "new" / name).unlink()
    (folder / "given").mkdir()
    shutil.copy(folder / "run" / runs.CONFIG, folder / "given")
    (folder / "given" / runs.THETA).write_bytes(b"PK")
    return folder


def judge(told: Told, code: int, words: str) -> None:
    assert told.code == code, told
    assert told.out == ""
    line = one_error(told)
    assert words in line
    assert len(line) < 700


def unlocked(folder: Path) -> dict[str, bytes]:
    # A lock keeps the number of the last process that held it.
    return {k: v for k, v in tree(folder).items() if not k.endswith(runs.LOCK)}


@pytest.mark.parametrize("case", TYPED)
def test_bad_input(world, monkeypatch, case):
    """Rejects tracebacks, wrong exit codes, and files written before the check."""
    monkeypatch.chdir(world)
    before = unlocked(world)
    judge(here(*TYPED[case][0]), *TYPED[case][1:])
    assert unlocked(world) == before


@pytest.mark.parametrize("case", IN_A_PROCESS)
def test_bad_input_in_a_process(world, case):
    """Rejects what the console script does otherwise than the function."""
    before = unlocked(world)
    judge(run(*TYPED[case][0], cwd=world), *TYPED[case][1:])
    assert unlocked(world) == before


@pytest.mark.parametrize("arguments", [[], ["train"]])
def test_nothing_typed_shows_the_help(world, monkeypatch, arguments):
    """Rejects exit 0, and a usage line that does not list what there is."""
    monkeypatch.chdir(world)
    told = here(*arguments)
    assert (told.code, told.out) == (2, "")
    assert ("omniglot" if arguments else "evaluate") in told.err
    assert "Traceback" not in told.err


# ----- What looks odd and is right -----

FEW = [*SMALL, "--iterations", "2"]
FINE = {
    "no-iterations": [*SMALL, "--iterations", "0"],
    "alpha-zero": [*FEW, "--alpha", "-0.0"],
    "alpha-underflow": [*FEW, "--alpha", "1e-400"],
    "twice": [*FEW, "--alpha", ".1", "--alpha", ".2"],
    "no-steps": [*FEW, "--inner-steps", "0"],
    "largest-seed": [*FEW, "--seed", str(2**64 - 1)],
    "one-chunk": [*FEW, "--chunk", "1000000"],
    "validation": [*FEW, "--validate-every", "1", "--validation-tasks", "2"],
}


@pytest.mark.parametrize("case", FINE)
def test_odd_but_right(tmp_path, monkeypatch, case):
    """Rejects refusing the ends of a range; no iterations write the first checkpoint."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("tinymaml.plots.draw", lambda path: [])
    told = here("train", "sine", *FINE[case])
    assert told.code == 0, told
    assert Path("runs/sine-1", runs.CHECKPOINT).exists()


def test_the_last_of_two_wins_and_flags_win_over_the_file(tmp_path, monkeypatch):
    """Rejects a file that overrules what is typed, a default included."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("tinymaml.plots.draw", lambda path: [])
    options = {"hidden": [8], "tasks": 3, "iterations": 1, "alpha": 0.5, "test-tasks": 2}
    text = "".join(f"{name} = {value}\n" for name, value in options.items())
    Path("c.toml").write_text(text + 'out = "filed"\nquiet = true\nworkers = 1\n')
    typed = ["--alpha", "0.01", "--seed", "1", "--seed", "2"]
    told = here("train", "sine", "--config", "c.toml", *typed)
    assert told.code == 0, told
    config = runs.read_config(Path("filed"))
    assert (config.alpha, config.seed, config.hidden, config.tasks) == (0.01, 2, (8,), 3)
    Path("d.toml").write_text('resume = "filed"\niterations = 2\n')
    assert here("train", "sine", "--config", "d.toml").code == 0
    assert runs.read_config(Path("filed")).iterations == 2


# ----- The world during a run -----


@pytest.mark.parametrize("steps", ["1", "5"])
def test_divergence(tmp_path, steps):
    """Rejects NumPy's warnings for an answer, and a checkpoint of what is not finite."""
    options = [*SMALL, "--alpha", "1e6", "--inner-steps", steps, "--out", "run"]
    told = run("train", "sine", *options, cwd=tmp_path)
    assert told.code == 1
    error = one_error(told)
    assert "diverged at iteration 1 (alpha=1000000.0" in error
    assert "run/checkpoint.npz" in error
    assert len(told.err.splitlines()) == 2  # the run folder, and the error
    told = run("evaluate", "run", cwd=tmp_path)
    assert told.code == 0
    assert told.err == ""


def test_memory_that_is_not_there(tmp_path):
    """Rejects a traceback of MemoryError."""
    script = 'ulimit -v 2000000; exec "$@"'
    options = ["--tasks", "1", "--shots", "1000000", "--hidden", "10000", "--out", "run"]
    done = subprocess.run(
        ["sh", "-c", script, "sh", COMMAND, "train", "sine", *options],
        cwd=tmp_path,
        env=environment(tmp_path),
        capture_output=True,
        text=True,
        timeout=60,
    )
    told = Told(done.returncode, done.stdout, done.stderr)
    assert told.code == 1
    assert "Unable to allocate" in one_error(told)


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write anywhere")
def test_a_folder_that_cannot_be_written(tmp_path):
    """Rejects training first and failing at the first checkpoint."""
    tmp_path.chmod(0o500)
    told = here("train", "sine", *SMALL, "--out", tmp_path / "run")
    tmp_path.chmod(0o700)
    judge(told, 1, "Permission denied")


def test_a_check_counts_all_that_is_learned(monkeypatch):
    """Rejects a limit on theta alone, which leaves learned step sizes uncounted."""
    monkeypatch.setattr("tinymaml.experiments.common.MOST_PARAMETERS", 20)
    told = here("check", "sine", "--algorithm", "meta-sgd", "--hidden", "5")
    assert told.code == 2
    assert "the model has 32 parameters, more than 20" in one_error(told)
