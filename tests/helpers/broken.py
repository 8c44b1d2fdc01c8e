"""Programs of MAML with planted bugs, in NumPy with autograd, PyTorch and JAX.

A bug is written once. A backend lends `grad`, `stop` and array functions to it.
"""

import importlib
from collections.abc import Callable
from functools import cache
from typing import Any, NamedTuple

import numpy as np


HIDDEN, POINTS, STEPS, ALPHA = 4, 8, 3, 0.1
SHAPES = {
    "w0": (1, HIDDEN), "b0": (HIDDEN,), "w1": (HIDDEN, HIDDEN), "b1": (HIDDEN,),
    "w2": (HIDDEN, 1), "b2": (1,),
}  # fmt: skip


class Backend(NamedTuple):
    """What a bug needs of a framework.

    grad: (function, parameters) -> gradients; stop: cut out of the graph
    compiled: makes a function of (parameters, data) quick
    """

    name: str
    xp: Any
    array: Callable
    grad: Callable
    stop: Callable
    compiled: Callable = lambda function: function


def autograd_backend() -> Backend:
    """Return the backend of NumPy with autograd."""
    import autograd.numpy as anp
    from autograd import grad
    from autograd.tracer import getval, isbox

    def stop(x):
        while isbox(x):
            x = getval(x)
        return x

    return Backend("autograd", anp, np.array, lambda f, p: grad(f)(p), stop)


def torch_backend(functional: bool = False) -> Backend:
    """Return a backend of PyTorch: `autograd.grad`, or `torch.func`."""
    torch = importlib.import_module("torch")

    def grad(function, p):
        found = torch.autograd.grad(
            function(p), [*p.values()], create_graph=True, allow_unused=True
        )
        return {
            name: torch.zeros_like(w) if g is None else g
            for (name, w), g in zip(p.items(), found, strict=True)
        }

    def array(x):
        return torch.tensor(x, dtype=torch.float64)

    if functional:
        return Backend(
            "torch.func", torch, array, lambda f, p: torch.func.grad(f)(p), torch.detach
        )

    return Backend("torch", torch, lambda x: array(x).requires_grad_(), grad, torch.detach)


def jax_backend() -> Backend:
    """Return the backend of JAX, jitted."""
    jax = importlib.import_module("jax")
    jax.config.update("jax_enable_x64", True)
    return Backend(
        "jax", jax.numpy, jax.numpy.asarray,
        lambda f, p: jax.grad(f)(p), jax.lax.stop_gradient, jax.jit,
    )  # fmt: skip


BACKENDS = {
    "autograd": autograd_backend,
    "torch": torch_backend,
    "torch.func": lambda: torch_backend(True),
    "jax": jax_backend,
}


class Bug(NamedTuple):
    """A planted bug and the causes that name it.

    changes: of the loop whose gradient is taken, see `meta`
    both: the meta-loss has the bug, too
    after: (gradient, theta, backend) -> what is returned
    wrap: (meta_loss, meta_gradient) -> both, as programs of calls with a state
    """

    name: str
    causes: tuple[str, ...]
    changes: dict = {}  # noqa: RUF012
    both: bool = False
    after: Callable | None = None
    wrap: Callable | None = None


def net(xp, p, x):
    """Return the outputs of a net 1-4-4-1."""
    h = xp.tanh(x @ p["w0"] + p["b0"])
    return xp.tanh(h @ p["w1"] + p["b1"]) @ p["w2"] + p["b2"]


def meta(
    backend, p, data, *, steps=STEPS, alpha=ALPHA, cut=(), inner="support", frozen=(),
    adapted=(*SHAPES,), stopped=(), momentum=0.0, decay=0.0, summed=False,
    outer_stop=(), also_support=False, result="query",
):  # fmt: skip
    """Return the meta-loss of a loop; each argument is a place for a bug."""
    xp, stop = backend.xp, backend.stop
    xs, ys, xq, yq = data
    places = {"support": (xs, ys), "query": (xq, yq)}

    def loss(p, which, skip=()):
        p = {k: stop(w) if k in skip else w for k, w in p.items()}
        x, y = places[which]
        error = (net(xp, p, x) - y) ** 2
        return xp.sum(error) if summed and which == "support" else xp.mean(error)

    p = {k: stop(w) + 0 * w if k in stopped else w for k, w in p.items()}
    start, velocity = p, dict.fromkeys(p, 0.0)
    for k in range(steps):
        g = backend.grad(lambda at: loss(at, inner, frozen), p)
        if k in cut:
            g = {name: stop(d) for name, d in g.items()}
        if decay:
            g = {name: d + decay * p[name] for name, d in g.items()}
        velocity = {name: momentum * velocity[name] + d for name, d in g.items()}
        p = {name: p[name] - alpha * velocity[name] * (name in adapted) for name in p}
    last = loss(p, result, outer_stop)
    return last + loss(start, "support") if also_support else last


@cache
def functions(backend: Backend, number: int | None) -> tuple[Callable, ...]:
    """Return (right loss, wrong loss, its gradient, inner step, query loss) of a bug."""
    changes = {} if number is None else BUGS[number].changes

    def wrong(p, data):
        return meta(backend, p, data, **changes)

    def support(p, data):
        return backend.xp.mean((net(backend.xp, p, data[0]) - data[1]) ** 2)

    def step(p, data):
        g = backend.grad(lambda at: support(at, data), p)
        return {k: w - ALPHA * g[k] for k, w in p.items()}

    every = (
        lambda p, data: meta(backend, p, data),
        wrong,
        lambda p, data: backend.grad(lambda at: wrong(at, data), p),
        step,
        lambda p, data: support(p, data[2:]),
    )
    return tuple(map(backend.compiled, every))


def problem(backend: Backend, bug: Bug, seed: int) -> tuple[tuple, dict]:
    """Return arguments and options for `verify` of a program with a bug."""
    rng = np.random.default_rng(seed)
    theta = {
        k: backend.array(0.6 * rng.standard_normal(shape)) for k, shape in SHAPES.items()
    }
    x = rng.uniform(-2, 2, (2, POINTS, 1))
    y = np.sin(2 * x + rng.uniform(0, 3))
    data = [backend.stop(backend.array(one)) for one in (x[0], y[0], x[1], y[1])]
    number = BUGS.index(bug) if bug in BUGS else None
    right, wrong, slopes, step, query = functions(backend, number)

    def meta_loss(p):
        return (wrong if bug.both else right)(p, data)

    def meta_gradient(p):
        g = {k: np.array(backend.stop(d)) for k, d in slopes(p, data).items()}
        at = {k: np.array(backend.stop(w)) for k, w in p.items()}
        return bug.after(g, at) if bug.after else g

    if bug.wrap:
        meta_loss, meta_gradient = bug.wrap(meta_loss, meta_gradient, seed)
    options = {
        "inner_step": lambda p: step(p, data),
        "query_loss": lambda p: query(p, data),
        "steps": STEPS,
        "alpha": ALPHA,
    }
    return (meta_loss, meta_gradient, theta), options


# ----- Bugs after the gradient -----


def each(change):
    """Return a bug that changes every array."""
    return lambda g, at: {k: change(d, at[k]) for k, d in g.items()}


def one(name, change):
    """Return a bug that changes one array."""
    return lambda g, at: {**g, name: change(g[name], at[name])}


def swapped(g, at):
    """Exchange the biases."""
    return {**g, "b0": g["b1"], "b1": g["b0"]}


def entry(d, at):
    """Forget one entry."""
    d = d.copy()
    d.flat[5] = 0
    return d


def clipped(g, at):
    """Clip the whole to the norm 0.1."""
    norm = np.sqrt(sum((d**2).sum() for d in g.values()))
    return {k: 0.1 * d / norm for k, d in g.items()}


def bounded(d, at):
    """Clip entry by entry."""
    return np.clip(d, -0.02, 0.02)


def normalized(g, at):
    """Normalize array by array."""
    return {k: 0.05 * d / np.linalg.norm(d) for k, d in g.items()}


# ----- Bugs of calls -----


def numbers(loss):
    """Return a loss as a float."""
    return lambda p: float(loss(p).detach() if hasattr(loss(p), "detach") else loss(p))


def dropout(loss, gradient, seed):
    """Sample from NumPy's global generator."""
    loss = numbers(loss)
    return lambda p: loss(p) * (1 + 0.1 * np.random.standard_normal()), gradient


def sampling(loss, gradient, seed):
    """Sample from a generator of its own."""
    loss, rng = numbers(loss), np.random.default_rng(seed)
    return lambda p: loss(p) * (1 + 0.1 * rng.standard_normal()), gradient


def buffers(loss, gradient, seed):
    """Keep a running mean, as batch norm."""
    loss, kept = numbers(loss), [0.0]

    def value(p):
        kept[0] = 0.9 * kept[0] + 0.1 * loss(p)
        return loss(p) + 0.1 * kept[0]

    return value, gradient


def drift(loss, gradient, seed):
    """Count calls, as an optimiser's step."""
    loss, calls = numbers(loss), [0]

    def value(p):
        calls[0] += 1
        return loss(p) * (1 + 0.01 * calls[0])

    return value, gradient


def batches(loss, gradient, seed):
    """Take the next of three batches."""
    loss, calls = numbers(loss), [0]

    def value(p):
        calls[0] += 1
        return loss(p) * (1 + 0.1 * (calls[0] % 3))

    return value, gradient


def cached(loss, gradient, seed):
    """Remember the loss of the call before."""
    loss, kept = numbers(loss), []

    def value(p):
        kept.append(loss(p))
        return kept[-1] + (0.1 * kept[-2] if len(kept) > 1 else 0.1 * kept[-1])

    return value, gradient


def accumulating(loss, gradient, seed):
    """Never call zero_grad."""
    kept = []

    def summed(p):
        kept.append(gradient(p))
        return {k: sum(g[k] for g in kept) for k in kept[0]}

    return loss, summed


def noisy(loss, gradient, seed):
    """Return another random gradient each time."""
    return loss, lambda p: {
        k: d * (1 + 0.1 * np.random.standard_normal(d.shape))
        for k, d in gradient(p).items()
    }


def stepping(loss, gradient, seed):
    """Change the loss when the gradient is taken."""
    loss, calls = numbers(loss), [0]

    def counted(p):
        calls[0] += 1
        return gradient(p)

    return lambda p: loss(p) * (1 + 0.01 * calls[0]), counted


def single(loss, gradient, seed):
    """Round the loss to float32."""
    loss = numbers(loss)
    return lambda p: float(np.float32(loss(p))), gradient


def stepped(loss, gradient, seed):
    """Return a loss with a jump at every millionth."""
    loss = numbers(loss)
    return lambda p: round(loss(p), 5), gradient


def infinite(loss, gradient, seed):
    """Return a loss that is not finite."""
    return lambda p: float("inf"), gradient


def constant(loss, gradient, seed):
    """Return a constant loss."""
    return lambda p: 1.5, gradient


def holes(loss, gradient, seed):
    """Return nan in one entry."""
    return loss, lambda p: one("w1", lambda d, at: d + np.nan)(gradient(p), gradient(p))


def kinks(loss, gradient, seed):
    """Return a loss whose slope jumps at theta."""
    loss, here = numbers(loss), []

    def value(p):
        found = loss(p)
        if not here:
            here.append(found)
        return found + 0.3 * abs(found - here[0])

    return value, gradient


ALL = tuple(range(STEPS))
FIRST, STEPS_, SIZE = ("first-order",), ("steps",), ("step size",)
BUGS = [
    Bug("no create_graph", FIRST, {"cut": ALL}),
    Bug("no create_graph in the last step", FIRST, {"cut": ALL[-1:]}),
    Bug("no create_graph in the first step", FIRST, {"cut": ALL[:1]}),
    Bug("no create_graph in the middle step", FIRST, {"cut": ALL[1:2]}),
    Bug("create_graph in the last step only", FIRST, {"cut": ALL[:-1]}),
    Bug("create_graph in the first step only", FIRST, {"cut": ALL[1:]}),
    Bug("one step too few", STEPS_, {"steps": STEPS - 1}),
    Bug("one step too many", STEPS_, {"steps": STEPS + 1}),
    Bug("two steps too many", STEPS_, {"steps": STEPS + 2}),
    Bug("no steps", STEPS_, {"steps": 0}),
    Bug("first-order, one step too few", STEPS_, {"cut": ALL, "steps": STEPS - 1}),
    Bug("half the step size", SIZE, {"alpha": ALPHA / 2}),
    Bug("twice the step size", SIZE, {"alpha": ALPHA * 2}),
    Bug("0.7 times the step size", SIZE, {"alpha": ALPHA * 0.7}),
    Bug("steps uphill", SIZE, {"alpha": -ALPHA}),
    Bug("a sum for the mean in the inner loop", SIZE, {"summed": True, "alpha": ALPHA / 2}),
    Bug("query data in the inner loop", ("query data",), {"inner": "query"}),
    Bug("the support loss after the steps", ("support",), {"result": "support"}),
    Bug("the support loss added", ("support",), {"also_support": True}),
    Bug("meta-loss with one step too few", STEPS_, {"steps": STEPS - 1}, True),
    Bug("meta-loss with twice the step size", SIZE, {"alpha": ALPHA * 2}, True),
    Bug("meta-loss with query data inside", ("query data",), {"inner": "query"}, True),
    Bug("meta-loss with momentum", ("momentum",), {"momentum": 0.5}, True),
    Bug("momentum in the inner loop", ("momentum",), {"momentum": 0.5}),
    Bug("the first layer detached", ("detached",), {"stopped": ("w0",)}),
    Bug("the head detached", ("detached",), {"stopped": ("w2", "b2")}),
    Bug("a layer detached in the query loss", ("detached",), {"outer_stop": ("w1",)}),
    Bug("the first layer not adapted", ("adapted",), {"adapted": [*SHAPES][1:]}),
    Bug("the head alone adapted", ("adapted",), {"adapted": ("w2", "b2")}),
    Bug("a bias created anew", ("detached",), after=one("b1", lambda d, at: 0 * d)),
    Bug("2 times", ("scale",), after=each(lambda d, at: 2 * d)),
    Bug("divided by the number of tasks", ("scale",), after=each(lambda d, at: d / 4)),
    Bug("1.001 times", ("scale",), after=each(lambda d, at: 1.001 * d)),
    Bug("wrong sign", ("sign",), after=each(lambda d, at: -d)),
    Bug("zeros", ("zero", "detached"), after=each(lambda d, at: 0 * d)),
    Bug("clipped to a norm", ("clipped", "scale"), after=clipped),
    Bug("clipped entry by entry", ("clipped",), after=each(bounded)),
    Bug("signs", ("signs",), after=each(lambda d, at: np.sign(d))),
    Bug("normalized array by array", ("array scale",), after=normalized),
    Bug("one array 2 times", ("array scale",), after=one("w1", lambda d, at: 2 * d)),
    Bug("weight decay", ("weight decay",), after=each(lambda d, at: d + 0.01 * at)),
    Bug("two arrays swapped", ("swapped",), after=swapped),
    Bug("an array transposed", ("transposed",), after=one("w1", lambda d, at: d.T.copy())),
    Bug("one entry forgotten", ("entries",), after=one("w1", entry)),
    Bug("first-order, 2 times", FIRST, {"cut": ALL}, after=each(lambda d, at: 2 * d)),
    Bug("dropout", ("randomness",), wrap=dropout),
    Bug("sampling", ("randomness",), wrap=sampling),
    Bug("batch-norm buffers", ("state",), wrap=buffers),
    Bug("optimiser state", ("state",), wrap=drift),
    Bug("the next batch", ("state",), wrap=batches),
    Bug("a cache", ("state",), wrap=cached),
    Bug("no zero_grad", ("accumulates",), wrap=accumulating),
    Bug("a random gradient", ("randomness",), wrap=noisy),
    Bug("a gradient that moves the loss", ("state",), wrap=stepping),
    Bug("a float32 loss", ("coarse",), wrap=single),
    Bug("a rounded loss", ("coarse",), wrap=stepped),
    Bug("an infinite loss", ("not finite",), wrap=infinite),
    Bug("nan in the gradient", ("not finite",), wrap=holes),
    Bug("a constant loss", ("constant",), wrap=constant),
    Bug("a kink at theta", ("rough",), wrap=kinks),
]  # fmt: skip
RIGHT = Bug("none", ())
