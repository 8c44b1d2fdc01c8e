"""Rajeswaran, Finn, Kakade & Levine, "Meta-Learning with Implicit Gradients", NeurIPS 2019:
iMAML. The code that accompanies the paper, aravindr93/imaml_dev, is another algorithm.
"""

from tinymaml.published.work import Published, Row, Work, of_code, part, settings


README, SCRIPT = "examples/README, flag", "omniglot_implicit_maml.py"
LEARNER = "learner_model.py"
ALGORITHM = "algorithm 1: in every inner step"
ONCE = f"{README} lam; {SCRIPT}:107-112: one step after the others"
OMNIGLOT = part(
    Row("proximal", 2.0, ALGORITHM, 2.0, ONCE),
    Row("cg_steps", 5, "algorithm 2 (from memory)", 5, f"{README} cg_steps"),
    of_code("alpha", 0.1, f"{README} inner_lr"),
    of_code("inner_steps", 16, f"{README} n_steps"),
    of_code("test_steps", 16, f"{README} n_steps"),
    of_code("tasks", 32, f"{README} task_mb_size"),
    of_code("iterations", 20000, f"{README} meta_steps"),
    of_code("queries", 0, "dataset.py: as many as shots"),
    of_code("test_queries", 0, "dataset.py: as many as shots"),
    of_code("outer", "adam", f"{LEARNER}:17"),
    of_code("beta", 1e-3, f"{README} outer_lr"),
    of_code("clip", 0.0, "not in the code"),
    of_code("validate_every", 0, "not in the code"),
    of_code("test_tasks", 600, f"{README} num_tasks of measure_accuracy.py"),
    of_code("net", "conv", f"{LEARNER}, make_conv_network"),
    of_code("filters", 64, f"{LEARNER}, make_conv_network (from memory)"),
    of_code("activation", "relu", f"{LEARNER}, make_conv_network (from memory)"),
    of_code("norm_scale", True, f"{LEARNER}: PyTorch's default (from memory)"),
    of_code("adapt_norm", True, f"{LEARNER}: all parameters"),
    of_code("norm_eps", 1e-5, f"{LEARNER}: PyTorch's default (from memory)"),
    of_code("inner_loss", "mean", f"{SCRIPT}, CrossEntropyLoss"),
    of_code("outer_loss", "mean", f"{SCRIPT}, CrossEntropyLoss"),
    of_code("split", "finn-1200", f"{SCRIPT}, train_val_permutation: 1200 of 1623"),
    of_code("rotate", True, "dataset.py: in all splits"),
)

RAJESWARAN2019 = Work(
    name="rajeswaran2019",
    title="Rajeswaran et al. 2019",
    code="aravindr93/imaml_dev 6a2a669",
    experiments={
        "omniglot": Published(
            settings(algorithm=("imaml",), ways=(5,), shots=(1,)),
            (OMNIGLOT,),
            notes=(
                "(i) the code takes 16 steps on the loss alone, then one proximal step"
                " (omniglot_implicit_maml.py:107-112)",
                "(ii) the code solves (2 + H/12) x = grad Q, not (1 + H/2)"
                " (learner_model.py:143-153)",
                "(iii) the code tests with --lam 0.0, without a proximal step"
                " (measure_accuracy.py:75-79)",
            ),
            dead=(
                "(ii) --cg_damping is read as the regulariser, and the damping is 10",
                "(iv) `type(lam) == float or np.float64` is always true"
                " (learner_model.py:50, :58)",
            ),
            missing=(
                "Adam's epsilon is 1e-3 (learner_model.py:17), here 1e-8",
                "the head has 256 inputs, not the mean over places",
                "biases of convolutions are drawn from U(0, 0.05)",
                "the 200,000 training tasks are drawn before the training",
            ),
        )
    },
)
