"""`tinymaml read`: the algorithm as a page."""

import io
from pathlib import Path

import click

from tinymaml.cli.options import asked
from tinymaml.errors import WorldError
from tinymaml.plots import chain
from tinymaml.report import html, reading
from tinymaml.report.html import element


OUT = asked("--out", click.Path(path_type=Path), "HTML file to write", "read.html")


@click.command("read", params=[OUT])
def read_command(out: Path) -> None:
    """Write the algorithms as one HTML page: the equations beside the code.

    It is made from the source files, with the picture of `tinymaml chain`, and needs no
    network and no script.

    Example: tinymaml read --out read.html
    """
    html.check_place(out)
    found = chain.solved()
    try:
        drawn = io.BytesIO()
        chain.picture(found).savefig(drawn)
        picture = html.picture(drawn.getvalue(), "png", chain.caption(found))
    except WorldError as error:
        click.echo(f"no picture: {error}", err=True)
        picture = element("p", f"no picture: {error}")
    click.echo(html.write(out, reading.as_html([picture])))
