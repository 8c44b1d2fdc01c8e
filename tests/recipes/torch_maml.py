"""A PyTorch MAML of a sine net over one flat vector, exact and not, for `classify`."""

import numpy as np
import torch

from tinymaml.check import classify


SIZES = [(1, 8), (8,), (8, 8), (8,), (8, 1), (1,)]
ALPHA, STEPS = 0.05, 3


def data():
    """Return support and query points of one curve, (x, y) each."""
    x = np.random.default_rng(0).uniform(-5, 5, (2, 10, 1))
    return torch.tensor(np.stack([x, 2 * np.sin(x - 1)], 1))


(X_S, Y_S), (X_Q, Y_Q) = data()


def loss(theta, x, y):
    """Mean squared error of the net."""
    parts = theta.split([int(np.prod(shape)) for shape in SIZES])
    w0, b0, w1, b1, w2, b2 = (p.view(s) for p, s in zip(parts, SIZES, strict=True))
    h = torch.tanh(torch.tanh(x @ w0 + b0) @ w1 + b1)
    return ((h @ w2 + b2 - y) ** 2).mean()


def inner(theta, create_graph):
    """Return theta_K; without create_graph the graph of the gradient is thrown away."""
    for _ in range(STEPS):
        (g,) = torch.autograd.grad(loss(theta, X_S, Y_S), theta, create_graph=create_graph)
        theta = theta - ALPHA * g
    return theta


def leaf(theta):
    """Return a NumPy vector as a leaf that requires a gradient."""
    return torch.tensor(theta, requires_grad=True)


def adapt(theta):
    """theta -> theta_K, both NumPy."""
    return inner(leaf(theta), create_graph=False).detach().numpy()


def meta_loss(theta):
    """theta -> Q(theta_K)."""
    return loss(inner(leaf(theta), create_graph=False), X_Q, Y_Q).item()


def meta_gradient(theta, create_graph=True):
    """theta -> what backward() leaves in theta.grad."""
    theta = leaf(theta)
    loss(inner(theta, create_graph), X_Q, Y_Q).backward()
    return theta.grad.numpy()


def port_gradient(theta):
    """The widespread port that calls itself second-order: no create_graph."""
    return meta_gradient(theta, create_graph=False)


if __name__ == "__main__":
    start = 0.5 * np.random.default_rng(1).standard_normal(97)
    for gradient in (meta_gradient, port_gradient):
        print(classify(meta_loss, gradient, start, adapt))
