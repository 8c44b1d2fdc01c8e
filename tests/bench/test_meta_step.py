"""The comparison of gradients before anything is timed: rounding is not an error."""

import dataclasses

import meta_step
import numpy as np
import pytest
from works import FAMILIES, Contender


SMALL = dataclasses.replace(
    FAMILIES["pooled"], tasks=2, ways=2, queries=2, filters=3, image=(16, 16, 1)
)
# Distances of float32 gradients, of which the third is no rounding of this net.
FAR = 2e-4


def made(name, float32, close=False):
    """A contender with the distance of its gradient, on the batch and on a task."""
    return Contender(name, None, None), {"float64": 1e-14, "float32": float32}, close


def told(monkeypatch, *others, ours=FAR, close=False, rounding=1e-3):
    """The names of those that differ."""
    rows = [made("ours", ours, close), *others]
    close = {c.name: x for c, _, x in rows}
    monkeypatch.setattr(meta_step, "close_on_a_task", lambda c, *_: close[c.name])
    monkeypatch.setattr(meta_step, "rounding", lambda _: rounding)
    found = {c.name: distances for c, distances, _ in rows}
    return meta_step.differing(SMALL, [c for c, *_ in rows], found)


def test_rounding_is_not_an_error(monkeypatch):
    """Rejects a gradient that is as near as the precision allows for one that differs, and
    any that is farther, or nan, in float32 or float64."""
    near, far, lost = made("near", 9e-4), made("far", 2e-3), made("lost", np.nan)
    double = Contender("double", None, None), {"float64": 1e-6, "float32": 0.0}, True
    assert told(monkeypatch, near) == []
    assert told(monkeypatch, near, far, lost, double) == ["far", "lost", "double"]


def test_rounding_is_no_excuse_where_ours_is_close(monkeypatch):
    """Rejects the wider limit on nets on which single precision gives the same gradient."""
    near, task = made("near", 9e-4), made("task", 9e-4, close=True)
    assert told(monkeypatch, near, task, close=True) == ["near"]
    assert told(monkeypatch, near, task, ours=1e-6) == ["near"]


@pytest.mark.parametrize(("family", "most"), [("sine", 1e-5), ("pooled", 0.2)])
def test_rounding_is_measured(family, most):
    """Rejects the distance of another gradient, and inputs that do not move."""
    work = dataclasses.replace(SMALL, family=family, filters=3)
    found = meta_step.rounding(work)
    assert 1e-9 < found < most
    assert found == meta_step.rounding(dataclasses.replace(work, dtype="float64"))
