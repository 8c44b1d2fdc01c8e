"""Zintgraf, Shiarlis, Kurin, Hofmann & Whiteson, "Fast Context Adaptation via
Meta-Learning", ICML 2019: CAVIA. The official code is lmzintgraf/cavia.
"""

from tinymaml.published.work import Published, Row, Work, of_code, part, settings


FLAGS = "regression/arguments.py"
COMPARED = "section 4: 1 to 50 are compared (from memory)"
EACH = "regression/cavia.py:123: of each task's gradient, not of their mean"
SINE = part(
    of_code("rates", "fixed", f"{FLAGS}, lr_inner"),
    of_code("order", "exact", f"{FLAGS}, first_order is off"),
    Row("context", 5, COMPARED, 5, f"{FLAGS}, num_context_params"),
    of_code("alpha", 1.0, f"{FLAGS}, lr_inner"),
    of_code("inner_steps", 1, f"{FLAGS}, num_inner_updates"),
    of_code("test_steps", 1, "regression/cavia.py, eval_cavia"),
    of_code("iterations", 50000, f"{FLAGS}, n_iter"),
    of_code("tasks", 25, f"{FLAGS}, tasks_per_metaupdate"),
    of_code("shots", 10, f"{FLAGS}, k_meta_train"),
    of_code("queries", 10, f"{FLAGS}, k_meta_test"),
    of_code("hidden", (40, 40), f"{FLAGS}, num_hidden_layers"),
    of_code("activation", "relu", "regression/cavia_model.py (from memory)"),
    of_code("outer", "adam", "regression/cavia.py, optim.Adam"),
    of_code("beta", 1e-3, f"{FLAGS}, lr_meta"),
    of_code("clip", 10.0, EACH),
    of_code("test_tasks", 100, "regression/cavia.py, n_tasks"),
)

IMAGES = "classification/arguments.py"
MAIN = "classification/main.py"
NET = "classification/models.py"
TENTH = "in the paper, as quoted in a third text"
MINI = (
    part(
        of_code("rates", "fixed", f"{IMAGES}, lr_inner"),
        of_code("order", "exact", f"{MAIN}:111-113: create_graph=True"),
        of_code("context", 100, f"{IMAGES}, num_context_params"),
        Row("alpha", 0.1, TENTH, 1.0, f"{IMAGES}, lr_inner"),
        of_code("inner_steps", 2, f"{IMAGES}, num_grad_steps_inner"),
        of_code("test_steps", 2, f"{IMAGES}, num_grad_steps_eval"),
        of_code("iterations", 60000, f"{IMAGES}, n_iter"),
        of_code("queries", 15, f"{IMAGES}, k_query"),
        of_code("test_queries", 0, f"{IMAGES}, k_query"),
        of_code("net", "pooled", f"{NET}, max_pool2d"),
        of_code("filters", 32, f"{IMAGES}, num_filters"),
        of_code("activation", "relu", f"{NET}, F.relu"),
        of_code("norm_scale", True, f"{NET}, BatchNorm2d"),
        of_code("norm_eps", 1e-5, f"{NET}: PyTorch's default (from memory)"),
        of_code("inner_loss", "mean", f"{MAIN}, F.cross_entropy"),
        of_code("outer_loss", "mean", f"{MAIN}, F.cross_entropy"),
        of_code("outer", "adam", f"{MAIN}, torch.optim.Adam"),
        of_code("beta", 1e-3, f"{IMAGES}, lr_meta"),
        of_code("clip", 10.0, f"{MAIN}:166-167: of the mean"),
        of_code("validate_every", 100, f"{MAIN}, log_interval"),
        of_code("validation_tasks", 500, f"{MAIN}, batchsz"),
    ),
    part(Row("tasks", 4, TENTH, 16, f"{IMAGES}, tasks_per_metaupdate"), shots=1),
    part(Row("tasks", 2, TENTH, 16, f"{IMAGES}, tasks_per_metaupdate"), shots=5),
)

CAVIA = ("cavia",)
ZINTGRAF2019 = Work(
    name="zintgraf2019",
    title="Zintgraf et al. 2019",
    code="lmzintgraf/cavia 91f093a",
    experiments={
        "sine": Published(
            settings(algorithm=CAVIA),
            (SINE,),
            notes=(
                "its MAML is not clipped (maml.py:142) and starts at other weights"
                " (maml_model.py:53-55)",
            ),
            missing=(
                "each task's gradient is clipped before the mean, here the mean is",
                "errors are on a grid of 100 points, here on random points",
            ),
        ),
        "miniimagenet": Published(
            settings(algorithm=CAVIA, ways=(5,), shots=(1, 5)),
            MINI,
            dead=("--first_order is parsed and ignored (classification/main.py:111-113)",),
            missing=(
                "the outer learning rate falls by 0.9 every 5,000 iterations",
                "FiLM's first scales are drawn from U(-0.1, 0.1) (models.py:72), here 1",
                "first weights are He's (kaiming), here Glorot's",
            ),
        ),
    },
)
