"""The tables of `tinymaml check`, of any width."""

from tinymaml.check.chain import Layer, Report, Row
from tinymaml.report.check import as_text


REPORT = Report(
    "sine, K = 3, P = 7",
    [Row("autodiff", 2e-13, 0, 1e-12), Row("a rate", 2.5, 1.9, 2.1)],
    [Layer("w0", 0.187, 0.98351)],
)


def test_the_table_is_that_of_the_readme():
    """Rejects a figure as a bound, a verdict that is always ok, and a share of 1."""
    assert as_text(REPORT).splitlines() == [
        "sine, K = 3, P = 7                           figure     allowed",
        "  autodiff                                   2.0e-13    <= 1e-12      ok",
        "  a rate                                     2.50       1.9 to 2.1    WRONG",
        "second-order part of the meta-gradient       share      cosine",
        "  w0                                         18.7 %     0.9835",
    ]
    assert as_text(REPORT, 80) == as_text(REPORT)


def test_a_narrow_terminal_has_every_figure():
    """Rejects a verdict that is cut off."""
    assert as_text(REPORT._replace(layers=[]), 40).splitlines() == [
        "sine, K = 3, P = 7",
        "autodiff",
        "  figure: 2.0e-13; allowed: <= 1e-12; ok",
        "a rate",
        "  figure: 2.50; allowed: 1.9 to 2.1;",
        "    WRONG",
    ]
