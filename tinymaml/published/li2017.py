"""Li, Zhou, Chen & Li, "Meta-SGD: Learning to Learn Quickly for Few-Shot Learning", 2017.

No official code was found. Others' codes are foolyc/Meta-SGD and jik0730/Meta-SGD-pytorch.
"""

from tinymaml.published.work import RECALLED, Published, Work, of_paper, part, settings


MIDDLE = "not in the paper: the middle of its U[0.005, 0.1] (from memory)"
TRAINED_WITH_10 = "table 1: the one theta is tested with 5, 10, 20 (from memory)"
OF_ALL = (
    of_paper("rates", "parameter", "algorithm 1 (from memory)"),
    of_paper("adapts", "all", "algorithm 1 (from memory)"),
    of_paper("order", "exact", "algorithm 1 (from memory)"),
    of_paper("alpha", 0.0525, MIDDLE),
    of_paper("inner_steps", 1),
    of_paper("test_steps", 1),
)
SINE = part(
    *OF_ALL,
    of_paper("iterations", 60000, f"{RECALLED}, and sine.sh of MT-net's code"),
    of_paper("tasks", 4, f"{RECALLED}, and sine.sh of MT-net's code"),
    of_paper("shots", 10, TRAINED_WITH_10),
    of_paper("hidden", (40, 40)),
    of_paper("activation", "relu"),
)
OMNIGLOT = part(*OF_ALL, of_paper("tasks", 32), of_paper("net", "conv"))
MINI = part(*OF_ALL, of_paper("tasks", 4), of_paper("net", "pooled"))

FREQUENCY = "tasks differ in frequency too, U[0.8, 1.2] (from memory)"
DRAWN = (
    "each step size starts at a draw from U[0.005, 0.1] (from memory), here all at --alpha"
)
CODES = (
    "foolyc/Meta-SGD learns one scalar for all parameters and steps (maml.py:64, :90)",
    "foolyc/Meta-SGD ignores its flag --update_lr (maml.py:64)",
)
META_SGD = ("meta-sgd",)
LI2017 = Work(
    name="li2017",
    title="Li et al. 2017",
    code="not found",
    experiments={
        "sine": Published(
            settings(algorithm=META_SGD),
            (SINE,),
            notes=CODES,
            missing=(FREQUENCY, DRAWN),
        ),
        "omniglot": Published(
            settings(algorithm=META_SGD, ways=(5, 20), shots=(1, 5)),
            (OMNIGLOT,),
            notes=CODES,
            missing=(DRAWN,),
        ),
        "miniimagenet": Published(
            settings(algorithm=META_SGD, ways=(5,), shots=(1, 5)),
            (MINI,),
            notes=CODES,
            missing=(DRAWN,),
        ),
    },
)
