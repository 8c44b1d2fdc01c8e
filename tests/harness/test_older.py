"""Options of older runs: every one of them is read as today's options, and as no other.

Older programs listed the options of all algorithms in every run. In them a context vector
was an option `context` beside the algorithm that trained it.
"""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from places import ROOT
from tinymaml.algorithms import ALGORITHMS, available, older
from tinymaml.errors import WorldError
from tinymaml.experiments.glyphs import Glyphs
from tinymaml.experiments.sine import Sine
from tinymaml.harness import runs


# What an older program wrote into every run of an experiment, whatever its algorithm.
USUAL = {
    "sine": {"context": 0, "regressors": 500, "points": 100, "pull": 0.003, "wave": 1200},
    "glyphs": {"context": 0},
}
OWN = {
    "context": st.integers(1, 20),
    "order": st.sampled_from(["exact", "first"]),
    "regressors": st.integers(2, 600),
    "points": st.integers(1, 200),
    "pull": st.floats(0, 1),
    "wave": st.integers(1, 5000),
}
ALL = {
    "seed": st.integers(0, 2**64 - 1),
    "test_steps": st.integers(0, 20),
    "beta": st.floats(1e-6, 1),
    "tasks": st.integers(1, 50),
    "inner_steps": st.integers(0, 5),
    "validate_every": st.integers(0, 100),
}
# Options that those programs did not have.
NEWER = {
    *("alpha_head", "outer", "schedule", "beta_end", "epoch", "norm_scale", "rates"),
    *("grid", "phases", "weights"),
}
OLD_NAMES = {
    *("maml", "fomaml", "maml-low-memory", "pretrained", "oracle", "random", "context"),
    *("averaged", "averaged-l2", "averaged-mean"),
}


@st.composite
def configurations(draw):
    """Draw today's configuration of what an older program could train."""
    kind = draw(st.sampled_from([Sine, Glyphs]))
    names = [n for n in available(kind.setting, kind.offers) if n in OLD_NAMES]
    method = ALGORITHMS[draw(st.sampled_from(names))]
    options = kind.options_for(method)
    values = {
        name: draw(values)
        for name, values in (ALL | OWN).items()
        if name in options and name not in method.ignores
    }
    return kind(algorithm=method.name, **values)


def as_before(config):
    """The options as an older program wrote them."""
    values = USUAL[config.name] | config.values()
    if config.algorithm == "context":
        order = values.pop("order")
        values["algorithm"] = {"exact": "maml", "first": "fomaml"}[order]
    return values


def written(path, config, options):
    """Write a config.json with these options, and read it."""
    text = json.dumps({"experiment": config.name, "options": options, "versions": {}})
    (path / runs.CONFIG).write_text(text)
    return runs.read_config(path)


@given(configurations())
def test_older_options_are_read_as_what_they_were(tmp_path_factory, config):
    """Rejects a context vector that becomes MAML or loses its order, options of other
    algorithms that are kept or refused, and one's own that are lost."""
    path = tmp_path_factory.mktemp("run")
    assert written(path, config, as_before(config)) == config


@given(configurations())
def test_today_s_options_stay(tmp_path_factory, config):
    """Rejects a translation that changes what this program wrote."""
    values = config.values()
    assert older.translated(values) == values
    assert older.translated(older.translated(as_before(config))) == values
    path = tmp_path_factory.mktemp("run")
    runs.write_config(path, config, {})
    assert runs.read_config(path) == config


@given(configurations())
def test_what_is_translated_is_not_written_to(config):
    """Rejects a translation in place."""
    options = as_before(config)
    before = dict(options)
    older.translated(options)
    assert options == before


def test_a_context_trained_with_less_memory_is_exact(tmp_path):
    """Rejects first order for the algorithm whose bits are those of exact MAML."""
    options = USUAL["sine"] | Sine(algorithm="maml-low-memory").values() | {"context": 4}
    config = written(tmp_path, Sine(), options)
    assert (config.algorithm, config.context, config.order) == ("context", 4, "exact")


@pytest.mark.parametrize("name", ["sine-context", "sine-averaged", "glyphs-maml"])
def test_what_an_older_program_wrote_has_these_options(name):
    """Rejects tests of a form that no program has written."""
    path = ROOT / "tests" / "old_runs" / name / runs.CONFIG
    options = json.loads(path.read_text())["options"]
    config = runs.read_config(path.parent)
    before = {k: x for k, x in as_before(config).items() if k not in NEWER}
    assert {*options} == {*before}
    assert written_alike(before) == options


def written_alike(values):
    """As JSON has it, with lists for tuples."""
    return json.loads(json.dumps(values))


@pytest.mark.parametrize("name", ["alhpa", "order", "momentum"])
def test_an_option_that_no_program_had_is_damage(tmp_path, name):
    """Rejects a translation that leaves out whatever it does not know."""
    with pytest.raises(WorldError, match=r"config\.json' is damaged"):
        written(tmp_path, Sine(), as_before(Sine()) | {name: 1})
