"""`tinymaml chain`: the picture of the algorithm itself."""

import sys
from pathlib import Path

import click

from tinymaml.cli.options import asked
from tinymaml.cli.terminal import columns
from tinymaml.errors import UsageError
from tinymaml.plots import chain, figures
from tinymaml.report.layout import laid_out


OUT = asked("--out", click.Path(path_type=Path), "PNG file to write", "chain.png")


@click.command(name="chain", params=[OUT])
def chain_command(out: Path) -> None:
    """Draw the chain of Hessian-vector products on a problem of two parameters.

    The picture shows three inner steps and the vectors v_3, ..., v_0 of the reverse pass,
    with those of first-order MAML beside them. It needs no run.

    \b
    tinymaml chain
    tinymaml chain --out picture.png
    """
    if out.suffix != ".png":
        raise UsageError(f"--out: the picture is a PNG, so {str(out)!r} must end with .png")
    found = chain.solved()
    click.echo(figures.save(chain.picture(found), out))
    lines = chain.caption(found).splitlines()
    click.echo(laid_out(lines, columns(sys.stdout)))
