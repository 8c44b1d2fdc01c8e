"""Finn, Abbeel & Levine, "Model-Agnostic Meta-Learning for Fast Adaptation of Deep
Networks", ICML 2017; its official code is cbfinn/maml and cbfinn/maml_rl.
"""

from tinymaml.published.work import SILENT, Published, Row, Work, part, settings


EVAL = "main.py, main(): test_num_updates = 10 at test"
AS_SHOTS = "main.py, main(): as many as shots"
MEANS = "section 5.2: the cross-entropy, read as a mean, as by ports; equation 3 is a sum"
EARLY_STOPPING = "not in the paper; issue 8 of the code mentions early stopping"
OF_SUPERVISED = (
    Row("beta", 1e-3, SILENT, 1e-3, "main.py, flag meta_lr"),
    Row("test_tasks", 600, SILENT, 600, "main.py, NUM_TEST_POINTS"),
    Row("validate_every", 0, EARLY_STOPPING, 0, "not in the code"),
)
NOT_ADAPTED = "utils.py:41: offsets are not in `weights`, and there is no scale"
OF_CLASSIFICATION = (
    Row("activation", "relu", "section 5.2", "relu", "maml.py, tf.nn.relu"),
    Row("norm_eps", 1e-3, SILENT, 1e-3, "utils.py:41, tf.contrib's default (from memory)"),
    Row("adapt_norm", False, SILENT, False, NOT_ADAPTED),
    Row("inner_loss", "mean", MEANS, "sum_over_shots", "utils.py:56-58, tf.gradients sums"),
    Row("outer_loss", "mean", MEANS, "sum_over_shots", "utils.py:56-58, tf.gradients sums"),
    *OF_SUPERVISED,
)

TRAINED_WITH_10 = "section 5.1: the one theta is tested with 5, 10, 20 (evaluate --shots)"
SINE = part(
    Row("iterations", 70000, SILENT, 70000, "main.py:4"),
    Row("tasks", 25, SILENT, 25, "main.py, flag meta_batch_size"),
    Row("shots", 10, TRAINED_WITH_10, 10, "main.py:4"),
    Row("queries", 0, SILENT, 0, AS_SHOTS),
    Row("alpha", 0.01, "section 5.1", 1e-3, "main.py:52, a flag's default"),
    Row("tune", True, "section 5.1", False, "main.py:52, the same for all"),
    Row("inner_steps", 1, "section 5.1", 1, "main.py, flag num_updates"),
    Row("test_steps", 10, "section 5.1, figure 3", 10, EVAL),
    Row("hidden", (40, 40), "section 5.1", (40, 40), "maml.py, dim_hidden"),
    Row("activation", "relu", "section 5.1", "relu", "maml.py, tf.nn.relu"),
    Row("clip", 0.0, "not in the paper", 0.0, "maml.py:147-148: not on sine"),
    *OF_SUPERVISED,
)

SPLIT_PAPER = "section 5.2: 1200 characters to train on, the others to test"
SPLIT_CODE = "data_generator.py:46-54: 1100/100/423, in the file system's order"
OMNIGLOT = (
    part(
        Row("iterations", 60000, "appendix A.1", 60000, "main.py:11, :14"),
        Row("queries", 0, SILENT, 0, AS_SHOTS),
        Row("test_queries", 0, SILENT, 0, AS_SHOTS),
        Row("clip", 0.0, "not in the paper", 0.0, "maml.py:147-148: not here"),
        Row("split", "finn-1200", SPLIT_PAPER, "finn", SPLIT_CODE),
        Row("rotate", True, "section 5.2", True, "data_generator.py, rotations"),
        *OF_CLASSIFICATION,
    ),
    part(
        Row("filters", 64, "section 5.2", 64, "main.py, flag num_filters"),
        Row("head", "normal", SILENT, "normal", "maml.py, tf.random_normal"),
        net="conv",
    ),
    part(
        Row("tasks", 32, "appendix A.1", 32, "main.py:11"),
        Row("alpha", 0.4, "appendix A.1", 0.4, "main.py:11; 2.0 on the mean"),
        Row("inner_steps", 1, "appendix A.1", 1, "main.py:11"),
        Row("test_steps", 3, "appendix A.1", 10, EVAL),
        ways=5,
    ),
    part(
        Row("tasks", 16, "appendix A.1", 16, "main.py:14"),
        Row("alpha", 0.1, "appendix A.1", 0.1, "main.py:14; 2.0 on the mean"),
        Row("inner_steps", 5, "appendix A.1", 5, "main.py:14"),
        Row("test_steps", 5, "appendix A.1", 10, EVAL),
        ways=20,
    ),
)

MINI = (
    part(
        Row("iterations", 60000, "appendix A.1", 60000, "main.py:17, :20"),
        Row("queries", 15, "appendix A.1", 15, "main.py:247"),
        Row("test_queries", 0, "not in the paper", -1, "main.py:249: shots, not 15"),
        Row("alpha", 0.01, "appendix A.1", 0.01, "main.py:17; 0.05 on the mean"),
        Row("inner_steps", 5, "appendix A.1", 5, "main.py:17, :20"),
        Row("test_steps", 10, "appendix A.1", 10, EVAL),
        Row("clip", 0.0, "not in the paper", 10.0, "maml.py:147-148, after scaling"),
        Row("filters", 32, "section 5.2", 32, "main.py:17, :20"),
        Row("head", "glorot", SILENT, "glorot", "maml.py, xavier_initializer"),
        *OF_CLASSIFICATION,
    ),
    part(Row("tasks", 4, "appendix A.1", 4, "main.py:17"), shots=1),
    part(Row("tasks", 2, "appendix A.1", 4, "main.py:20"), shots=5),
)
MINI_NOTE = "classes: 64/12/24 in section 5.2, 64/16/20 in the code's csv files and here"

# Files of cbfinn/maml_rl.
POINT, TRPO = "maml_trpo_point.py", "conjugate_gradient_optimizer.py"
PAPER_REWARD = "negative_squared_distance", "section 5.3"
CODE_REWARD = "negative_distance", "point_env_randgoal.py:39-42"
BATCH = "test_maml_point.py, batch_size 4000"
BEST = "appendix A.2: the best in training; its returns decide, here validation goals"
ACTING = part(
    Row("tune", True, "section 5.3: by hand", True, "not in the code"),
    Row("surrogate", "naive", "equation 4", "naive", "maml_npo.py:98-102"),
    Row("fisher_stride", 1, SILENT, 1, f"{TRPO}: subsample_factor 1"),
    Row("clip", 0.0, "not in the paper", 0.0, "not in the code"),
)
POINTNAV = (
    ACTING,
    part(
        Row("iterations", 500, "appendix A.2: up to 500", 100, f"{POINT}, n_itr"),
        Row("tasks", 20, "appendix A.2", 40, f"{POINT}:20"),
        Row("trajectories", 20, "appendix A.2", 20, f"{POINT}:19"),
        Row("horizon", 100, "appendix A.2", 100, f"{POINT}:21"),
        Row("reward", *PAPER_REWARD, *CODE_REWARD),
        Row("alpha", 0.1, "appendix A.2", 0.5, f"{POINT}:17"),
        Row("inner_steps", 1, "appendix A.2", 1, f"{POINT}:22"),
        Row("hidden", (100, 100), "section 5.3", (100, 100), f"{POINT}:37-38"),
        Row("activation", "relu", "section 5.3", "relu", f"{POINT}:37-38"),
        Row("discount", 0.99, SILENT, 0.99, f"{POINT}, discount"),
        Row("outer", "trpo", "section 5.3", "trpo", f"{POINT}, MAMLTRPO"),
        Row("max_kl", 0.01, SILENT, 0.01, f"{POINT}, step_size"),
        Row("test_tasks", 40, SILENT, 40, "test_maml_point.py, goals"),
        Row("test_steps", 4, "section 5.3", 4, "icml/*.pkl: five rows"),
        Row("test_trajectories", 40, "section 5.3", 40, BATCH),
    ),
    part(Row("validate_every", 10, BEST, 0, "not in the code"), algorithm="maml"),
)

# Files of cbfinn/maml_rl and of its rllab.
CHEETAH, DIREC = "cluster_maml_trpo_cheetah.py", "half_cheetah_env_rand_direc.py"
TEST_CHEETAH = "test_maml_cheetah_direc.py"
LOCOMOTION = (
    ACTING,
    part(
        Row("iterations", 500, "appendix A.2: up to 500", 800, f"{CHEETAH}, n_itr"),
        Row("tasks", 40, "appendix A.2", 40, f"{CHEETAH}:36"),
        Row("horizon", 200, "appendix A.2", 200, f"{CHEETAH}:51"),
        Row("rules", "rllab", "section 5.3: rllab", "rllab", DIREC),
        Row("frame_skip", 1, SILENT, 1, "mujoco_env.py:72-77"),
        Row("velocity", "com", SILENT, "com", "mjcore.py:58-81"),
        Row("alpha", 0.1, "appendix A.2", 0.1, f"{CHEETAH}:24"),
        Row("inner_steps", 1, "appendix A.2", 1, f"{CHEETAH}:52"),
        Row("hidden", (100, 100), "section 5.3", (100, 100), f"{CHEETAH}:67-68"),
        Row("activation", "relu", "section 5.3", "relu", f"{CHEETAH}:67-68"),
        Row("discount", 0.99, SILENT, 0.99, f"{CHEETAH}, discount"),
        Row("outer", "trpo", "section 5.3", "trpo", f"{CHEETAH}, MAMLTRPO"),
        Row("max_kl", 0.01, SILENT, 0.01, f"{CHEETAH}, step_size"),
        Row("test_tasks", 40, SILENT, 40, f"{TEST_CHEETAH}, goals"),
        Row("test_steps", 3, "figure 5", 3, "icml/*.pkl: four rows"),
    ),
    *(
        part(
            Row("trajectories", 20, "appendix A.2", 20, f"{CHEETAH}:32"),
            Row("test_trajectories", 20, SILENT, 20, f"{TEST_CHEETAH}, batch_size 4000"),
            task=task,
        )
        for task in ("cheetah-dir", "cheetah-vel", "ant-vel")
    ),
    part(
        Row("trajectories", 40, "appendix A.2", 20, "cluster_maml_trpo_ant.py"),
        Row("test_trajectories", 40, SILENT, 40, "test_maml_ant_direc.py, batch_size 8000"),
        task="ant-dir",
    ),
    part(Row("validate_every", 10, BEST, 0, "not in the code"), algorithm="maml"),
)
LOCOMOTION_NOTES = (
    "the checkpoint of figure 5 for cheetah-dir had max_kl 0.02 and 100 iterations",
    "MuJoCo was 1.31: other contacts, inertias and solver than the installed one",
)
LOCOMOTION_MISSING = (
    "ant-dir: test steps after the first use alpha / 100 there and alpha / 2 here",
)

WITH_BASELINES = settings(algorithm=("maml", "pretrained", "oracle"))
BODIES = ("cheetah-dir", "cheetah-vel", "ant-dir", "ant-vel")
RUNS = settings(algorithm=("maml", "pretrained", "oracle"), task=BODIES)
CONV = settings(algorithm=("maml",), net=("conv",), ways=(5, 20), shots=(1, 5))
DENSE = settings(algorithm=("maml",), net=("dense",), ways=(5,), shots=(1, 5))
POOLED = settings(algorithm=("maml", "fomaml"), net=("pooled",), ways=(5,), shots=(1, 5))
FINN2017 = Work(
    name="finn2017",
    title="Finn et al. 2017",
    code="cbfinn/maml, cbfinn/maml_rl",
    experiments={
        "sine": Published(WITH_BASELINES, (SINE,)),
        "omniglot": Published(CONV + DENSE, OMNIGLOT),
        "miniimagenet": Published(POOLED, MINI, (MINI_NOTE,)),
        "pointnav": Published(WITH_BASELINES, POINTNAV),
        "locomotion": Published(
            RUNS, LOCOMOTION, LOCOMOTION_NOTES, missing=LOCOMOTION_MISSING
        ),
    },
)
