"""The published works: values typed again, and laws of every work, setting and preset."""

import hashlib
import json
import re

import pytest

from processes import here, one_error
from tinymaml.algorithms import ALGORITHMS
from tinymaml.errors import UsageError
from tinymaml.experiments import MODULES
from tinymaml.harness import runs
from tinymaml.options import flag, options_of, shown
from tinymaml.published import presets
from tinymaml.published.presets import WORKS


KINDS = {name: module.CONFIG for name, module in MODULES.items()}
SETTINGS = [
    pytest.param(work, name, setting, id=f"{work.name}-{name}-{n}")
    for work in WORKS.values()
    for name, published in work.experiments.items()
    for n, setting in enumerate(published.settings)
]

# The protocols, one line of their tables after the other, typed again: the work, the
# experiment, /shots, @ways, the option, and what the paper and the code have.
OTHERS = [
    *("gymnasium locomotion rules gymnasium", "gymnasium locomotion frame_skip 5"),
    *("gymnasium locomotion velocity root", "gymnasium locomotion horizon 1000"),
    *("li2017 sine rates parameter", "li2017 sine adapts all", "li2017 sine order exact"),
    *("li2017 sine alpha 0.0525", "li2017 sine inner_steps 1", "li2017 sine test_steps 1"),
    *("li2017 sine iterations 60000", "li2017 sine tasks 4", "li2017 sine shots 10"),
    *("li2017 sine hidden 40,40", "li2017 sine activation relu"),
    *("li2017 omniglot tasks 32", "li2017 omniglot net conv"),
    *("li2017 omniglot rates parameter", "li2017 omniglot inner_steps 1"),
    *("li2017 omniglot alpha 0.0525", "li2017 omniglot test_steps 1"),
    *("li2017 omniglot adapts all", "li2017 omniglot order exact"),
    *("li2017 miniimagenet tasks 4", "li2017 miniimagenet net pooled"),
    *("li2017 miniimagenet rates parameter", "li2017 miniimagenet inner_steps 1"),
    *("li2017 miniimagenet alpha 0.0525", "li2017 miniimagenet test_steps 1"),
    *("li2017 miniimagenet adapts all", "li2017 miniimagenet order exact"),
    *(
        f"antoniou2019 {name} {row}"
        for name in ("omniglot", "miniimagenet")
        for row in (
            *("rates tensor", "adapts all", "order exact", "multi_step_loss True"),
            *("first_order_epochs 50 0", "step_norm True", "norm_scale True"),
            *("adapt_norm False", "norm_eps 1e-05", "activation leaky-relu"),
            *("net pooled", "head glorot", "inner_loss mean", "outer_loss mean"),
            *("alpha 0.1", "inner_steps 5", "test_steps 5", "iterations 50000"),
            *("epoch 500", "outer adam", "beta 0.001", "validate_every 500"),
            *("validation_tasks 600", "test_tasks 600", "test_queries 0"),
        )
    ),
    *("antoniou2019 omniglot tasks 8", "antoniou2019 miniimagenet tasks 2"),
    *("antoniou2019 omniglot queries 1", "antoniou2019 miniimagenet queries 15"),
    *("antoniou2019 omniglot filters 64", "antoniou2019 miniimagenet filters 48"),
    "antoniou2019 omniglot multi_step_epochs 10",
    "antoniou2019 miniimagenet multi_step_epochs 15",
    "antoniou2019 omniglot schedule cosine",
    "antoniou2019 miniimagenet schedule cosine constant",
    "antoniou2019 omniglot beta_end 1e-05",
    "antoniou2019 miniimagenet beta_end 1e-05 0.001",
    *("antoniou2019 omniglot clip 0.0", "antoniou2019 miniimagenet clip 10.0"),
    "antoniou2019 omniglot rotate True",
    *(
        f"raghu2020 {name} {row}"
        for name in ("omniglot", "miniimagenet")
        for row in (
            *("rates fixed", "order exact", "inner_steps 5", "beta 0.001"),
            *("iterations 30000", "activation relu"),
        )
    ),
    *("raghu2020 omniglot alpha 0.1", "raghu2020 miniimagenet alpha 0.01"),
    *("raghu2020 omniglot tasks 16", "raghu2020 miniimagenet tasks 4"),
    "raghu2020 miniimagenet/5 tasks 2",
    *("raghu2020 omniglot test_steps 5", "raghu2020 miniimagenet test_steps 10"),
    *("raghu2020 omniglot net conv", "raghu2020 miniimagenet net pooled"),
    *("raghu2020 omniglot filters 64", "raghu2020 miniimagenet filters 32"),
    "raghu2020 miniimagenet queries 15",
    *(
        f"oh2021 miniimagenet {row}"
        for row in (
            *("rates fixed", "order exact", "alpha 0.5", "inner_steps 1", "test_steps 1"),
            *("iterations 30000", "tasks 4", "queries 15", "test_queries 0"),
            *("outer adam", "beta 0.001", "clip 0.0", "net pooled", "filters 64"),
            *("activation relu", "norm_scale True", "adapt_norm True", "norm_eps 1e-05"),
            *("inner_loss mean", "outer_loss mean", "validate_every 100"),
            *("validation_tasks 100", "test_tasks 1000"),
        )
    ),
    *(
        f"zintgraf2019 sine {row}"
        for row in (
            *("rates fixed", "order exact", "context 5", "alpha 1.0", "inner_steps 1"),
            *("test_steps 1", "iterations 50000", "tasks 25", "shots 10", "queries 10"),
            *("hidden 40,40", "activation relu", "outer adam", "beta 0.001"),
            *("clip 10.0", "test_tasks 100"),
        )
    ),
    *(
        f"zintgraf2019 miniimagenet {row}"
        for row in (
            *("rates fixed", "order exact", "context 100", "alpha 0.1 1.0"),
            *("inner_steps 2", "test_steps 2", "iterations 60000", "queries 15"),
            *("test_queries 0", "net pooled", "filters 32", "activation relu"),
            *("norm_scale True", "norm_eps 1e-05", "inner_loss mean", "outer_loss mean"),
            *("outer adam", "beta 0.001", "clip 10.0", "validate_every 100"),
            *("validation_tasks 500", "tasks 4 16"),
        )
    ),
    "zintgraf2019 miniimagenet/5 tasks 2 16",
    *(
        f"nichol2018 {name} {row}"
        for name in ("omniglot", "miniimagenet")
        for row in (
            *("outer sgd", "schedule linear", "beta 1.0", "beta_end 0.0", "clip 0.0"),
            *("validate_every 0", "tasks 5", "inner rms", "queries 1", "test_queries 0"),
            *("test_steps 50", "test_tasks 10000", "activation relu", "norm_scale True"),
            *("norm_eps 0.001", "head glorot", "inner_loss mean"),
        )
    ),
    *("nichol2018 omniglot train_shots 10", "nichol2018 miniimagenet train_shots 15"),
    *("nichol2018 omniglot net conv", "nichol2018 miniimagenet net pooled"),
    *("nichol2018 omniglot filters 64", "nichol2018 miniimagenet filters 32"),
    *("nichol2018 omniglot split finn-1200", "nichol2018 omniglot rotate True"),
    *("nichol2018 omniglot@5 inner_batch 10", "nichol2018 omniglot@20 inner_batch 20"),
    *("nichol2018 omniglot@5 inner_steps 5", "nichol2018 omniglot@20 inner_steps 10"),
    *("nichol2018 omniglot@5 alpha 0.001", "nichol2018 omniglot@20 alpha 0.0005"),
    "nichol2018 omniglot@5 iterations 100000",
    "nichol2018 omniglot@20 iterations 200000",
    *("nichol2018 omniglot@5 test_batch 5", "nichol2018 omniglot@20 test_batch 10"),
    *("nichol2018 miniimagenet inner_batch 10", "nichol2018 miniimagenet inner_steps 8"),
    *("nichol2018 miniimagenet alpha 0.001", "nichol2018 miniimagenet iterations 100000"),
    *("nichol2018 miniimagenet test_batch 5", "nichol2018 miniimagenet/5 test_batch 15"),
    *(
        f"nichol2018 sine {row}"
        for row in (
            *("outer sgd", "schedule linear", "beta 0.1", "beta_end 0.0", "clip 0.0"),
            *("validate_every 0", "tasks 1", "iterations 30000", "inner sgd"),
            *("alpha 0.02", "train_shots 50", "inner_batch 10", "test_batch 0"),
            *("inner_steps 5", "test_steps 32", "shots 10", "queries 0", "grid True"),
            *("phases full", "weights uniform", "hidden 64,64", "activation tanh"),
        )
    ),
    *(
        f"rajeswaran2019 omniglot {row}"
        for row in (
            *("proximal 2.0", "cg_steps 5", "alpha 0.1", "inner_steps 16"),
            *("test_steps 16", "tasks 32", "iterations 20000", "queries 0"),
            *("test_queries 0", "outer adam", "beta 0.001", "clip 0.0"),
            *("validate_every 0", "test_tasks 600", "net conv", "filters 64"),
            *("activation relu", "norm_scale True", "adapt_norm True", "norm_eps 1e-05"),
            *("inner_loss mean", "outer_loss mean", "split finn-1200", "rotate True"),
        )
    ),
    *(
        f"lee2018 {name} {row}"
        for name in ("sine", "omniglot", "miniimagenet")
        for row in (
            *("rates fixed", "adapts all", "order exact", "outer adam", "beta 0.001"),
            *("validate_every 0", "test_steps 10", "activation relu"),
        )
    ),
    *(
        f"lee2018 {name} {row}"
        for name in ("omniglot", "miniimagenet")
        for row in (
            *("inner_loss sum_over_shots", "outer_loss sum_over_shots"),
            "adapt_norm False",
        )
    ),
    *("lee2018 sine alpha 0.01", "lee2018 sine inner_steps 1", "lee2018 sine clip 0.0"),
    *("lee2018 sine iterations 60000", "lee2018 sine tasks 4", "lee2018 sine shots 10"),
    *(
        "lee2018 sine queries 10",
        "lee2018 sine hidden 40,40",
        "lee2018 sine test_tasks 600",
    ),
    *("lee2018 omniglot inner_steps 1", "lee2018 omniglot iterations 40000"),
    *("lee2018 omniglot queries 0", "lee2018 omniglot test_queries 0"),
    *("lee2018 omniglot net conv", "lee2018 omniglot filters 64"),
    *("lee2018 omniglot clip 0.0", "lee2018 omniglot test_tasks 600"),
    *("lee2018 omniglot@5 tasks 32", "lee2018 omniglot@5 alpha 0.4"),
    *("lee2018 omniglot@20 tasks 16", "lee2018 omniglot@20 alpha 0.1"),
    *("lee2018 miniimagenet alpha 0.01", "lee2018 miniimagenet inner_steps 5"),
    *("lee2018 miniimagenet iterations 60000", "lee2018 miniimagenet tasks 4"),
    *("lee2018 miniimagenet queries 15", "lee2018 miniimagenet test_queries -1"),
    *("lee2018 miniimagenet net pooled", "lee2018 miniimagenet filters 32"),
    *("lee2018 miniimagenet clip 10.0", "lee2018 miniimagenet test_tasks 4000"),
    *(
        f"park2019 {name} {row}"
        for name in ("sine", "omniglot")
        for row in ("rates fixed", "adapts all", "order exact", "inner_steps 1")
    ),
    *("park2019 sine iterations 70000", "park2019 omniglot iterations 60000"),
    *("park2019 omniglot tasks 32", "park2019 omniglot alpha 0.4"),
]


def named(line):
    """The work, experiment, shots, ways if one, option, and the values of a line."""
    work, name, option, *values = line.split()
    name, _, ways = name.partition("@")
    name, _, shots = name.partition("/")
    return work, name, shots or "1", ways, option, (values * 2)[:2]


def rows_of(published, setting):
    """The rows of a setting."""
    parts = (part for part in published.parts if part.when.items() <= setting.items())
    return [row for part in parts for row in part.rows]


@pytest.mark.parametrize("line", OTHERS)
def test_a_preset_has_the_published_value(line):
    """Rejects a slip in any value, and one that stands in the other's column."""
    work, name, shots, ways, option, (paper, code) = named(line)
    published = WORKS[work].experiments[name]
    settings = [x for x in published.settings if str(x.get("shots", shots)) == shots]
    settings = [x for x in settings if not ways or str(x["ways"]) == ways]
    assert settings
    for setting in settings:
        [row] = [x for x in rows_of(published, setting) if x.option == option]
        assert (shown(row.paper), shown(row.code)) == (paper, code)


def test_every_published_value_was_compared():
    """Rejects a row that no line of the protocols was held against.

    The rows of Finn et al. 2017 are compared in test_presets.py.
    """
    compared = {(*named(line)[:2], named(line)[4]) for line in OTHERS}
    rows = {
        (work.name, name, row.option)
        for work in WORKS.values()
        for name, published in work.experiments.items()
        for part in published.parts
        for row in part.rows
        if work.name != "finn2017"
    }
    assert rows == compared


# ----- Every work -----


# Of all that is written down about a work, its sources and notes with their numbers of
# lines, sections and classes included.
WRITTEN = {
    "finn2017": "05a469a0",
    "li2017": "a1dc9749",
    "antoniou2019": "69197d87",
    "raghu2020": "481cab19",
    "oh2021": "e75bdbbd",
    "zintgraf2019": "1cc89782",
    "nichol2018": "f3733081",
    "rajeswaran2019": "12439b03",
    "lee2018": "54018fae",
    "park2019": "c53def08",
    "gymnasium": "a5b0fa97",
}


@pytest.mark.parametrize("name", WORKS)
def test_nothing_about_a_work_changes_by_accident(name):
    """Rejects another digit in a source or a note, which no other test reads. Who changes
    one looks it up in the work, and then writes the new hash here."""
    written = json.dumps(WORKS[name]).encode()
    assert hashlib.sha256(written).hexdigest()[:8] == WRITTEN[name]


@pytest.mark.parametrize(("work", "name", "setting"), SETTINGS)
def test_every_setting_is_a_configuration_with_the_rows_values(work, name, setting):
    """Rejects a misspelt option, a value out of range, an algorithm that does not fit the
    experiment, and a row that is dropped on the way."""
    rows = rows_of(work.experiments[name], setting)
    options = [row.option for row in rows]
    assert len(options) == len({*options} | setting.keys()) - len(setting)
    for n, column in enumerate(work.columns):
        config = KINDS[name](preset=f"{work.name}-{column}", **setting)
        for row in rows:
            value = row.values[n]
            assert config.options[row.option].values.checked(value) == value
            if config.uses(row.option):
                assert getattr(config, row.option) == value, row.option
            else:
                assert (row.option, config.schedule) == ("beta_end", "constant") or (
                    work.name == "finn2017"
                )
        assert {*config.differences()} <= {"preset", *setting}


@pytest.mark.parametrize(("work", "name", "setting"), SETTINGS)
def test_every_option_of_an_algorithm_has_a_row(work, name, setting):
    """Rejects a preset that leaves a switch of its algorithm to our default."""
    record = ALGORITHMS[setting.get("algorithm", "maml")]
    options = {row.option for row in rows_of(work.experiments[name], setting)}
    assert {*options_of(record.options)} <= options


def test_every_value_has_a_source():
    """Rejects a number from nowhere, a file of another code, and "as the code" beside
    another value."""
    paper = r"(section|appendix|equation|table|figure|algorithm) |not |as in |in the paper"
    paper += r"|no paper$"
    for work in WORKS.values():
        for published in work.experiments.values():
            for row in (row for part in published.parts for row in part.rows):
                assert re.match(paper, row.paper_source), row
                code = r"[\w/]+\.(py|ipynb|sh|md)\b|experiment_config: |icml/|not "
                code += r"|code not found|(examples/)?README, flag \w|gist of the sine demo"
                assert re.match(code, row.code_source), row
                assert (row.code_source == "code not found; as the paper") == (
                    work.code == "not found"
                )
                silent = "as the code" in row.paper_source
                silent = silent and not row.paper_source.endswith("Omniglot")
                if silent or "as the paper" in row.code_source:
                    assert row.paper == row.code, row


@pytest.mark.parametrize("work", WORKS.values(), ids=WORKS)
def test_a_works_name_and_notes(work):
    """Rejects a work under another's name, and a note without words."""
    assert WORKS[work.name] is work
    if work.columns == ("v5",):
        assert work.title == work.name.capitalize() == "Gymnasium"
    else:
        author, year = re.fullmatch(r"([a-z]+)(\d{4})", work.name).groups()
        assert re.fullmatch(rf"{author.capitalize()} (et al.|& \w+) {year}", work.title)
        assert presets.NAMES.index(f"{work.name}-paper") % 2 == 0
    for published in work.experiments.values():
        lines = published.notes + published.dead + published.missing
        assert all(len(line.split()) > 3 for line in lines)


# ----- Which algorithm -----


ALONE = [
    (work, name)
    for work in WORKS.values()
    for name, published in work.experiments.items()
    if len({setting.get("algorithm") for setting in published.settings} | {None}) == 2
]


@pytest.mark.parametrize(("work", "name"), ALONE)
def test_a_preset_of_one_algorithm_chooses_it(work, name):
    """Rejects MAML under the name of another algorithm's preset, in Python."""
    [first, *_] = work.experiments[name].settings
    given = {k: x for k, x in first.items() if k != "algorithm"}
    preset = f"{work.name}-code"
    config = KINDS[name](preset=preset, **given)
    assert config == KINDS[name](preset=preset, **first)
    assert config.algorithm == first["algorithm"]
    assert config.with_changes({"seed": 1}).algorithm == first["algorithm"]


def test_a_preset_of_several_algorithms_leaves_the_default():
    """Rejects fomaml, say, where nobody asked for it."""
    assert presets.algorithm("miniimagenet", "finn2017-code") is None
    assert KINDS["sine"](preset="finn2017-code").algorithm == "maml"
    assert presets.algorithm("sine", "antoniou2019-code") is None
    assert presets.algorithm("sine", "nobody-code") is None


@pytest.mark.parametrize(
    ("name", "given", "words"),
    [
        (
            *("omniglot", {"preset": "antoniou2019-code", "algorithm": "maml"}),
            "--preset antoniou2019-code: omniglot was published with"
            " --algorithm maml++ --ways 5 --shots 1; ",
        ),
        (
            *("omniglot", {"preset": "raghu2020-paper"}),
            "omniglot was published with --algorithm anil --ways 20 --shots 1; ",
        ),
        ("sine", {"preset": "oh2021-code"}, "for sine; there are: miniimagenet"),
        (
            *("sine", {"preset": "li2017-paper", "algorithm": "cavia"}),
            "sine was published with --algorithm meta-sgd",
        ),
    ],
)
def test_a_setting_that_was_not_published_is_refused(name, given, words):
    """Rejects a guess under a work's name, and a refusal without what there is."""
    with pytest.raises(UsageError, match=re.escape(words)) as error:
        KINDS[name](**given)
    assert "\n" not in str(error.value)


# ----- The command line -----


@pytest.fixture
def trained(monkeypatch, tmp_path):
    """A function that trains on sine for no iterations and returns the configuration."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("tinymaml.plots.draw", lambda path: [])

    def run(*arguments):
        few = ("--iterations", "0", "--test-tasks", "2", "--test-steps", "0")
        told = here("train", "sine", *arguments, *few, "--no-test", "--out", "run")
        assert told.code == 0, told
        return runs.read_config(tmp_path / "run")

    return run


@pytest.mark.parametrize(
    ("work", "algorithm"), [("li2017", "meta-sgd"), ("zintgraf2019", "cavia")]
)
def test_the_command_line_has_the_algorithm_of_the_preset(trained, work, algorithm):
    """Rejects a command that knows MAML's options only when a preset is typed."""
    config = trained("--preset", f"{work}-code", "--rates", "tensor")
    assert (config.algorithm, config.rates) == (algorithm, "tensor")
    assert config.alpha == KINDS["sine"](preset=f"{work}-code").alpha


def test_a_file_has_the_algorithm_of_its_preset(trained, tmp_path):
    """Rejects a preset in a file that chooses MAML."""
    (tmp_path / "c.toml").write_text('preset = "zintgraf2019-paper"\ncontext = 3\n')
    config = trained("--config", "c.toml")
    assert (config.algorithm, config.context, config.alpha) == ("cavia", 3, 1.0)


def test_another_algorithm_is_refused_in_one_line(monkeypatch, tmp_path):
    """Rejects a traceback, another exit code and a folder that was made already."""
    monkeypatch.chdir(tmp_path)
    arguments = ("--preset", "antoniou2019-code", "--algorithm", "maml")
    told = here("train", "omniglot", *arguments)
    assert (told.code, told.out) == (2, "")
    assert "omniglot was published with --algorithm maml++" in one_error(told)
    assert not [*tmp_path.iterdir()]


def test_every_work_is_listed():
    """Rejects a list that leaves out a work, a row, a source, a mark or a note."""
    text = here("list", "--presets").out
    told = json.loads(here("list", "--presets", "--json").out)
    for work in WORKS.values():
        for name, published in work.experiments.items():
            names = " or ".join(f"{work.name}-{column}" for column in work.columns)
            start = f"{name} --preset {names} "
            [block] = [x for x in text.split("\n\n") if x.startswith(start)]
            lines = block.splitlines()
            assert lines[1] == f"  {work.title}; its code: {work.code}"
            rows = [row for part in published.parts for row in part.rows]
            heads = [line for line in lines if re.match(r"[! ]   --", line)]
            assert [line.split("--")[1].split()[0] for line in heads] == [
                flag(row.option)[2:] for row in rows
            ]
            for line, row in zip(heads, rows, strict=True):
                assert line.startswith("!") == (row.paper != row.code)
                cells = line[1:].split()
                assert cells[1:3] == [shown(row.paper), shown(row.code)]
                assert f"paper: {row.paper_source} | code: {row.code_source}" in block
            assert all(f"!   {note}" in lines for note in published.notes)
            assert all(
                f"    without effect in the code: {x}" in lines for x in published.dead
            )
            assert all(f"    no option here: {x}" in lines for x in published.missing)
            found = told[name][work.name]
            assert (found["title"], found["code"]) == (work.title, work.code)
            for key in ("notes", "dead", "missing"):
                assert found[key] == [*getattr(published, key)]
            values = [row for part in found["parts"] for row in part["rows"]]
            assert [row["option"] for row in values] == [row.option for row in rows]


def test_our_default_in_the_list_is_the_algorithms():
    """Rejects MAML's number of inner steps beside the published one of MAML++."""
    lines = here("list", "omniglot", "--presets").out.split("\n\n")
    [block] = [x for x in lines if "antoniou2019" in x.splitlines()[0]]
    [steps] = [x for x in block.splitlines() if "--inner-steps" in x]
    assert steps.split() == ["--inner-steps", "5", "5", "5"]
    [rates] = [x for x in block.splitlines() if "--rates" in x]
    assert rates.split() == ["--rates", "tensor", "tensor", "tensor"]
