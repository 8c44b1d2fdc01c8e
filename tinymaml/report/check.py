"""The reports of `tinymaml check` as text."""

from tinymaml.check.chain import Layer, Report, Row
from tinymaml.report.layout import INDENT, Rows, laid_out
from tinymaml.summary import text


# Widths of the columns, with which the two tables of a report stand in line.
NAME, FIGURE, ALLOWED = 42, 8, 11
LAYERS = "second-order part of the meta-gradient"


def as_text(report: Report, width: int | None = None) -> str:
    """Return the table of the checks, and that of the second-order part by layer.

    width: characters in the longest line; None for any number
    """
    return laid_out(blocks(report), width)


def blocks(report: Report) -> list[Rows]:
    """Return the tables of `as_text`."""
    checks = [_spaced(report.title, "figure", "allowed", ""), *map(_checked, report.rows)]
    layers = [_spaced(LAYERS, "share", "cosine"), *map(_measured, report.layers)]
    return [checks, *([layers] if report.layers else [])]


def _spaced(name: str, figure: str, allowed: str, *verdict: str) -> list[str]:
    return [f"{name:<{NAME}}", f"{figure:<{FIGURE}}", f"{allowed:<{ALLOWED}}", *verdict]


def _checked(row: Row) -> list[str]:
    figure, allowed = text("{:.1e}", row.figure), f"<= {row.high:.0e}"
    if row.low:
        figure, allowed = text("{:.2f}", row.figure), f"{row.low:g} to {row.high:g}"
    return _spaced(INDENT + row.check, figure, allowed, "ok" if row.passed else "WRONG")


def _measured(layer: Layer) -> list[str]:
    share = text("{:.1f} %", 100 * layer.relative)
    return _spaced(INDENT + layer.name, share, text("{:.4f}", layer.cosine))
