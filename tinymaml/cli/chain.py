"""`tinymaml chain`: the picture of the algorithm itself."""

from __future__ import annotations

from pathlib import Path

import click

from tinymaml.errors import UsageError
from tinymaml.plots import chain, figures


@click.command(name="chain")
@click.option(
    "--out",
    type=click.Path(path_type=Path),
    default="chain.png",
    show_default=True,
    help="PNG file to write",
)
def chain_command(out: Path) -> None:
    """Draw the chain of Hessian-vector products on a problem of two parameters.

    The picture shows three inner steps and the vectors v_3, ..., v_0 on the way back: the
    exact ones, and those of first-order MAML beside them. It needs no run.

    \b
    tinymaml chain
    tinymaml chain --out picture.png
    """
    if out.suffix != ".png":
        raise UsageError(f"--out: the picture is a PNG, so {str(out)!r} must end with .png")
    found = chain.solved()
    click.echo(figures.save(chain.picture(found), out))
    click.echo(chain.caption(found))
