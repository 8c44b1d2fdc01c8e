"""The golden bytes: what twenty iterations of every algorithm gave when they were recorded.

    python tests/golden.py [GROUP ...]            compare, and print what differs
    python tests/golden.py [GROUP ...] --write    record anew, for this environment

A case is a command line of `tinymaml train`. It runs through the program's entry point, in
a process that has what users have: one BLAS thread and the kernel that the program picks.
Four hashes are kept of it, in golden.json:

    checkpoint    theta, both moments of Adam and the iteration of the last checkpoint
    best          theta, iteration and validation score of what `tinymaml export` writes
    metrics       metrics.jsonl, byte by byte, without the check of each line
    evaluation    the numbers of evaluation.json, and the hash of its tasks

The last bits depend on NumPy, on the kernel of its BLAS and on the CPU's vector
instructions, and in a simulation on MuJoCo. The hashes are kept for each combination of
these that they were recorded on; elsewhere only what must agree with itself is compared.

Nothing here imports the package but its entry point: the test outlives a move of its files.
"""

from __future__ import annotations

import argparse
import contextlib
import hashlib
import io
import json
import os
import re
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any


FILE = Path(__file__).with_name("golden.json")
PARTS = ("checkpoint", "best", "metrics", "evaluation")
BLAS = ("OPENBLAS_CORETYPE", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "OMP_NUM_THREADS")

# What evaluation.json has of numbers; texts and options may change their form.
NUMBERS = (
    *("alpha", "split", "shots", "seeds", "iterations", "validations", "tasks"),
    *("tasks_sha256", "mean", "half_width_95", "half_width_95_over_seeds", "alone"),
)

# ----- The cases -----

INNER_LOOP = ("maml", "fomaml", "maml-low-memory")
ORDERS = ("--order exact", "--order first")  # of a context vector's meta-gradient
TEST = "--checkpoint-every 8 --validation-tasks 4"
SINE = (
    f"sine --seed 7 --shots 4 --queries 3 --hidden 7,5 --chunk 2 {TEST} --test-tasks 23"
    " --test-steps 3"
)
POINTNAV = (
    f"pointnav --seed 7 --horizon 6 --trajectories 3 --test-trajectories 4 --hidden 6,5"
    f" --chunk 2 {TEST} --test-tasks 5 --test-steps 3"
)
LOCOMOTION = (
    f"locomotion --seed 7 --horizon 6 --trajectories 3 --test-trajectories 4 --hidden 6,5"
    f" --chunk 2 {TEST} --test-tasks 5 --test-steps 3"
)
DRAWINGS = "--ways 3 --shots 2 --queries 2 --filters 3 --chunk 2"
PHOTOGRAPHS = "--ways 2 --shots 1 --queries 1 --filters 2 --chunk 1"
IMAGES = {
    "glyphs": f"glyphs --seed 7 {DRAWINGS} {TEST} --test-tasks 5 --test-steps 2",
    "omniglot": f"omniglot --data omniglot.npz --seed 7 {DRAWINGS} {TEST} --test-tasks 23"
    " --test-steps 2",
    "miniimagenet": f"miniimagenet --data miniimagenet.npz --seed 7 {PHOTOGRAPHS} {TEST}"
    " --test-tasks 5 --test-steps 2",
    "images": f"images --data images.npz --seed 7 {DRAWINGS} {TEST} --test-tasks 5"
    " --test-steps 2",
}
# Three chunks of a meta-batch, or more, for the order in which they are summed.
LONG = "--iterations 20 --validate-every 5 --tasks 5"
OUTER = f"{LONG} --beta 0.005"
INNER = f"{OUTER} --inner-steps 2 --alpha 0.05"
FEW = "--iterations 20 --validate-every 10 --tasks 3 --beta 0.005"
SUMS = "--inner-loss sum_over_shots --outer-loss sum_over_shots"
CODE = "--preset finn2017-code"
FIXED = "--no-tune --alpha 0.02"
ADAM = "--outer adam --beta 0.005"


def sine() -> list[str]:
    """The algorithms with an inner loop, and their options."""
    nets = ["", "--dtype float64", "--activation tanh"]
    return [
        *(
            f"{SINE} {INNER} --algorithm {name} {net}"
            for name in INNER_LOOP
            for net in nets
        ),
        *(f"{SINE} {INNER} --algorithm context {order} --context 3" for order in ORDERS),
        f"{SINE} {INNER} --clip 0.05",
        f"{SINE} {INNER} --seeds 2",
        f"{SINE} {INNER} --validate-every 0",
        f"{SINE} {OUTER} --inner-steps 0 --alpha 0.05",
        "sine --iterations 20 --test-tasks 23",
        "sine --preset finn2017-paper --iterations 20 --test-tasks 23",
        "sine --preset finn2017-code --iterations 20 --test-tasks 23 --hidden 7,5",
    ]


def sine_baselines() -> list[str]:
    """Those without one, with a step size that is given and one that is tuned."""
    own = "--iterations 20 --validate-every 5 --beta 0.005 --regressors 5 --points 6"
    rows = [
        *(("pretrained", OUTER), ("oracle", OUTER), ("random", "--validate-every 0")),
        ("averaged", own),
        ("averaged-l2", f"{own} --pull 0.01"),
        ("averaged-mean", f"{own} --pull 0.01 --wave 4"),
    ]
    return [
        *(f"{SINE} --algorithm {name} {rest} {FIXED}" for name, rest in rows),
        *(f"{SINE} --algorithm {name} {rest}" for name, rest in rows),
        f"{SINE} --algorithm pretrained {OUTER} --dtype float64 --activation tanh",
        f"{SINE} --algorithm oracle {LONG} --beta 0.05 --validation-tasks 23",
    ]


def images(name: str, inner: str, outer: str) -> list[str]:
    """The algorithms that every experiment on images has, on its default net."""
    start = IMAGES[name]
    return [
        *(f"{start} {inner} --algorithm {algorithm}" for algorithm in INNER_LOOP),
        f"{start} {inner} --algorithm context --context 1",
        f"{start} --algorithm pretrained {outer} {FIXED}",
        f"{start} --algorithm random --validate-every 0 {FIXED}",
    ]


def omniglot() -> list[str]:
    """The same, and the options of nets and losses, each with MAML."""
    start = IMAGES["omniglot"]
    return [
        *images("omniglot", INNER, OUTER),
        f"{start} {INNER} --adapt-norm",
        f"{start} {INNER} --dtype float64",
        f"{start} {INNER} --net pooled",
        f"{start} {INNER} --net dense",
        f"{start} {INNER} {SUMS} --clip 0.5",
        f"{start} {INNER} --head normal --test-queries 1 --activation tanh",
        f"{start} {INNER} --no-rotate --split vinyals",
        f"{start} {INNER} --validate-every 0 --split lake",
        f"{start} --iterations 20 --ways 5 --shots 1 --tasks 3 {CODE}",
    ]


def miniimagenet() -> list[str]:
    """The same on photographs, and the other convolutional net."""
    start, inner = IMAGES["miniimagenet"], f"{FEW} --inner-steps 1 --alpha 0.05"
    return [
        *images("miniimagenet", inner, FEW),
        f"{start} {inner} --net conv",
        f"{start} --iterations 20 --ways 5 --tasks 2 --inner-steps 1 {CODE}",
    ]


def own_images() -> list[str]:
    """A user's own images: classes of unequal sizes, in groups."""
    start = f"{IMAGES['images']} {FEW} --alpha 0.05"
    return [start, f"{start} --within group --net pooled"]


def pointnav() -> list[str]:
    """Every algorithm, and every surrogate, reward and outer update."""
    inner = f"{LONG} --inner-steps 1"
    squared = "--reward negative_squared_distance"
    return [
        *(f"{POINTNAV} {inner} --algorithm {name}" for name in INNER_LOOP),
        *(f"{POINTNAV} {inner} --algorithm {name} {ADAM}" for name in INNER_LOOP),
        f"{POINTNAV} {inner} --algorithm e-maml --surrogate naive",
        f"{POINTNAV} {inner} --surrogate naive",
        f"{POINTNAV} {inner} --surrogate loaded_dice",
        f"{POINTNAV} {inner} {squared} --activation tanh --dtype float64 --clip 0.1",
        f"{POINTNAV} {LONG} --inner-steps 2 --fisher-stride 1 --alpha 0.05",
        *(f"{POINTNAV} {LONG} --algorithm {x} {FIXED}" for x in ("pretrained", "oracle")),
        f"{POINTNAV} {LONG} --algorithm pretrained {ADAM} --validate-every 0",
        f"{POINTNAV} --algorithm random --validate-every 0 {FIXED}",
        f"{POINTNAV} --algorithm random --validate-every 0",
        f"{POINTNAV} --iterations 20 --tasks 5 {CODE}",
    ]


def locomotion() -> list[str]:
    """Both bodies, rules and velocities, with and without an inner loop."""
    other = "--rules gymnasium --frame-skip 5 --velocity root"
    return [
        f"{LOCOMOTION} {LONG}",
        f"{LOCOMOTION} {LONG} --surrogate naive --inner-steps 2",
        f"{LOCOMOTION} {LONG} --task ant-vel {other}",
        f"{LOCOMOTION} {LONG} --task cheetah-vel --algorithm pretrained {FIXED}",
    ]


def more_images() -> list[str]:
    """Every algorithm with every net, and tuned step sizes; for -m slow."""
    lines = []
    for name, start in IMAGES.items():
        if name == "images":
            continue
        nets = ("conv", "pooled") if name == "miniimagenet" else ("conv", "pooled", "dense")
        inner = f"{FEW} --inner-steps 2 --alpha 0.05"
        for net in nets:
            lines += [
                f"{start} {inner} --algorithm {algorithm} --net {net} {option}"
                for option in ("", "--adapt-norm")
                for algorithm in INNER_LOOP
            ]
            lines += [
                f"{start} {inner} --algorithm context {order} --net {net} --context 2"
                for order in ORDERS
            ]
            lines.append(f"{start} --algorithm pretrained {FEW} --net {net} {FIXED}")
        if name != "glyphs":  # which are drawn anew for each step size that is tried
            lines.append(f"{start} --algorithm pretrained {FEW}")
            lines.append(f"{start} --algorithm random --validate-every 0")
    return lines


def more_pointnav() -> list[str]:
    """Every algorithm with every surrogate and outer update; for -m slow."""
    start = f"{POINTNAV} {LONG}"
    return [
        *(
            f"{start} --inner-steps 2 --algorithm {name} --surrogate {loss} {outer}"
            for name in INNER_LOOP
            for loss in ("naive", "lvc", "loaded_dice")
            for outer in ("--outer trpo", ADAM)
        ),
        *(f"{start} --algorithm {name}" for name in ("pretrained", "oracle")),
    ]


GROUPS = {
    "sine": sine,
    "sine-baselines": sine_baselines,
    "glyphs": lambda: images("glyphs", INNER, OUTER),
    "omniglot": omniglot,
    "miniimagenet": miniimagenet,
    "images": own_images,
    "pointnav": pointnav,
    "locomotion": locomotion,
    "more-images": more_images,
    "more-pointnav": more_pointnav,
}
SLOW = ("more-images", "more-pointnav")
SIMULATED = ("locomotion",)  # whose bits depend on the version of MuJoCo too
# The first case of a group that has this text is run again with each of these options more,
# and must give the same bytes.
BOTH = ("--workers 2", "--no-replay")
SAME = {
    "sine": {"--algorithm maml": BOTH, "--context": ("--no-replay",)},
    "sine-baselines": {"pretrained": ("--no-replay",), "averaged-mean": BOTH},
    "glyphs": {"--algorithm maml": ("--no-replay",)},
    "omniglot": {"--algorithm maml": BOTH},
    "miniimagenet": {"--algorithm fomaml": ("--no-replay",)},
    "images": {"--within group": BOTH},
    "pointnav": {"--algorithm maml": BOTH, "--outer adam": ("--no-replay",)},
    "locomotion": {"--task ant-vel": ("--workers 2",), "naive": ("--no-replay",)},
    "more-images": {"miniimagenet": BOTH, "--net dense": BOTH},
    "more-pointnav": {"loaded_dice": BOTH, "fomaml": BOTH},
}


def cases(group: str) -> list[str]:
    """Return the command lines of a group, with single spaces."""
    return [" ".join(line.split()) for line in GROUPS[group]()]


def again(group: str) -> dict[str, str]:
    """Return the command lines that must give the bytes of another one, and that one."""
    first = {
        text: next(line for line in cases(group) if text in line) for text in SAME[group]
    }
    return {
        f"{first[text]} {option}": first[text]
        for text, options in SAME[group].items()
        for option in options
    }


# ----- Data made up for them -----


def make_data(folder: Path) -> None:
    """Write an omniglot.npz of repeated patterns, and two small files of images."""
    import numpy as np

    rng = np.random.default_rng(0)
    kinds = 37  # a prime, so that neighbours differ wherever a split begins
    cells = rng.integers(0, 2, (kinds, 1, 7, 7)) ^ (rng.random((kinds, 20, 7, 7)) < 0.1)
    drawings = (255 * cells).astype(np.uint8).repeat(4, axis=2).repeat(4, axis=3)
    lists = {}
    for name, ends in (
        ("finn", (1100, 1200)),
        ("vinyals", (1028, 1200)),
        ("lake", (964,)),
    ):
        parts = ("train", "val", "test") if len(ends) == 2 else ("train", "test")
        rows = np.split(np.arange(1623), ends)
        lists |= {f"{name}_{part}": at for part, at in zip(parts, rows, strict=True)}
    pictures = np.resize(drawings, (1623, 20, 28, 28))
    np.savez(folder / "omniglot.npz", images=pictures, **lists)
    colours = rng.integers(0, 160, (18, 1, 12, 12, 3)) + rng.integers(
        0, 95, (18, 6, 12, 12, 3)
    )
    pictures = colours.astype(np.uint8).repeat(7, axis=2).repeat(7, axis=3)
    rows = dict(zip(("train", "val", "test"), np.arange(18).reshape(3, 6), strict=True))
    np.savez(folder / "miniimagenet.npz", images=pictures, **rows)
    sizes = 4 + np.arange(18) % 5
    own = np.concatenate([drawings[i, :n, :16, :16] for i, n in enumerate(sizes)])
    groups = {"groups": np.array(["a", "b"] * 9), "sizes": sizes}
    np.savez(folder / "images.npz", images=own, **groups, **rows)


# ----- In a process of their own -----


def run(commands: list[list[str]], folder: Path) -> dict[str, Any]:
    """Run command lines one after another in a new process, whose folder is `folder`.

    Returns the environment's name, and a report of each command: its exit code, what it
    printed and, where it begins with "train", the hashes of the run that it wrote or that
    it went on with.
    """
    environment = {x: value for x, value in os.environ.items() if x not in BLAS}
    done = subprocess.run(
        [sys.executable, Path(__file__).resolve(), "--child"],
        input=json.dumps(commands),
        cwd=folder,
        env=environment,
        capture_output=True,
        text=True,
        timeout=1200,
    )
    if done.returncode:
        raise RuntimeError(f"the process ended with {done.returncode}:\n{done.stderr}")
    return json.loads(done.stdout)


def child() -> None:
    """Run the command lines on stdin, and print what `run` returns."""
    commands = json.load(sys.stdin)
    if not any(command[0] == "plot" for command in commands):
        sys.modules["matplotlib"] = None  # pictures would take longer than the training
    _, printed, _ = command_line(["--version"])  # before NumPy: it sets the BLAS up
    make_data(Path.cwd())
    reports = []
    for command in commands:
        code, out, err = command_line(command)
        report = {"code": code, "out": out, "err": err}
        if command[0] == "train" and code == 0:
            report["hashes"] = hashes(run_of(command))
        reports.append(report)
    print(json.dumps({"environment": environment_of(printed), "reports": reports}))


def command_line(arguments: list[str]) -> tuple[int, str, str]:
    """Run one command line through the entry point: exit code, stdout, stderr."""
    from tinymaml.__main__ import main

    sys.argv = ["tinymaml", *arguments]
    out, err = io.StringIO(), io.StringIO()
    code: Any = 0
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
        try:
            main()
        except SystemExit as stop:
            code = stop.code or 0
    return code, out.getvalue(), err.getvalue()


def environment_of(printed: str) -> str:
    """Return what the last bits depend on, from what --version printed."""
    import numpy as np

    told = dict(line.split(" ", 1) for line in printed.splitlines())
    simd = np.show_config(mode="dicts")["SIMD Extensions"]
    newest = simd.get("found", [])[-1:] or ["baseline"]
    mujoco = sys.modules.get("mujoco")
    simulator = f", mujoco {mujoco.__version__}" if mujoco else ""
    return f"numpy {told['numpy']}, {told['kernel']}, {newest[0]}{simulator}"


def run_of(command: list[str]) -> Path:
    """Return the folder that a command line of `train` wrote."""
    at = command.index("--out" if "--out" in command else "--resume")
    return Path(command[at + 1])


def hashes(folder: Path) -> dict[str, str]:
    """Return the four hashes of a run, or of the runs of several seeds together."""
    runs = sorted(folder.glob("seed-*")) or [folder]
    found = {part: hashlib.sha256() for part in PARTS}
    for run in runs:
        arrays = ("iteration", "theta", "m", "v")
        update(found["checkpoint"], run / "checkpoint.npz", arrays)
        with tempfile.TemporaryDirectory() as place:
            code, _, err = command_line(["export", str(run), place])
            if code:
                raise RuntimeError(f"export {run}: {err}")
            arrays = ("iteration", "theta", "validation")
            update(found["best"], Path(place) / "theta.npz", arrays)
        lines = (run / "metrics.jsonl").read_bytes()
        found["metrics"].update(re.sub(rb', "check": "[^"]*"', b"", lines))
    for run in dict.fromkeys([*runs, folder]):
        numbers = numbers_of(json.loads((run / "evaluation.json").read_text()))
        found["evaluation"].update(json.dumps(numbers, sort_keys=True).encode())
    return {part: one.hexdigest()[:16] for part, one in found.items()}


def update(found: Any, file: Path, names: tuple[str, ...]) -> None:
    """Add some of a file's arrays to a hash: their dtypes, shapes and bytes."""
    import numpy as np

    with np.load(file, allow_pickle=False) as arrays:
        for name in names:
            array = arrays[name]
            found.update(f"{name} {array.dtype.str} {array.shape}\n".encode())
            found.update(array.tobytes())


def numbers_of(told: dict[str, Any]) -> dict[str, Any]:
    """Return what an evaluation has of numbers."""
    return {name: told[name] for name in NUMBERS if name in told}


# ----- Found and kept -----


def kept() -> dict[str, dict[str, dict[str, str]]]:
    """Return {environment: {command line: its hashes}}."""
    return json.loads(FILE.read_text(encoding="utf-8")) if FILE.exists() else {}


def found(group: str) -> tuple[str, dict[str, dict[str, str]]]:
    """Return the environment and the hashes of a group's cases, run here and now.

    A case that fails has its exit code and error in the place of its hashes.
    """
    lines = [*cases(group), *again(group)]
    commands = [
        ["train", *line.split(), "--out", f"run-{number}"]
        for number, line in enumerate(lines)
    ]
    with tempfile.TemporaryDirectory() as folder:
        told = run(commands, Path(folder))
    reports = zip(lines, told["reports"], strict=True)
    return told["environment"], {
        line: report.get("hashes") or {"exit code": report["code"], "error": report["err"]}
        for line, report in reports
    }


def differences(
    lines: dict[str, dict[str, str]], wanted: dict[str, dict[str, str]]
) -> list[str]:
    """Return a line for each command line whose hashes are not those that are wanted."""
    told = []
    for line, hashes in lines.items():
        other = wanted.get(line, {})
        parts = [part for part in PARTS if hashes.get(part) != other.get(part)]
        if "error" in hashes:
            told.append(f"{line}: {hashes['error'].strip()}")
        elif parts:
            told.append(f"{line}: other {', '.join(parts)}")
    return told


def unlike(group: str, hashes: dict[str, dict[str, str]]) -> list[str]:
    """Return a line for each case that must give the bytes of another one and does not."""
    same = again(group)
    own = {line: hashes[line] for line in same}
    return differences(own, {line: hashes[base] for line, base in same.items()})


def write(told: dict[str, dict[str, dict[str, str]]]) -> None:
    """Write the hashes, a line for each command line."""
    lines = ["{"]
    for number, (environment, rows) in enumerate(sorted(told.items())):
        lines.append(f"  {json.dumps(environment)}: {{")
        ordered = [f"    {json.dumps(x)}: {json.dumps(rows[x])}" for x in sorted(rows)]
        lines += [row + "," for row in ordered[:-1]] + ordered[-1:]
        lines.append("  }," if number < len(told) - 1 else "  }")
    FILE.write_text("\n".join([*lines, "}"]) + "\n", encoding="utf-8")


def main() -> int:
    """Compare or record; return 1 when something differs."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("group", nargs="*", help=f"of {', '.join(GROUPS)}; all if none")
    parser.add_argument("--write", action="store_true", help="record anew")
    asked, told, failed = parser.parse_args(), kept(), False
    for group in asked.group or GROUPS:
        environment, hashes = found(group)
        lines = unlike(group, hashes)
        mine = {line: hashes[line] for line in cases(group)}
        if asked.write and not any("error" in one for one in mine.values()):
            told.setdefault(environment, {}).update(mine)
        else:
            lines += differences(mine, told.get(environment, {}))
        print(f"{group}: {len(mine)} cases, {environment}", *lines, sep="\n  ", flush=True)
        failed = failed or bool(lines)
    if asked.write:
        known = {line for group in GROUPS for line in cases(group)}
        write(
            {
                environment: {x: rows[x] for x in rows if x in known}
                for environment, rows in told.items()
            }
        )
    return int(failed)


if __name__ == "__main__":
    if sys.argv[1:] == ["--child"]:
        child()
    else:
        sys.exit(main())
