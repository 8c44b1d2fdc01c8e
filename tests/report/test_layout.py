"""Lines that fit a width: no word is lost, and no figure leaves its interval."""

import pytest
from hypothesis import given
from hypothesis import strategies as some

from tinymaml.report.layout import aligned, laid_out, markdown, wrapped


TABLE = [
    ["steps", "MSE on 40 tasks (95 % interval)", "source"],
    ["    1", "0.5000 +- 0.4900", "Finn et al. 2017, table 2"],
    ["   10", "", "its paper"],
]
WORDS = some.lists(some.text("abc-.+%", min_size=1, max_size=12), max_size=12)
CELLS = WORDS.map(" ".join)


def table_of(columns):
    return some.lists(some.tuples(*[CELLS] * columns).map(list), min_size=2, max_size=5)


TABLES = some.integers(1, 5).flatmap(table_of)


def test_a_table_without_a_width_is_as_wide_as_it_is():
    """Rejects a pipe that is treated as a terminal."""
    assert aligned(TABLE) == [
        "steps   MSE on 40 tasks (95 % interval)   source",
        "    1   0.5000 +- 0.4900                  Finn et al. 2017, table 2",
        "   10                                     its paper",
    ]
    assert aligned(TABLE, 100) == aligned(TABLE) == aligned(TABLE, 67)


def test_the_widest_cells_are_wrapped():
    """Rejects a cut, a figure without its interval, and cells in another's column."""
    assert aligned(TABLE, 50) == [
        "steps   MSE on 40 tasks       source",
        "        (95 % interval)",
        "    1   0.5000 +- 0.4900      Finn et al. 2017,",
        "                              table 2",
        "   10                         its paper",
    ]


def test_a_table_that_is_too_narrow_has_a_row_below_the_other():
    """Rejects columns of a few letters, and a cell without its column's name."""
    assert aligned(TABLE, 30) == [
        "steps",
        "1",
        "  MSE on 40 tasks (95 %",
        "    interval):",
        "    0.5000 +- 0.4900; source:",
        "    Finn et al. 2017, table 2",
        "10",
        "  source: its paper",
    ]
    rows = [["--alpha", "0.01", "a " * 40 + "inner-loop"], ["", "", "source: the paper"]]
    assert aligned(rows, 20, headed=False)[:2] == ["--alpha", "  0.01"]
    assert aligned(rows, 20, headed=False)[-1] == "  source: the paper"


@given(TABLES, some.integers(20, 120), some.booleans())
def test_every_line_fits_and_no_word_is_lost(rows, width, headed):
    """Rejects one character too many, and words that vanish at a line's end."""
    lines = aligned(rows, width, headed)
    assert max(map(len, lines), default=0) <= width
    joined = "".join("".join(lines).split())
    for cell in (cell for row in rows[headed:] for cell in row):
        for word in cell.split():
            assert word in joined


@given(CELLS, some.integers(20, 80))
def test_every_line_of_a_text_fits(text, width):
    """Rejects a long word that goes over the edge, and a lost one."""
    lines = wrapped(f"  {text}", width, "  ")
    assert max(map(len, lines)) <= width
    assert "".join("".join(lines).split()) == "".join(text.split())


@pytest.mark.parametrize("width", range(20, 40))
def test_a_figure_stays_with_its_interval_and_unit(width):
    """Rejects "97.50 +-" at the end of a line."""
    lines = wrapped("after 5 steps accuracy 97.50 +- 1.12 % on test tasks", width)
    assert [line for line in lines if "97.50 +- 1.12 %" in line]
    assert not [line for line in lines if "\N{NO-BREAK SPACE}" in line]


def test_later_lines_are_indented():
    """Rejects a wrapped line that looks like another row."""
    assert wrapped("  one two three", 10, "  ") == ["  one two", "    three"]
    assert laid_out(["a sentence", "", TABLE[:1]]).splitlines()[:2] == ["a sentence", ""]
    assert laid_out(["one two three"], 8) == "one two\n  three"


def test_markdown_of_sentences_and_tables():
    """Rejects a sentence that is taken apart by its letters."""
    assert markdown("a b") == ["a b"]
    assert markdown([["x", " y"], ["1", "2 "]]) == [
        "| x | y |",
        "| --- | --- |",
        "| 1 | 2 |",
    ]
