"""How long a training takes, from scratch, to a score on validation tasks.

    python tests/bench/time_to_accuracy.py ROW ... [--runs FOLDER] [--data FILE]
        [--workers 1|2] [--to-end] [--peer] [--target SCORE ...] [--set NAME=VALUE ...]
        [--results FILE.md]

ROW is one row, as `sine/maml`, or a group, as `sine` for all its rows; without ROW all
names are printed. omniglot20x5 has 20 ways and 5 shots; without x5 there is one shot. A row
trains with the options that a user would give, and is tested once, after it met its last
target. Interrupted, it goes on from its last checkpoint when the same command is given
again; wall and CPU time count what led to the checkpoints and no interruption. A finished
row is not trained again: give another --runs for that.

A finished row replaces its line in FILE.jsonl, and FILE.md is made from all lines anew.
The page beside this program is FILE.md = tests/bench/time_to_accuracy.md.

--to-end trains on to the last iteration after all targets are met.
--peer measures a meta-step in PyTorch beside ours, gradients compared first. Iterations
times PyTorch's step is an ESTIMATE of a PyTorch loop: no such loop was trained. It leaves
out the drawing of tasks, the optimiser and validation, all to PyTorch's advantage.
"""

from __future__ import annotations

from tinymaml.speed import machine


machine.prepare_blas()

import argparse
import importlib.util
import json
import math
import signal
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import measure

from tinymaml import study
from tinymaml.data import glyphs
from tinymaml.errors import UsageError, WorldError
from tinymaml.experiments.common import Config
from tinymaml.harness import sessions
from tinymaml.losses import Score
from tinymaml.options import flags


PAGE = Path(__file__).with_suffix(".md")
RUNS = Path("runs/time-to-accuracy")
PACKAGES = ("numpy", "autograd", "torch")
SHOWN = 12  # points of a curve in the table
PEER = "torch.func vmap"  # the best PyTorch of `meta_step.py`
PEER_ROUNDS = 7
# Algorithms for which PyTorch's MAML stands. Both steps that are timed are MAML's, for
# Meta-SGD too, whose step sizes are one more product.
ORDERS = {"maml": "exact", "meta-sgd": "exact", "fomaml": "first"}


# ----- The rows -----


class Row(NamedTuple):
    """A training: the score after its inner steps shall reach the targets, in order."""

    experiment: str
    targets: tuple[float, ...]
    options: dict[str, Any]


# Options of all rows of a group, and each row's own. The last target of Omniglot is the
# paper's figure. What matters most is a cosine schedule with three times the default beta,
# and with five shots Meta-Curvature on the pooled net (.github/results.md).
COSINE = {"beta": 0.003, "schedule": "cosine", "epoch": 250, "checkpoint_every": 50}
GROUPS: dict[str, Row] = {
    "sine": Row(
        "sine",
        (0.2,),
        {"inner_steps": 2, "test_steps": 2, "iterations": 70_000}
        | {"validate_every": 250, "checkpoint_every": 250},
    ),
    "glyphs": Row(
        "glyphs", (0.97,), COSINE | {"iterations": 1500, "validate_every": 50, "epoch": 50}
    ),
    "omniglot5": Row(
        "omniglot", (0.95, 0.97, 0.98, 0.987), COSINE | {"tasks": 32, "iterations": 6000}
    ),
    "omniglot5x5": Row(
        "omniglot",
        (0.98, 0.99, 0.995, 0.999),
        COSINE | {"shots": 5, "tasks": 16, "iterations": 6000, "validation_tasks": 100},
    ),
    "omniglot20": Row(
        "omniglot",
        (0.90, 0.93, 0.95, 0.958),
        COSINE
        | {"ways": 20, "tasks": 16, "iterations": 6500, "chunk": 2}
        | {"validation_tasks": 100},
    ),
    "omniglot20x5": Row(
        "omniglot",
        (0.95, 0.97, 0.98, 0.989),
        COSINE
        | {"ways": 20, "shots": 5, "tasks": 4, "iterations": 3000, "chunk": 1}
        | {"validation_tasks": 50},
    ),
}
HEAD = {"algorithm": "anil", "rates": "tensor"}
MAPS = {"algorithm": "meta-curvature", "net": "pooled"}
ROWS = {
    "sine/maml": {},
    "sine/meta-sgd": {"algorithm": "meta-sgd"},
    "sine/anil": {"algorithm": "anil", "rates": "parameter"},
    "sine/cavia": {"algorithm": "cavia", "context": 2},
    "sine/t-net": {"algorithm": "t-net"},
    "sine/meta-curvature": {"algorithm": "meta-curvature"},
    "glyphs/maml": {},
    "glyphs/fomaml": {"algorithm": "fomaml"},
    "glyphs/meta-sgd": {"algorithm": "meta-sgd"},
    "glyphs/anil": HEAD | {"net": "pooled"},
    "glyphs/boil": {"algorithm": "boil"},
    "glyphs/t-net": {"algorithm": "t-net"},
    "glyphs/meta-curvature": {"algorithm": "meta-curvature"},
    "omniglot5/maml": {},
    "omniglot5/fomaml": {"algorithm": "fomaml"},
    "omniglot5/meta-sgd": {"algorithm": "meta-sgd", "iterations": 12_000},
    "omniglot5/t-net": {"algorithm": "t-net"},
    "omniglot5/meta-curvature": MAPS | {"iterations": 3000},
    "omniglot5x5/maml": {},
    "omniglot5x5/meta-sgd": {"algorithm": "meta-sgd"},
    "omniglot5x5/anil": HEAD | {"net": "pooled"},
    "omniglot5x5/meta-curvature": MAPS | {"iterations": 5000, "chunk": 1},
    "omniglot20/maml": {"alpha": 0.1, "inner_steps": 5},
    "omniglot20/meta-sgd": {"algorithm": "meta-sgd"},
    "omniglot20/meta-curvature": MAPS | {"iterations": 2000},
    "omniglot20/anil": HEAD | {"net": "pooled"},
    "omniglot20/anil-strided": HEAD | {"alpha": 4.0},
    "omniglot20x5/meta-curvature": MAPS | {"iterations": 5000},
    "omniglot20x5/anil": HEAD | {"net": "pooled"},
    "omniglot20x5/anil-strided": HEAD | {"alpha": 4.0},
}


def group_of(name: str) -> str:
    """Return the group of a row."""
    return name.partition("/")[0]


def row_of(name: str) -> Row:
    """Return a row, its options joined with those of its group."""
    group = GROUPS[group_of(name)]
    return group._replace(options=group.options | ROWS[name])


def chosen(names: Sequence[str]) -> list[str]:
    """Return the names of rows, for names of rows and groups. Raises ValueError."""
    found = [[row for row in ROWS if name in (row, group_of(row))] for name in names]
    for name, rows in zip(names, found, strict=True):
        if not rows:
            raise ValueError(f"no row {name!r}; there are {', '.join(ROWS)}")
    return [row for rows in found for row in rows]


# ----- Training, its time, and the targets -----


class Moment(NamedTuple):
    """A point of a training: its iteration, seconds so far, and validation score if any."""

    iteration: int
    wall: float
    cpu: float
    validation: float | None = None


class Met(Exception):  # noqa: N818
    """All targets are met."""


def met(
    score: Score, moments: Sequence[Moment], targets: Sequence[float]
) -> list[Moment | None]:
    """Return the first moment with at least the score of each target, None where none."""

    def reached(target: float, value: float | None) -> bool:
        return value is not None and not score.better(target, value)

    return [
        next((m for m in moments if reached(target, m.validation)), None)
        for target in targets
    ]


def moments_in(file: Path, iteration: int) -> list[Moment]:
    """Return the moments that a file has until an iteration; a torn last line is none."""
    lines = file.read_text("utf-8").splitlines() if file.exists() else []
    found = []
    for line in lines:
        try:
            found.append(Moment(*json.loads(line)))
        except ValueError:
            break
    return [m for m in found if m.iteration <= iteration]


def saved_iteration(folder: Path) -> int:
    """Return the iteration of a run's last checkpoint, 0 where there is none."""
    try:
        return study.open_run(folder, last=True).iteration
    except WorldError:
        return 0


def trained(
    config: Config,
    folder: Path,
    targets: Sequence[float],
    workers: int = 1,
    each: Callable[[Moment], object] = lambda moment: None,
) -> list[Moment]:
    """Train in a folder until all targets are met, or to the end; return the moments.

    A moment is noted at every validation and checkpoint, so a run that goes on from a
    checkpoint takes its time from there. Time after the last checkpoint of an interrupted
    session is lost with what was trained in it. An iteration in which the process was
    stopped (Ctrl-Z) and went on takes no wall time up to then, but one process never took
    less wall time than CPU time.
    """
    file = folder.with_name(f"{folder.name}.times.jsonl")
    moments = moments_in(file, saved_iteration(folder))
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text("".join(json.dumps(m) + "\n" for m in moments), encoding="utf-8")
    before = moments[-1] if moments else Moment(0, 0.0, 0.0)
    last = time.monotonic()  # the end of the iteration before
    wall, cpu = last - before.wall, measure.cpu_seconds() - before.cpu

    def went_on(*_: Any) -> None:
        nonlocal wall, last
        now = time.monotonic()
        wall, last = wall + now - last, now

    def done() -> bool:
        return bool(targets) and None not in met(config.score, moments, targets)

    def note(record: dict[str, Any]) -> None:
        nonlocal last
        last = time.monotonic()
        if done():  # an iteration late: the checkpoint of the target is written
            raise Met
        iteration = record["iteration"]
        if "validation" in record or iteration % config.checkpoint_every == 0:
            passed, used = last - wall, measure.cpu_seconds() - cpu
            passed = max(passed, used) if workers == 1 else passed
            now = round(passed, 3), round(used, 3)
            moments.append(Moment(iteration, *now, record.get("validation")))
            with file.open("a", encoding="utf-8") as lines:
                lines.write(json.dumps(moments[-1]) + "\n")
            each(moments[-1])

    handler = signal.signal(signal.SIGCONT, went_on)
    try:
        if not done():
            study.train(config, note, folder, workers)
    except Met:
        pass
    finally:
        signal.signal(signal.SIGCONT, handler)
    return moments


# ----- One row, measured -----


def tested(config: Config, folder: Path, workers: int) -> dict[str, Any]:
    """Return the score of the best theta on test tasks after as many steps as trained."""
    run = study.open_run(folder)
    scores = run.evaluate(steps=max(config.inner_steps, 1), workers=workers)
    end = [float(scores.mean[-1]), float(scores.half[-1])]
    return {"iteration": run.iteration, "steps": len(scores.mean) - 1, "score": end}


def machine_of(session: dict[str, Any]) -> dict[str, Any]:
    """Return this machine's description with what a session of training noted."""
    here = measure.machine(PACKAGES)
    versions = {name: session[name] for name in here["versions"] if name in session}
    return here | {
        "cpu": session["cpu"],
        "cores": session["cores"],
        "python": session["python"],
        "blas": f"{session['blas']}, kernel {session['kernel']}",
        "versions": here["versions"] | versions,
    }


def peer(config: Config, workers: int) -> dict[str, Any] | None:
    """Return the ms of a meta-step in PyTorch and here, None for algorithms without peer.

    PyTorch has one thread beside one process, and else as many as suit it best. Exits 1
    when a gradient differs.
    """
    work = work_of(config)
    if work is None:
        return None
    import meta_step  # what starts it up is not a part of a training's time

    ours = meta_step.REPLAYED + (meta_step.IN_WORKERS if workers > 1 else "")
    names = [meta_step.OURS, ours, PEER]
    threads = 1 if workers == 1 else None
    found = meta_step.bench(work, names, PEER_ROUNDS, memory=False, threads=threads)
    ms = {name: found["contenders"][name]["median"] for name in (PEER, ours)}
    return {"name": PEER, "work": work.title, "ms": ms[PEER], "ours_ms": ms[ours]}


def work_of(config: Config) -> Any:
    """Return the `works.Work` of a configuration's meta-step, None where there is none."""
    import works

    order = ORDERS.get(config.algorithm)
    if order is None:
        return None
    queries, steps = config.queries or config.shots, config.inner_steps
    shape: tuple[Any, ...]
    if config.name == "sine":
        shape = "sine", config.tasks, 1, config.shots, queries, config.hidden[0], (1, 1, 1)
    else:
        image = (glyphs.SIDE, glyphs.SIDE, 1)  # Omniglot's too
        examples = config.ways, config.shots, queries
        shape = config.net, config.tasks, *examples, config.filters, image
    return works.Work(*shape, steps, order, config.alpha, config.chunk)


def measured(
    name: str, row: Row, config: Config, options: argparse.Namespace
) -> dict[str, Any]:
    """Train, test and compare a row; return its line of the results."""

    def say(text: str) -> None:
        print(f"{name}: {text}", flush=True)

    def each(moment: Moment) -> None:
        if moment.validation is not None:
            score = config.score.shown(moment.validation)
            say(f"iteration {moment.iteration}, {duration(moment.wall)}: {score}")

    processes = f"-{options.workers}-processes" if options.workers > 1 else ""
    folder = options.runs / (name.replace("/", "-").replace(" ", "-") + processes)
    targets, before = () if options.to_end else row.targets, saved_iteration(folder)
    found: dict[str, Any] = {
        "row": name,
        "command": f"tinymaml train {config.name} {flags(shown_options(config))}".strip(),
        "workers": options.workers,
    }
    moments = trained(config, folder, targets, options.workers, each)
    if moments[-1].iteration == before:
        say(f"trained before, in {str(folder)!r}; another --runs trains it again")
    at, held = met(config.score, moments, row.targets), sessions.read(folder)
    found |= {
        "targets": dict(zip(map(str, row.targets), at, strict=True)),
        "curve": [m for m in moments if m.validation is not None],
        "end": moments[-1],
        "machine": machine_of(held[-1]),
        "sessions": len(held),
        "test": tested(config, folder, options.workers),
        "peer": peer(config, options.workers) if options.peer else None,
    }
    say(f"{shown(config.score, found['test'])}, {config.test_tasks} test tasks")
    return found


def shown_options(config: Config) -> dict[str, Any]:
    """Return the options to type; where the data are is not one of them."""
    return {k: x for k, x in config.differences().items() if k != "data"}


# ----- The results -----


HEADS = (
    "row | target | met at iteration | wall | CPU | sessions | test tasks"
    " | PyTorch loop, estimated",
    "row | validation score by iteration",
)
ABOUT = """# Time to accuracy

Made by `python tests/bench/time_to_accuracy.py ROW --peer --results FILE.md`; not to be
edited. Each row trains from scratch, in one process unless it says otherwise, until the
validation score reaches the last target, or to its last iteration. Wall and CPU time
include the drawing of tasks, all validations and checkpoints. Interruptions do not count;
each begins another session. Most rows had other work beside them, so CPU time is the one to
compare. Validation tasks chose the theta and the moment to stop. The test tasks are others,
used once by each training, so their score is often a little worse. It has its 95 %
interval. All is of one seed: other last bits, as those of another BLAS kernel, move the
moment of a target by up to a third.

The last column is an estimate: no PyTorch loop was trained. It is the number of iterations
times the meta-step of PyTorch ({peer}), measured beside ours after the
training; the ratio of the two is in brackets, and says more than the time. The estimate
leaves out all else that a loop does. It is empty where --peer was not given, where no
target was met, and for algorithms that the PyTorch of the benchmarks does not have.

omniglot20x5 has 20 ways and 5 shots; without x5 there is one shot. The commands below train
to the last iteration, which takes longer than the times above: the program stops at the
target. Those of Omniglot need `--data FILE` too.
"""


def duration(seconds: float) -> str:
    """Write seconds in seconds or minutes."""
    return f"{seconds:.0f} s" if seconds < 100 else f"{seconds / 60:.1f} min"


def page(lines: Sequence[dict[str, Any]]) -> str:
    """Return the tables of finished rows, in Markdown."""
    parts = [ABOUT.format(peer=PEER)]
    machines: dict[str, list[str]] = {}
    for line in lines:
        about = line["machine"] | {"load": "-"}  # only the load differs between sessions
        machines.setdefault(measure.machine_line(about), []).append(line["row"])
    parts += [f"{', '.join(rows)}: {about}\n" for about, rows in machines.items()]
    rows = [cells for line in lines for cells in target_rows(line)]
    parts.append(f"{measure.markdown(HEADS[0], rows)}\n")
    parts.append("## Curves\n")
    curves = [[line["row"], curve(line)] for line in lines]
    parts.append(f"{measure.markdown(HEADS[1], curves)}\n")
    parts.append("## Commands\n")
    commands = (f"# {line['row']}\n{line['command']}" for line in lines)
    parts.append("```sh\n" + "\n".join(commands) + "\n```\n")
    return "\n".join(parts)


def target_rows(line: dict[str, Any]) -> Iterator[list[str]]:
    """Yield the cells of each target of a row; the last has the test score."""
    score = study.experiments.find(line["command"].split()[2]).kind.score
    processes = f", {line['workers']} processes" if line["workers"] > 1 else ""
    name, test = line["row"] + processes, line["test"]
    for number, (target, at) in enumerate(line["targets"].items(), 1):
        reached = Moment(*(at or line["end"]))
        said = f"{reached.iteration}" if at else f"not in {reached.iteration}"
        yield [
            name,
            score.shown(float(target)),
            said,
            duration(reached.wall),
            duration(reached.cpu),
            str(line["sessions"]),
            shown(score, test) if number == len(line["targets"]) else "",
            estimate(line["peer"], reached.iteration) if at else "",
        ]


def shown(score: Score, test: dict[str, Any]) -> str:
    """Write the score on test tasks."""
    steps = test["steps"]
    return f"{score.shown(*test['score'])} after {steps} step{'s' * (steps > 1)}"


def estimate(found: dict[str, Any] | None, iterations: int) -> str:
    """Write what a PyTorch loop should take; nothing where it was not measured."""
    if found is None:
        return ""
    ratio = found["ms"] / found["ours_ms"]
    return f"{duration(1e-3 * found['ms'] * iterations)} ({ratio:.1f}x)"


def curve(line: dict[str, Any]) -> str:
    """Write some points of a curve, the last one included."""
    score = study.experiments.find(line["command"].split()[2]).kind.score
    points = [Moment(*point) for point in line["curve"]]
    every = max(1, math.ceil(len(points) / SHOWN))
    some = points[::-1][::every][::-1]

    def value(point: Moment) -> str:
        return "not finite" if point.validation is None else score.shown(point.validation)

    return ", ".join(f"{point.iteration}: {value(point)}" for point in some)


def keep(line: dict[str, Any], file: Path) -> None:
    """Put a finished row among the results, and make the page of all anew."""
    store = file.with_suffix(".jsonl")
    text = store.read_text("utf-8") if store.exists() else ""
    lines = {one["row"]: one for one in map(json.loads, text.splitlines())}
    lines[line["row"]] = line
    order = [*ROWS]
    sort = sorted(lines, key=lambda row: order.index(row) if row in ROWS else len(order))
    found = [lines[row] for row in sort]
    store.write_text("".join(json.dumps(one) + "\n" for one in found), encoding="utf-8")
    file.write_text(page(found), encoding="utf-8")


# ----- Command line -----


def parser() -> argparse.ArgumentParser:
    """Return the command line's options."""
    line = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    line.add_argument("row", nargs="*", help="a row or a group; none: print all names")
    line.add_argument("--runs", type=Path, default=RUNS, help="folder of the run folders")
    line.add_argument("--data", help="prepared Omniglot, for its rows")
    line.add_argument(
        "--workers", type=int, choices=(1, 2), default=1, help="processes; 1: this"
    )
    line.add_argument("--to-end", action="store_true", help="train to the last iteration")
    line.add_argument("--peer", action="store_true", help="estimate a PyTorch loop")
    line.add_argument(
        "--target", type=float, nargs="+", help="other targets, accuracies as 0.97"
    )
    line.add_argument(
        "--set", nargs="+", default=[], metavar="NAME=VALUE", help="options of the training"
    )
    line.add_argument(
        "--results",
        type=Path,
        default=RUNS / "results.md",
        metavar="FILE.md",
        help="page of the results (default: %(default)s)",
    )
    return line


def changed(name: str, row: Row, options: argparse.Namespace) -> tuple[str, Row, Config]:
    """Return a row with the changes of the command line, in its name too, and its options.

    Raises UsageError for an unknown option or a value out of range.
    """
    given = {k.replace("-", "_"): x for k, _, x in (s.partition("=") for s in options.set)}
    targets = tuple(options.target or row.targets)
    data = {"data": options.data} if options.data and row.experiment == "omniglot" else {}
    config = study.options(row.experiment, **row.options, **data)
    try:
        values = {k: config.options[k].values.parsed(x) for k, x in given.items()}
    except KeyError as error:
        raise UsageError(f"--set: {row.experiment} has no option {error}") from error
    except ValueError as error:
        raise UsageError(f"--set: {error}") from error
    name = " ".join([name, *options.set, *(f"target={x:g}" for x in options.target or ())])
    return name, row._replace(targets=targets), config.with_changes(values)


def main() -> None:
    """Measure the chosen rows one after another; write the results after each."""
    line = parser()
    options = line.parse_args()
    if not options.row:
        print("\n".join(ROWS))
        return
    if options.peer and importlib.util.find_spec("torch") is None:
        line.error("--peer needs torch")
    try:
        names = chosen(options.row)
    except ValueError as error:
        line.error(str(error))
    try:
        rows = [changed(name, row_of(name), options) for name in names]
    except UsageError as error:
        line.error(str(error))
    failed = False
    for name, row, config in rows:
        try:
            keep(measured(name, row, config, options), options.results)
        except WorldError as error:
            failed = True
            print(f"{name}: {error}", file=sys.stderr)
        except KeyboardInterrupt:
            print(f"{name}: interrupted; the same command goes on", file=sys.stderr)
            raise SystemExit(130) from None
    raise SystemExit(int(failed))


if __name__ == "__main__":
    main()
