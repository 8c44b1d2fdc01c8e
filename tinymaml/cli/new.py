"""`tinymaml new`: a file with an experiment, to begin one's own with."""

from pathlib import Path

import click

from tinymaml.cli.options import Folder
from tinymaml.errors import UsageError
from tinymaml.experiments import MODULES, OWN


TEMPLATE = Path(__file__).parents[1] / "examples" / "cooling.py"


@click.command("new")
@click.argument("file", type=Folder())
def new_command(file: str) -> None:
    """Write FILE.py, an experiment that trains as it is, to begin your own with.

    \b
    tinymaml new mine.py
    tinymaml train mine.py
    """
    path = Path(file)
    if path.suffix != OWN or path.name in MODULES:
        raise UsageError(f"{file!r} is not the name of a Python file, FILE.py")
    if not path.parent.is_dir():
        raise UsageError(f"no folder {str(path.parent)!r}")
    try:
        with open(path, "x", encoding="utf-8") as out:
            out.write(TEMPLATE.read_text(encoding="utf-8").replace("FILE.py", path.name))
    except FileExistsError as error:
        raise UsageError(f"{file!r} exists already") from error
    click.echo(f"{file}: train it with `tinymaml train {file}`")
