"""python -m tinymaml, and the console script."""

from __future__ import annotations

from tinymaml import machine


def main() -> None:
    """Run the command line, with one BLAS thread unless the environment says more."""
    machine.one_blas_thread()  # before the next import brings NumPy
    from tinymaml.cli import run

    run()


if __name__ == "__main__":
    main()
