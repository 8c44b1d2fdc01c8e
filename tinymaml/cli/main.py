"""The command line: all commands, and one line for every failure.

Exit codes: 0 success; 2 a wrong command line or configuration, nothing written; 1 a failure
of a file, the data or the disk, or divergence; 130 after Ctrl-C and 143 after SIGTERM,
resumable.
"""

import errno
import os
import sys
import traceback
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import Any

import click

from tinymaml import loading, plots
from tinymaml.cli.adapt import adapt_command
from tinymaml.cli.chain import chain_command
from tinymaml.cli.check import check_group
from tinymaml.cli.evaluate import evaluate, export
from tinymaml.cli.list import list_command
from tinymaml.cli.new import new_command
from tinymaml.cli.options import DATA, FALLBACK, QUIET, Folder, Value, asked, note
from tinymaml.cli.predict import predict_command
from tinymaml.cli.prepare import prepare_group
from tinymaml.cli.read import read_command
from tinymaml.cli.report import report_command
from tinymaml.cli.reuse import reuse_command
from tinymaml.cli.terminal import progress
from tinymaml.cli.train import train
from tinymaml.errors import Interrupted, UsageError, WorldError
from tinymaml.harness import runs
from tinymaml.options import MOST
from tinymaml.speed.machine import advice, cpu, versions


LONGEST = 600  # characters of an error
DRAWN = "runs.txt"  # in a folder of pictures: the runs that they are of


def _print_version(context: click.Context, _: Any, asked: bool) -> None:
    if asked:
        found = versions()
        click.echo("\n".join(f"{name} {version}" for name, version in found.items()))
        if advised := advice(found["kernel"], cpu().flags):
            click.echo(advised, err=True)
        context.exit()


@click.group(context_settings={"help_option_names": ["-h", "--help"]})
@click.option(
    "--version",
    is_flag=True,
    is_eager=True,
    expose_value=False,
    callback=_print_version,
    help="Show the versions of tinymaml, NumPy, autograd and the BLAS, and exit.",
)
@click.option("--debug", is_flag=True, help="Show a traceback when something fails.")
def main(debug: bool) -> None:
    """Model-agnostic meta-learning on a CPU, the second-order term written out."""


for command in (train, chain_command, check_group, evaluate, export, list_command):
    main.add_command(command)
main.add_command(prepare_group)
main.add_command(new_command)
main.add_command(adapt_command)
main.add_command(predict_command)
main.add_command(reuse_command)
main.add_command(report_command)
main.add_command(read_command)

TASK = asked(
    "--task",
    Value(int, least=0, most=MOST),
    "index of the held-out task to draw",
    0,
)


OUT = asked(
    "--out",
    Folder(),
    "folder of the pictures  [the run's; of several runs a new one, as runs/sine-1+sine-2]",
)


@main.command(params=[DATA, FALLBACK, TASK, OUT, QUIET])
@click.argument("run", nargs=-1, required=True, type=Folder())
def plot(run: tuple[str, ...], out: str | None, quiet: bool, **given: Any) -> None:
    """Draw pictures of runs, and print their paths.

    Several runs share each picture. A line or a row is a run, or all runs that differ only
    in their seeds, with the interval over seeds. A run without evaluation has only its
    learning curve: use `tinymaml evaluate` first.

    \b
    tinymaml plot runs/sine-1
    tinymaml plot runs/sine-1 runs/sine-2 --out pictures
    """
    into = None if out is None else Path(out)
    if into and into.exists() and not into.is_dir():
        raise UsageError(f"--out {out!r} is a file")
    folders = [*map(Path, run)]
    for path in (path for folder in folders for path in runs.members(folder)):
        note(path, runs.read_config(path))
    if into:
        check_pictures(into, folders)
    with progress("pictures", quiet) as show:
        files = plots.draw(folders, **given, into=into, note=partial(show, 0, None))
    if into and files:
        runs.write(into / DRAWN, listed(folders))
    for file in files:
        click.echo(file)


def check_pictures(into: Path, folders: list[Path]) -> None:
    """Raise UsageError when a folder has the pictures of other runs than these."""
    if [into.resolve()] == [*{folder.resolve() for folder in folders}]:
        return  # the run's own folder
    with suppress(OSError):
        if (into / DRAWN).read_bytes() == listed(folders):
            return
    if found := sorted([*into.glob("*.png"), *into.glob("*.gif")]):
        other = f"{str(found[0])!r} is a picture of other runs"
        raise UsageError(f"{other}: name a new folder with --out")


def listed(folders: list[Path]) -> bytes:
    """Return the content of the list of runs in a folder of pictures."""
    return b"".join(os.fsencode(folder.resolve()) + b"\n" for folder in folders)


def run(args: list[str] | None = None) -> None:
    """Run the command line and exit with the code that the module's docstring lists."""
    arguments = sys.argv[1:] if args is None else args
    try:
        code = main.main(arguments, "tinymaml", standalone_mode=False)
    except click.ClickException as error:
        if not isinstance(error, click.exceptions.NoArgsIsHelpError):  # a whole help
            error.message = shortened(error.message)  # type: ignore[misc]  # click: final
        error.show()
        code = error.exit_code
    except (click.exceptions.Exit, Interrupted) as error:
        code = error.exit_code
    except (click.Abort, KeyboardInterrupt):
        code = 130
    except Exception as error:
        if "--debug" in arguments:
            traceback.print_exc()
        click.echo(f"Error: {one_line(error)}", err=True)
        # Only the user writes a name that is too long.
        long = isinstance(error, OSError) and error.errno == errno.ENAMETOOLONG
        code = 2 if long or isinstance(error, UsageError) else 1
    raise SystemExit(code or 0)


def one_line(error: BaseException) -> str:
    """Return the text of an error in one line, with the file of an OSError.

    An error that nobody expects, in an algorithm of the user's or in the package, has its
    type too.
    """
    text = str(error) or type(error).__name__
    if isinstance(error, OSError) and error.strerror:
        full = error.errno in (errno.ENOSPC, errno.EFBIG, errno.EDQUOT)
        name = repr(error.filename) if error.filename else "standard output" * full
        text = ": ".join(filter(None, [name, error.strerror]))
    elif not isinstance(error, UsageError | WorldError | OSError | MemoryError):
        text = f"{loading.described(error)}; `tinymaml --debug` shows where"
    return shortened(" ".join(text.split()))


def shortened(text: str) -> str:
    """Return a text without its middle when it has more than LONGEST characters."""
    if len(text) <= LONGEST:
        return text
    return f"{text[: LONGEST // 2]} ... {text[-LONGEST // 2 :]}"
