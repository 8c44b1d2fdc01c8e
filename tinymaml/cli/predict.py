"""`tinymaml predict`: classify images, after adapting to a few images of each class."""

import sys
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

import click
import numpy as np

from tinymaml import experiments
from tinymaml.algorithms.algorithm import FEW_SHOT
from tinymaml.cli.adapt import STEPS_OPTION, before_and_after, opened_run
from tinymaml.cli.options import FALLBACK, LAST, QUIET, Folder, asked
from tinymaml.cli.terminal import Show, columns, progress
from tinymaml.errors import UsageError, WorldError
from tinymaml.experiments.common import Config
from tinymaml.experiments.images import Images
from tinymaml.harness import runs
from tinymaml.harness.evaluation import held_out
from tinymaml.maml import Array
from tinymaml.ops import log_softmax
from tinymaml.plots import figures, predictions
from tinymaml.prepare import tasks
from tinymaml.prepare.files import DATA_ERRORS, failure
from tinymaml.prepare.tasks import Kind
from tinymaml.report.predictions import Prediction, Predictions, as_csv, as_json, as_text
from tinymaml.study import Adapted, Run


STDOUT = "-"
DARK = 0.5  # mean of a drawing's inputs, from 0 (paper) to 1 (ink), that hardly is one
BAD_SHOWN = 100  # lines about queries that cannot be read
ENDS = {
    "as_json": ("--json", ".json"),
    "as_csv": ("--csv", ".csv"),
    "out": ("--out", ".png"),
}
OPTIONS = (
    asked(
        "--support",
        click.Path(exists=True, file_okay=False, path_type=Path),
        "folder of the support set; each sub-folder of images is a class",
        required=True,
    ),
    asked(
        "--query",
        click.Path(exists=True, path_type=Path),
        "images to classify: files, or a folder, whose sub-folders name the right classes",
        required=True,
        multiple=True,
        metavar="FOLDER|FILE...",
    ),
    STEPS_OPTION,
    asked("--invert", None, "swap dark and light in all images"),
    *(
        asked(
            f"--{kind} as_{kind}",
            click.Path(),
            f"write {kind.upper()} to FILE.{kind}{more}; without FILE print it",
            is_flag=False,
            flag_value=STDOUT,
            metavar=f"[FILE.{kind}]",
        )
        for kind, more in (("json", ", with the probability of every class"), ("csv", ""))
    ),
    asked(
        "--out",
        click.Path(),
        "PNG file to write: the images and the answers",
        metavar="FILE.png",
    ),
)


@click.command("predict", params=[*OPTIONS, LAST, FALLBACK, QUIET])
@click.argument("run", type=Folder())
@click.argument("more", nargs=-1, type=click.Path(exists=True, path_type=Path), metavar="")
def predict_command(
    run: str,
    more: tuple[Path, ...],
    support: Path,
    query: tuple[Path, ...],
    steps: int | None,
    invert: bool,
    last: bool,
    fallback: bool,
    quiet: bool,
    **places: str | None,
) -> None:
    """Classify images with a run, after adapting to a few images of each class.

    The number of classes is free, and they may have unequal numbers of images. Each query
    is judged alone: its answer does not depend on the others.

    Images are read as by `tinymaml prepare images`, and resized to the run's size. A run of
    omniglot or glyphs expects dark ink on light paper, as in Omniglot's files: add --invert
    for light ink on dark paper. Other runs expect images like those of their training.

    \b
    tinymaml predict runs/omniglot-1 --support known --query new
    tinymaml predict kept:omniglot-5w1s --support known --query a.png b.png
    """
    check_places(places)
    trained = opened_run(run, last, fallback)
    config, remarks = trained.config, list[str]()
    kind, steps = kind_of(config), config.test_steps if steps is None else steps
    known, wanted = tasks.classes(support, remarks), (*query, *more)
    queries = [x for file in wanted for x in tasks.labelled(file, [*known], remarks)]
    check_places(places, [*(x for some in known.values() for x in some), *dict(queries)])
    for line in remarks:
        click.echo(f"note: {line}", err=True)
    shown = {name: tasks.read_all(support, kind, some) for name, some in known.items()}
    images = [image for some in shown.values() for image in some]
    ink, kind = kind.ink, kind._replace(ink=kind.ink != invert)
    x = kind.inputs(images, config.dtype)
    if ink and x.mean() > DARK:
        advice = "leave out" if invert else "add"
        lead = f"{support}: the images seem to be light ink on dark paper, unlike those of"
        click.echo(f"note: {lead} {config.name}; {advice} --invert", err=True)
    nets = adapted(trained, support, x, known, steps)
    with progress("predictions", quiet) as show:
        each = judged(queries, kind, nets, {image.tobytes() for image in images}, show)
    sizes = {name: len(some) for name, some in shown.items()}
    head = nets[0].head or f"{len(sizes)} classes, as in training: the head is as it was"
    found = Predictions(run, steps, sizes, head, each)
    write(found, places)
    if out := places["out"]:
        some = [kind.read(Path(each[i].file)) for i in predictions.chosen(len(each))]
        file = figures.save(predictions.draw(found, shown, some), Path(out))
        click.echo(file, err=STDOUT in places.values())


def check_places(places: Mapping[str, str | None], inputs: Iterable[Path] = ()) -> None:
    """Raise UsageError for an output with another ending, or that is one of the inputs.

    Raises WorldError for one in a folder that does not exist.
    """
    read = {file.resolve() for file in inputs}
    for name, (flag, end) in ENDS.items():
        place = places[name]
        if place is None or (place == STDOUT and name != "out"):
            continue
        if Path(place).suffix.lower() != end or Path(place).is_dir():
            raise UsageError(f"{flag} {place!r} is not the name of a {end} file")
        if not Path(place).parent.is_dir():
            raise failure(Path(place).parent, "no such folder")
        if Path(place).resolve() in read:
            raise UsageError(f"{flag} {place!r} is one of the images to read")
    if [*places.values()].count(STDOUT) > 1:
        raise UsageError("--json and --csv cannot both be printed; name a file")
    if places["out"] is not None:
        figures.new_figure(1, 1)  # reports a missing matplotlib before the work


def kind_of(config: Config) -> Kind:
    """Return the images that a run takes. Raises UsageError for a run of something else."""
    if experiments.is_own(config) and config.setting == FEW_SHOT:
        return _own_kind(config)
    if not isinstance(config, Images):
        raise UsageError(f"a run of {config.name} does not classify images")
    experiments.problem(config)  # reports a size that is not known
    side, _, channels = config.image
    return Kind(side, channels, config.ink)


def _own_kind(config: Config) -> Kind:
    """Return the images of a user's own experiment, as in one of its test tasks."""
    episode = held_out(config, "test", range(1))
    x, y = np.asarray(episode.x_support), np.asarray(episode.y_support)
    square = x.ndim == 5 and x.shape[2] == x.shape[3] and x.shape[4] in (1, 3)
    if not square or y.ndim != 2 or y.dtype.kind not in "iu":
        what = "square images of 1 or 3 channels with a label each"
        raise UsageError(f"a task of {config.name} has no {what}")
    if x.min() < 0 or x.max() > 1:
        raise UsageError(f"the images of {config.name} are not in [0, 1], as here")
    return Kind(x.shape[2], x.shape[4], getattr(config, "ink", False))


# ----- Answers -----


def adapted(
    trained: Run, folder: Path, x: Array, known: Mapping[str, Sequence[Path]], steps: int
) -> list[Adapted]:
    """Return the nets before and after adaptation to support images x, class by class."""
    y = np.arange(len(known)).repeat([*map(len, known.values())])
    nets = before_and_after(trained, str(folder), x, y, steps)
    if (outputs := nets[0](x[:1]).shape[-1]) != len(known):
        both = f"{outputs} classes, and {str(folder)!r} {len(known)}"
        raise UsageError(
            f"a run of {trained.config.name} has no option --ways: it has {both}"
        )
    return nets


def judged(
    queries: Sequence[tuple[Path, int | None]],
    kind: Kind,
    nets: Sequence[Adapted],
    known: set[bytes],
    show: Show,
) -> list[Prediction]:
    """Return the answers of nets about each image that can be read.

    known: the images of the support set, as bytes
    Raises WorldError when none can be read. The others are named on stderr.
    """
    each, bad, twice = [], [], 0
    for done, (file, label) in enumerate(queries, 1):
        try:
            image = kind.read(file)
        except DATA_ERRORS as error:
            bad.append(tasks.fault(file, error))
            continue
        twice += image.tobytes() in known
        outputs = [net(kind.inputs([image], net.config.dtype))[0] for net in nets]
        with np.errstate(invalid="ignore"):  # nan where an output is not finite
            probabilities = np.exp(log_softmax(np.array(outputs, float)))
        each.append(Prediction(str(file), label, probabilities))
        show(done, len(queries), "")
    if not each:
        raise WorldError("; ".join(bad[:3]))
    for line in bad[:BAD_SHOWN]:
        click.echo(f"Warning: left out {line}", err=True)
    if len(bad) > BAD_SHOWN:
        click.echo(f"Warning: left out {len(bad) - BAD_SHOWN} more files", err=True)
    if twice:
        click.echo(f"note: queries that are in the support set too: {twice}", err=True)
    return each


def write(found: Predictions, places: Mapping[str, str | None]) -> None:
    """Print the answers, and write them to files."""
    printed = STDOUT in places.values()
    if not printed:
        click.echo(as_text(found, columns(sys.stdout)))
    for name, form in (("as_json", as_json), ("as_csv", as_csv)):
        place = places[name]
        if place == STDOUT:
            click.echo(form(found).rstrip("\n"))
        elif place is not None:
            runs.write(Path(place), f"{form(found).rstrip()}\n".encode())
            click.echo(place, err=printed)
