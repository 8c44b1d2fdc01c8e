"""A MAML of an `nn.Module`, for `verify` and for `tinymaml check FILE.py:PROGRAM`."""

import torch
from torch.func import functional_call as call

from tinymaml.check import verify


torch.manual_seed(0)
ALPHA, STEPS = 0.1, 3
MODEL = torch.nn.Sequential(
    torch.nn.Linear(1, 4), torch.nn.Tanh(), torch.nn.Linear(4, 1)
).double()
X = torch.linspace(-2, 2, 20, dtype=torch.float64).reshape(2, 10, 1)
Y = torch.sin(2 * X)


def loss(p, which):
    """Mean squared error on support (0) or query (1) data."""
    return torch.nn.functional.mse_loss(call(MODEL, p, X[which]), Y[which])


def inner_step(p, create_graph=True):
    """One gradient step on the support data."""
    g = torch.autograd.grad(loss(p, 0), [*p.values()], create_graph=create_graph)
    return {name: w - ALPHA * d for (name, w), d in zip(p.items(), g, strict=True)}


def meta_loss(p, graphs=(True,) * STEPS):
    """Query loss after the steps; graphs: which of them keep their graph."""
    for graph in graphs:
        p = inner_step(p, graph)
    return loss(p, 1)


def gradient(p, graphs=(True,) * STEPS):
    """Gradient of the meta-loss."""
    return torch.autograd.grad(meta_loss(p, graphs), [*p.values()])


PROGRAM = {
    "meta_loss": meta_loss,
    "meta_gradient": gradient,
    "theta": dict(MODEL.named_parameters()),
    "inner_step": inner_step,
    "query_loss": lambda p: loss(p, 1),
    "steps": STEPS,
}
BROKEN = PROGRAM | {"meta_gradient": lambda p: gradient(p, (True, True, False))}

if __name__ == "__main__":
    for program in (PROGRAM, BROKEN):
        print(verify(**program))
