"""MAML in PyTorch as people write it: `higher`, clones, optimisers; right and wrong."""

import copy
import importlib
from collections.abc import Callable
from typing import NamedTuple

import numpy as np


STEPS, ALPHA = 3, 0.1


class Style(NamedTuple):
    """A program: (problem, parameters) -> (query loss, parameters to differentiate by).

    causes: that name its bug, none for a right program; package: that it needs
    value: the program that computes the meta-loss; None for the right one
    """

    name: str
    causes: tuple[str, ...]
    program: Callable
    package: str = "torch"
    value: Callable | None = None


class Setting:
    """A net 1-4-1 and the data of one task."""

    def __init__(self, seed: int) -> None:
        self.torch = torch = importlib.import_module("torch")
        rng = np.random.default_rng(seed)
        self.model = torch.nn.Sequential(
            torch.nn.Linear(1, 4), torch.nn.Tanh(), torch.nn.Linear(4, 1)
        ).double()
        for p in self.model.parameters():
            p.data = torch.tensor(0.7 * rng.standard_normal(p.shape))
        x = rng.uniform(-2, 2, (2, 8, 1))
        y = np.sin(2 * x + rng.uniform(0, 3))
        self.xs, self.xq = torch.tensor(x)
        self.ys, self.yq = torch.tensor(y)
        self.kept = None

    def support(self, model):
        return ((model(self.xs) - self.ys) ** 2).mean()

    def query(self, model):
        return ((model(self.xq) - self.yq) ** 2).mean()

    def holding(self, p):
        """Return a copy of the model with the parameters."""
        model = copy.deepcopy(self.model)
        model.load_state_dict(p)
        return model

    def called(self, p, x):
        return self.torch.func.functional_call(self.model, p, x)


def right(s, p, steps=STEPS):
    """Unroll over dicts."""
    start = p
    for _ in range(steps):
        loss = ((s.called(p, s.xs) - s.ys) ** 2).mean()
        g = s.torch.autograd.grad(loss, [*p.values()], create_graph=True)
        p = {k: w - ALPHA * d for (k, w), d in zip(p.items(), g, strict=True)}
    return ((s.called(p, s.xq) - s.yq) ** 2).mean(), [*start.values()]


def with_higher(track=True, copied=False, rate=ALPHA, steps=STEPS, last=False):
    """Return a program on `higher`."""

    def program(s, p):
        higher = importlib.import_module("higher")
        model = s.holding(p)
        optimizer = s.torch.optim.SGD(model.parameters(), lr=rate)
        options = {"copy_initial_weights": copied, "track_higher_grads": track}
        with higher.innerloop_ctx(model, optimizer, **options) as (net, inner):
            for _ in range(steps):
                inner.step(s.support(net))
            by = net if last or not track else model
            return s.query(net), [*by.parameters()]

    return program


def with_clones(first_order=False, steps=STEPS, rate=ALPHA, detached=False, query=True):
    """Return a program that clones a module and replaces its parameters, as learn2learn."""

    def program(s, p):
        model = s.holding(p)
        theta = [*model.parameters()]
        clone = copy.deepcopy(model)
        pairs = [(a, b) for a, b in zip(clone, model, strict=True) if hasattr(a, "weight")]
        for mine, theirs in pairs:
            for name in ("weight", "bias"):
                w = getattr(theirs, name)
                w = w.detach().clone().requires_grad_() if detached else w.clone()
                del mine._parameters[name]
                setattr(mine, name, w)
        for _ in range(steps):
            held = [(m, n) for m, _ in pairs for n in ("weight", "bias")]
            g = s.torch.autograd.grad(
                s.support(clone),
                [getattr(*one) for one in held],
                create_graph=not first_order,
            )
            for (m, n), d in zip(held, g, strict=True):
                setattr(m, n, getattr(m, n) - rate * d)
        return (s.query if query else s.support)(clone), theta

    return program


def with_optimizer(make, kept=False, zero=True, steps=STEPS):
    """Return a program that trains a copy with an optimiser, and differentiates there."""

    def program(s, p):
        model = s.holding(p)
        if kept:
            s.kept = model = s.kept or model
        optimizer = make(s.torch)(model.parameters())
        for _ in range(steps):
            if zero:
                optimizer.zero_grad()
            s.support(model).backward()
            optimizer.step()
        return s.query(model), [*model.parameters()]

    return program


def sgd(torch, **more):
    """Return SGD at the step size."""
    return lambda p: torch.optim.SGD(p, lr=ALPHA, **more)


def adam(torch):
    """Return Adam at the step size."""
    return lambda p: torch.optim.Adam(p, lr=ALPHA)


OPTIMIZER = with_optimizer(sgd)
HELD = with_optimizer(sgd, kept=True)
MOMENTUM = with_optimizer(lambda torch: sgd(torch, momentum=0.9))
ADAM = with_optimizer(adam)
PLENTY = with_optimizer(sgd, zero=False)
FIRST, ZERO = ("first-order",), ("zero", "detached")
STYLES = [
    Style("functional_call", (), right),
    Style("higher", (), with_higher(), "higher"),
    Style("higher, track_higher_grads=False", FIRST, with_higher(track=False), "higher"),
    Style("higher, by the last parameters", FIRST, with_higher(last=True), "higher"),
    Style("higher, weights copied", ZERO, with_higher(copied=True), "higher"),
    Style("higher, one step less", ("steps",), with_higher(steps=STEPS - 1), "higher"),
    Style("higher, twice the rate", ("step size",), with_higher(rate=2 * ALPHA), "higher"),
    Style("clones", (), with_clones()),
    Style("clones, first_order", FIRST, with_clones(first_order=True)),
    Style("clones, detached", ZERO, with_clones(detached=True)),
    Style("clones, one step more", ("steps",), with_clones(steps=STEPS + 1)),
    Style("clones, a tenth of the rate", ("step size",), with_clones(rate=ALPHA / 10)),
    Style("clones, support loss at the end", ("support",), with_clones(query=False)),
    Style("optimiser", FIRST, OPTIMIZER, value=OPTIMIZER),
    Style("optimiser, model not reset", ("state",), HELD, value=HELD),
    Style("optimiser, momentum", ("momentum",), MOMENTUM, value=MOMENTUM),
    Style("optimiser, no zero_grad", ("momentum",), PLENTY, value=PLENTY),
    Style("optimiser, Adam", ("another loss",), ADAM, value=ADAM),
]  # fmt: skip


def problem(style: Style, seed: int) -> tuple[tuple, dict]:
    """Return arguments and options for `verify` of a program."""
    s = Setting(seed)
    theta = dict(s.model.named_parameters())

    def gradient(p):
        loss, by = style.program(s, p)
        found = s.torch.autograd.grad(loss, by, allow_unused=True)
        return dict(zip(p, found, strict=True))

    def step(p):
        loss = ((s.called(p, s.xs) - s.ys) ** 2).mean()
        g = s.torch.autograd.grad(loss, [*p.values()])
        return {k: w - ALPHA * d for (k, w), d in zip(p.items(), g, strict=True)}

    options = {
        "inner_step": step,
        "query_loss": lambda p: ((s.called(p, s.xq) - s.yq) ** 2).mean(),
        "steps": STEPS,
        "alpha": ALPHA,
    }
    value = style.value or right
    return (lambda p: value(s, p)[0], gradient, theta), options
