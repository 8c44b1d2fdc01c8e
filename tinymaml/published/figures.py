"""Published results beside a run: which are of its problem, and how settings differ.

A figure belongs to a problem (data, ways, shots, kind of net) and is shown for runs of
that problem only. Other differences from the settings of its work are listed; those of
some figures are not known.
"""

from typing import Any

from tinymaml.options import EVERY, OWN, options_of
from tinymaml.published import presets
from tinymaml.published.scores import FIGURES, Figure


def matching(config: Any, split: str) -> list[Figure]:
    """Return the figures of config's problem, those of its own method first.

    All figures are of test tasks: another split has none.
    """
    if split != "test" or not config.is_original:
        return []
    found = [figure for figure in FIGURES if figure.experiment == config.name]
    values = _by_kind(config.values()).items()
    found = [x for x in found if _by_kind(_problem(x, config)).items() <= values]
    return sorted(found, key=lambda figure: not is_method(figure, config))


def _problem(figure: Figure, config: Any) -> dict[str, Any]:
    """Return the options of a figure's setting that are the experiment's."""
    options = options_of(type(config))
    return {name: x for name, x in figure.setting.items() if name in options}


def _by_kind(options: dict[str, Any]) -> dict[str, Any]:
    """Return the options with whether the net has convolutions in place of the net."""
    return {k: x != "dense" if k == "net" else x for k, x in options.items()}


def is_method(figure: Figure, config: Any) -> bool:
    """Return whether a published figure is of the method that config trains with."""
    method = {"algorithm": figure.algorithm, **figure.variant}
    ours = config.values() | {"algorithm": config.method.published_as}
    return method.items() <= ours.items()


def work_of(figure: Figure) -> presets.Work | None:
    """Return the work whose published settings are those of a figure; None for others.

    The method need not be the work's own, but the problem has to be one of its settings.
    """
    if not figure.work:
        return None
    work = presets.WORKS[figure.work]
    problems = (
        {k: x for k, x in setting.items() if k in figure.setting}
        for setting in work.experiments[figure.experiment].settings
    )
    known = any(problem.items() <= figure.setting.items() for problem in problems)
    return work if known else None


def differences(
    figure: Figure, config: Any, trained: Any, iterations: int | None
) -> dict[str, dict[str, Any]] | None:
    """Return {option: {"ours": value, "published": values}} where a run differs.

    config, trained: the options at test time and in training
    iterations: the number after which the theta was tested; None for all of the training
    A run agrees when it has the value of the paper or of the code of the figure's work. The
    role of an option names the figures that it is compared with. Returns None for a figure
    whose settings are not known.
    """
    if not (work := work_of(figure)):
        return None
    of = config.values() | figure.setting | {"algorithm": figure.algorithm}
    columns = presets.columns(work.name, config.name, of).values()
    published = [
        _counted({**figure.setting, **column, **figure.variant}, trained)
        for column in columns
    ]
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
    settings = presets.WORKS[figure.work].experiments[trained.name].settings
    whole = any(setting.get("algorithm") == figure.algorithm for setting in settings)
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
