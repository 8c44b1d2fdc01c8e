"""The wrong programs: that each can still be made, and that the table of them is true."""

import re

import pytest

import mutants
from places import ROOT


KEPT = mutants.TABLE.read_text(encoding="utf-8")
ROWS = dict(re.findall(r"^\| (.+?) \| `[\w/.]+` \| (.+?) \|$", KEPT, re.MULTILINE))


@pytest.mark.parametrize("mutation", mutants.MUTATIONS, ids=lambda m: m.name)
def test_the_text_to_mutate_stands_once(mutation):
    """Rejects a mutation that the code has outgrown, and that would mutate nothing."""
    assert mutants.where(mutation) == 1
    assert mutation.old != mutation.new


def test_the_table_names_every_mutant_and_a_test_that_exists():
    """Rejects a table that is typed in, out of date or has a survivor."""
    assert list(ROWS) == [mutation.name for mutation in mutants.MUTATIONS]
    assert len(ROWS) >= 20
    for test in ROWS.values():
        file, function = re.fullmatch(r"`([\w/]+\.py)::(\w+)(?:\[.*\])?`", test).groups()
        assert f"def {function}(" in (ROOT / "tests" / file).read_text(encoding="utf-8")


def test_the_readme_of_the_tests_quotes_it():
    """Rejects a README with rows that the table does not have, or too large a count."""
    readme = (ROOT / "tests" / "README.md").read_text(encoding="utf-8")
    quoted = [line for line in readme.splitlines() if ".py::test_" in line]
    assert len(quoted) >= 4
    assert {*quoted} <= {*KEPT.splitlines()}
    (claimed,) = re.findall(r"more than (\d+)\s+wrong programs", readme)
    assert len(ROWS) > int(claimed)


@pytest.mark.slow
def test_no_mutant_survives():
    """Rejects a suite that lets a wrong program pass."""
    assert mutants.main([]) == 0
