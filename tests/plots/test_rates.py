"""The picture of learned step sizes: its markers and bars are the rates' own."""

import numpy as np
import pytest
from numpy.testing import assert_allclose

from tinymaml import params
from tinymaml.experiments import problem
from tinymaml.experiments.sine import Sine
from tinymaml.harness import loop
from tinymaml.plots import rates
from tinymaml.plots.groups import Group, Judged, Run
from tinymaml.report.tables import Evaluation


def learned(algorithm, **changes):
    """Return a group of one run with random rates, and its theta beside an evaluation."""
    config = Sine(algorithm=algorithm, hidden=(4,), **changes)
    theta = loop.initial_state(config).theta
    rng = np.random.default_rng(0)
    theta = theta + rng.uniform(0.1, 1, theta.size).astype(theta.dtype)
    found = Evaluation(0, config.alpha, np.zeros(2), np.zeros(2), 2)
    return Group(algorithm, [Run(None, config)]), Judged(config, theta, found)


@pytest.mark.parametrize(
    ("algorithm", "steps"), [("meta-sgd", 1), ("maml++", 3)], ids=["once", "each step"]
)
def test_markers_are_medians_and_bars_are_percentiles(algorithm, steps):
    """Rejects quartiles, bars that are exchanged, rates of another array or step, and a
    step under the name of another one."""
    group, one = learned(algorithm, inner_steps=steps)
    axes = rates.picture([group], [[one]]).axes[0]
    family = problem(one.config)
    found = one.config.method.rates(one.theta, family)
    spans = params.spans(family.model.shapes)
    assert [x.get_text() for x in axes.get_xticklabels()] == [*spans]
    assert [x.get_label() for x in axes.containers] == [
        f"step {k + 1}" for k in range(len(found))
    ]
    for k, bars in enumerate(axes.containers):
        marker, _, (line,) = bars.lines
        for n, span in enumerate(spans.values()):
            low, middle, high = np.percentile(found[k, span], (10, 50, 90))
            assert_allclose(marker.get_ydata()[n], middle, rtol=1e-6)
            assert_allclose(line.get_segments()[n][:, 1], [low, high], rtol=1e-5)
    places = np.array([x.lines[0].get_xdata() for x in axes.containers])
    assert (np.diff(places, axis=0) > 0).all()
    assert_allclose(places.mean(axis=0), np.arange(len(spans)), atol=1e-12)


def test_without_learned_rates_there_is_no_picture():
    """Rejects an empty picture, and the fixed step size as if it had been learned."""
    group, one = learned("maml")
    assert rates.picture([group], [[one]]) is None
    both = [group, learned("meta-sgd")[0]], [[one], [learned("meta-sgd")[1]]]
    assert len(rates.picture(*both).axes) == 1
