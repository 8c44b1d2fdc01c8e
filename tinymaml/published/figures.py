"""Published results, for tables that compare them with ours.

A figure belongs to a problem (data, ways, shots, kind of net) and is shown for runs of
that problem only. Other differences from the paper's setting are listed; the settings of
other works are not all known.

Accuracies are in per cent, with 95 % intervals where they were published; errors are mean
squared; returns are undiscounted, with 1.96 standard errors over goals. "From memory"
marks a figure that was not checked against its source.
"""

from functools import partial
from typing import Any, NamedTuple

from tinymaml.options import EVERY, OWN, options_of
from tinymaml.published import presets


class Figure(NamedTuple):
    """A method's published result on a problem.

    algorithm: the name of the method here, None where there is none
    setting: the options that define the problem, and those of the method itself
    values: (gradient steps at test, mean, half of the 95 % interval) each; None where the
        steps or the half were not published
    """

    method: str
    algorithm: str | None
    experiment: str
    setting: dict[str, Any]
    values: tuple[tuple[int | None, float, float | None], ...]
    source: str


PAPER = "Finn et al. 2017"
TABLE_1 = f"{PAPER}, table 1"
WAYS_AND_SHOTS = (5, 1), (5, 5), (20, 1), (20, 5)


def _pair(value: tuple[float, float] | float) -> tuple[float, float | None]:
    return value if isinstance(value, tuple) else (value, None)


def _accuracies(experiment, net, steps, method, algorithm, source, *values) -> list[Figure]:
    """Return figures of 5-way 1-shot, 5-way 5-shot, 20-way 1-shot and 20-way 5-shot tasks.

    steps: {ways: the paper's gradient steps at test}, of appendix A.1
    values: (mean, half), a mean, or None where there is none
    """
    steps = steps if source.startswith(PAPER) else {}
    figures = []
    for (ways, shots), value in zip(WAYS_AND_SHOTS, values, strict=False):
        if value is not None:
            setting = {"ways": ways, "shots": shots, "net": net}
            found = ((steps.get(ways), *_pair(value)),)
            figures.append(Figure(method, algorithm, experiment, setting, found, source))
    return figures


def _by_steps(name, setting, steps, method, algorithm, *values, source, **own) -> Figure:
    """Return the paper's figure after these numbers of steps; own: the method's options."""
    found = tuple((k, *_pair(value)) for k, value in zip(steps, values, strict=False))
    return Figure(method, algorithm, name, setting | own, found, f"{PAPER}, {source}")


_omniglot = partial(_accuracies, "omniglot", "conv", {5: 3, 20: 5})
_dense = partial(_accuracies, "omniglot", "dense", {5: 3})
_mini = partial(_accuracies, "miniimagenet", "pooled", {5: 10})
_sine = partial(_by_steps, "sine", {"shots": 5}, (1, 5, 10), source="table 2")
WORLD = {"reward": "negative_distance", "horizon": 100}
FIGURE_4 = "figure 4; icml/*.pkl of its code"
_walks = partial(_by_steps, "pointnav", WORLD, range(5), source=FIGURE_4)

FIGURES: tuple[Figure, ...] = (
    _sine("MAML", "maml", 0.67, 0.38, 0.35),
    _sine("pretrained on all tasks", "pretrained", 2.41, 2.23, 2.19),
    _sine("average of 500 regressors", "averaged", 4.19, 3.85, 3.69, regressors=500),
    _sine("the same, pulled to zero", "averaged-l2", 7.18, 5.69, 5.60, regressors=500),
    _sine(
        "the same, pulled to their mean", "averaged-mean", 2.91, 2.72, 2.71, regressors=500
    ),
    *_omniglot("MAML", "maml", TABLE_1, (98.7, 0.4), (99.9, 0.1), (95.8, 0.3), (98.9, 0.2)),
    *_dense("MAML", "maml", TABLE_1, (89.7, 1.1), (97.5, 0.6)),
    *_omniglot("context vector", "context", f"{PAPER}, table 3", (94.9, 0.9), (97.7, 0.3)),
    *_omniglot(
        *("Meta-SGD", "meta-sgd", "its paper, quoted in that of T-NAS"),
        *((99.53, 0.26), (99.93, 0.09), 95.9, 99.0),
    ),
    *_omniglot("Meta-SGD", "meta-sgd", "jik0730", 99.3, 99.8, 95.4, 97.8),
    *_omniglot("MAML++", None, "its paper (from memory)", 99.47, 99.93, 97.65, 99.33),
    *_omniglot("MAML", "maml", "ANIL paper", None, None, (93.7, 0.7), (96.4, 0.1)),
    *_omniglot("ANIL", None, "its paper", None, None, (96.2, 0.5), (98.0, 0.3)),
    *_omniglot("Reptile, transductive", None, "its paper", 97.68, 99.48, 89.43, 97.12),
    *_omniglot("iMAML", None, "READMEs of its peers", 99.16, 99.67, 94.46, 98.69),
    *_omniglot("MAML", "maml", "learn2learn", 99.1),
    *_dense("MAML", "maml", "learn2learn", 88.9),
    *_omniglot("MAML", "maml", "pytorch-maml", 99.6, 99.9),
    *_omniglot("MAML", "maml", "oscarknagg", 98.1, 99.8, 91.6, 95.9),
    *_omniglot("MAML", "maml", "katerakelly", 98.9, None, 92.0),
    *_omniglot("MAML", "maml", "jik0730", 99.4, None, 92.8),
    *_mini("MAML", "maml", TABLE_1, (48.70, 1.84), (63.11, 0.92)),
    *_mini("first-order MAML", "fomaml", TABLE_1, (48.07, 1.75), (63.15, 0.91)),
    *_mini(
        *("Meta-SGD", "meta-sgd", "its paper, quoted in that of T-NAS"),
        *((50.47, 1.87), (64.03, 0.94)),
    ),
    *_mini("Meta-SGD", "meta-sgd", "jik0730", 49.1, 66.0),
    *_mini("MAML++", None, "its paper", (52.15, 0.26), (68.32, 0.44)),
    *_mini("MAML", "maml", "ANIL paper", (46.9, 0.2), (63.1, 0.4)),
    *_mini("ANIL", None, "its paper", (46.7, 0.4), (61.5, 0.5)),
    *_mini("Reptile, transductive", None, "its paper", (49.97, 0.32), (65.99, 0.58)),
    *_mini("iMAML", None, "READMEs of its peers", (49.30, 1.88)),
    *_mini("MAML", "maml", "learn2learn", 48.3, 65.4),
    *_mini("MAML", "maml", "oscarknagg", 47.5, 64.7),
    *_mini("MAML", "maml", "jik0730", 48.4, 64.8),
    *_mini("first-order MAML", "fomaml", "dragen1860", 46.2, 60.3),
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

    All figures are of test tasks: another split has none.
    """
    if split != "test" or not config.is_original:
        return []
    values = config.values().items()
    found = [figure for figure in FIGURES if figure.experiment == config.name]
    found = [figure for figure in found if _problem(figure, config).items() <= values]
    return sorted(found, key=lambda figure: not is_method(figure, config))


def _problem(figure: Figure, config: Any) -> dict[str, Any]:
    """Return the options of a figure's setting that are the experiment's."""
    options = options_of(type(config))
    return {name: x for name, x in figure.setting.items() if name in options}


def is_method(figure: Figure, config: Any) -> bool:
    """Return whether a published figure is of the method that config trains with."""
    return figure.algorithm == config.method.published_as


def differences(
    figure: Figure, config: Any, trained: Any, iterations: int | None
) -> dict[str, dict[str, Any]] | None:
    """Return {option: {"ours": value, "published": values}} where a run differs.

    config, trained: the options at test time and in training
    iterations: the number after which the theta was tested; None for all of the training
    A run agrees when it has the value of the paper or of its code. The role of an option
    names the figures that it is compared with. Returns None for works other than the paper:
    their settings are not known.
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
    """Replace 0 and -1 queries by the numbers that they mean."""
    counted = dict(options)
    if "queries" in counted:
        counted["queries"] = counted["queries"] or trained.shots
    if "test_queries" in counted:
        test = counted["test_queries"] or counted["queries"]
        counted["test_queries"] = trained.shots if test < 0 else test
    return counted
