"""Antoniou, Edwards & Storkey, "How to train your MAML", ICLR 2019: MAML++.

The official code is AntreasAntoniou/HowToTrainYourMAMLPytorch; the values are those of
experiment_config/*maml++*.json, and of the code where it does not read them.
"""

from tinymaml.published.work import (
    UNREAD,
    Published,
    Row,
    Work,
    of_code,
    part,
    settings,
)


SYSTEM = "few_shot_learning_system.py"
NET = "meta_neural_network_architectures.py"
JSON = "experiment_config"
LSLR = "inner_loop_optimizers.py:88-91"
NORM = "section 4, BNWB"
FIFTY = "section 4: the first 50 epochs are of first order"
OFF = f"{JSON}: -1, in all 36 files"
NOT_READ = f"{SYSTEM}:46; init_inner_loop_learning_rate is never read"
OF_ALL = (
    Row("rates", "tensor", "section 4, LSLR", "tensor", LSLR),
    of_code("adapts", "all", LSLR),
    of_code("order", "exact", f"{JSON}: second_order"),
    Row("multi_step_loss", True, "section 4, MSL", True, f"{SYSTEM}:90-101"),
    Row("first_order_epochs", 50, FIFTY, 0, OFF),
    Row("step_norm", True, NORM, True, f"{SYSTEM}:217-243"),
    of_code("norm_scale", True, f"{JSON}: learnable_bn_gamma"),
    of_code("adapt_norm", False, f"{JSON}: enable_inner_loop_optimizable_bn_params"),
    of_code("norm_eps", 1e-5, f"{NET}: PyTorch's default (from memory)"),
    of_code("activation", "leaky-relu", f"{NET}: slope 0.01"),
    of_code("net", "pooled", f"{JSON}: max_pooling"),
    of_code("head", "glorot", f"{NET}, xavier_uniform_"),
    of_code("inner_loss", "mean", f"{SYSTEM}, cross_entropy"),
    of_code("outer_loss", "mean", f"{SYSTEM}, cross_entropy"),
    of_code("alpha", 0.1, NOT_READ),
    of_code("inner_steps", 5, f"{JSON}: number_of_training_steps_per_iter"),
    of_code("test_steps", 5, f"{JSON}: number_of_evaluation_steps_per_iter"),
    of_code("iterations", 50000, f"{JSON}: 100 epochs of 500"),
    of_code("epoch", 500, f"{JSON}: total_iter_per_epoch"),
    of_code("outer", "adam", f"{SYSTEM}, Adam"),
    of_code("beta", 1e-3, f"{JSON}: meta_learning_rate"),
    of_code("validate_every", 500, f"{JSON}: every epoch"),
    of_code("validation_tasks", 600, f"{JSON}: num_evaluation_tasks"),
    of_code("test_tasks", 600, f"{JSON}: num_evaluation_tasks"),
)
COSINE = f"{SYSTEM}:346, {JSON}: min_learning_rate"
OMNIGLOT = part(
    *OF_ALL,
    of_code("tasks", 8, f"{JSON}: batch_size"),
    of_code("queries", 1, f"{JSON}: num_target_samples"),
    of_code("test_queries", 0, f"{JSON}: num_target_samples"),
    of_code("filters", 64, f"{JSON}: cnn_num_filters"),
    of_code("multi_step_epochs", 10, f"{JSON}: multi_step_loss_num_epochs"),
    Row("schedule", "cosine", "section 4, CA", "cosine", COSINE),
    of_code("beta_end", 1e-5, COSINE),
    of_code("clip", 0.0, f"{SYSTEM}:332-335: not here"),
    of_code("rotate", True, "data.py:94-95: in training only"),
)
CONSTANT = f"{JSON}: min_learning_rate is the first rate"
MINI = part(
    *OF_ALL,
    of_code("tasks", 2, f"{JSON}: batch_size"),
    of_code("queries", 15, f"{JSON}: num_target_samples"),
    of_code("test_queries", 0, f"{JSON}: num_target_samples"),
    of_code("filters", 48, f"{JSON}: cnn_num_filters"),
    of_code("multi_step_epochs", 15, f"{JSON}: multi_step_loss_num_epochs"),
    Row("schedule", "cosine", "section 4, CA", "constant", CONSTANT),
    Row("beta_end", 1e-5, f"{UNREAD} on Omniglot", 1e-3, CONSTANT),
    of_code("clip", 10.0, f"{SYSTEM}:332-335: of the net's gradient, not of the rates"),
)

DEAD = (
    "running statistics of batch norm (BNRS) are written, never read"
    f" ({NET}:246-247: training=True)",
    "init_inner_loop_learning_rate, 0.01 in the files of mini-ImageNet, is never read",
    "the floor 0.03 / K of the multi-step weights is not reached before E = 34 epochs",
    "a rate for step K + 1 of each array (inner_loop_optimizers.py:90) is never used",
    "weight_decay, dropout_rate_value, minimum_per_task_contribution,"
    " learnable_batch_norm_momentum, cnn_blocks_per_stage, train_in_stages,"
    " load_from_npz_files and evalute_on_test_set_only are never read",
    "train_seed and val_seed choose tasks: the first net is the same (parser_utils.py:22)",
)
ENSEMBLE = "tests average the logits of the 5 best epochs (experiment_builder.py:247-288)"
SEEDED = "the net's first weights are those of one seed, 104, in all runs"
SPLIT = "classes are shuffled and split 0.709 / 0.031 / 0.261, here --split"
UNROTATED = "validation and test images are not rotated"
SPARED = "the clip spares the rates and is of the net alone"
MAMLPP = ("maml++",)
ANTONIOU2019 = Work(
    name="antoniou2019",
    title="Antoniou et al. 2019",
    code="AntreasAntoniou/HowToTrainYourMAMLPytorch 8696470",
    experiments={
        "omniglot": Published(
            settings(algorithm=MAMLPP, ways=(5, 20), shots=(1, 5)),
            (OMNIGLOT,),
            dead=DEAD,
            missing=(ENSEMBLE, SEEDED, SPLIT, UNROTATED),
        ),
        "miniimagenet": Published(
            settings(algorithm=MAMLPP, ways=(5,), shots=(1, 5)),
            (MINI,),
            dead=DEAD,
            missing=(ENSEMBLE, SEEDED, SPARED),
        ),
    },
)
