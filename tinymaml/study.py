"""Train, evaluate and use a theta from Python, in a script or a notebook.

    run = study.train(study.options("sine", shots=5))
    print(run.evaluate(tasks=100))
    curve = run.adapt(x, y)             # x (n, 1), y (n, 1) of a new task
    curve(x_new)
    run = study.open_run("runs/sine-1")

Nothing is printed, no signal is handled, and nothing is written unless a folder is given.
It runs in any thread.
"""

from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from tinymaml import experiments, summary
from tinymaml.errors import WorldError
from tinymaml.experiments import Experiment, own, problem
from tinymaml.experiments.common import Config
from tinymaml.fewshot import Episode, apply_alone
from tinymaml.harness import checkpoints, evaluation, loop, plan, results, runs, sessions
from tinymaml.harness import own as trial
from tinymaml.harness.checkpoints import Kept
from tinymaml.harness.metrics import read_metrics
from tinymaml.harness.results import Result
from tinymaml.harness.ways import resized
from tinymaml.maml import Array
from tinymaml.report import tables
from tinymaml.speed.workers import Engine, engine


__all__ = ["Run", "experiment", "iterate", "open_run", "options", "train"]
Each = Callable[[dict[str, Any]], object]
experiment = own  # of a class of options and a setup that are in no file


def options(name: str | Experiment, **given: Any) -> Config:
    """Return the options of an experiment: as given, else the defaults.

    name: one of `tinymaml list`, FILE.py, or what `experiment` returns
    Raises UsageError for an unknown name or option, or a value out of range.
    """
    found = experiments.find(name) if isinstance(name, str) else name
    return found.kind(**given)


class Adapted(NamedTuple):
    """A net that was adapted to one task; call it with new inputs.

    theta: (P,)
    head: how a classifier takes another number of classes than in training, "" otherwise
    """

    theta: Array
    support: Array
    config: Config
    head: str = ""

    def __call__(self, x: Array) -> Array:
        """Return the outputs (n, d) for inputs (n, ...), each for itself.

        In a net with batch norm, an input is normalised with the support set and itself.
        Raises ValueError for inputs of another shape than the support's.
        """
        x = np.asarray(x, self.support.dtype)
        if x.shape[1:] != self.support.shape[1:]:
            raise ValueError(f"inputs are (n, *{self.support.shape[1:]}), not {x.shape}")
        family = problem(self.config)
        if not (family.score_alone or family.model.norm):
            return family.model.apply(self.theta, x)
        nothing = np.empty(0)
        return apply_alone(
            family.model.apply, self.theta, Episode(self.support, nothing, x, nothing)
        )


class Scores(NamedTuple):
    """Mean score of held-out tasks after 0, 1, ... gradient steps, and half its interval.

    mean, half: (steps + 1,), the 95 % interval; `str` is a table
    """

    mean: Array
    half: Array
    result: Result

    def __str__(self) -> str:
        return tables.as_text([self.result], range(len(self.mean)), published=False)

    def plot(self, axes: Any, **style: Any) -> None:
        """Draw the scores into matplotlib axes. style: of `axes.errorbar`"""
        score = self.result.config.score
        mean, half = score.scale * self.mean, score.scale * self.half
        axes.errorbar(range(len(mean)), mean, half, capsize=3, **style)
        axes.set(xlabel="gradient steps", ylabel=score.axis)


class Run(NamedTuple):
    """A theta (M,), the options it was trained with, and the records of its training."""

    config: Config
    theta: Array
    iteration: int
    records: Sequence[dict[str, Any]] = ()

    def evaluate(
        self,
        tasks: int | None = None,
        steps: int | None = None,
        shots: int | None = None,
        ways: int | None = None,
        split: str = "test",
        workers: int | str = 1,
    ) -> Scores:
        """Return the scores on held-out tasks after each gradient step.

        tasks, steps: as in the options when they are not given
        shots, ways: other than those of the training; workers: as in `train`
        """
        config = self.config
        tasks = config.test_tasks if tasks is None else tasks
        steps = config.test_steps if steps is None else steps
        kept = Kept(self.iteration, self.theta, np.nan)
        with engine(workers) as pool:
            how = split, tasks, steps, (), pool, shots, ways
            found = results.judge(config, kept, *how)
        return Scores(*results.over_tasks(found.scores), found)

    def adapt(self, x: Array, y: Array, steps: int | None = None) -> Adapted:
        """Adapt to one new task: inputs x (n, ...) and targets or labels y (n, ...).

        steps: gradient steps, by default those of the options at test time
        Labels are 0, 1, ...; for another number of classes than in training see
        `harness.ways.resized`. Classes may have unequal numbers of examples.
        Raises ValueError or TypeError when the arrays do not fit the net.
        """
        config, steps = self.config, self.config.test_steps if steps is None else steps
        x, y = np.asarray(x, config.dtype), np.asarray(y)
        y = y if y.dtype.kind in "iu" else y.astype(config.dtype)
        if len(x) != len(y) or not len(x):
            raise ValueError(f"x and y have one row for each example: {x.shape}, {y.shape}")
        w, head = self.theta, ""
        if "ways" in config.options:
            config, w, head = resized(config, w, max(int(y.max()) + 1, 2))
            if "shots" in config.options:  # what a sum over shots is divided by
                config = config.with_changes({"shots": max(round(len(x) / config.ways), 1)})
        start = config.method.start(w, problem(config))
        task = Episode(x[None], y[None], x[None], y[None])
        theta = evaluation.adapted(config, start, task, 1, steps)[-1][0]
        if not np.isfinite(theta).all():
            raise ValueError(f"the adaptation diverged; alpha {config.alpha} is too large")
        return Adapted(theta, x, config, head)

    def plot(self, axes: Any, **style: Any) -> None:
        """Draw the loss of each iteration into matplotlib axes. style: of `axes.plot`"""
        name = self.config.learning[0]
        at = [record["iteration"] for record in self.records]
        axes.plot(at, [record[name] for record in self.records], **style)
        axes.set(xlabel="outer updates", ylabel=name.replace("_", " "))


def train(
    config: Config,
    each: Each = lambda record: None,
    folder: str | Path | None = None,
    workers: int | str = 1,
) -> Run:
    """Train, and return the run; KeyboardInterrupt ends it with the state so far.

    each(record) is called after every iteration
    folder: where the files of `tinymaml train` go; a run that is there goes on
    workers: number of processes, or as `--workers` takes it; a script that starts processes
        needs `if __name__ == "__main__":`
    Raises WorldError when the training diverges or an own experiment fails its trial,
    UsageError when the folder has a run with other options.

    A record has the iteration, the loss and what else metrics.jsonl has: see
    `harness.metrics`. It goes to a CSV file, TensorBoard or Weights & Biases like this:

        with open("log.csv", "w") as file:
            row = lambda x: print(x["iteration"], x["loss"], sep=",", file=file)
            train(config, row)

        from torch.utils.tensorboard import SummaryWriter
        board = SummaryWriter("board")
        train(config, lambda x: board.add_scalar("loss", x["loss"], x["iteration"]))

        import wandb
        log = wandb.init(project="maml", config=config.values())
        train(config, lambda x: log.log(x, step=x["iteration"]))
    """
    with engine(workers) as pool:
        if folder is not None:
            return _train_in(Path(folder), config, each, pool)
        run = Run(config, loop.initial_state(config).theta, 0)
        try:
            for run in iterate(config, pool):
                each(run.records[-1])
        except KeyboardInterrupt:
            pass
        return run


def iterate(config: Config, pool: Engine | None = None) -> Iterator[Run]:
    """Yield the run after each iteration; its last record is `records[-1]`.

    pool: an executor of processes; None: this process
    """
    if pool is None:
        with engine(1) as pool:
            yield from iterate(config, pool)
        return
    config = _tried(config)
    records: list[dict[str, Any]] = []
    for state, record in loop.iterations(config, loop.initial_state(config), pool):
        records.append(summary.finite(record))
        yield Run(config, state.theta, state.iteration, records)


def open_run(folder: str | Path, last: bool = False, fallback: bool = False) -> Run:
    """Return the run in a folder, or kept:NAME: its best theta on validation tasks.

    last: its last theta instead
    fallback: an older theta where the newest is damaged
    Raises WorldError where there is none, or there are several.
    """
    path, *others = runs.members(checkpoints.locate(str(folder)))
    if others:
        several = f"{len(others) + 1} runs in {str(folder)!r}"
        raise WorldError(f"{several}: give one of them, as {str(path)!r}")
    config = runs.read_config(path)
    kept = checkpoints.load(path, config, last, fallback)
    return Run(config, kept.theta, kept.iteration, read_metrics(path))


def _tried(config: Config) -> Config:
    """Return the options, without replay where an own experiment cannot be replayed."""
    return config.with_changes({"replay": False}) if trial.replay_fault(config) else config


def _train_in(folder: Path, config: Config, each: Each, pool: Engine) -> Run:
    def make(out: str | None) -> plan.Plan:
        if not (folder / runs.CONFIG).exists():
            return plan.new_runs(config, str(folder), 1)
        wanted = plan.resumed(folder, runs.read_config(folder), config)
        return plan.Plan(folder, [(folder, wanted)])

    tried = _tried(config)
    with plan.held(make, str(folder)) as (planned, (check,)):
        wanted = planned.runs[0][1].with_changes({"replay": tried.replay})
        checkpoints.check_unchanged(folder, wanted)
        runs.begin(folder, wanted)
        session = sessions.Session(folder, wanted.libraries)

        def progress(iteration: int, record: dict[str, Any]) -> None:
            each(record)

        loop.train(folder, wanted, pool, progress, check, session.save, handle=False)
    return open_run(folder)
