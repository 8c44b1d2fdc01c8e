"""One iteration of MAML-TRPO on 2D navigation in plain PyTorch, written on its own.

Tasks are computed side by side in groups: a group of one is the usual loop over tasks.
Gradients through the inner step are autograd's own; the products of conjugate gradients
keep their graphs.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import torch
from torch import Tensor


class Settings(NamedTuple):
    """Options of an iteration, by tinymaml's names."""

    sizes: tuple[int, ...]
    alpha: float
    discount: float
    max_kl: float
    stride: int
    group: int


class Trip(NamedTuple):
    """What N trajectories of each task saw, did, and were worth; (T, N, H, ...)."""

    seen: Tensor
    done: Tensor
    advantage: Tensor
    weight: Tensor
    logp: Tensor
    reward: Tensor


class Group:
    """Some tasks of an iteration: their trajectories before and after the inner step."""

    def __init__(self, theta: Tensor, goals: Tensor, noise: list[Tensor], s: Settings):
        self.s = s
        start = theta.expand(len(goals), -1).clone().requires_grad_()
        self.before = roll(start.detach(), goals, noise[0], s)
        adapted = step(start, self.before, s)
        self.old = adapted.detach()
        self.after = roll(self.old, goals, noise[1], s)
        loss = outer(adapted, self.after, s)
        (per_task,) = torch.autograd.grad(loss, start)
        self.loss, self.gradient = float(loss.detach()), per_task.sum(0)
        self.start = start.detach()
        self.products = None

    def product(self, v: Tensor) -> Tensor:
        """J' F J v, summed over the tasks, on every stride-th time step."""
        if self.products is None:
            self.products = self._graphs()
        start, slope, there, kl_slope = self.products
        v = v.expand(len(start), -1)

        def jacobian(u: Tensor) -> Tensor:
            (hu,) = torch.autograd.grad(slope, start, u, retain_graph=True)
            return u - self.s.alpha * hu

        (fv,) = torch.autograd.grad(kl_slope, there, jacobian(v), retain_graph=True)
        return jacobian(fv).sum(0)

    def _graphs(self):
        before, after = (thinned(trip, self.s.stride) for trip in (self.before, self.after))
        start = self.start.clone().requires_grad_()
        slope = inner_slope(start, before, self.s)
        there = self.old.clone().requires_grad_()
        kl = divergence(self.old, there, after, self.s)
        (kl_slope,) = torch.autograd.grad(kl, there, create_graph=True)
        return start, slope, there, kl_slope

    def trial(self, theta: Tensor) -> tuple[float, float]:
        """Loss and KL after the inner step from another theta, on the same trajectories."""
        start = theta.expand(len(self.start), -1).clone().requires_grad_()
        loss = surrogate(start, self.before, self.s)
        (g,) = torch.autograd.grad(loss, start)
        with torch.no_grad():
            adapted = start - self.s.alpha * g
            after = surrogate(adapted, self.after, self.s)
            return float(after), float(divergence(self.old, adapted, self.after, self.s))


def iteration(
    theta: Tensor, goals: Tensor, noise: list[Tensor], s: Settings
) -> tuple[Tensor, Tensor, float]:
    """Return theta after the update, the meta-gradient, and the mean return after."""
    count = len(goals)
    groups = [
        Group(theta, goals[i : i + s.group], [n[i : i + s.group] for n in noise], s)
        for i in range(0, count, s.group)
    ]
    gradient = sum(g.gradient for g in groups) / count
    loss = sum(g.loss for g in groups) / count
    b = gradient.double()
    x, rest = torch.zeros_like(b), b.clone()
    p, size = rest.clone(), rest @ rest
    for _ in range(10):
        if size < 1e-10:
            break
        image = sum(g.product(p.to(theta.dtype)) for g in groups).double() / count
        image += 1e-5 * p
        a = size / (p @ image)
        x, rest = x + a * p, rest - a * image
        size, before = rest @ rest, size
        p = rest + size / before * p
    full = torch.sqrt(2 * s.max_kl / (x @ (b - rest) + 1e-8)) * x
    for k in range(15):
        there = (theta - 0.8**k * full).to(theta.dtype)
        told = [g.trial(there) for g in groups]
        after, kl = (sum(column) / count for column in zip(*told, strict=True))
        if after < loss and kl <= s.max_kl:
            theta = there
            break
    returns = torch.cat([g.after.reward.sum(2).mean(1) for g in groups])
    return theta, gradient, float(returns.mean())


# ----- Policy -----


def policy(theta: Tensor, x: Tensor, s: Settings) -> tuple[Tensor, Tensor]:
    """Mean (T, M, 2) and log-std (T, 1, 2) at observations (T, M, 2)."""
    at = 0
    for i, (k, f) in enumerate(zip(s.sizes, s.sizes[1:], strict=False)):
        w = theta[:, at : at + k * f].view(-1, k, f)
        b = theta[:, at + k * f : at + k * f + f].unsqueeze(1)
        at += k * f + f
        x = torch.baddbmm(b, x, w)
        if i < len(s.sizes) - 2:
            x = torch.relu(x)
    return x, theta[:, None, at:].clamp(min=math.log(1e-6))


def density(mean: Tensor, log_std: Tensor, action: Tensor) -> Tensor:
    """log pi(a|s)."""
    z = (action - mean) / log_std.exp()
    return (-0.5 * z**2 - log_std - 0.5 * math.log(2 * math.pi)).sum(-1)


def _rows(x: Tensor) -> Tensor:
    return x.reshape(len(x), -1, x.shape[-1])


def surrogate(theta: Tensor, trip: Trip, s: Settings) -> Tensor:
    """-<A ratio>, summed over the tasks."""
    logp = density(*policy(theta, _rows(trip.seen), s), _rows(trip.done))
    ratio = torch.exp(logp.view_as(trip.logp) - trip.logp)
    return -(trip.weight * trip.advantage * ratio).sum()


outer = surrogate


def inner_slope(theta: Tensor, trip: Trip, s: Settings) -> Tensor:
    """The gradient of the inner loss, with its graph."""
    loss = surrogate(theta, trip, s)
    return torch.autograd.grad(loss, theta, create_graph=True)[0]


def step(theta: Tensor, trip: Trip, s: Settings) -> Tensor:
    """The inner step, with its graph."""
    return theta - s.alpha * inner_slope(theta, trip, s)


def divergence(old: Tensor, new: Tensor, trip: Trip, s: Settings) -> Tensor:
    """Mean KL(old || new), summed over the tasks."""
    x = _rows(trip.seen)
    with torch.no_grad():
        m0, l0 = policy(old, x, s)
    m1, l1 = policy(new, x, s)
    kl = l1 - l0 + ((2 * l0).exp() + (m0 - m1) ** 2) / (2 * (2 * l1).exp()) - 0.5
    return (trip.weight.reshape(len(x), -1) * kl.sum(-1)).sum()


def thinned(trip: Trip, stride: int) -> Trip:
    """Every stride-th time step, weighted anew."""
    thin = Trip(*(x[:, :, stride // 2 :: stride] for x in trip))
    total = thin.weight.sum((1, 2), keepdim=True)
    return thin._replace(weight=thin.weight / total.clamp(min=1e-30))


# ----- World -----


@torch.no_grad()
def roll(theta: Tensor, goals: Tensor, noise: Tensor, s: Settings) -> Trip:
    """Walk the policy towards the goals."""
    tasks, n, horizon, _ = noise.shape
    place = theta.new_zeros(tasks, n, 2)
    alive = torch.ones(tasks, n, dtype=torch.bool)
    seen, done, logp, reward, live = [], [], [], [], []
    for t in range(horizon):
        mean, log_std = policy(theta, place, s)
        action = mean + log_std.exp() * noise[:, :, t]
        seen.append(place)
        done.append(action)
        logp.append(density(mean, log_std, action))
        live.append(alive)
        place = place + (0.1 * action).clamp(-0.1, 0.1)
        off = place - goals[:, None]
        reward.append(-off.norm(dim=-1) * alive)
        alive = alive & ~(off.abs() < 0.01).all(-1)
    seen, done, logp, reward, live = (
        torch.stack(x, 2) for x in (seen, done, logp, reward, live)
    )
    togo, total = [], torch.zeros(tasks, n, dtype=torch.float64)
    for t in reversed(range(horizon)):
        total = reward[:, :, t].double() + s.discount * total
        togo.append(total)
    togo = torch.stack(togo[::-1], 2)
    mask = live.double()
    count = mask.sum((1, 2), keepdim=True)
    a = (togo - baseline(seen.double(), togo, mask)) * mask
    a = (a - a.sum((1, 2), keepdim=True) / count) * mask
    a = a / ((a**2).sum((1, 2), keepdim=True) / count).sqrt().add(1e-8)
    weight = (mask / count).to(theta.dtype)
    return Trip(seen, done, a.to(theta.dtype), weight, logp, reward)


def baseline(seen: Tensor, togo: Tensor, mask: Tensor) -> Tensor:
    """The linear feature baseline, fitted to each task."""
    o = seen.clamp(-10, 10)
    t = torch.arange(seen.shape[2], dtype=torch.float64) / 100
    time = torch.stack([t, t**2, t**3, torch.ones_like(t)], -1)
    x = torch.cat([o, o**2, time.expand(*seen.shape[:3], 4)], -1).flatten(1, 2)
    masked = x * mask.flatten(1, 2)[..., None]
    gram = masked.mT @ x + 1e-5 * torch.eye(x.shape[-1], dtype=torch.float64)
    fit = torch.linalg.solve(gram, masked.mT @ togo.flatten(1, 2)[..., None])
    return (x @ fit).view_as(togo)
