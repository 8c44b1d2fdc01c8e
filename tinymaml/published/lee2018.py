"""Lee & Choi, "Gradient-Based Meta-Learning with Learned Layerwise Metric and Subspace",
ICML 2018: T-nets and MT-nets. The official code is yoonholee/MT-net, made from cbfinn/maml.

The scripts train MT-nets; T-nets are theirs with --use_M=False (experiments/sine.sh).
"""

from tinymaml.published.work import Published, Row, Work, of_code, part, settings


SCRIPTS = "experiments/"
SCALE = "maml.py, xent of utils.py, as in cbfinn/maml (from memory)"
NOT_READ = "not checked; the first of the code's three"
OF_ALL = (
    of_code("rates", "fixed", "main.py, update_lr"),
    of_code("adapts", "all", "maml.py, train_keys: all but T"),
    of_code("order", "exact", "main.py, stop_grad is off"),
    of_code("outer", "adam", "maml.py, AdamOptimizer"),
    of_code("beta", 1e-3, "main.py, meta_lr"),
    of_code("validate_every", 0, "main.py: the last theta is tested"),
    of_code("test_steps", 10, "main.py, test_num_updates"),
)
OF_IMAGES = (
    *OF_ALL,
    of_code("activation", "relu", "maml.py, conv_block (from memory)"),
    of_code("inner_loss", "sum_over_shots", SCALE),
    of_code("outer_loss", "sum_over_shots", SCALE),
    of_code("adapt_norm", False, "maml.py: not in `weights`"),
)
SINE = part(
    *OF_ALL,
    Row("alpha", 0.01, NOT_READ, 0.01, f"{SCRIPTS}sine.sh: .01, .04 and .1"),
    of_code("inner_steps", 1, "main.py, num_updates"),
    of_code("iterations", 60000, f"{SCRIPTS}sine.sh"),
    of_code("tasks", 4, f"{SCRIPTS}sine.sh"),
    of_code("shots", 10, f"{SCRIPTS}sine.sh"),
    of_code("queries", 10, "main.py: 10 val samples"),
    of_code("hidden", (40, 40), "main.py, dim_hidden"),
    of_code("activation", "relu", "maml.py, forward_fc (from memory)"),
    of_code("clip", 0.0, "maml.py: on miniImageNet only"),
    of_code("test_tasks", 600, "main.py, NUM_TEST_POINTS"),
)
OMNIGLOT = (
    part(
        *OF_IMAGES,
        of_code("inner_steps", 1, f"{SCRIPTS}omniglot.sh"),
        of_code("iterations", 40000, f"{SCRIPTS}omniglot.sh"),
        of_code("queries", 0, "main.py: as many as shots"),
        of_code("test_queries", 0, "main.py: as many as shots"),
        of_code("net", "conv", "main.py, max_pool is off"),
        of_code("filters", 64, "main.py, num_filters"),
        of_code("clip", 0.0, "maml.py: on miniImageNet only"),
        of_code("test_tasks", 600, "main.py, NUM_TEST_POINTS"),
    ),
    part(
        of_code("tasks", 32, f"{SCRIPTS}omniglot.sh"),
        of_code("alpha", 0.4, f"{SCRIPTS}omniglot.sh"),
        ways=5,
    ),
    part(
        of_code("tasks", 16, f"{SCRIPTS}omniglot.sh"),
        of_code("alpha", 0.1, f"{SCRIPTS}omniglot.sh"),
        ways=20,
    ),
)
MINI = part(
    *OF_IMAGES,
    of_code("alpha", 0.01, f"{SCRIPTS}miniimagenet.sh; 0.4 with one step"),
    of_code("inner_steps", 5, f"{SCRIPTS}miniimagenet.sh; also 1"),
    of_code("iterations", 60000, f"{SCRIPTS}miniimagenet.sh"),
    of_code("tasks", 4, f"{SCRIPTS}miniimagenet.sh"),
    of_code("queries", 15, "main.py: in training"),
    of_code("test_queries", -1, "main.py: as many as shots at test"),
    of_code("net", "pooled", f"{SCRIPTS}miniimagenet.sh, max_pool"),
    of_code("filters", 32, f"{SCRIPTS}miniimagenet.sh"),
    of_code("clip", 10.0, "maml.py, clip_by_value"),
    of_code("test_tasks", 4000, "main.py, NUM_TEST_POINTS"),
)

FREQUENCY = "sine curves follow Meta-SGD's protocol, whose frequencies differ (from memory)"
MASKS = "MT-net's masks, drawn for each unit, are left out"
TNET = ("t-net",)
LEE2018 = Work(
    name="lee2018",
    title="Lee & Choi 2018",
    code="yoonholee/MT-net 9a6e1c2",
    experiments={
        "sine": Published(settings(algorithm=TNET), (SINE,), missing=(FREQUENCY, MASKS)),
        "omniglot": Published(
            settings(algorithm=TNET, ways=(5, 20), shots=(1,)), OMNIGLOT, missing=(MASKS,)
        ),
        "miniimagenet": Published(
            settings(algorithm=TNET, ways=(5,), shots=(1,)), (MINI,), missing=(MASKS,)
        ),
    },
)
