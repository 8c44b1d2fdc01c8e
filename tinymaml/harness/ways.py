"""A classifier that was trained for some number of ways, used for another."""

import numpy as np

from tinymaml import params
from tinymaml.errors import UsageError
from tinymaml.experiments import problem
from tinymaml.experiments.common import Config
from tinymaml.maml import Array


def resized(config: Config, w: Array, ways: int) -> tuple[Config, Array, str]:
    """Return options and w (M',) for tasks of another number of ways, and what was done.

    w: (M,), everything meta-learned
    Of every array with an entry for each way, the first `ways` entries are kept. Further
    ones are the mean of the learned ones, since labels are shuffled in every task.
    Raises UsageError when the experiment has no ways, or an array is not of that form.
    """
    if "ways" not in config.options:
        raise UsageError(f"a run of {config.name} has no classes: no option --ways")
    before, method = config.values()["ways"], config.method
    if ways == before:
        return config, w, ""
    wanted = config.with_changes({"ways": ways})
    (old, model), (new, wider) = (_shapes(one) for one in (config, wanted))
    found = params.unpack(w, old)
    if old.keys() != new.keys():
        raise UsageError(
            f"{method.name} learns other arrays for {ways} ways than for {before}"
        )
    sizes = params.count(model), params.count(wider)
    for name, shape in new.items():
        array = found[name]
        if (array.shape[-1:], shape[-1:]) == (
            sizes[:1],
            sizes[1:],
        ):  # one for each of theta
            parts = params.unpack(array, model)
            parts = {
                k: _resized(f"{method.name}'s {k}", x, array.shape[:-1] + wider[k], before)
                for k, x in parts.items()
            }
            found[name] = params.pack(parts, wider)
        else:
            found[name] = _resized(f"{method.name}'s {name}", array, shape, before)
    how = f"the head has its first {ways} outputs"
    if ways > before:
        added = f"outputs {before + 1} to {ways} begin"
        if ways == before + 1:
            added = f"output {ways} begins"
        how = f"{added} as the mean of the first {before}"
    remark = f"{ways}-way tasks, trained for {before} ways: {how}"
    return wanted, params.pack(found, new), remark


def _shapes(config: Config) -> tuple[dict, dict]:
    """Return the shapes of the arrays in w, and of those in theta."""
    family = problem(config)
    return dict(config.method.shapes(family)), dict(family.model.shapes)


def _resized(name: str, array: Array, shape: tuple[int, ...], before: int) -> Array:
    """Return an array of a shape that has other ways than `before` along one axis."""
    changed = [i for i, size in enumerate(shape) if size != array.shape[i]]
    if not changed:
        return array
    if len(changed) > 1 or array.shape[changed[0]] != before:
        raise UsageError(f"{name} of shape {array.shape} is for {before} ways only")
    (axis,) = changed
    kept = np.take(array, range(min(shape[axis], before)), axis)
    mean = array.mean(axis, keepdims=True, dtype=float).astype(array.dtype)
    more = np.repeat(mean, shape[axis] - kept.shape[axis], axis)
    return np.concatenate([kept, more], axis)
