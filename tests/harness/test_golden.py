"""The golden bytes: nothing that is not meant to changes a bit of any result."""

import pytest

import golden


@pytest.mark.parametrize(
    "group",
    [
        pytest.param(name, marks=[pytest.mark.slow] if name in golden.SLOW else [])
        for name in golden.GROUPS
    ],
)
def test_every_case_gives_the_bytes_that_were_recorded(group):
    """Rejects whatever changes the last bit of a checkpoint, a record or an evaluation.

    That is another order of summation, another constant, another stream; and any number
    of workers or a replay that changes what one process without it computes.
    """
    if group in golden.SIMULATED:
        pytest.importorskip("mujoco.batch")
    environment, hashes = golden.found(group)
    assert golden.unlike(group, hashes) == []
    if environment not in golden.kept():
        pytest.skip(f"no golden bytes of {environment}: python tests/golden.py --write")
    lines = {line: hashes[line] for line in golden.cases(group)}
    assert golden.differences(lines, golden.kept()[environment]) == []


def test_every_case_is_recorded():
    """Rejects a case without hashes, hashes of no case, and two cases that are one."""
    lines = {group: golden.cases(group) for group in golden.GROUPS}
    every = [line for some in lines.values() for line in some]
    assert len({*every}) == len(every)
    simulated = ["mujoco" in environment for environment in golden.kept()]
    assert {*simulated} == {True, False}
    for rows, with_mujoco in zip(golden.kept().values(), simulated, strict=True):
        groups = [x for x in lines if (x in golden.SIMULATED) == with_mujoco]
        assert sorted(rows) == sorted(line for x in groups for line in lines[x])
