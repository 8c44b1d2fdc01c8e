"""Published results, to stand beside ours where the problem is the same.

A figure belongs to a problem: data, ways, shots, the kind of net. It is shown beside no
other. What else differs from the setting of the paper is listed; other works have
settings of their own, which are not all known.

Accuracies are in per cent with 95 % intervals where they were told; errors are mean
squared; returns are undiscounted, with 1.96 standard errors over goals. "From memory" was
not checked against its source.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

from tinymaml.options import EVERY, OWN, options_of
from tinymaml.published import presets


class Figure(NamedTuple):
    """What was published of a method on a problem.

    algorithm: the one of ours that it is, None where it is another
    setting: the options of ours that make the problem, and those of the method itself
    values: (gradient steps at test, mean, half of the 95 % interval) each; None where the
        steps or the half are not told
    """

    method: str
    algorithm: str | None
    experiment: str
    setting: dict[str, Any]
    values: tuple[tuple[int | None, float, float | None], ...]
    source: str


Told = tuple[float, float] | float | None  # a mean with its half-width, or without, or none

PAPER = "Finn et al. 2017"
CONV, DENSE = (
    [{"ways": n, "shots": k, "net": net} for n, k in ((5, 1), (5, 5), (20, 1), (20, 5))]
    for net in ("conv", "dense")
)
MINI = [{"ways": 5, "shots": k, "net": "pooled"} for k in (1, 5)]


def _omniglot(
    method: str,
    source: str,
    *told: Told,
    algorithm: str | None = None,
    settings: Sequence[dict] = CONV,
) -> list[Figure]:
    """Accuracies 5-way 1-shot, 5-way 5-shot, 20-way 1-shot, 20-way 5-shot."""
    # The paper tests after 3 steps with 5 ways, after 5 with 20 (appendix A.1).
    steps = (3, 3, 5, 5) if source.startswith(PAPER) else [None] * 4
    row = zip(settings, steps, told, strict=True)
    return [_figure(method, algorithm, "omniglot", *one, source) for one in row if one[2]]


def _mini(
    method: str, source: str, *told: Told, algorithm: str | None = None
) -> list[Figure]:
    """Accuracies 5-way 1-shot and 5-way 5-shot."""
    steps = 10 if source.startswith(PAPER) else None  # appendix A.1
    row = zip(MINI, told, strict=True)
    return [
        _figure(method, algorithm, "miniimagenet", setting, steps, value, source)
        for setting, value in row
        if value
    ]


def _figure(method, algorithm, experiment, setting, steps, value, source) -> Figure:
    mean, half = value if isinstance(value, tuple) else (value, None)
    return Figure(method, algorithm, experiment, setting, ((steps, mean, half),), source)


def _table_2(method: str, algorithm: str, *told: float, **own: Any) -> Figure:
    """Errors of 5-shot regression after 1, 5 and 10 steps."""
    values = tuple((k, value, None) for k, value in zip((1, 5, 10), told, strict=True))
    source = f"{PAPER}, table 2"
    return Figure(method, algorithm, "sine", {"shots": 5, **own}, values, source)


def _walks(
    method: str,
    algorithm: str | None,
    *told: Told,
    source: str = "figure 4; icml/*.pkl of its code",
) -> Figure:
    """Returns on 2D navigation after 0, 1, 2, ... steps."""
    pairs = (one if isinstance(one, tuple) else (one, None) for one in told)
    values = tuple((k, *pair) for k, pair in enumerate(pairs))
    setting = {"reward": "negative_distance", "horizon": 100}
    return Figure(method, algorithm, "pointnav", setting, values, f"{PAPER}, {source}")


TABLE_1 = f"{PAPER}, table 1"
FIGURES: tuple[Figure, ...] = (
    # ----- sine -----
    _table_2("MAML", "maml", 0.67, 0.38, 0.35),
    _table_2("pretrained on all tasks", "pretrained", 2.41, 2.23, 2.19),
    _table_2("average of 500 regressors", "averaged", 4.19, 3.85, 3.69, regressors=500),
    _table_2("the same, pulled to zero", "averaged-l2", 7.18, 5.69, 5.60, regressors=500),
    _table_2(
        "the same, pulled to their mean", "averaged-mean", 2.91, 2.72, 2.71, regressors=500
    ),
    # ----- Omniglot -----
    *_omniglot(
        *("MAML", TABLE_1, (98.7, 0.4), (99.9, 0.1), (95.8, 0.3), (98.9, 0.2)),
        algorithm="maml",
    ),
    *_omniglot(
        *("MAML", TABLE_1, (89.7, 1.1), (97.5, 0.6), None, None),
        algorithm="maml",
        settings=DENSE,
    ),
    *_omniglot(
        *("context vector", f"{PAPER}, table 3", (94.9, 0.9), (97.7, 0.3), None, None),
        algorithm="context",
    ),
    *_omniglot("MAML++", "its paper (from memory)", 99.47, 99.93, 97.65, 99.33),
    *_omniglot(
        "MAML", "ANIL paper", None, None, (93.7, 0.7), (96.4, 0.1), algorithm="maml"
    ),
    *_omniglot("ANIL", "its paper", None, None, (96.2, 0.5), (98.0, 0.3)),
    *_omniglot("Reptile, transductive", "its paper", 97.68, 99.48, 89.43, 97.12),
    *_omniglot("iMAML", "READMEs of its peers", 99.16, 99.67, 94.46, 98.69),
    *_omniglot("MAML", "learn2learn", 99.1, None, None, None, algorithm="maml"),
    *_omniglot(
        *("MAML", "learn2learn", 88.9, None, None, None), algorithm="maml", settings=DENSE
    ),
    *_omniglot("MAML", "pytorch-maml", 99.6, 99.9, None, None, algorithm="maml"),
    *_omniglot("MAML", "oscarknagg", 98.1, 99.8, 91.6, 95.9, algorithm="maml"),
    *_omniglot("MAML", "katerakelly", 98.9, None, 92.0, None, algorithm="maml"),
    *_omniglot("MAML", "jik0730", 99.4, None, 92.8, None, algorithm="maml"),
    # ----- mini-ImageNet -----
    *_mini("MAML", TABLE_1, (48.70, 1.84), (63.11, 0.92), algorithm="maml"),
    *_mini("first-order MAML", TABLE_1, (48.07, 1.75), (63.15, 0.91), algorithm="fomaml"),
    *_mini("MAML++", "its paper", (52.15, 0.26), (68.32, 0.44)),
    *_mini("MAML", "ANIL paper", (46.9, 0.2), (63.1, 0.4), algorithm="maml"),
    *_mini("ANIL", "its paper", (46.7, 0.4), (61.5, 0.5)),
    *_mini("Reptile, transductive", "its paper", (49.97, 0.32), (65.99, 0.58)),
    *_mini("iMAML", "READMEs of its peers", (49.30, 1.88), None),
    *_mini("MAML", "learn2learn", 48.3, 65.4, algorithm="maml"),
    *_mini("MAML", "oscarknagg", 47.5, 64.7, algorithm="maml"),
    *_mini("MAML", "jik0730", 48.4, 64.8, algorithm="maml"),
    *_mini("first-order MAML", "dragen1860", 46.2, 60.3, algorithm="fomaml"),
    # ----- 2D navigation -----
    _walks("MAML", "maml", (-40.41, 3.9), (-11.68, 2.2), (-3.33, 0.6), (-3.23, 0.6), -3.35),
    _walks(
        *("pretrained on all goals", "pretrained"),
        *((-40.81, 4.1), (-19.73, 2.9), (-11.72, 1.6), (-8.47, 0.6), -7.49),
    ),
    _walks("random", "random", (-82.66, 2.2), -57.96, -53.84, -46.81, -42.91),
    _walks("oracle", "oracle", (-2.29, 0.14)),
    _walks("context vector", None, -42.42, -13.90, -5.17, -3.18, source="table 4"),
)


def matching(config: Any, split: str) -> list[Figure]:
    """Return the figures of config's problem, those of its own method first.

    All are of test tasks, so that there are none for another split.
    """
    if split != "test" or not config.is_original:
        return []
    found = [
        figure
        for figure in FIGURES
        if figure.experiment == config.name
        and _problem(figure, config).items() <= config.values().items()
    ]
    return sorted(found, key=lambda figure: not is_method(figure, config))


def _problem(figure: Figure, config: Any) -> dict[str, Any]:
    """Return the options of a figure's setting that are the experiment's."""
    options = options_of(type(config))
    return {name: x for name, x in figure.setting.items() if name in options}


def is_method(figure: Figure, config: Any) -> bool:
    """Return whether a figure is of the method that config trains with."""
    return figure.algorithm == config.method.published_as


def differences(
    figure: Figure, config: Any, trained: Any, iterations: int | None
) -> dict[str, dict[str, Any]] | None:
    """Return {option: {"ours": value, "published": values}} where a run differs.

    config, trained: the options at test time and in training
    iterations: those after which the theta was tested, if not all that were asked for
    None where the setting of a figure is not known: that of all works but the paper. A run
    agrees when it has the value of the paper or that of its code. The role of an option
    says which figures it is compared with.
    """
    if not figure.source.startswith(PAPER):
        return None
    columns = presets.columns(config.name, config.values()).values()
    published = [_counted({**figure.setting, **column}, trained) for column in columns]
    ours = _counted(trained.values(), trained)
    if iterations is not None:
        ours["iterations"] = iterations
    names = [name for name in published[0] if _is_compared(name, figure, trained)]
    names.sort(key=lambda name: trained.options[name].role.figures != EVERY)
    values = {name: [*dict.fromkeys(one[name] for one in published)] for name in names}
    return {
        name: {"ours": ours[name], "published": values[name]}
        for name in names
        if ours[name] not in values[name]
    }


def _is_compared(name: str, figure: Figure, trained: Any) -> bool:
    if name not in trained.options or not trained.uses(name):
        return False
    if (compared := trained.options[name].role.figures) != OWN:
        return compared == EVERY
    settings = presets.PUBLISHED[trained.name].settings
    whole = any(setting["algorithm"] == figure.algorithm for setting in settings)
    own = figure.setting.keys() - _problem(figure, trained).keys()
    return is_method(figure, trained) and (whole or name in own)


def _counted(options: dict[str, Any], trained: Any) -> dict[str, Any]:
    """Return options with the numbers of queries that 0 and -1 stand for."""
    counted = dict(options)
    if "queries" in counted:
        counted["queries"] = counted["queries"] or trained.shots
    if "test_queries" in counted:
        test = counted["test_queries"] or counted["queries"]
        counted["test_queries"] = trained.shots if test < 0 else test
    return counted
