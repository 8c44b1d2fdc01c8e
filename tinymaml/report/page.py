"""The page of `tinymaml report`: runs, pictures, results, settings, checks, commands."""

import shlex
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from tinymaml.check.chain import Report
from tinymaml.errors import DAMAGE
from tinymaml.experiments.common import Config
from tinymaml.harness import runs, sessions
from tinymaml.harness.results import Result
from tinymaml.options import shown, typed
from tinymaml.published import presets
from tinymaml.report import check, comparison, html, names, overview, tables
from tinymaml.report.html import Html, element
from tinymaml.report.layout import Rows


EXPORTED = "is an exported theta, in whose folder no scores are kept; to print them"


class Subject(NamedTuple):
    """A run, or the runs of several seeds in a folder, which were scored together.

    path: the folder; result: None where there is no evaluation of these thetas
    """

    path: Path
    runs: Sequence[tuple[Path, Config]]
    result: Result | None

    @property
    def config(self) -> Config:
        """The options of the first run."""
        return self.runs[0][1]


class Checked(NamedTuple):
    """A gradient check: its command, and its report or why there is none."""

    command: str
    report: Report | str


def subjects(folders: Sequence[tuple[Path, Sequence[tuple[Path, Config, int]]]]):
    """Return the subjects of folders, each with its runs (path, options, iteration).

    Runs of several seeds without a common evaluation are subjects of their own.
    """
    found: list[Subject] = []
    for folder, members in folders:
        together = _subject(folder, members)
        alone = [_subject(member[0], [member]) for member in members]
        found += [together] if together.result else alone
    return found


def _subject(path: Path, members: Sequence[tuple[Path, Config, int]]) -> Subject:
    paths, configs, iterations = zip(*members, strict=True)
    result = tables.read_back(path, configs, iterations)
    return Subject(path, [*zip(paths, configs, strict=True)], result)


def as_html(
    found: Sequence[Subject], pictures: Sequence[Html], checks: Sequence[Checked]
) -> bytes:
    """Return the page about runs.

    pictures: figures, and sentences about those that could not be drawn
    """
    every = [overview.overview(path) for one in found for path, _ in one.runs]
    sections = {
        "Runs": [html.table(overview.table(every))],
        "Results": _results(found),
        "Pictures": pictures,
        "Settings": [
            html.joined([_title(one, found), html.table(settings(one))]) for one in found
        ],
        "Gradient check": [*map(_checked, checks)],
        "Sessions and versions": [_sessions(run) for one in found for run, _ in one.runs],
        "Repeat it": [_commands(one, found) for one in found],
    }
    links = [element("a", name, href=f"#{_id(name)}") for name in sections]
    body = (
        element("section", element("h2", name, id=_id(name)), *parts)
        for name, parts in sections.items()
    )
    kinds = dict.fromkeys(names.title([one.config]) for one in found)
    return html.page(f"Runs: {'; '.join(kinds)}", element("nav", *links), *body)


def _id(name: str) -> str:
    return name.lower().replace(" ", "-")


def _title(one: Subject, found: Sequence[Subject]) -> Html:
    """Return the name of a subject among those of its experiment, and its folder."""
    rivals = [x for x in found if x.config.name == one.config.name]
    labels = names.labels([x.config.but_for_its_seed() for x in rivals])
    (label,) = (name for name, x in zip(labels, rivals, strict=True) if x is one)
    return element("h3", f"{label}: {one.path}")


def _results(found: Sequence[Subject]) -> list[Html]:
    """Return the tables of `tinymaml evaluate`, the comparison of several runs first."""
    tested = [one.result for one in found if one.result]
    parts = []
    if len(tested) > 1:
        parts += [html.blocks(comparison.blocks(tested))]
    for one in found:
        if one.result is None:
            asked = element("code", shlex.join(["tinymaml", "evaluate", str(one.path)]))
            exported = (one.path / runs.THETA).exists()
            lacking = EXPORTED if exported else "was not evaluated"
            parts.append(element("p", f"{one.path} {lacking}: ", asked))
            continue
        rows = tables.blocks([one.result], range(one.result.scores.shape[1]))
        title = element("h3", f"{one.path}: {tables.title(one.result)}")
        parts.append(html.joined([title, html.blocks(rows)]))
    return parts


# ----- Settings -----


def settings(one: Subject) -> Rows:
    """Return the options in use: value, where it comes from, and what it is."""
    config, rows = one.config, [["option", "value", "source", "meaning"]]
    usual, published = config.usual(), {}
    if config.preset != "none":
        published = presets.sources(config.name, config.preset, config.values())
    for name, option in config.options.items():
        if config.uses(name):
            values = dict.fromkeys(shown(getattr(x, name)) for _, x in one.runs)
            source = _source(config, name, usual[name], published.get(name))
            source = "one for each run" if len(values) > 1 else source
            rows.append([option.flag, ", ".join(values), source, option.help])
    return rows


def _source(config: Config, name: str, usual: object, published: str | None) -> str:
    """Return where the value of an option comes from.

    usual: the preset's value, or else the default; published: the source of the preset's
    """
    option, preset = config.options[name], f"preset {config.preset}"
    if getattr(config, name) != usual:
        standing = f"{'default' if published is None else preset} {shown(usual)}"
        return f"given, in place of {standing.strip()}"
    if published is not None:
        return f"{preset}: {published}"
    if usual != option.default:
        return ": ".join(filter(None, ["default of the algorithm", config.method.source]))
    return ": ".join(filter(None, ["default", option.source]))


# ----- The rest -----


def _checked(one: Checked) -> Html:
    command = element("p", element("code", one.command))
    if isinstance(one.report, str):
        return html.joined([command, element("p", one.report)])
    verdict = "passed" if one.report.passed else "failed"
    said = f"A small check of the algorithm on the experiment, in float64: {verdict}"
    return html.joined([command, element("p", said), html.blocks(check.blocks(one.report))])


def _sessions(path: Path) -> Html:
    """Return when, with what and on what a run was trained."""
    title = element("h3", str(path))
    try:
        found = sessions.parsed(path / sessions.SESSIONS)
    except FileNotFoundError:
        return html.joined([title, element("p", f"There is no {sessions.SESSIONS}.")])
    except (*DAMAGE, AttributeError) as error:
        line = f"{sessions.SESSIONS} is damaged: {error}"
        return html.joined([title, element("p", line)])
    heads = [*dict.fromkeys(key for one in found for key in one)]
    rows = [[str(one.get(key, "")) for key in heads] for one in found]
    return html.joined([title, html.table([heads, *rows])])


def _commands(one: Subject, found: Sequence[Subject]) -> Html:
    """Return the commands that train again, and evaluate and draw what there is."""
    lines = [train(one), *(["tinymaml", x, str(one.path)] for x in ("evaluate", "plot"))]
    text = "\n".join(map(shlex.join, lines))
    return html.joined([_title(one, found), element("pre", text)])


def train(one: Subject) -> list[str]:
    """Return the words of the command that trains the same runs in a new folder."""
    words = ["tinymaml", "train", one.config.name, *typed(one.config.differences())]
    return words + ["--seeds", str(len(one.runs))] * (len(one.runs) > 1)
