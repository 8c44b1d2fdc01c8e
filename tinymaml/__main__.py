"""python -m tinymaml, and the console script."""

from __future__ import annotations

import signal
import sys

from tinymaml.speed import machine


def main() -> None:
    """Run the command line, with one BLAS thread unless the environment says otherwise."""
    machine.prepare_blas()  # before the next import brings NumPy
    # Training answers signals itself; before and after it they end the process.
    signal.signal(signal.SIGTERM, lambda number, _: sys.exit(128 + number))
    try:
        from tinymaml.cli.main import run

        run()
    except KeyboardInterrupt:
        sys.exit(130)


if __name__ == "__main__":
    main()
