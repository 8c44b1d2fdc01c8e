"""Every option arrives: it changes what it is for and nothing else, or it is refused.

A small run is observed in four parts, each from parameters that do not depend on training:

    S  the start: the initial parameters
    U  two outer steps
    V  the score on validation tasks
    T  the scores on test tasks

EFFECTS says which parts an option changes. An option that changes one part too many is as
wrong as one without effect: its value has reached the wrong tasks.
"""

from functools import cache
from itertools import combinations

import numpy as np
import pytest

from cases import others
from tinymaml import algorithms, experiments, losses
from tinymaml.data import glyphs, miniimagenet, omniglot, own_images
from tinymaml.errors import UsageError
from tinymaml.experiments import MODULES
from tinymaml.experiments.common import Config
from tinymaml.harness import loop, results
from tinymaml.harness.checkpoints import Kept
from tinymaml.optim import Moments, State
from tinymaml.speed.workers import Here


# The parts that an option changes and, after a blank, those that it may change.
EFFECTS = {
    **{"seed": "SU", "tasks": "U", "dtype": "SUVT", "activation": "UVT"},
    **{"alpha": "UVT", "alpha_head": "UVT", "tune": "VT", "inner_steps": "UV"},
    **dict.fromkeys(("beta", "schedule", "beta_end", "epoch", "clip", "outer"), "U"),
    **{"validation_tasks": "V", "test_tasks": "T", "test_steps": "T"},
    # sine
    **{"shots": "UVT", "queries": "UVT", "grid": "UVT", "phases": "UVT"},
    **{"hidden": "SUVT", "weights": "S"},
    # images
    **{"ways": "SUVT", "test_queries": "VT", "inner_loss": "UVT", "outer_loss": "U"},
    **{"net": "UVT S", "filters": "SUVT", "head": "S"},
    **{"norm_eps": "UVT", "norm_scale": "SUVT", "adapt_norm": "UVT"},
    **{"data": "UVT", "split": "UVT", "rotate": "UVT", "within": "UVT"},
    **{"side": "", "channels": ""},
    # policies
    **{"surrogate": "U", "trajectories": "U", "test_trajectories": "VT"},
    **{"horizon": "UVT", "discount": "UVT", "reward": "UVT"},
    **{"max_kl": "U", "fisher_stride": "U"},
    **{"task": "UVT S", "rules": "SUVT", "velocity": "UVT", "frame_skip": "UVT"},
    # algorithms
    **{"rates": "SUVT", "order": "U", "adapts": "UVT S", "context": "SUVT"},
    **{"multi_step_loss": "U", "multi_step_epochs": "U", "first_order_epochs": "U"},
    **{"step_norm": "SUV T", "proximal": "UVT", "cg_steps": "U"},
    **{"inner": "SUVT", "inner_batch": "UVT", "test_batch": "VT", "train_shots": "U"},
    **{"regressors": "SUVT", "points": "U", "pull": "U", "wave": "U"},
}
AVERAGED = ("averaged", "averaged-l2", "averaged-mean")
BASELINES = ("pretrained", "oracle", "random", *AVERAGED)
# Where an algorithm has other effects.
OTHERWISE = {
    # Its training tasks have --points.
    **{(name, option): "VT" for name in AVERAGED for option in ("shots", "queries")},
    # Its step size is tuned on validation tasks.
    **{(name, "validation_tasks"): "V T" for name in BASELINES},
    # Learned rates are initial parameters. Some are of each step, as are learned norms.
    **{(name, x): "S" for name in ("meta-sgd", "maml++") for x in ("alpha", "alpha_head")},
    ("maml++", "inner_steps"): "SUV T",
    # Nets without batch norm have none.
    ("sine maml++", "step_norm"): "",
    # Only its test takes inner steps.
    ("pretrained", "adapt_norm"): "VT",
    # A random net takes no outer step.
    ("random", "trajectories"): "",
}
# Options that are refused: inner steps change no array of that kind, or one value fits.
REFUSED = {
    *((name, "alpha_head") for name in ("boil", "context", "cavia")),
    *((name, "adapt_norm") for name in ("maml++", "anil", "context", "cavia")),
    *((name, "grid") for name in AVERAGED),
    ("e-maml", "surrogate"),
    *(("images maml", x) for x in ("side", "channels")),  # other than in the data file
    *((f"pointnav {name}", x) for name in ("anil", "boil") for x in ("rates", "order")),
}
# Options about how a run goes: see `harness/test_loop.py`.
LOOP = (
    *("iterations", "checkpoint_every", "validate_every", "chunk", "replay"),
    *("test", "preset", "algorithm"),
)
# What an option needs beside it.
BESIDE = {
    **{"beta_end": {"schedule": "linear"}, "epoch": {"schedule": "cosine", "epoch": 3}},
    **{"schedule": {"schedule": "cosine", "epoch": 3}, "multi_step_epochs": {"epoch": 3}},
    **{"first_order_epochs": {"epoch": 3}, "grid": {"queries": 0}},
    **{"inner": {"outer": "sgd"}, "inner_batch": {"inner_batch": 1}},
    **{"inner_loss": {"inner_batch": 1}},
    **{"max_kl": {"outer": "trpo"}, "fisher_stride": {"outer": "trpo"}},
}
# Small values, taken where there is such an option.
SMALL = {
    **{"seed": 1, "tasks": 3, "hidden": (4,), "shots": 2, "queries": 3, "ways": 3},
    **{"inner_steps": 2, "validation_tasks": 3, "test_tasks": 4, "test_steps": 3},
    **{"iterations": 4, "filters": 2, "data": "a.npz", "validate_every": 1},
    **{"trajectories": 3, "horizon": 4, "test_trajectories": 2, "fisher_stride": 1},
    **{"outer": "adam", "context": 2, "cg_steps": 2, "inner_batch": 2, "wave": 1},
    **{"regressors": 4, "points": 4, "alpha": 0.03, "replay": False},
}
SINE = MODULES["sine"].CONFIG
CASES = {
    "sine": algorithms.available(SINE.setting, SINE.offers),
    "glyphs": ("maml", "maml++", "t-net", "anil", "cavia", "reptile", "pretrained"),
    "omniglot": ("maml",),
    "miniimagenet": ("maml",),
    "images": ("maml",),
    "pointnav": ("maml", "anil", "e-maml", "pretrained", "random"),
    "locomotion": ("maml",),
}
every_case = pytest.mark.parametrize(
    ("experiment", "algorithm"),
    [(experiment, name) for experiment, names in CASES.items() for name in names],
)


def drawings(count, size, *names):
    """Return images uint8 (count, 12, *size) that other names make others."""
    rng = np.random.default_rng([*"".join(map(str, names)).encode()])
    blocks = rng.integers(0, 128, (count, 1, *size))
    return (blocks + rng.integers(0, 128, (count, 12, *size))).astype(np.uint8)


def likelihood(logits, labels):
    """Return the mean likelihood of the labels, which every change changes."""
    odds = np.exp(logits - logits.max(axis=-1, keepdims=True))
    odds /= odds.sum(axis=-1, keepdims=True)
    return np.take_along_axis(odds, labels[..., None], -1)[..., 0].mean(axis=-1)


@pytest.fixture(scope="module", autouse=True)
def small_data():
    """Images of 16 x 16 pixels in place of the real ones, and a smooth score."""

    def loaded(path, split="", size=(16, 16)):
        rows = np.arange(18).reshape(3, 6)
        parts = dict(zip(("train", "val", "test"), rows, strict=True))
        return drawings(18, size, path, split), parts

    def of_size(path, side, channels):
        if (side, channels) != (16, 1):
            raise UsageError("another size")
        return loaded(path)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(glyphs, "draw_classes", lambda seed, n: drawings(n, (16, 16), seed))
        patch.setattr(omniglot, "load", loaded)
        patch.setattr(miniimagenet, "load", lambda path: loaded(path, size=(16, 16, 3)))
        patch.setattr(own_images, "load", of_size)
        patch.setattr(own_images, "size", lambda path: (16, 1))
        patch.setattr(own_images, "has_validation", lambda path: True)
        for module, name in ((own_images, "groups"), (omniglot, "alphabets")):
            patch.setattr(module, name, lambda path: ["a", "b"] * 9)
        for module in (glyphs, miniimagenet, experiments.omniglot):
            patch.setattr(module, "SIDE", 16)
        patch.setattr(losses, "accuracy", likelihood)
        patch.setattr(Config, "step_sizes", (0.02, 0.5))  # fewer to choose from
        patch.setattr(losses, "accuracy", likelihood)
        experiments.problem.cache_clear()
        yield
    experiments.problem.cache_clear()


def small(experiment, algorithm, **changes):
    """Return a small configuration."""
    kind, method = MODULES[experiment].CONFIG, algorithms.find(algorithm)
    options = kind.options_for(method)
    found = {k: x for k, x in SMALL.items() if k in options and k not in method.ignores}
    if not method.inner_loop:
        del found["alpha"]
    if algorithm == "e-maml":
        found["surrogate"] = "naive"
    return kind(**found | {"algorithm": algorithm} | changes)


@cache
def observed(config):
    """Return the four parts of a run, {letter: bytes}."""
    start = loop.initial_state(config).theta
    rng = np.random.default_rng(0)
    w, m, v = 0.3 * rng.standard_normal((3, len(start)))
    w, m, v = (x.astype(config.dtype) for x in (w, m, abs(v)))
    state = State(2, w, Moments(m, v))
    for _ in range(state.iteration, config.iterations):
        state, _ = loop.ITERATIONS[config.setting](config, state, Here())
    validated = config.with_changes({"validate_every": 1})
    score = loop.validate(validated, State(1, w, state.moments), Here())
    tasks, steps = config.test_tasks, config.test_steps
    found = results.judge(config, Kept(0, w, np.nan), "test", tasks, steps, (), Here())
    parts = start.tobytes(), state.theta.tobytes(), repr(score), found.scores.tobytes()
    return dict(zip("SUVT", parts, strict=True))


def effects(experiment, algorithm, name):
    """Return the parts that an option must change, and those that it may change."""
    keys = (f"{experiment} {algorithm}", name), (algorithm, name)
    found = next((OTHERWISE[key] for key in keys if key in OTHERWISE), EFFECTS[name])
    must, _, may = found.partition(" ")
    return must.replace("U", "") if algorithm == "random" else must, must + may


@every_case
def test_every_option_changes_what_it_is_for(experiment, algorithm):
    """Rejects an option that is read but never used, one of which two values are the same,
    and one that reaches training, validation or test where it should not."""
    if experiment == "locomotion":
        pytest.importorskip("mujoco.batch")
    config = small(experiment, algorithm)
    for name, option in config.options.items():
        beside = BESIDE.get(name, {})
        if name in LOOP:
            continue
        try:
            base = small(experiment, algorithm, **beside)
        except UsageError:  # so this option has no effect either
            base = config
        if not base.uses(name):
            with pytest.raises(UsageError, match=f"{option.flag} has no effect"):
                base.with_changes({name: others(option, getattr(base, name))[0]})
            continue
        seen, refusals = {getattr(base, name): observed(base)}, []
        for value in others(option, getattr(base, name)):
            try:
                seen[value] = observed(base.with_changes({name: value}))
            except UsageError as error:
                refusals.append(str(error))
        must, may = effects(experiment, algorithm, name)
        refused = {(algorithm, name), (f"{experiment} {algorithm}", name)} & REFUSED
        assert (len(seen) == 1) == bool(refused), (name, refusals)
        for one, other in combinations(seen, 2):
            changed = {x for x in "SUVT" if seen[one][x] != seen[other][x]}
            assert {*must} <= changed <= {*may}, (name, one, other, sorted(changed))


def test_every_option_has_its_effects_in_the_table():
    """Rejects an option that is added and that nothing here tries."""
    names = {
        name
        for module in MODULES.values()
        for method in algorithms.ROWS
        for name in module.CONFIG.options_for(method)
    }
    assert names == EFFECTS.keys() | {*LOOP}
