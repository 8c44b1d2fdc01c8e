"""The peers by name. Each library is imported when its contender is asked for."""

from __future__ import annotations

import importlib

from works import Contender


# name -> module here, function in it
PEERS = {
    "PyTorch loop": ("torch_peers", "loop"),
    "torch.func vmap": ("torch_peers", "func"),
    "higher": ("torch_peers", "with_higher"),
    "JAX jit vmap": ("jax_peers", "vmapped"),
    "JAX jit scan": ("jax_peers", "scanned"),
}
PACKAGES = ("torch", "higher", "jax")


def contender(name: str) -> Contender:
    """Return a peer."""
    file, make = PEERS[name]
    module = importlib.import_module(file)
    return Contender(
        name,
        getattr(module, make),
        module.flat,
        module.precision,
        module.THREADS,
        module.set_threads,
    )
