"""The same meta-step in PyTorch: a loop over tasks, torch.func, and `higher`.

Images are (n, c, h, w) and convolution weights (f, c, 3, 3), as PyTorch has them; that
change of order is not timed.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from contextlib import nullcontext

import higher
import numpy as np
import torch
import torch.nn.functional as F  # noqa: N812
from torch import Tensor
from works import Work, episodes, model, parameters

from tinymaml import params
from tinymaml.kernels import same_padding
from tinymaml.ops import EPSILON


Parameters = dict[str, Tensor]
Loss = Callable[[Parameters, Tensor, Tensor], Tensor]
Norm = Callable[[Tensor, Tensor], Tensor]
Step = Callable[[], list[Tensor]]

LAYERS = 4
KERNEL = 3
THREADS = tuple(sorted({1, os.cpu_count() or 1}))


set_threads = torch.set_num_threads
precision = nullcontext


# ----- Numbers -----


def tensors(work: Work) -> Parameters:
    """Return theta as PyTorch's parameters."""
    arrays = params.unpack(parameters(work), model(work).shapes)
    return {n: torch.tensor(_there(n, a)).requires_grad_() for n, a in arrays.items()}


def flat(work: Work, gradient: list[Tensor]) -> np.ndarray:
    """Return a gradient in tinymaml's order, (P,)."""
    shapes = model(work).shapes
    arrays = [g.detach().numpy() for g in gradient]
    back = [
        a.transpose(2, 3, 1, 0).reshape(shape) if a.ndim == 4 else a
        for a, shape in zip(arrays, shapes.values(), strict=True)
    ]
    return params.pack(dict(zip(shapes, back, strict=True)), shapes)


def batch(work: Work) -> list[Tensor]:
    """Return support x, y and query x, y; the first axis is the tasks."""
    arrays = episodes(work)
    return [
        torch.tensor(np.ascontiguousarray(np.moveaxis(a, -1, 2) if a.ndim == 5 else a))
        for a in arrays
    ]


def _there(name: str, array: np.ndarray) -> np.ndarray:
    if not _is_convolution(name, array):
        return array
    rows, f = array.shape
    square = array.reshape(KERNEL, KERNEL, rows // KERNEL**2, f)
    return np.ascontiguousarray(square.transpose(3, 2, 0, 1))


def _is_convolution(name: str, array: np.ndarray) -> bool:
    return name[1:].isdigit() and array.shape[0] % KERNEL**2 == 0


# ----- Nets and losses -----


def loss_of(work: Work) -> Loss:
    """Return (parameters, x, y) -> loss of one task."""
    if work.family == "sine":
        return lambda p, x, y: F.mse_loss(mlp(p, x), y)
    net = {"conv": conv_net, "pooled": pooled_net}[work.family]
    norm = plain_norm if work.order == "exact" else own_norm
    return lambda p, x, y: F.cross_entropy(net(p, x, norm), y)


def mlp(p: Parameters, x: Tensor) -> Tensor:
    """The sine net."""
    x = F.relu(torch.addmm(p["b0"], x, p["w0"]))
    x = F.relu(torch.addmm(p["b1"], x, p["w1"]))
    return torch.addmm(p["b2"], x, p["w2"])


def conv_net(p: Parameters, x: Tensor, norm: Norm) -> Tensor:
    """The Omniglot net."""
    for i in range(LAYERS):
        x = F.relu(norm(_strided(x, p[f"w{i}"]), p[f"beta{i}"]))
    return x.mean((2, 3)) @ p["w"] + p["b"]


def pooled_net(p: Parameters, x: Tensor, norm: Norm) -> Tensor:
    """The mini-ImageNet net."""
    for i in range(LAYERS):
        x = norm(F.conv2d(x, p[f"w{i}"], padding=KERNEL // 2), p[f"beta{i}"])
        x = F.max_pool2d(F.relu(x), 2)
    return x.permute(0, 2, 3, 1).flatten(1) @ p["w"] + p["b"]


def _strided(x: Tensor, weights: Tensor) -> Tensor:
    _, before, after = same_padding(x.shape[-1], KERNEL, 2)
    if before == after:
        return F.conv2d(x, weights, stride=2, padding=before)
    return F.conv2d(F.pad(x, (before, after, before, after)), weights, stride=2)


def own_norm(x: Tensor, beta: Tensor) -> Tensor:
    """Batch norm as PyTorch has it, the quicker one where it is differentiated once."""
    gamma = torch.ones_like(beta[0])  # without it, there is no second derivative
    return F.batch_norm(x, None, None, gamma, beta[0], training=True, eps=EPSILON)


def plain_norm(x: Tensor, beta: Tensor) -> Tensor:
    """Batch norm from means, the quicker one where it is differentiated twice."""
    centred = x - x.mean((0, 2, 3), keepdim=True)
    var = (centred * centred).mean((0, 2, 3), keepdim=True)
    return centred * torch.rsqrt(var + EPSILON) + beta.view(1, -1, 1, 1)


# ----- Contenders: each returns a function that does one meta-step -----


def adapted(work: Work, loss: Loss, theta: Parameters, x: Tensor, y: Tensor) -> Parameters:
    """Return the parameters after the inner steps, in a graph if the order is exact."""
    exact = work.order == "exact"
    p = theta
    for _ in range(work.steps):
        grads = torch.autograd.grad(loss(p, x, y), list(p.values()), create_graph=exact)
        p = {n: w - work.alpha * g for (n, w), g in zip(p.items(), grads, strict=True)}
    return p


def loop(work: Work) -> Step:
    """One task after the other."""
    theta, tasks = tensors(work), list(zip(*batch(work), strict=True))
    loss = loss_of(work)

    def one(xs: Tensor, ys: Tensor, xq: Tensor, yq: Tensor) -> tuple[Tensor, ...]:
        query = loss(adapted(work, loss, theta, xs, ys), xq, yq)
        return torch.autograd.grad(query, list(theta.values()))

    return lambda: _average([one(*task) for task in tasks])


def func(work: Work) -> Step:
    """torch.func: vmap over tasks of grad through the unrolled inner loop."""
    theta = {n: w.detach() for n, w in tensors(work).items()}
    arrays, loss = batch(work), loss_of(work)

    def after(p: Parameters, xs: Tensor, ys: Tensor, xq: Tensor, yq: Tensor) -> Tensor:
        for _ in range(work.steps):
            g = torch.func.grad(loss)(p, xs, ys)
            if work.order == "first":
                g = {n: array.detach() for n, array in g.items()}
            p = {n: p[n] - work.alpha * g[n] for n in p}
        return loss(p, xq, yq)

    each = torch.func.vmap(torch.func.grad(after), in_dims=(None, 0, 0, 0, 0))

    def step() -> list[Tensor]:
        return [g.mean(0) for g in each(theta, *arrays).values()]

    return step


class Net(torch.nn.Module):
    """The loss as a module, whose parameters `higher` can replace."""

    def __init__(self, theta: Parameters, loss: Loss) -> None:
        super().__init__()
        self.names, self.loss = list(theta), loss
        for name, tensor in theta.items():
            self.register_parameter(name, torch.nn.Parameter(tensor.detach()))

    def forward(self, x: Tensor, y: Tensor) -> Tensor:
        """Return the loss."""
        return self.loss({n: getattr(self, n) for n in self.names}, x, y)


def with_higher(work: Work) -> Step:
    """`higher`: a loop over tasks with its differentiable SGD."""
    net = Net(tensors(work), loss_of(work))
    sgd = torch.optim.SGD(net.parameters(), lr=work.alpha)
    tasks, exact = list(zip(*batch(work), strict=True)), work.order == "exact"

    def one(xs: Tensor, ys: Tensor, xq: Tensor, yq: Tensor) -> tuple[Tensor, ...]:
        with higher.innerloop_ctx(
            net, sgd, copy_initial_weights=False, track_higher_grads=exact
        ) as (fast, optimizer):
            for _ in range(work.steps):
                optimizer.step(fast(xs, ys))
            by = net if exact else fast
            return torch.autograd.grad(fast(xq, yq), list(by.parameters()))

    return lambda: _average([one(*task) for task in tasks])


def _average(gradients: list[tuple[Tensor, ...]]) -> list[Tensor]:
    return [sum(g) / len(gradients) for g in zip(*gradients, strict=True)]
