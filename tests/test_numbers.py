"""Numbers of the program, typed again: no other test reads the last digit of most.

A number of a paper or of a code is that of its source. A number of ours that decides which
data are drawn, or from which stream, must stay: another one silently changes every result.
"""

import math
from importlib import import_module

import numpy as np
import pytest

from tinymaml.algorithms import ROWS
from tinymaml.experiments import MODULES
from tinymaml.experiments.acting import Acting
from tinymaml.experiments.common import Config
from tinymaml.experiments.images import Grouped, Images
from tinymaml.options import options_of


# The module, the name and the value of each constant.
CONSTANTS = [
    # Kingma & Ba 2015, section 2
    *(("optim", "BETA1", 0.9), ("optim", "BETA2", 0.999), ("optim", "EPSILON", 1e-8)),
    # cbfinn/maml: utils.py:41 (tf.contrib); PyTorch's slope of leaky_relu
    *(("ops", "EPSILON", 1e-3), ("ops", "LEAK", 0.01)),
    # cca_core.py of google/svcca
    ("similarity", "CUT", 0.98),
    *(("similarity", "POINTS", 2), ("similarity", "DIGITS", 12)),
    # Finn et al. 2017, section 5.1; data_generator.py:29-31; the demo of Reptile
    *(("data.sine", "AMPLITUDES", (0.1, 5.0)), ("data.sine", "INPUTS", (-5.0, 5.0))),
    ("data.sine", "PHASES", {"half": (0, math.pi), "full": (0, 2 * math.pi)}),
    # Lake et al. 2015; Vinyals et al. 2016, Ravi & Larochelle 2017
    *(("data.omniglot", "CHARACTERS", 1623), ("data.omniglot", "DRAWINGS", 20)),
    *(("data.omniglot", "SIDE", 28), ("data.miniimagenet", "SIDE", 84)),
    ("data.miniimagenet", "IMAGES", 600),
    # ours: what every glyph looks like
    *(("data.glyphs", "SIDE", 28), ("data.glyphs", "SCALE", 4)),
    *(("data.glyphs", "CURVE_POINTS", 12), ("data.glyphs", "STROKES", (2, 5))),
    *(("data.glyphs", "LOW", 0.18), ("data.glyphs", "HIGH", 0.82)),
    *(("data.glyphs", "WOBBLE", 0.035), ("data.glyphs", "SHIFT", 0.03)),
    *(("data.glyphs", "TURN", 0.12), ("data.glyphs", "STRETCH", 0.08)),
    ("data.glyphs", "PEN", (1.2, 1.9)),
    ("experiments.glyphs", "CLASSES", {"train": 200, "val": 50, "test": 50}),
    ("experiments.glyphs", "GLYPH_SEED", 2017),
    # ours: the fixed tasks, and the streams of trajectories
    *(("harness.evaluation", "TASK_SEED", 0), ("algorithms.minibatch", "TEST_SEED", 0)),
    *(("experiments.acting", "SCORE", 2**31), ("experiments.acting", "STARTS", 2**32)),
    # appendix C.1; few_shot_learning_system.py:90-101 of MAML++
    *(("algorithms.averaged", "FITTED", 0.02), ("algorithms.multistep", "FLOOR", 0.03)),
    # point_env_randgoal.py:17-43
    *(("rl.pointnav", "GOALS", 0.5), ("rl.pointnav", "STRIDE", 0.1)),
    ("rl.pointnav", "NEAR", 0.01),
    # maml_minimal_gauss_mlp_policy.py:38
    ("rl.policy", "FLOOR", math.log(1e-6)),
    # linear_feature_baseline.py:19-43; rllab/algos/util.py:7-8
    *(("rl.rollout", "RIDGE", 1e-5), ("rl.rollout", "TRIES", 5)),
    *(("rl.rollout", "TIME_UNIT", 100), ("rl.rollout", "CLIP", 10)),
    ("rl.rollout", "EPSILON", 1e-8),
    # conjugate_gradient_optimizer.py:127-131, krylov.py:7
    *(("rl.trpo", "CG_STEPS", 10), ("rl.trpo", "CG_TOLERANCE", 1e-10)),
    *(("rl.trpo", "DAMPING", 1e-5), ("rl.trpo", "BACKTRACK", 0.8)),
    ("rl.trpo", "TRIES", 15),
    # half_cheetah_env_rand.py:24, 57-66; ant_env_rand.py:31, 49-65; the files of Gymnasium
    ("rl.locomotion", "FASTEST", {"cheetah": 2.0, "ant": 3.0}),
    ("rl.locomotion", "HEIGHTS", (0.2, 1.0)),
    (
        *("rl.locomotion", "CROUCHED"),
        (0, 0, 0.55, 1, 0, 0, 0, 0, 1, 0, -1, 0, -1, 0, 1),
    ),
    (
        *("rl.locomotion", "RULES"),
        {
            "rllab": {"cheetah": (0.05, 0, 0), "ant": (0.005, 0.0005, 0.05)},
            "gymnasium": {"cheetah": (0.1, 0, 0), "ant": (0.5, 0.0005, 1)},
        },
    ),
    (
        *("rl.locomotion", "ANTS"),
        {"rllab": (0.02, (0.8, 0.8, 0.01)), "gymnasium": (0.01, (0.9, 0.95, 0.001))},
    ),
    ("rl.bodies", "CHEETAH_MASS", 14.0),
    # measured: a body at rest
    (
        *("experiments.locomotion", "STILL"),
        {"cheetah-dir": 0, "cheetah-vel": -200, "ant-dir": 8.2, "ant-vel": -91.8},
    ),
    # Raghu et al. 2020; analysis.ipynb of BOIL
    *(("harness.reuse", "QUERIES", 15), ("harness.reuse", "SIMILAR", 0.9)),
    ("harness.reuse", "HEAD_STEPS", (1, 2, 5, 10, 50)),
]


@pytest.mark.parametrize(("module", "name", "value"), CONSTANTS)
def test_a_constant_is_the_one_that_was_typed_again(module, name, value):
    """Rejects another digit."""
    assert getattr(import_module(f"tinymaml.{module}"), name) == value


# ----- Defaults -----

# Of every experiment, by the class that sets them. Their sources stand beside them there.
DEFAULTS = {
    Config: {
        **{"preset": "none", "algorithm": "maml", "iterations": 1000, "seed": 0},
        **{"tasks": 32, "alpha": 0.01, "alpha_head": 0.0, "tune": True, "inner_steps": 1},
        **{"beta": 1e-3, "schedule": "constant", "beta_end": 0.0, "epoch": 500},
        **{"clip": 0.0, "activation": "relu", "dtype": "float32", "chunk": 4},
        **{"replay": True, "checkpoint_every": 500, "validate_every": 0},
        **{"validation_tasks": 200, "test": True, "test_tasks": 600, "test_steps": 10},
    },
    Images: {
        **{"alpha": 0.4, "validate_every": 250, "outer": "adam", "ways": 5, "shots": 1},
        **{"queries": 0, "test_queries": 0, "inner_loss": "mean", "outer_loss": "mean"},
        **{"net": "conv", "filters": 64, "head": "glorot", "norm_eps": 1e-3},
        **{"norm_scale": False, "adapt_norm": False},
    },
    Grouped: {"within": "any"},
    Acting: {
        **{"tasks": 40, "alpha": 0.1, "chunk": 10, "checkpoint_every": 10},
        **{"validation_tasks": 40, "test_tasks": 40, "test_steps": 4, "surrogate": "lvc"},
        **{"trajectories": 20, "horizon": 100, "discount": 0.99, "hidden": (100, 100)},
        **{"outer": "trpo", "max_kl": 0.01, "fisher_stride": 10},
        **{"test_trajectories": 40},
    },
    "sine": {
        **{"iterations": 12000, "tasks": 25, "inner_steps": 2, "chunk": 25, "shots": 10},
        **{"queries": 0, "grid": False, "phases": "half", "hidden": (40, 40)},
        **{"weights": "normal", "outer": "adam"},
    },
    "omniglot": {"iterations": 10000, "data": "", "split": "finn", "rotate": True},
    "miniimagenet": {
        **{"iterations": 10000, "tasks": 4, "alpha": 0.01, "inner_steps": 5, "chunk": 1},
        **{"checkpoint_every": 100, "queries": 15, "net": "pooled", "filters": 32},
        **{"data": ""},
    },
    "images": {
        **{"iterations": 2000, "checkpoint_every": 100, "filters": 32, "data": ""},
        **{"side": 0, "channels": 0},
    },
    "glyphs": {"iterations": 500, "checkpoint_every": 100, "filters": 32},
    "pointnav": {"iterations": 500, "reward": "negative_distance"},
    "locomotion": {
        **{"iterations": 300, "chunk": 5, "test_steps": 3, "horizon": 200, "max_kl": 0.2},
        **{"test_trajectories": 20, "task": "cheetah-dir", "rules": "rllab"},
        **{"velocity": "com", "frame_skip": 1},
    },
}


@pytest.mark.parametrize("name", MODULES)
def test_a_default_is_the_one_that_was_typed_again(name):
    """Rejects a default that is no longer the paper's, the code's or the documented one."""
    kind, expected = MODULES[name].CONFIG, {}
    for base in reversed(kind.__mro__):
        expected |= DEFAULTS.get(base, {})
    expected |= DEFAULTS[name]
    found = {option: one.default for option, one in options_of(kind).items()}
    assert found == expected


TUNED = np.outer(10.0 ** np.arange(-5, 1), (1, 2, 5)).ravel()


@pytest.mark.parametrize("name", MODULES)
def test_the_step_sizes_to_choose_from(name):
    """Rejects another step size among those that are tried."""
    expected = (0.02, 0.05, 0.1, 0.2, 0.5, 1.0) if name == "locomotion" else TUNED
    np.testing.assert_allclose(MODULES[name].CONFIG.step_sizes, expected, rtol=1e-12)


# An algorithm's own options, and its other defaults of an experiment's.
LEARNED = {"rates": "fixed", "order": "exact"}
MOVED = {**LEARNED, "adapts": "all"}
NETS = {"regressors": 500, "points": 100}
NONE = {"validate_every": 0}
ALGORITHMS = {
    **dict.fromkeys(("maml", "fomaml", "maml-low-memory", "e-maml"), ({}, {})),
    "meta-sgd": ({**MOVED, "rates": "parameter"}, {"inner_steps": 1, "test_steps": 1}),
    "maml++": (
        {
            **{**MOVED, "rates": "tensor", "multi_step_loss": True},
            **{"multi_step_epochs": 10, "first_order_epochs": 0, "step_norm": True},
        },
        {"inner_steps": 5, "test_steps": 5},
    ),
    **dict.fromkeys(("t-net", "meta-curvature"), (MOVED, {})),
    "imaml": (
        {"proximal": 2.0, "cg_steps": 5},
        {"alpha": 0.1, "inner_steps": 16, "test_steps": 16},
    ),
    "anil": (LEARNED, {"inner_steps": 5}),
    "boil": (LEARNED, {"inner_steps": 1}),
    "context": ({**LEARNED, "context": 10}, {}),
    "cavia": ({**LEARNED, "context": 5}, {"inner_steps": 1, "alpha": 1.0}),
    "reptile": (
        {"inner": "sgd", "inner_batch": 0, "test_batch": 0, "train_shots": 0},
        {"inner_steps": 5, "outer": "sgd", "beta": 1.0, "schedule": "linear"},
    ),
    **dict.fromkeys(("pretrained", "oracle"), ({}, NONE)),
    "random": ({}, {**NONE, "iterations": 0}),
    "averaged": (NETS, NONE),
    "averaged-l2": ({**NETS, "pull": 3e-3}, NONE),
    "averaged-mean": ({**NETS, "pull": 3e-3, "wave": 1200}, NONE),
}


@pytest.mark.parametrize("row", ROWS, ids=lambda row: row.name)
def test_an_algorithms_defaults_are_those_that_were_typed_again(row):
    """Rejects another default of an algorithm, its own or of an experiment's option."""
    own = {name: option.default for name, option in options_of(row.options).items()}
    assert (own, row.defaults({})) == ALGORITHMS[row.name]
