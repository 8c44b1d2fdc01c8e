"""Published figures: as they were told, and beside the right runs."""

from pathlib import Path

import pytest

from tinymaml.algorithms import ROWS
from tinymaml.experiments.glyphs import Glyphs
from tinymaml.experiments.miniimagenet import MiniImageNet
from tinymaml.experiments.omniglot import Omniglot
from tinymaml.experiments.pointnav import PointNav
from tinymaml.experiments.sine import Sine
from tinymaml.options import shown
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
# The columns of figures.md.
SETTINGS = [{"ways": ways, "shots": shots} for ways in (5, 20) for shots in (1, 5)]


# ----- Typed again -----


def shot_of(figure):
    """The column of a figure's number of ways and shots, of those of the tables."""
    setting = {name: figure.setting[name] for name in ("ways", "shots")}
    return SETTINGS.index(setting)


def told(value):
    """A value as the table has it: "3: 98.7 ± 0.4", the number of steps first."""
    steps, mean, half = value
    start = "" if steps is None else f"{steps}: "
    return f"{start}{mean:g}" + ("" if half is None else f" ± {half:g}")


def table():
    """The rows of the table that the figures of `scores.py` make."""
    rows = {}
    for figure in FIGURES:
        images = figure.experiment in ("omniglot", "miniimagenet")
        problem = {k: x for k, x in figure.setting.items() if not images or k == "net"}
        names = figure.experiment, *map(shown, problem.values())
        method = figure.algorithm or "-", *map(shown, figure.variant.values())
        how = " ".join(names), figure.method, " ".join(method)
        columns = rows.setdefault((*how, figure.source, figure.work or "-"), ["-"] * 4)
        place = shot_of(figure) if images else 0
        assert columns[place] == "-"
        columns[place] = ", ".join(map(told, figure.values))
    return [(*row, *columns) for row, columns in rows.items()]


def test_every_figure_is_the_one_that_was_typed_again():
    """Rejects another digit of any figure, of half an interval or of a number of steps; a
    figure in another column, of another method, source or setting; and a figure that is
    added without looking its source up twice."""
    lines = (Path(__file__).parent / "figures.md").read_text(encoding="utf-8").splitlines()
    cells = [line.strip("| ").split(" | ") for line in lines if line.startswith("| ")]
    head, _, *typed = map(tuple, cells)
    assert len(head) == 9
    assert table() == typed


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


# ----- The family's figures -----


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
