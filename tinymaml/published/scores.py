"""Published results: accuracies in per cent, mean squared errors, returns.

Halves of 95 % intervals stand where they were published; for Raghu et al. 2020 they are
standard deviations over three seeds. Returns are undiscounted, with 1.96 standard errors
over goals. "From memory" marks a figure that was not checked against its source, "quoted"
one that was read in a third text only.

Meta-SGD's errors on sine curves are left out: its curves differ in frequency too.
"""

from functools import partial
from typing import Any, NamedTuple


class Figure(NamedTuple):
    """A method's published result on a problem.

    algorithm: the name of the method here, None where there is none
    setting: the options that define the problem, and those of the method itself. Its "net"
        is the kind of net: "dense", or another for convolutions
    values: (gradient steps at test, mean, half of the 95 % interval) each; None where the
        steps or the half were not published
    work: the work, of `presets.WORKS`, in whose settings the method was trained; "" where
        they are not known
    variant: values of options that distinguish the method from others of the algorithm
    """

    method: str
    algorithm: str | None
    experiment: str
    setting: dict[str, Any]
    values: tuple[tuple[int | None, float, float | None], ...]
    source: str
    work: str = ""
    variant: dict[str, Any] = {}  # noqa: RUF012


PAPER = "Finn et al. 2017"
FINN, TABLE_1 = "finn2017", f"{PAPER}, table 1"
WAYS_AND_SHOTS = (5, 1), (5, 5), (20, 1), (20, 5)


def _pair(value: tuple[float, float] | float) -> tuple[float, float | None]:
    return value if isinstance(value, tuple) else (value, None)


def _accuracies(
    experiment, net, steps, method, algorithm, source, *values, work="", **variant
) -> list[Figure]:
    """Return figures of 5-way 1-shot, 5-way 5-shot, 20-way 1-shot and 20-way 5-shot tasks.

    steps: {ways: the gradient steps at test of Finn et al. 2017}, of their appendix A.1
    values: (mean, half), a mean, or None where there is none
    """
    steps = steps if work == FINN else {}
    figures = []
    for (ways, shots), value in zip(WAYS_AND_SHOTS, values, strict=False):
        if value is not None:
            setting = {"ways": ways, "shots": shots, "net": net}
            found = ((steps.get(ways), *_pair(value)),)
            of = method, algorithm, experiment, setting, found, source, work, variant
            figures.append(Figure(*of))
    return figures


def _by_steps(name, setting, steps, method, algorithm, *values, source, **own) -> Figure:
    """Return a figure of Finn et al. 2017 after these numbers of steps.

    own: the method's options
    """
    found = tuple((k, *_pair(value)) for k, value in zip(steps, values, strict=False))
    source = f"{PAPER}, {source}"
    return Figure(method, algorithm, name, setting | own, found, source, FINN)


_omniglot = partial(_accuracies, "omniglot", "conv", {5: 3, 20: 5})
_dense = partial(_accuracies, "omniglot", "dense", {5: 3})
_mini = partial(_accuracies, "miniimagenet", "pooled", {5: 10})

# ----- Sine curves -----

_sine = partial(_by_steps, "sine", {"shots": 5}, (1, 5, 10), source="table 2")


def _context(method, algorithm, value, work="", **variant) -> Figure:
    """Return a figure of CAVIA's paper after one step on 10 points.

    Its errors are means over a grid. They are shown beside runs of CAVIA only.
    """
    setting, found = {"shots": 10, "algorithm": "cavia"}, ((1, value, None),)
    source = "CAVIA's paper (from memory)"
    return Figure(method, algorithm, "sine", setting, found, source, work, variant)


def _demo(method, algorithm, value, work="") -> Figure:
    """Return a figure of a port of Reptile's demo, after 30,000 iterations."""
    setting, found = {"shots": 10, "grid": True, "phases": "full"}, ((None, value, None),)
    source = "JosephKJ/PyTorch-MAML-and-Reptile"
    return Figure(method, algorithm, "sine", setting, found, source, work)


SINE = (
    _sine("MAML", "maml", 0.67, 0.38, 0.35),
    _sine("pretrained on all tasks", "pretrained", 2.41, 2.23, 2.19),
    _sine("average of 500 regressors", "averaged", 4.19, 3.85, 3.69, regressors=500),
    _sine("the same, pulled to zero", "averaged-l2", 7.18, 5.69, 5.60, regressors=500),
    _sine(
        "the same, pulled to their mean", "averaged-mean", 2.91, 2.72, 2.71, regressors=500
    ),
    _context("CAVIA, z of 1", "cavia", 0.84, "zintgraf2019", context=1),
    _context("CAVIA, z of 2", "cavia", 0.21, "zintgraf2019", context=2),
    _context("CAVIA, z of 3", "cavia", 0.20, "zintgraf2019", context=3),
    _context("CAVIA, z of 5", "cavia", 0.19, "zintgraf2019", context=5),
    _context("MAML", "maml", 0.33),
    _context("MAML with 2 to 5 more biases", None, 0.24),
    _demo("Reptile, serial", "reptile", 0.048, "nichol2018"),
    _demo("MAML", "maml", 0.058),
)

# ----- Omniglot -----

T_NAS, THIRD = "its paper, quoted in that of T-NAS", "its paper, quoted in a third text"
RECALLED, REPTILE = "its paper (from memory)", "Reptile's paper, quoted in a third text"
ABLATION = "MAML++'s paper (from memory)"
PLAIN = {"rates": "fixed", "multi_step_loss": False, "step_norm": False}
_part = partial(_omniglot, work="antoniou2019")  # MAML and one part of MAML++

OMNIGLOT = (
    *_omniglot(
        *("MAML", "maml", TABLE_1, (98.7, 0.4), (99.9, 0.1), (95.8, 0.3), (98.9, 0.2)),
        work=FINN,
    ),
    *_dense("MAML", "maml", TABLE_1, (89.7, 1.1), (97.5, 0.6), work=FINN),
    *_omniglot(
        *("context vector", "context", f"{PAPER}, table 3", (94.9, 0.9), (97.7, 0.3)),
        work=FINN,
    ),
    *_omniglot(
        *("Meta-SGD", "meta-sgd", T_NAS, (99.53, 0.26), (99.93, 0.09), 95.9, 99.0),
        work="li2017",
    ),
    *_omniglot("Meta-SGD", "meta-sgd", "jik0730", 99.3, 99.8, 95.4, 97.8),
    *_omniglot("MAML++", "maml++", THIRD, 99.47, 99.93, work="antoniou2019"),
    *_omniglot(
        *("MAML++", "maml++", RECALLED, None, None, (97.65, 0.05), (99.33, 0.03)),
        work="antoniou2019",
    ),
    *_omniglot("MAML", "maml", ABLATION, None, None, (91.27, 1.07)),
    *_part(
        *("MAML, multi-step loss", "maml++", ABLATION, None, None, 91.53),
        **PLAIN | {"multi_step_loss": True},
    ),
    *_part(
        *("MAML, first order for 50 epochs", "maml++", ABLATION, None, None, 92.3),
        **PLAIN | {"first_order_epochs": 50},
    ),
    *_omniglot(
        *("MAML, cosine schedule", "maml", ABLATION, None, None, 93.03), schedule="cosine"
    ),
    *_part(
        *("MAML, batch norm of each step", "maml++", ABLATION, None, None, 95.35),
        **PLAIN | {"step_norm": True},
    ),
    *_part(
        *("MAML, learned rates", "maml++", ABLATION, None, None, (95.77, 0.38)),
        **PLAIN | {"rates": "tensor"},
    ),
    *_omniglot("MAML", "maml", "ANIL paper", None, None, (93.7, 0.7), (96.4, 0.1)),
    *_omniglot(
        *("ANIL", "anil", "its paper", None, None, (96.2, 0.5), (98.0, 0.3)),
        work="raghu2020",
    ),
    *_omniglot("NIL after ANIL", None, "ANIL paper", None, None, (96.7, 0.3), (98.0, 0.04)),
    *_omniglot(
        *("Reptile, transductive", "reptile", THIRD),
        *((97.68, 0.04), (99.48, 0.06), (89.43, 0.14), (97.12, 0.32)),
        work="nichol2018",
    ),
    *_omniglot(
        *("Reptile, transductive", "reptile", "another run, quoted in a third text"),
        *(97.8, 99.5, 89.1, 97.1),
    ),
    *_omniglot(
        *("Reptile, not transductive", None, THIRD),
        *((95.39, 0.09), (98.90, 0.10), (88.14, 0.15), (96.65, 0.33)),
    ),
    *_omniglot(
        *("first-order MAML, transductive", "fomaml", REPTILE),
        *((98.3, 0.5), (99.2, 0.2), (89.4, 0.5), (97.9, 0.1)),
    ),
    *_omniglot(
        *("iMAML", "imaml", "READMEs of its peers", 99.16, 99.67, 94.46, 98.69),
        work="rajeswaran2019",
    ),
    *_omniglot(
        *("iMAML, Hessian-free", None, RECALLED),
        *((99.50, 0.26), (99.74, 0.11), (96.18, 0.36), (99.14, 0.10)),
    ),
    *_omniglot("MT-net", None, RECALLED, (99.5, 0.3), None, (96.2, 0.4)),
    *_omniglot("MAML", "maml", "learn2learn", 99.1),
    *_dense("MAML", "maml", "learn2learn", 88.9),
    *_omniglot("MAML", "maml", "pytorch-maml", 99.6, 99.9),
    *_omniglot("MAML", "maml", "oscarknagg", 98.1, 99.8, 91.6, 95.9),
    *_omniglot("MAML", "maml", "katerakelly", 98.9, None, 92.0),
    *_omniglot("MAML", "maml", "jik0730", 99.4, None, 92.8),
)

# ----- mini-ImageNet -----

BOIL = "BOIL's paper (from memory)"
_cavia = partial(_mini, work="zintgraf2019")

MINI = (
    *_mini("MAML", "maml", TABLE_1, (48.70, 1.84), (63.11, 0.92), work=FINN),
    *_mini("first-order MAML", "fomaml", TABLE_1, (48.07, 1.75), (63.15, 0.91), work=FINN),
    *_mini("Meta-SGD", "meta-sgd", T_NAS, (50.47, 1.87), (64.03, 0.94), work="li2017"),
    *_mini("Meta-SGD", "meta-sgd", "jik0730", 49.1, 66.0),
    *_mini("MAML++", "maml++", THIRD, (52.15, 0.26), (68.32, 0.44), work="antoniou2019"),
    *_mini("MAML", "maml", "ANIL paper", (46.9, 0.2), (63.1, 0.4)),
    *_mini("ANIL", "anil", "its paper", (46.7, 0.4), (61.5, 0.5), work="raghu2020"),
    *_mini("NIL after ANIL", None, "ANIL paper", (48.0, 0.7), (62.2, 0.5)),
    *_mini("ANIL", "anil", "learn2learn", None, 63.2),
    *_mini("ANIL", "anil", "LibFewShot, 32 filters", 48.44, 64.35),
    *_mini("BOIL", "boil", THIRD, (49.61, 0.16), (66.45, 0.37), work="oh2021"),
    *_mini("BOIL", "boil", "LibFewShot", 47.92, 64.39),
    *_mini("MAML", "maml", BOIL, 47.44, 61.75),
    *_mini("ANIL", "anil", BOIL, 47.82, 63.04),
    *_cavia("CAVIA", "cavia", THIRD, (47.24, 0.65), (59.05, 0.54), filters=32),
    *_cavia("CAVIA", "cavia", THIRD, (49.84, 0.68), (64.63, 0.54), filters=128),
    *_cavia("CAVIA", "cavia", THIRD, (51.82, 0.65), (65.85, 0.55), filters=512),
    *_cavia(
        *("first-order CAVIA", "cavia", THIRD, (49.92, 0.68), (63.59, 0.57)),
        **{"filters": 512, "order": "first"},
    ),
    *_mini(
        *("Reptile, transductive", "reptile", THIRD, (49.97, 0.32), (65.99, 0.58)),
        work="nichol2018",
    ),
    *_mini("Reptile, not transductive", None, THIRD, (47.07, 0.26), (62.74, 0.37)),
    *_mini("iMAML", "imaml", THIRD, (49.30, 1.88)),
    *_mini("MT-net", None, THIRD, (51.70, 1.84)),
    *_mini(
        *("Meta-Curvature", "meta-curvature", THIRD, (55.73, 0.94), (70.30, 0.72)),
        filters=128,
    ),
    *_mini("MAML", "maml", "learn2learn", 48.3, 65.4),
    *_mini("MAML", "maml", "oscarknagg", 47.5, 64.7),
    *_mini("MAML", "maml", "jik0730", 48.4, 64.8),
    *_mini("first-order MAML", "fomaml", "dragen1860", 46.2, 60.3),
)

# ----- 2D navigation -----

WORLD = {"reward": "negative_distance", "horizon": 100}
FIGURE_4 = "figure 4; icml/*.pkl of its code"
OWN_WORLD = "ANIL's paper; reward and horizon not known"
_walks = partial(_by_steps, "pointnav", WORLD, range(5), source=FIGURE_4)

POINTNAV = (
    _walks("MAML", "maml", (-40.41, 3.9), (-11.68, 2.2), (-3.33, 0.6), (-3.23, 0.6), -3.35),
    _walks(
        *("pretrained on all goals", "pretrained"),
        *((-40.81, 4.1), (-19.73, 2.9), (-11.72, 1.6), (-8.47, 0.6), -7.49),
    ),
    _walks("random", "random", (-82.66, 2.2), -57.96, -53.84, -46.81, -42.91),
    _walks("oracle", "oracle", (-2.29, 0.14)),
    _walks("context vector", None, -42.42, -13.90, -5.17, -3.18, source="table 4"),
    Figure("MAML", "maml", "pointnav", WORLD, ((None, -20.3, 3.2),), OWN_WORLD),
    Figure("ANIL", "anil", "pointnav", WORLD, ((None, -20.1, 2.3),), OWN_WORLD),
)

# ----- Locomotion -----

FIGURE_5 = "figure 5; icml/*.pkl of its code, MuJoCo 1.31"


def _runs(
    task: str, method: str, algorithm: str | None, *values: Any, **how: Any
) -> Figure:
    setting = {"task": task, "rules": "rllab", "frame_skip": 1, "velocity": "com"}
    setting |= {"horizon": 200}
    how = {"source": FIGURE_5} | how
    return _by_steps("locomotion", setting, range(4), method, algorithm, *values, **how)


TABLE_5 = "table 5; MuJoCo 1.31"
PRETRAINED = "pretrained on all tasks", "pretrained"
LOCOMOTION = (
    _runs(
        "cheetah-dir", "MAML", "maml", (-50.69, 5.7), (293.19, 17.1), 313.48, (315.65, 13.9)
    ),
    _runs("cheetah-dir", *PRETRAINED, -43.0, -24.8, -12.9, 19.6),
    _runs("cheetah-dir", "random", "random", -35.7, 21.8, 62.3, 86.2),
    _runs("cheetah-dir", "oracle", "oracle", 442.69),
    _runs(
        *("cheetah-dir", "context vector", None, -40.49, -44.08, -38.27, -42.50),
        source=TABLE_5,
    ),
    _runs(
        "cheetah-vel", "MAML", "maml", (-129.53, 16.5), (-78.57, 9.8), -66.62, (-60.78, 8.6)
    ),
    _runs("cheetah-vel", *PRETRAINED, -158.0, -135.4, -128.5, -133.6),
    _runs("cheetah-vel", "random", "random", -254.8, -254.3, -246.8, -230.8),
    _runs("cheetah-vel", "oracle", "oracle", -54.47),
    _runs("ant-dir", "MAML", "maml", (8.66, 14), (499.15, 31), 500.68, (499.11, 33)),
    _runs(
        *("ant-dir", "MAML, 20 trajectories", "maml"),
        *(12.91, (434.36, 24), 425.63, 411.75),
    ),
    _runs("ant-dir", *PRETRAINED, 3.2, 1.3, 6.5, 6.9),
    _runs("ant-dir", "random", "random", 3.1, 9.3, 16.0, 26.1),
    _runs("ant-dir", "oracle", "oracle", 524.8),
    _runs("ant-vel", "MAML", "maml", (30.58, 29), (96.74, 22), 100.06, (101.41, 22)),
    _runs("ant-vel", *PRETRAINED, -1.8, 6.1, 8.5, 9.5),
    _runs("ant-vel", "random", "random", -78.6, -62.8, -48.6, -35.6),
    _runs("ant-vel", "oracle", "oracle", 107.89),
)

FIGURES: tuple[Figure, ...] = SINE + OMNIGLOT + MINI + POINTNAV + LOCOMOTION
