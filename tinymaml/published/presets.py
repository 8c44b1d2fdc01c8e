"""The published settings of Finn, Abbeel & Levine 2017: of the paper, and of its code.

Every row has an option's value in the text and in the official code (cbfinn/maml and
maml_rl), each with its source; lines are those of its files. Where the text is silent on
something that a run needs, its value is the code's and the source says so.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

from tinymaml.errors import UsageError
from tinymaml.options import flags


NAMES = ("finn2017-paper", "finn2017-code")


class Row(NamedTuple):
    """An option as the paper and as the code has it."""

    option: str
    paper: Any
    paper_source: str
    code: Any
    code_source: str


class Part(NamedTuple):
    """What holds when the options in `when` have these values; always, if it is empty."""

    when: dict[str, Any]
    rows: tuple[Row, ...]


class Published(NamedTuple):
    """The settings that were published for an experiment, and what they consist of.

    notes: where paper and code disagree on what is no option here
    """

    settings: tuple[dict[str, Any], ...]
    parts: tuple[Part, ...]
    notes: tuple[str, ...] = ()


SILENT = "not in the paper; as the code"
EVAL = "main.py, main(): test_num_updates = 10 at test"

# ----- Common to several -----

OUTER_RATE = Row("beta", 1e-3, SILENT, 1e-3, "main.py, flag meta_lr")
TEST_TASKS = Row("test_tasks", 600, SILENT, 600, "main.py, NUM_TEST_POINTS")
EARLY_STOPPING = "not in the paper; issue 8 of the code tells of early stopping"
NO_SELECTION = Row("validate_every", 0, EARLY_STOPPING, 0, "not in the code")
MEANS = "section 5.2: the cross-entropy, read as a mean, as by ports; equation 3 is a sum"
CLASSIFICATION = (
    Row("activation", "relu", "section 5.2", "relu", "maml.py, tf.nn.relu"),
    Row("norm_eps", 1e-3, SILENT, 1e-3, "utils.py:41, tf.contrib's default (from memory)"),
    Row(
        *("adapt_norm", False, SILENT, False),
        "utils.py:41: offsets are not in `weights`, and there is no scale",
    ),
    Row("inner_loss", "mean", MEANS, "sum_over_shots", "utils.py:56-58, tf.gradients sums"),
    Row("outer_loss", "mean", MEANS, "sum_over_shots", "utils.py:56-58, tf.gradients sums"),
    OUTER_RATE,
    TEST_TASKS,
    NO_SELECTION,
)

# ----- Sine regression -----

TRAINED_WITH_10 = "section 5.1: the one theta is tested with 5, 10, 20 (evaluate --shots)"
SINE = Published(
    settings=tuple({"algorithm": name} for name in ("maml", "pretrained", "oracle")),
    parts=(
        Part(
            {},
            (
                Row("iterations", 70000, SILENT, 70000, "main.py:4"),
                Row("tasks", 25, SILENT, 25, "main.py, flag meta_batch_size"),
                Row("shots", 10, TRAINED_WITH_10, 10, "main.py:4"),
                Row("queries", 0, SILENT, 0, "main.py, main(): as many as shots"),
                Row("alpha", 0.01, "section 5.1", 1e-3, "main.py:52, a flag's default"),
                Row("tune", True, "section 5.1", False, "main.py:52, the same for all"),
                Row("inner_steps", 1, "section 5.1", 1, "main.py, flag num_updates"),
                Row("test_steps", 10, "section 5.1, figure 3", 10, EVAL),
                Row("hidden", (40, 40), "section 5.1", (40, 40), "maml.py, dim_hidden"),
                Row("activation", "relu", "section 5.1", "relu", "maml.py, tf.nn.relu"),
                Row("clip", 0.0, "not in the paper", 0.0, "maml.py:147-148: not on sine"),
                OUTER_RATE,
                TEST_TASKS,
                NO_SELECTION,
            ),
        ),
    ),
)

# ----- Omniglot -----

SPLIT_PAPER = "section 5.2: 1200 characters to train on, the others to test"
SPLIT_CODE = "data_generator.py:46-54: 1100/100/423, in the file system's order"
OMNIGLOT = Published(
    settings=(
        *(
            {"algorithm": "maml", "net": "conv", "ways": ways, "shots": shots}
            for ways in (5, 20)
            for shots in (1, 5)
        ),
        *(
            {"algorithm": "maml", "net": "dense", "ways": 5, "shots": shots}
            for shots in (1, 5)
        ),
    ),
    parts=(
        Part(
            {},
            (
                Row("iterations", 60000, "appendix A.1", 60000, "main.py:11, :14"),
                Row("queries", 0, SILENT, 0, "main.py, main(): as many as shots"),
                Row("test_queries", 0, SILENT, 0, "main.py, main(): as many as shots"),
                Row("clip", 0.0, "not in the paper", 0.0, "maml.py:147-148: not here"),
                Row("split", "finn-1200", SPLIT_PAPER, "finn", SPLIT_CODE),
                Row("rotate", True, "section 5.2", True, "data_generator.py, rotations"),
                *CLASSIFICATION,
            ),
        ),
        Part(
            {"net": "conv"},
            (
                Row("filters", 64, "section 5.2", 64, "main.py, flag num_filters"),
                Row("head", "normal", SILENT, "normal", "maml.py, tf.random_normal"),
            ),
        ),
        Part(
            {"ways": 5},
            (
                Row("tasks", 32, "appendix A.1", 32, "main.py:11"),
                Row("alpha", 0.4, "appendix A.1", 0.4, "main.py:11; 2.0 on the mean"),
                Row("inner_steps", 1, "appendix A.1", 1, "main.py:11"),
                Row("test_steps", 3, "appendix A.1", 10, EVAL),
            ),
        ),
        Part(
            {"ways": 20},
            (
                Row("tasks", 16, "appendix A.1", 16, "main.py:14"),
                Row("alpha", 0.1, "appendix A.1", 0.1, "main.py:14; 2.0 on the mean"),
                Row("inner_steps", 5, "appendix A.1", 5, "main.py:14"),
                Row("test_steps", 5, "appendix A.1", 10, EVAL),
            ),
        ),
    ),
)

# ----- mini-ImageNet -----

MINIIMAGENET = Published(
    settings=tuple(
        {"algorithm": algorithm, "net": "pooled", "ways": 5, "shots": shots}
        for algorithm in ("maml", "fomaml")
        for shots in (1, 5)
    ),
    parts=(
        Part(
            {},
            (
                Row("iterations", 60000, "appendix A.1", 60000, "main.py:17, :20"),
                Row("queries", 15, "appendix A.1", 15, "main.py:247"),
                Row("test_queries", 0, "not in the paper", -1, "main.py:249: K, not 15"),
                Row("alpha", 0.01, "appendix A.1", 0.01, "main.py:17; 0.05 on the mean"),
                Row("inner_steps", 5, "appendix A.1", 5, "main.py:17, :20"),
                Row("test_steps", 10, "appendix A.1", 10, EVAL),
                Row(
                    "clip", 0.0, "not in the paper", 10.0, "maml.py:147-148, after scaling"
                ),
                Row("filters", 32, "section 5.2", 32, "main.py:17, :20"),
                Row("head", "glorot", SILENT, "glorot", "maml.py, xavier_initializer"),
                *CLASSIFICATION,
            ),
        ),
        Part(
            {"shots": 1},
            (Row("tasks", 4, "appendix A.1", 4, "main.py:17"),),
        ),
        Part(
            {"shots": 5},
            (Row("tasks", 2, "appendix A.1", 4, "main.py:20"),),
        ),
    ),
    notes=("classes: 64/12/24 in section 5.2, 64/16/20 in the code's csv files and here",),
)

# ----- 2D navigation; files of cbfinn/maml_rl -----

BEST = "appendix A.2: the best in training; its returns decide, here validation goals"
POINT = "maml_trpo_point.py"
TRPO = "conjugate_gradient_optimizer.py"
POINTNAV = Published(
    settings=tuple({"algorithm": name} for name in ("maml", "pretrained", "oracle")),
    parts=(
        Part(
            {},
            (
                Row("iterations", 500, "appendix A.2: up to 500", 100, f"{POINT}, n_itr"),
                Row("tasks", 20, "appendix A.2", 40, f"{POINT}:20"),
                Row("trajectories", 20, "appendix A.2", 20, f"{POINT}:19"),
                Row("horizon", 100, "appendix A.2", 100, f"{POINT}:21"),
                Row(
                    *("reward", "negative_squared_distance", "section 5.3"),
                    *("negative_distance", "point_env_randgoal.py:39-42"),
                ),
                Row("alpha", 0.1, "appendix A.2", 0.5, f"{POINT}:17"),
                Row("tune", True, "section 5.3: by hand", True, "not in the code"),
                Row("inner_steps", 1, "appendix A.2", 1, f"{POINT}:22"),
                Row("surrogate", "naive", "equation 4", "naive", "maml_npo.py:98-102"),
                Row("hidden", (100, 100), "section 5.3", (100, 100), f"{POINT}:37-38"),
                Row("activation", "relu", "section 5.3", "relu", f"{POINT}:37-38"),
                Row("discount", 0.99, SILENT, 0.99, f"{POINT}, discount"),
                Row("outer", "trpo", "section 5.3", "trpo", f"{POINT}, MAMLTRPO"),
                Row("max_kl", 0.01, SILENT, 0.01, f"{POINT}, step_size"),
                Row("fisher_stride", 1, SILENT, 1, f"{TRPO}: subsample_factor 1"),
                Row("clip", 0.0, "not in the paper", 0.0, "not in the code"),
                Row("test_tasks", 40, SILENT, 40, "test_maml_point.py, goals"),
                Row("test_steps", 4, "section 5.3", 4, "icml/*.pkl: five rows"),
                Row(
                    *("test_trajectories", 40, "section 5.3", 40),
                    "test_maml_point.py, batch_size 4000",
                ),
            ),
        ),
        Part(
            {"algorithm": "maml"}, (Row("validate_every", 10, BEST, 0, "not in the code"),)
        ),
    ),
)

PUBLISHED = {
    "sine": SINE,
    "omniglot": OMNIGLOT,
    "miniimagenet": MINIIMAGENET,
    "pointnav": POINTNAV,
}


def values(experiment: str, preset: str, options: Mapping[str, Any]) -> dict[str, Any]:
    """Return the options that a preset has for an experiment.

    options: the values that decide which of the published settings it is
    Raises UsageError when that setting was not published.
    """
    found = column(experiment, preset, options)
    settings = PUBLISHED[experiment].settings
    if not any(_fits(options, setting) for setting in settings):
        having = "; ".join(map(flags, settings))
        raise UsageError(f"--preset {preset} has, for {experiment}: {having}")
    return found


def column(experiment: str, preset: str, options: Mapping[str, Any]) -> dict[str, Any]:
    """Return what a preset has where `options` hold, in a published setting or near one.

    Raises UsageError when nothing was published for the experiment.
    """
    if experiment not in PUBLISHED:
        having = ", ".join(PUBLISHED)
        raise UsageError(f"--preset: {experiment} has none; there are: {having}")
    return columns(experiment, options)[preset.rpartition("-")[2]]


def columns(experiment: str, options: Mapping[str, Any]) -> dict[str, dict[str, Any]]:
    """Return the options that the paper and that the code have, where `options` hold."""
    parts = PUBLISHED[experiment].parts
    rows = [row for part in parts if _fits(options, part.when) for row in part.rows]
    return {
        column: {row.option: getattr(row, column) for row in rows}
        for column in ("paper", "code")
    }


def _fits(options: Mapping[str, Any], setting: dict[str, Any]) -> bool:
    return all(options[name] == value for name, value in setting.items())
