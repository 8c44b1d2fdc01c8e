"""The paper arithmetic: its closed form, its simulation, and the page made from both."""

import json
import re
import time

import cluster
import costs
import network
import numpy as np
import pytest
import works
from arithmetic import (
    NETWORKS,
    SETTINGS,
    efficiency,
    levers,
    speed_up,
    tasks_to_keep_busy,
    workers_of_use,
)
from costs import Job
from hypothesis import given
from hypothesis import strategies as st
from network import Call, Cluster, Engine, Network

from tinymaml import params
from tinymaml.harness import step
from tinymaml.speed.workers import gather, spans


PAGE = cluster.PAGE.read_text(encoding="utf-8")
FOUND = json.loads(cluster.FIGURES.read_text(encoding="utf-8"))
JOBS = {name: Job(**job) for name, job in FOUND["jobs"].items()}
ENGINES = {name: Engine(**engine) for name, engine in FOUND["engines"].items()}
SETUPS = [
    pytest.param(name, ENGINES[engine], NETWORKS[net], id=f"{name}-{engine}-{net}")
    for name in JOBS
    for engine, net in SETTINGS
]

SECONDS = st.floats(0, 1)
SIZES = st.integers(1, 10**6)


# ----- The closed form -----


def one_by_one(calls, workers, call, engine, net) -> float:
    """Follow every call: the oracle, which knows no formula."""
    root = out = back = 0.0
    answered = [0.0] * workers  # nothing before the first calls
    for _ in range(calls):
        root = max(root, answered[-workers]) + network.handling(call, engine)
        out = max(out, root) + call.request / net.bandwidth
        ready = out + engine.delay + engine.messages * net.latency + call.seconds
        back = max(back, ready) + call.answer / net.bandwidth
        answered.append(back)
    return answered[-1]


@given(
    st.integers(1, 40),
    st.integers(1, 12),
    st.builds(Call, SIZES, SIZES, SECONDS),
    st.builds(
        Engine,
        st.just(""),
        st.floats(0, 0.1),
        st.floats(0, 1e-7),
        SECONDS,
        st.integers(0, 4),
    ),
    st.builds(Network, st.just(""), st.floats(0, 0.1), st.floats(1e5, 1e9)),
)
def test_the_closed_form_is_what_following_every_call_gives(
    calls, workers, call, engine, net
):
    """Rejects a sum of stages that overlap, or a last round forgotten."""
    case = calls, workers, call, engine, net
    assert network.predicted(*case) == pytest.approx(one_by_one(*case), rel=1e-9)


# ----- The simulation -----


@pytest.mark.parametrize(
    ("calls", "workers", "seconds", "engine", "net"),
    [
        pytest.param(
            5, 2, 0.05, Engine("", 1e-3, 0, 0.004, 2), Network("", 4e-3, 1e7), id="workers"
        ),
        pytest.param(
            7, 3, 0.02, Engine("", 0, 0, 0, 2), Network("", 1e-3, 3e5), id="lines"
        ),
        pytest.param(
            6, 6, 0.02, Engine("", 1e-2, 1e-6, 0, 4), Network("", 5e-3, 1e8), id="root"
        ),
    ],
)
def test_a_simulated_step_takes_what_is_predicted(calls, workers, seconds, engine, net):
    """Rejects a link without queue, latency paid once a step, and workers without end."""
    theta = np.zeros(1761, "float32")
    answer = np.float32(0), theta + 1
    fixed, chunks = (costs.CONFIGS["sine"], theta, 0), spans(calls, 1)
    request = costs.sent(costs.CONFIGS["sine"], theta)
    call = Call(request, network.size(answer), seconds)
    expected = network.predicted(calls, workers, call, engine, net)
    took = []
    with Cluster(workers, lambda: seconds, answer, engine, net) as pool:
        # Other work on the machine makes it late, never early.
        while len(took) < 8 and min(took, default=np.inf) > 1.05 * expected:
            start = time.perf_counter()
            found = gather(pool, step.chunk_gradient, fixed, chunks)
            took.append(time.perf_counter() - start)
            assert len(found) == calls
            assert all((gradient == 1).all() for _, gradient in found)
    assert 0.99 * expected <= min(took) <= 1.15 * expected


def test_uneven_times_have_their_mean_and_spread():
    """Rejects a spread that makes the workers slower on average."""
    draw = network.uneven(0.3, 0.2)
    times = [draw() for _ in range(20_000)]
    assert np.mean(times) == pytest.approx(0.3, rel=0.01)
    assert np.std(times) == pytest.approx(0.06, rel=0.05)
    assert network.uneven(0.3, 0.0)() == pytest.approx(0.3)


# ----- The arithmetic -----


@pytest.mark.parametrize(("name", "engine", "net"), SETUPS)
def test_what_is_read_off_the_prediction_fits_it(name, engine, net):
    """Rejects tasks, workers and speed-ups that are one off, or worse."""
    job = JOBS[name]
    for workers in (10, 1000):
        tasks = tasks_to_keep_busy(job, workers, engine, net, 0.8)
        enough, fewer = (
            job._replace(seconds=n * job.seconds / job.tasks) for n in (tasks, tasks - 1)
        )
        assert efficiency(enough, workers, engine, net) >= 0.8 - 1e-12
        assert efficiency(fewer, workers, engine, net) < 0.8
        most = min(workers, costs.CONFIGS[name].tasks)
        assert 0 < speed_up(name, job, workers, engine, net) < most
    half = workers_of_use(job, engine, net)
    assert half == 0 or efficiency(job, half, engine, net) >= 0.5
    assert efficiency(job, half + 1, engine, net) < 0.5


@pytest.mark.parametrize(("name", "engine", "net"), SETUPS)
def test_levers_help_and_none_is_quicker_than_computing(name, engine, net):
    """Rejects a lever that forgets the chunks, and a tree whose nodes do nothing."""
    *helped, alone = levers(JOBS[name], 1000, 4, engine, net).values()
    assert alone == pytest.approx(4 * JOBS[name].seconds)
    every_chunk, all_back, every_worker, half_back, half, tree, half_tree, everywhere = (
        helped
    )
    # Answers that come all together wait for one another, and no longer than they take.
    answers = 4 * 1000 * JOBS[name].answer
    assert all_back <= every_chunk + answers * (engine.byte + 1 / net.bandwidth)
    assert all_back > every_worker
    assert every_chunk >= every_worker >= half_back >= half > alone
    assert every_worker > tree > half_tree > alone
    assert everywhere > alone


# ----- The page -----


def test_the_page_is_made_from_the_figures():
    """Rejects a table that is typed in, or one that the program no longer gives."""
    assert cluster.filled(PAGE, FOUND) == PAGE


def test_every_difference_is_explained():
    """Rejects a row that is off by more than 15 % and not spoken of."""
    rows = [cluster.tried_row(JOBS, ENGINES, **row)[-2] for row in FOUND["tried"]]
    off = {str(n) for n, ratio in enumerate(rows, 1) if abs(ratio - 1) > 0.15}
    told = PAGE.partition("## Where they differ")[2]
    assert off == {
        n for row in re.findall(r"\*\*Rows? .+?\*\*", told) for n in re.findall(r"\d+", row)
    }
    assert len(rows) == len(cluster.TRIED)


@pytest.mark.parametrize("name", JOBS)
def test_the_bytes_are_those_of_the_package(name):
    """Rejects a page that was written before a call or an answer grew."""
    works_of = {
        "sine": works.FAMILIES["sine"],
        "Omniglot conv": works.FAMILIES["conv"],
        "mini-ImageNet": costs.POOLED,
    }
    job, config = JOBS[name], costs.CONFIGS[name]
    assert job.parameters == params.count(works.model(works_of[name]).shapes)
    assert job.tasks == config.chunk
    theta = np.zeros(job.parameters, "float32")
    # A few bytes are NumPy's and Python's own, and not the same in every version.
    assert abs(costs.sent(config, theta) - job.request) < 100
    assert abs(network.size(costs.answer(np.float32(0), theta)) - job.answer) < 100
