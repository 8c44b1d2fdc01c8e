"""Published figures: as they were told, and beside the right runs."""

import pytest

from tinymaml.algorithms import ROWS
from tinymaml.experiments.glyphs import Glyphs
from tinymaml.experiments.miniimagenet import MiniImageNet
from tinymaml.experiments.omniglot import Omniglot
from tinymaml.experiments.pointnav import PointNav
from tinymaml.experiments.sine import Sine
from tinymaml.published import presets
from tinymaml.published.figures import (
    FIGURES,
    Figure,
    differences,
    is_method,
    matching,
    work_of,
)


NAMES = "finn2017-paper", "finn2017-code"
KINDS = Sine, Omniglot, MiniImageNet
SETTINGS = {
    "5w1s": {"ways": 5, "shots": 1},
    "5w5s": {"ways": 5, "shots": 5},
    "20w1s": {"ways": 20, "shots": 1},
    "20w5s": {"ways": 20, "shots": 5},
}


def told(experiment, method, source, **setting):
    """The values of one method in one setting; fails when there is not exactly one."""
    found = [
        figure.values
        for figure in FIGURES
        if (figure.experiment, figure.method) == (experiment, method)
        and figure.source.startswith(source)
        and setting.items() <= figure.setting.items()
    ]
    assert len(found) == 1
    return found[0]


@pytest.mark.parametrize(
    ("net", "setting", "value"),
    [
        ("conv", "5w1s", (3, 98.7, 0.4)),
        ("conv", "5w5s", (3, 99.9, 0.1)),
        ("conv", "20w1s", (5, 95.8, 0.3)),
        ("conv", "20w5s", (5, 98.9, 0.2)),
        ("dense", "5w1s", (3, 89.7, 1.1)),
        ("dense", "5w5s", (3, 97.5, 0.6)),
    ],
)
def test_the_papers_omniglot(net, setting, value):
    """Rejects a figure in another column, and test steps of another number of ways."""
    found = told("omniglot", "MAML", "Finn", net=net, **SETTINGS[setting])
    assert found == (value,)


@pytest.mark.parametrize(
    ("method", "shots", "value"),
    [
        ("MAML", 1, (10, 48.7, 1.84)),
        ("MAML", 5, (10, 63.11, 0.92)),
        ("first-order MAML", 1, (10, 48.07, 1.75)),
        ("first-order MAML", 5, (10, 63.15, 0.91)),
    ],
)
def test_the_papers_mini_imagenet(method, shots, value):
    """Rejects a figure in another column or of the other algorithm."""
    assert told("miniimagenet", method, "Finn", ways=5, shots=shots) == (value,)


def test_the_papers_table_2():
    """Rejects a row or column exchanged for another."""
    rows = {
        f.algorithm: [v for _, v, _ in f.values]
        for f in FIGURES
        if f.experiment == "sine" and f.setting["shots"] == 5
    }
    assert rows == {
        "maml": [0.67, 0.38, 0.35],
        "pretrained": [2.41, 2.23, 2.19],
        "averaged": [4.19, 3.85, 3.69],
        "averaged-l2": [7.18, 5.69, 5.60],
        "averaged-mean": [2.91, 2.72, 2.71],
    }


OTHERS = [
    ("context vector", "Finn", {"5w1s": 94.9, "5w5s": 97.7}),
    ("MAML++", "its", {"5w1s": 99.47, "5w5s": 99.93, "20w1s": 97.65, "20w5s": 99.33}),
    ("MAML", "ANIL", {"20w1s": 93.7, "20w5s": 96.4}),
    ("ANIL", "its", {"20w1s": 96.2, "20w5s": 98.0}),
    ("Reptile, transductive", "its", {"5w1s": 97.68, "20w1s": 89.43, "20w5s": 97.12}),
    ("iMAML", "READMEs", {"5w1s": 99.16, "5w5s": 99.67, "20w1s": 94.46, "20w5s": 98.69}),
    ("MAML", "oscarknagg", {"5w1s": 98.1, "5w5s": 99.8, "20w1s": 91.6, "20w5s": 95.9}),
    ("MAML", "katerakelly", {"5w1s": 98.9, "20w1s": 92.0}),
    ("MAML", "jik0730", {"5w1s": 99.4, "20w1s": 92.8}),
    ("MAML", "pytorch-maml", {"5w1s": 99.6, "5w5s": 99.9}),
]


@pytest.mark.parametrize(("method", "source", "values"), OTHERS)
def test_what_others_tell(method, source, values):
    """Rejects a figure in another column."""
    for setting, value in values.items():
        [(_, mean, _)] = told("omniglot", method, source, net="conv", **SETTINGS[setting])
        assert mean == value


def test_figures_are_of_the_same_problem():
    """Rejects 5-way figures beside a 20-way run, conv beside dense, test beside val."""
    assert {f.setting["ways"] for f in matching(Omniglot(ways=20), "test")} == {20}
    assert {f.setting["net"] for f in matching(Omniglot(net="dense"), "test")} == {"dense"}
    assert matching(Omniglot(), "val") == []
    assert matching(Omniglot(ways=7), "test") == []
    assert matching(Sine(shots=10), "test") == []
    assert len(matching(Sine(shots=5), "test")) == 5
    assert matching(Glyphs(), "test") == []


@pytest.mark.parametrize(
    ("config", "first", "others"),
    [
        (Sine(shots=5), "MAML", 4),
        (Sine(shots=5, algorithm="averaged-l2"), "the same, pulled to zero", 4),
        (Sine(shots=5, algorithm="maml-low-memory"), "MAML", 4),
        (Omniglot(algorithm="context", context=3), "context vector", 9),
    ],
)
def test_ones_own_method_is_told_first(config, first, others):
    """Rejects the figures of exact MAML beside another method's as if they were its own."""
    found = matching(config, "test")
    own = [is_method(figure, config) for figure in found]
    assert found[0].method == first
    assert own == [True] + [False] * (len(found) - 1)
    assert len(found) > others


# ----- What differs -----


def differing(trained, tested=None, iterations=None):
    """What differs from the first figure, of the run's own method if it has one.

    tested: its options with other shots; iterations: as `differences` has them
    """
    config = tested or trained
    figure = matching(config, "test")[0]
    iterations = trained.iterations if iterations is None else iterations
    found = differences(figure, config, trained, iterations)
    return {name: x["published"] for name, x in found.items()}


SETTINGS_OF_PRESETS = [
    (Omniglot, {"ways": 5, "shots": 1}),
    (Omniglot, {"ways": 20, "shots": 5}),
    (Omniglot, {"net": "dense", "shots": 5, "queries": 5}),  # as many as shots, typed
    (MiniImageNet, {"shots": 1}),
    (MiniImageNet, {"shots": 5, "algorithm": "fomaml"}),
    (PointNav, {"reward": "negative_distance"}),
    (PointNav, {"reward": "negative_distance", "algorithm": "pretrained"}),
]


@pytest.mark.parametrize("preset", NAMES)
@pytest.mark.parametrize(("kind", "setting"), SETTINGS_OF_PRESETS)
def test_the_published_setting_differs_in_nothing(monkeypatch, kind, setting, preset):
    """Rejects a comparison with the paper only where its code has another value, and a
    number of queries that is taken for another because it is written otherwise."""
    monkeypatch.setattr(MiniImageNet, "is_original", True)
    assert differing(kind(preset=preset, **setting)) == {}


@pytest.mark.parametrize("preset", NAMES)
@pytest.mark.parametrize("algorithm", ["maml", "pretrained"])
def test_ten_shots_in_training_and_five_at_test_are_the_papers(preset, algorithm):
    """Rejects the protocol of table 2 taken for another setting, and training on five
    shots taken for it."""
    ten = Sine(preset=preset, algorithm=algorithm)
    five = ten.with_changes({"shots": 5})
    assert differing(ten, five) == {}
    assert differing(five) == {"shots": [10]}


OTHER_SETTINGS = [
    (
        Omniglot(split="lake", rotate=False, filters=4, head="normal", iterations=60000),
        {"split": ["finn-1200", "finn"], "rotate": [True], "filters": [64]},
    ),
    (
        Omniglot(test_queries=15, activation="tanh", iterations=60000, head="normal"),
        {"test_queries": [1], "activation": ["relu"]},
    ),
    (
        Omniglot(iterations=60000, head="normal", adapt_norm=True, alpha=0.5),
        {"adapt_norm": [False], "alpha": [0.4]},
    ),
    (Sine(shots=5, hidden=(5,), algorithm="context"), {"hidden": [(40, 40)]}),
    (Sine(shots=5, hidden=(5,), algorithm="random"), {"hidden": [(40, 40)]}),
    (Sine(shots=5, algorithm="averaged", regressors=10), {"regressors": [500]}),
    (PointNav(hidden=(3,), algorithm="random"), {"hidden": [(100, 100)]}),
]


@pytest.mark.parametrize(("config", "expected"), OTHER_SETTINGS)
def test_what_differs_is_told(config, expected):
    """Rejects 98.7 % beside other characters, images or nets as if they were the paper's;
    and a training compared with one that was not published, or of another method."""
    assert differing(config) == expected


def test_the_length_of_the_training_is_that_of_the_theta():
    """Rejects a run that was stopped early as one of 60,000 iterations."""
    config = Omniglot(preset=NAMES[0])
    assert differing(config, iterations=400) == {"iterations": [60000]}
    assert differing(config) == {}


def test_settings_that_are_not_known_are_not_compared():
    """Rejects agreement that nobody has looked at."""
    config = Omniglot(preset=NAMES[0])
    told = [(f, differences(f, config, config, None)) for f in matching(config, "test")]
    assert [what for f, what in told if f.work == "finn2017"] == [{}, {}]
    others = [what for f, what in told if not f.work]
    assert others == [None] * len(others)
    assert len(others) >= 8
    config = Omniglot(preset=NAMES[0], ways=20)
    told = {f.work: work_of(f) for f in matching(config, "test") if f.work}
    unpublished = {"rajeswaran2019"}  # its settings are of 5-way tasks
    assert {work for work, found in told.items() if not found} == unpublished


def test_a_setting_that_its_work_did_not_publish_is_not_compared():
    """Rejects ANIL's 20-way settings beside a figure of 5-way tasks."""
    setting = {"ways": 5, "shots": 1, "net": "conv"}
    values = ((None, 97.0, None),)
    figure = Figure("ANIL", "anil", "omniglot", setting, values, "us", "raghu2020")
    config = Omniglot(algorithm="anil")
    assert differences(figure, config, config, None) is None
    figure, config = figure._replace(setting=setting | {"ways": 20}), Omniglot(ways=20)
    assert differences(figure, config, config, None) is not None


@pytest.mark.parametrize(
    ("kind", "work", "setting", "column"),
    [
        (kind, work.name, setting, column)
        for work in presets.WORKS.values()
        for kind in KINDS
        if kind.name in work.experiments and work.name != "finn2017"
        for setting in work.experiments[kind.name].settings
        for column in work.columns
    ],
)
def test_a_figure_is_compared_with_the_settings_of_its_own_work(
    monkeypatch, kind, work, setting, column
):
    """Rejects Finn's filters beside a figure of MAML++, and its agreement with itself.

    A run of a work's preset differs from none of the work's own figures. It does from the
    same run with another number of tasks and another activation.
    """
    monkeypatch.setattr(MiniImageNet, "is_original", True)
    config = kind(preset=f"{work}-{column}", **setting)
    another = "relu" if config.activation == "tanh" else "tanh"
    other = config.with_changes({"tasks": 3, "activation": another})
    figures = [
        figure
        for figure in matching(config, "test")
        if figure.work == work and is_method(figure, config)
    ]
    for figure in figures:
        changed = figure.variant.keys() & config.values().keys()
        assert {k: getattr(config, k) for k in changed} == figure.variant
        assert differences(figure, config, config, None) == {}
        found = differences(figure, other, other, None)
        rows = presets.columns(work, config.name, config.values())["code"]
        assert {*found} == {"tasks", "activation"} & rows.keys()
        assert found["tasks"]["ours"] == 3
    without = {("li2017", Sine)}  # its curves are others
    without |= {(name, one) for name in ("lee2018", "park2019") for one in KINDS}
    assert bool(figures) == ((work, kind) not in without)


def test_another_kind_of_convolutions_is_the_same_problem_and_is_named():
    """Rejects figures hidden from another net, and nothing said about the net."""
    config = Omniglot(algorithm="maml++", iterations=50000)
    [figure] = [f for f in matching(config, "test") if f.method == "MAML++"]
    assert is_method(figure, config)
    found = differences(figure, config, config, None)
    assert found["net"] == {"ours": "conv", "published": ["pooled"]}
    pooled = Omniglot(net="pooled")
    assert matching(pooled, "test") == matching(Omniglot(), "test")
    [finn, *_] = matching(pooled, "test")
    assert differences(finn, pooled, pooled, None)["net"]["published"] == ["conv"]


# ----- Variants of one algorithm -----


@pytest.mark.parametrize("size", [1, 2, 3, 5])
def test_another_context_is_another_method(size):
    """Rejects our score with five numbers beside the paper's with one."""
    config = Sine(algorithm="cavia", context=size)
    own = [f for f in matching(config, "test") if is_method(f, config)]
    assert [f.method for f in own] == [f"CAVIA, z of {size}"]
    mean = {1: 0.84, 2: 0.21, 3: 0.20, 5: 0.19}[size]
    assert own[0].values == ((1, mean, None),)


PARTS = [
    ({}, {"MAML++"}, "--"),
    ({"rates": "fixed"}, {"MAML++"}, "rates"),
    (
        {"rates": "fixed", "step_norm": False},
        {"MAML++", "MAML, multi-step loss"},
        "rates",
    ),
    (
        {"multi_step_loss": False, "step_norm": False},
        {"MAML++", "MAML, learned rates"},
        "multi_step_loss",
    ),
    (
        {"rates": "fixed", "multi_step_loss": False},
        {"MAML++", "MAML, batch norm of each step"},
        "rates",
    ),
]


@pytest.mark.parametrize(("switches", "methods", "differing"), PARTS)
def test_a_part_of_maml_plus_plus_stands_beside_its_ablation(switches, methods, differing):
    """Rejects the whole of MAML++ beside a figure of one part, and a part's under another
    name. The whole differs from the part's run by the switch."""
    config = Omniglot(preset="antoniou2019-code", ways=20, **switches)
    own = {f.method: f for f in matching(config, "test") if is_method(f, config)}
    assert {*own} == methods
    for name, figure in own.items():
        found = differences(figure, config, config, None)
        assert (differing in found) == (name == "MAML++" and bool(switches))


# ----- The family's figures, typed again -----

FAMILY = [
    ("omniglot", "MAML++", "its", {"20w1s": 97.65, "20w5s": 99.33}),
    ("omniglot", "MAML", "MAML++", {"20w1s": 91.27}),
    ("omniglot", "MAML, multi-step loss", "MAML++", {"20w1s": 91.53}),
    ("omniglot", "MAML, first order for 50 epochs", "MAML++", {"20w1s": 92.3}),
    ("omniglot", "MAML, cosine schedule", "MAML++", {"20w1s": 93.03}),
    ("omniglot", "MAML, batch norm of each step", "MAML++", {"20w1s": 95.35}),
    ("omniglot", "MAML, learned rates", "MAML++", {"20w1s": 95.77}),
    ("omniglot", "NIL after ANIL", "ANIL", {"20w1s": 96.7, "20w5s": 98.0}),
    (
        *("omniglot", "Reptile, not transductive", "its"),
        {"5w1s": 95.39, "5w5s": 98.90, "20w1s": 88.14, "20w5s": 96.65},
    ),
    (
        *("omniglot", "Reptile, transductive", "another"),
        {"5w1s": 97.8, "5w5s": 99.5, "20w1s": 89.1, "20w5s": 97.1},
    ),
    (
        *("omniglot", "first-order MAML, transductive", "Reptile"),
        {"5w1s": 98.3, "5w5s": 99.2, "20w1s": 89.4, "20w5s": 97.9},
    ),
    (
        *("omniglot", "iMAML, Hessian-free", "its"),
        {"5w1s": 99.50, "5w5s": 99.74, "20w1s": 96.18, "20w5s": 99.14},
    ),
    ("omniglot", "MT-net", "its", {"5w1s": 99.5, "20w1s": 96.2}),
    ("miniimagenet", "MAML++", "its", {"5w1s": 52.15, "5w5s": 68.32}),
    ("miniimagenet", "ANIL", "its", {"5w1s": 46.7, "5w5s": 61.5}),
    ("miniimagenet", "NIL after ANIL", "ANIL", {"5w1s": 48.0, "5w5s": 62.2}),
    ("miniimagenet", "ANIL", "learn2learn", {"5w5s": 63.2}),
    ("miniimagenet", "ANIL", "LibFewShot", {"5w1s": 48.44, "5w5s": 64.35}),
    ("miniimagenet", "BOIL", "its", {"5w1s": 49.61, "5w5s": 66.45}),
    ("miniimagenet", "BOIL", "LibFewShot", {"5w1s": 47.92, "5w5s": 64.39}),
    ("miniimagenet", "MAML", "BOIL", {"5w1s": 47.44, "5w5s": 61.75}),
    ("miniimagenet", "ANIL", "BOIL", {"5w1s": 47.82, "5w5s": 63.04}),
    ("miniimagenet", "first-order CAVIA", "its", {"5w1s": 49.92, "5w5s": 63.59}),
    ("miniimagenet", "Reptile, not transductive", "its", {"5w1s": 47.07, "5w5s": 62.74}),
    ("miniimagenet", "Reptile, transductive", "its", {"5w1s": 49.97, "5w5s": 65.99}),
    ("miniimagenet", "iMAML", "its", {"5w1s": 49.30}),
    ("miniimagenet", "MT-net", "its", {"5w1s": 51.70}),
    ("miniimagenet", "Meta-Curvature", "its", {"5w1s": 55.73, "5w5s": 70.30}),
    ("pointnav", "ANIL", "ANIL", {"": -20.1}),
    ("pointnav", "MAML", "ANIL", {"": -20.3}),
]


@pytest.mark.parametrize(("experiment", "method", "source", "values"), FAMILY)
def test_the_familys_figures(experiment, method, source, values):
    """Rejects a figure in another column or of another method."""
    for setting, value in values.items():
        [(_, mean, _)] = told(experiment, method, source, **SETTINGS.get(setting, {}))
        assert mean == value


@pytest.mark.parametrize(
    ("filters", "one", "five"),
    [(32, 47.24, 59.05), (128, 49.84, 64.63), (512, 51.82, 65.85)],
)
def test_cavias_filters(filters, one, five):
    """Rejects a row of CAVIA's table exchanged for another."""
    found = [f for f in FIGURES if f.method == "CAVIA" and f.variant["filters"] == filters]
    assert [f.values[0][1] for f in found] == [one, five]


def test_reptiles_demo_stands_beside_its_own_problem_only():
    """Rejects errors on a grid and phases of the full circle beside MAML's curves."""
    demo = Sine(preset="nichol2018-code")
    found = [(f.method, f.values[0][1], is_method(f, demo)) for f in matching(demo, "test")]
    assert found == [("Reptile, serial", 0.048, True), ("MAML", 0.058, False)]
    assert matching(demo.with_changes({"phases": "half"}), "test") == []


def test_the_familys_methods_have_their_names():
    """Rejects a figure of an algorithm that is here beside which ours never stands."""
    kinds = {"sine": Sine, "omniglot": Omniglot, "miniimagenet": MiniImageNet}
    found = {f.algorithm for f in FIGURES if f.experiment in kinds}
    assert {f.algorithm for f in FIGURES} - {None} <= {x.published_as for x in ROWS}
    assert {"meta-sgd", "maml++", "anil", "boil", "cavia", "fomaml"} <= found
    assert {"reptile", "imaml", "meta-curvature"} <= found
    without = {f.method for f in FIGURES if f.algorithm is None}
    assert without == {
        "MAML with 2 to 5 more biases",
        "NIL after ANIL",
        "Reptile, not transductive",
        "iMAML, Hessian-free",
        "MT-net",
        "context vector",  # in 2D navigation
    }


# ----- Whose images -----


def test_other_images_have_no_figures(monkeypatch):
    """Rejects mini-ImageNet's 48.7 % beside one's own images."""
    assert matching(MiniImageNet(), "test") == []
    monkeypatch.setattr(MiniImageNet, "is_original", True)
    assert matching(MiniImageNet(), "test")[0].values == ((10, 48.7, 1.84),)
