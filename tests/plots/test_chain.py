"""The picture of the chain: its arrows are the algorithm's, and its caption is measured."""

import numpy as np
import pytest
from numpy.testing import assert_allclose
from PIL import Image

from places import ROOT
from processes import here, one_error, run
from tinymaml import maml
from tinymaml.plots import chain
from tinymaml.plots.chain import ALPHA, START, STEPS, TASK


FOUND = chain.solved()
STEP = 1e-5


def query_after(theta, steps):
    """Return Q after that many plain gradient steps, with the gradient written by hand."""
    for _ in range(steps):
        x, y = theta
        off = y - chain.BEND * x**2
        slope = [-2 * chain.BEND * x * off + chain.SLOPE * (x - chain.LOWEST), off]
        theta = theta - ALPHA * np.array(slope)
    return np.sum((theta - chain.CENTRE) ** 2) / 2


def test_v_0_is_the_meta_gradient():
    """Rejects arrows of another algorithm than the one that trains."""
    _, exact = maml.meta_gradient(START, TASK, ALPHA, STEPS)
    _, first = maml.first_order(START, TASK, ALPHA, STEPS)
    assert_allclose(FOUND.exact[0], exact, rtol=1e-14)
    assert_allclose(FOUND.first, [first] * (STEPS + 1), rtol=1e-14)


@pytest.mark.parametrize("k", range(STEPS + 1))
def test_v_k_is_the_slope_of_what_is_left_from_theta_k(k):
    """Rejects v_k at another theta, in another order or with another Hessian."""
    at = FOUND.thetas[k]
    ways = STEP * np.eye(2)
    measured = [
        (query_after(at + way, STEPS - k) - query_after(at - way, STEPS - k)) / (2 * STEP)
        for way in ways
    ]
    assert_allclose(FOUND.exact[k], measured, rtol=1e-7)


def test_the_path_is_that_of_the_inner_loop():
    """Rejects points that are not theta_0, ..., theta_K."""
    assert_allclose(FOUND.thetas, maml.path(START, TASK, ALPHA, STEPS), rtol=1e-14)


def test_the_figures_are_measured():
    """Rejects an angle that is typed in, and an error that is never computed."""
    exact, first = (np.arctan2(*-v[0][::-1]) for v in (FOUND.exact, FOUND.first))
    assert_allclose(FOUND.angle, np.degrees(first - exact), rtol=1e-12)
    assert 0 < FOUND.error < 1e-9
    assert f"{FOUND.angle:.0f} degrees" in chain.caption(FOUND)
    assert f"to {FOUND.error:.0e}" in chain.caption(FOUND)


@pytest.mark.parametrize(("panel", "kind"), [(0, "exact"), (1, "first")])
def test_arrows_are_minus_v_k_at_theta_k(panel, kind):
    """Rejects arrows uphill, at other points, scaled, or those of the other panel."""
    axes = chain.picture(FOUND).axes[panel]
    arrows = axes.collections[-2 if panel else -1]  # the last right one is the exact v_0
    assert_allclose(arrows.get_offsets(), FOUND.thetas)
    assert_allclose(np.stack([arrows.U, arrows.V], axis=1), -getattr(FOUND, kind))
    assert (arrows.scale, arrows.angles, arrows.scale_units) == (1, "xy", "xy")
    assert axes.get_aspect() == 1  # or the angle would be another
    (path,) = [line for line in axes.lines if line.get_label() == "inner steps"]
    assert_allclose(path.get_xydata(), FOUND.thetas)


def test_all_that_is_drawn_lies_within_the_frame():
    """Rejects a frame that cuts an arrow off."""
    low, high = chain.FRAME.T
    for vs in (FOUND.exact, FOUND.first):
        for points in (FOUND.thetas, FOUND.thetas - vs):
            assert ((low < points) & (points < high)).all()


# ----- The command -----


def test_the_command_draws_the_picture(tmp_path, monkeypatch):
    """Rejects a command that writes elsewhere, or no picture."""
    monkeypatch.chdir(tmp_path)
    told = here("chain")
    assert (told.code, told.err) == (0, "")
    assert told.out == f"chain.png\n{chain.caption(FOUND)}\n"
    assert here("chain", "--out", "other.png").code == 0
    assert sorted(file.name for file in tmp_path.iterdir()) == ["chain.png", "other.png"]
    with Image.open("chain.png") as drawn, Image.open(ROOT / ".github/chain.png") as kept:
        assert drawn.format == kept.format == "PNG"
        assert drawn.size == kept.size  # the README's picture is from this command
    assert (ROOT / ".github/chain.png").stat().st_size < 150_000


@pytest.mark.parametrize(("out", "code"), [("chain.pdf", 2), ("none/chain.png", 1)])
def test_what_cannot_be_written_is_one_error(out, code, tmp_path, monkeypatch):
    """Rejects a traceback, a PNG under another name, and a wrong exit code."""
    monkeypatch.chdir(tmp_path)
    told = here("chain", "--out", out)
    assert told.code == code
    assert out in one_error(told)
    assert not list(tmp_path.iterdir())


def test_without_matplotlib_it_says_what_to_install(tmp_path):
    """Rejects a traceback where the extra is missing."""
    told = run("chain", cwd=tmp_path)
    assert told.code == 1
    assert "pip install 'tinymaml[plot]'" in one_error(told)
