"""The proof of the meta-policy-gradients, which `tinymaml check pointnav` prints.

Every row measures the library's own inner loop and chain (`maml.path`,
`maml.meta_gradient`, `e_maml`). Their makers act with the theta they get, on random worlds
so small that `exact` knows the answer.
"""

import itertools
from collections.abc import Callable, Iterator, Sequence

import autograd.numpy as anp
import numpy as np
from autograd import grad
from numpy.random import Generator

from tinymaml import maml
from tinymaml.check import differences, exact, mdp
from tinymaml.check.chain import ROUNDING, Collect, Report, Row
from tinymaml.check.differences import difference
from tinymaml.check.exact import World, world
from tinymaml.check.mdp import Bandit
from tinymaml.fewshot import Problem, drawn
from tinymaml.maml import Array, Task
from tinymaml.rl import trpo
from tinymaml.rl.rollout import surrogate_loss
from tinymaml.rl.surrogates import (
    SURROGATES,
    Batch,
    PolicyLoss,
    Surrogate,
    e_maml,
    loaded_dice,
    lvc,
    naive,
)


# Five-point differences in float64 reach 1e-10 and better on these worlds.
NUMERIC = 1e-7
# Biases far above rounding. On 150 seeds: at least 0.1 (naive), 0.001 (LVC, 3 steps).
NAIVE_BIAS, LVC_BIAS = (1e-2, 1e2), (1e-4, 1e2)
SIGMAS, REPLICATES = 4.0, 2000
BANDIT, BANDIT_THETA, BANDIT_ALPHA = Bandit(goal=-0.4, std=0.5), 0.3, 0.1


def verify(seed: int, acting: Sequence[Problem], collect: Collect = list) -> Report:
    """Return every check, on worlds and trajectories drawn from `seed`.

    acting: problems with the options SMALL, for the metric of the trust region
    collect(rows): the list of the rows, each of which is measured when it is asked for
    """
    rows = collect(all_rows(seed, acting))
    return Report(f"meta-policy-gradients, seed {seed}", rows, [])


def all_rows(seed: int, acting: Sequence[Problem]) -> Iterator[Row]:
    """Yield every check; see `verify`."""
    worlds = [world(seed, horizon) for horizon in (1, 2, 3)]
    rng = np.random.default_rng(seed)
    yield from itertools.chain(
        expected_rows(worlds), drawn_rows(worlds[1], rng), bandit_rows()
    )
    for problem in acting:
        name = f"TRPO's J'FJ v, K = {problem.options.inner_steps}"
        yield Row(name, metric_error(problem), 0, differences.NUMERIC)
    masks = [mask_error(w, surrogate) for w in worlds for surrogate in SURROGATES.values()]
    yield Row("garbage after a trajectory's end", float(np.max(masks)), 0, ROUNDING)


# ----- Formulation I: J(U(theta)), with expected inner gradients -----


def expected_rows(worlds: list[World]) -> Iterator[Row]:
    """Yield the checks over all trajectories; worlds have the horizons 1, 2, 3."""
    error = _worst(adapted_error, worlds, 3)
    yield Row("theta + alpha grad J, all, K = 3", error, 0, ROUNDING)
    for k in (1, 2, 3):
        for baseline in (False, True):
            name = f"loaded_dice, K = {k}{', V(s) subtracted' * baseline}"
            error = _worst(error_of, worlds, loaded_dice, k, baseline)
            yield Row(name, error, 0, NUMERIC)
    for name in SURROGATES:
        yield Row(f"{name}: its Hessian", _worst(hessian_error, worlds, name), 0, ROUNDING)
    one, *longer = worlds
    yield Row("lvc, horizon 1, K = 3", error_of(one, lvc, 3), 0, NUMERIC)
    yield Row("lvc, longer, K = 3: its bias", _worst(error_of, longer, lvc, 3), *LVC_BIAS)
    yield Row("naive, K = 3: its bias", _worst(error_of, worlds, naive, 3), *NAIVE_BIAS)
    same = _worst(first_order_error, worlds, 3)
    yield Row("naive, V(s) subtracted: first order", same, 0, ROUNDING)


def _worst(error: Callable[..., float], worlds: list[World], *args: object) -> float:
    # Python's max() ignores a nan that does not come first.
    return float(np.max([error(world, *args) for world in worlds]))


def ascent(
    world: World, surrogate: Surrogate, steps: int, baseline: bool, gradient: Callable
) -> Array:
    """Return a gradient (P,) of `maml` of the return, which is minus the loss."""
    maker = mdp.listed(world.mdp, surrogate, baseline)
    return -gradient(world.theta[None], Task(maker, maker), world.alpha, steps)[1][0]


def error_of(
    world: World, surrogate: Surrogate, steps: int, baseline: bool = False
) -> float:
    """Return how far a surrogate's meta-gradient is from that of J(U(theta))."""
    found = ascent(world, surrogate, steps, baseline, maml.meta_gradient)
    return difference(found, exact.gradient(world, steps))


def adapted_error(world: World, steps: int) -> float:
    """Return how far the adapted parameters of any surrogate are from U(theta)."""
    want = exact.adapted(world, world.theta, steps)
    errors = []
    for surrogate, baseline in itertools.product(SURROGATES.values(), (False, True)):
        maker = mdp.listed(world.mdp, surrogate, baseline)
        found = maml.adapt(world.theta[None], Task(maker, maker), world.alpha, steps)[0]
        errors.append(difference(found, want))
    return float(np.max(errors))


def first_order_error(world: World, steps: int) -> float:
    """Return how far naive MAML with the exact V_t(s) is from first-order MAML."""
    ways = maml.meta_gradient, maml.first_order
    return difference(*(ascent(world, naive, steps, True, way) for way in ways))


def hessian_error(world: World, name: str) -> float:
    """Return how far products with a surrogate's Hessian are from `exact.hessian`."""
    size = world.theta.size
    theta = np.broadcast_to(world.theta, (size, size))
    loss = mdp.listed(world.mdp, SURROGATES[name])(theta)
    hvp, _ = maml.hvp_and_gradient(loss, theta)
    return difference(hvp(np.eye(size)), exact.hessian(world, name))


# ----- Formulation II: the mean of J over the trajectories that were adapted on -----


def drawn_rows(world: World, rng: Generator) -> Iterator[Row]:
    """Yield the checks of E-MAML: summed over every draw, and on random draws."""
    for number, k in ((2, 1), (1, 2)):
        want = exact.gradient_of_samples(world, number, k)
        name = f"E-MAML, N = {number}, K = {k}"
        yield Row(name, difference(expected_e_maml(world, number, k), want), 0, NUMERIC)
        maker = mdp.sampled(world.mdp, naive, number, rng)
        theta = world.theta[None].repeat(REPLICATES, 0)
        _, v = e_maml(theta, Task(maker, maker), world.alpha, k)
        z = np.abs(z_scores(-v, want)).max()
        yield Row(f"{name}, sampled: largest |z|", z, 0, SIGMAS)


def expected_e_maml(world: World, number: int, steps: int, baseline: float = 0.0) -> Array:
    """Return the expectation of E-MAML's gradient (P,) of the return."""
    act, chances = exact.every_draw(world, number, steps)
    theta = exact.for_every_draw(world, world.theta, number, steps)
    task = Task(act, mdp.listed(world.mdp, naive))
    _, v = e_maml(theta, task, world.alpha, steps, baseline)
    return -np.prod(chances, 0) @ v


def z_scores(replicates: Array, want: Array) -> Array:
    """Return (mean of replicates (R, P) - want) in standard errors of that mean (P,)."""
    errors = replicates.std(0, ddof=1) / np.sqrt(len(replicates))
    return (replicates.mean(0) - want) / errors


# ----- The Gaussian bandit -----


def bandit_rows() -> Iterator[Row]:
    """Yield the checks against the closed form, with and without a constant reward."""
    richer = BANDIT._replace(offset=10.0)
    for surrogate in (lvc, loaded_dice):
        cases = (BANDIT, False), (richer, False), (richer, True)
        error = float(np.max([bandit_error(bandit, surrogate, b) for bandit, b in cases]))
        yield Row(f"Gaussian bandit, {surrogate.__name__}", error, 0, ROUNDING)
    for name, bandit in (": its bias", BANDIT), (", reward + 10", richer):
        error = bandit_error(bandit, naive, False)
        yield Row(f"Gaussian bandit, naive{name}", error, *NAIVE_BIAS)


def bandit_error(bandit: Bandit, surrogate: Surrogate, baseline: bool) -> float:
    """Return how far two steps' meta-gradient is from the closed form."""
    maker = mdp.integrated(bandit, surrogate, baseline)
    theta, alpha = np.array([[BANDIT_THETA]]), BANDIT_ALPHA
    _, v = maml.meta_gradient(theta, Task(maker, maker), alpha, 2)
    return difference(-v, np.array(exact.bandit_gradient(bandit, BANDIT_THETA, alpha, 2)))


# The metric of the trust region: options of small tasks and a smooth policy.
SMALL = {"tasks": 2, "trajectories": 3, "horizon": 4, "hidden": (3,)}
SMALL |= {"activation": "tanh", "dtype": "float64"}
WAYS = 3


def metric_error(problem: Problem) -> float:
    """Return how far TRPO's J'FJ v is from differences of KL(U(theta_old) || U(theta)).

    Every theta adapts on what theta_old met. The KL is differentiated twice in a few
    directions, from its values.
    problem: one whose tasks act, as `experiments.pointnav` sets it up
    """
    options, model, alpha = problem.options, problem.model, problem.alpha
    rng, tasks = np.random.default_rng(options.seed), options.tasks
    theta = model.init(rng)
    theta += 0.1 * rng.standard_normal(theta.shape)

    def meta_gradient(task: Task) -> tuple[Array, Array]:
        start = np.tile(theta, (tasks, 1))
        return maml.meta_gradient(start, task, alpha, options.inner_steps)

    task = problem.task(drawn(problem, options.seed, "train", 0, range(tasks)))
    *inner, last = trpo.side_by_side(trpo.collect(meta_gradient, task).path)
    surrogate = SURROGATES[options.surrogate]
    losses = [surrogate_loss(model, surrogate, met) for met in inner]
    ways = np.array(differences.directions(rng, theta.shape, WAYS))

    def divergence(at: Array) -> Array:
        return trpo.trial(np.tile(at, (tasks, 1)), losses, alpha, model, last)[1]

    def slopes(shares: Array) -> Array:
        points = lambda at: np.apply_along_axis(divergence, -1, theta + at @ ways)  # noqa: E731
        return differences.gradient(points, shares)

    measured = differences.slope(slopes, np.zeros(WAYS), np.eye(WAYS)[0]).value
    v, thetas = np.tile(ways[0], (tasks, 1)), [met.theta for met in inner]
    product = trpo.curvature(v, thetas, losses, alpha, model, last).sum(axis=0)
    return difference(ways @ product, measured)


# ----- Trajectories that are over -----


def mask_error(world: World, surrogate: Surrogate) -> float:
    """Return how much steps of weight 0 change: value, gradient, product, score term."""
    theta = world.theta[None]
    loss = mdp.listed(world.mdp, surrogate)(theta)
    changes = [
        np.abs(one - two).max()
        for around in ((0, 2), (1, 1))
        for one, two in zip(
            _orders(loss, theta), _orders(padded(loss, *around), theta), strict=True
        )
    ]
    return float(np.max(changes))


def _orders(loss: PolicyLoss, theta: Array) -> list[Array]:
    hvp, g = maml.hvp_and_gradient(loss, theta)
    score = grad(loss.score)(theta, np.ones(1))
    return [loss(theta), g, hvp(theta[:, ::-1]), score]


def padded(loss: PolicyLoss, before: int, after: int) -> PolicyLoss:
    """Return the loss with added steps of weight 0, which hold finite garbage."""
    pads = [(0, 0), (0, 0), (before, after)]
    values = {"logp_old": -1e3, "advantages": 1e3, "weights": 0, "rewards": 1e3}
    arrays = loss.batch._asdict()
    batch = Batch(
        **{k: np.pad(arrays[k], pads, constant_values=x) for k, x in values.items()}
    )

    def log_prob(theta: Array) -> Array:
        logp = loss.log_prob(theta)
        garbage = 1e3 * anp.sum(theta**2, axis=-1)[:, None, None] + 0 * logp[..., :1]
        return anp.concatenate([garbage] * before + [logp] + [garbage] * after, axis=-1)

    return PolicyLoss(loss.surrogate, log_prob, batch)
