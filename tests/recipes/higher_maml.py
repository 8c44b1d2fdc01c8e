"""The `higher` library's inner loop, differentiated by both ends, for `classify`."""

import higher
import torch
from torch.nn.utils import parameters_to_vector, vector_to_parameters
from torch_maml import ALPHA, STEPS, X_Q, X_S, Y_Q, Y_S


NET = torch.nn.Sequential(
    *(torch.nn.Linear(1, 8), torch.nn.Tanh(), torch.nn.Linear(8, 8), torch.nn.Tanh()),
    torch.nn.Linear(8, 1),
).double()


def run(theta):
    """Return the query loss, the initial and the adapted parameters of one task."""
    vector_to_parameters(torch.tensor(theta), NET.parameters())
    optimizer = torch.optim.SGD(NET.parameters(), lr=ALPHA)
    with higher.innerloop_ctx(NET, optimizer, copy_initial_weights=False) as (net, inner):
        for _ in range(STEPS):
            inner.step(((net(X_S) - Y_S) ** 2).mean())
        loss = ((net(X_Q) - Y_Q) ** 2).mean()
        return loss, list(NET.parameters()), list(net.parameters())


def adapt(theta):
    """theta -> theta_K."""
    return parameters_to_vector(run(theta)[2]).detach().numpy()


def meta_loss(theta):
    """theta -> Q(theta_K)."""
    return run(theta)[0].item()


def meta_gradient(theta, first_order=False):
    """theta -> the gradient of Q(theta_K) by theta, or by theta_K alone."""
    loss, initial, adapted = run(theta)
    grads = torch.autograd.grad(loss, adapted if first_order else initial)
    return parameters_to_vector([g.reshape(-1) for g in grads]).numpy()


def first_order_gradient(theta):
    """theta -> what its users take for first-order MAML."""
    return meta_gradient(theta, first_order=True)
