"""The tables of the verifier's answers are whole, and no verdict in them is wrong."""

import re

import pytest

import broken
import styles
import verdicts
import verifier


KEPT = verifier.kept()
CAUSES = [part for part in KEPT if part != "verdicts"]
BUGS = [bug.name for bug in (broken.RIGHT, *broken.BUGS)]
NAMED = {
    "verdicts": [kind.name for kind in verdicts.KINDS],
    "styles": [style.name for style in styles.STYLES],
    **dict.fromkeys(broken.BACKENDS, BUGS),
}


def rows_of(part):
    """Return the cells of a part's rows, and those of its last row, the totals."""
    _, _, *rows, last = [
        [cell.strip() for cell in line.strip("|").split("|")]
        for line in KEPT[part].splitlines()
    ]
    return rows, last


def shares(rows):
    """Return the sums of the figures `N of M`: right verdicts, right causes, all."""
    found = [[re.findall(r"\d+", cell) for cell in row[1:3]] for row in rows]
    return tuple(
        sum(int(pair[place][k]) for pair in found) for place, k in ((0, 0), (1, 0), (0, 1))
    )


def test_frameworks_are_in_it():
    """Rejects a file that lost a part."""
    assert {*KEPT} == {"verdicts", *broken.BACKENDS, "styles"}


@pytest.mark.parametrize("part", CAUSES)
def test_every_bug_has_five_seeds(part):
    """Rejects a share that one lucky draw has decided."""
    rows, _ = rows_of(part)
    assert {cell.split()[-1] for row in rows for cell in row[1:3]} == {"5"}


@pytest.mark.parametrize("part", KEPT)
def test_the_table_has_every_kind(part):
    """Rejects a table that was written before a kind of problem or of bug was added."""
    rows, _ = rows_of(part)
    assert [row[0] for row in rows] == NAMED[part]
    assert len(rows) >= {"verdicts": 60, "styles": 10}.get(part, 40)


def test_no_verdict_in_it_is_wrong():
    """Rejects a wrong verdict that is kept in a table, and totals that were typed in."""
    rows, last = rows_of("verdicts")
    counts = [[int(cell) for cell in row[2:]] for row in rows]
    totals = [sum(column) for column in zip(*counts, strict=True)]
    assert [int(cell) for cell in last[2:]] == totals
    assert totals[2] == 0
    assert all(sum(row) >= 20 for row in counts)


@pytest.mark.parametrize("part", CAUSES)
def test_its_shares_follow_from_its_rows(part):
    """Rejects a share that was typed in, a wrong verdict, a false alarm, wrong causes."""
    rows, last = rows_of(part)
    right = [row for row in rows if row[3] == "none"]
    verdict, cause, count = shares([row for row in rows if row not in right])
    assert last[1:3] == [f"{100 * verdict / count:.1f} %", f"{100 * cause / count:.1f} %"]
    assert verdict == count
    assert cause >= 0.8 * count
    figures, passed, runs = shares(right)
    assert figures == passed == runs > 0
    assert "false alarms: 0" in last[0]
