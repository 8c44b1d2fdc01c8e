"""Presets: the published settings of each work, by the names WORK-paper, WORK-code, ..."""

from collections.abc import Mapping
from typing import Any

from tinymaml.errors import UsageError
from tinymaml.options import flags
from tinymaml.published.antoniou2019 import ANTONIOU2019
from tinymaml.published.finn2017 import FINN2017
from tinymaml.published.gymnasium import GYMNASIUM
from tinymaml.published.lee2018 import LEE2018
from tinymaml.published.li2017 import LI2017
from tinymaml.published.nichol2018 import NICHOL2018
from tinymaml.published.oh2021 import OH2021
from tinymaml.published.park2019 import PARK2019
from tinymaml.published.raghu2020 import RAGHU2020
from tinymaml.published.rajeswaran2019 import RAJESWARAN2019
from tinymaml.published.work import Published, Row, Work
from tinymaml.published.zintgraf2019 import ZINTGRAF2019


ROWS = (
    *(FINN2017, LI2017, ANTONIOU2019, RAGHU2020, OH2021),
    *(ZINTGRAF2019, NICHOL2018, RAJESWARAN2019, LEE2018, PARK2019),
    GYMNASIUM,
)
WORKS: dict[str, Work] = {work.name: work for work in ROWS}
NAMES = tuple(f"{n}-{column}" for n, work in WORKS.items() for column in work.columns)


def of(experiment: str) -> dict[str, Published]:
    """Return what each work published of an experiment, by the work's name."""
    found = WORKS.items()
    return {n: x.experiments[experiment] for n, x in found if experiment in x.experiments}


def algorithm(experiment: str, preset: Any) -> str | None:
    """Return the algorithm of a preset, None when its settings have several or none."""
    if preset not in NAMES:
        return None
    published = of(experiment).get(_split(preset)[0])
    found = (
        {setting.get("algorithm") for setting in published.settings} if published else ()
    )
    return next(iter(found)) if len(found) == 1 else None


def values(experiment: str, preset: str, options: Mapping[str, Any]) -> dict[str, Any]:
    """Return the options that a preset sets for an experiment.

    options: the values that select one of the published settings
    Raises UsageError when that setting was not published.
    """
    found = column(experiment, preset, options)
    settings = of(experiment)[_split(preset)[0]].settings
    if not any(setting.items() <= options.items() for setting in settings):
        having = "; ".join(map(flags, settings))
        raise UsageError(f"--preset {preset}: {experiment} was published with {having}")
    return found


def column(experiment: str, preset: str, options: Mapping[str, Any]) -> dict[str, Any]:
    """Return a preset's options under `options`, a published setting or one near it.

    Raises UsageError when the work published nothing of the experiment.
    """
    name, wanted = _split(preset)
    if experiment not in (having := WORKS[name].experiments):
        others = f"{experiment}; there are: {', '.join(having)}"
        raise UsageError(f"--preset: no published settings for {others}")
    return columns(name, experiment, options)[wanted]


def columns(
    work: str, experiment: str, options: Mapping[str, Any]
) -> dict[str, dict[str, Any]]:
    """Return the options of each column of a work for a run with these `options`."""
    rows, names = _rows(work, experiment, options), enumerate(WORKS[work].columns)
    return {name: {row.option: row.values[n] for row in rows} for n, name in names}


def _rows(work: str, experiment: str, options: Mapping[str, Any]) -> list[Row]:
    parts = WORKS[work].experiments[experiment].parts
    return [r for part in parts if part.when.items() <= options.items() for r in part.rows]


def sources(experiment: str, preset: str, options: Mapping[str, Any]) -> dict[str, str]:
    """Return where a preset's options were published, by name; arguments as of `column`."""
    name, wanted = _split(preset)
    rows, n = _rows(name, experiment, options), WORKS[name].columns.index(wanted)
    return {row.option: (row.paper_source, row.code_source)[n] for row in rows}


def _split(preset: str) -> tuple[str, str]:
    """Return the work and the column that a preset's name consists of."""
    work, _, wanted = preset.rpartition("-")
    return work, wanted
