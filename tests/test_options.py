"""Options made from fields: what a value may be, typed or in a file."""

import dataclasses
import json
import math

import click
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tinymaml.cli.options import (
    Flag,
    Number,
    Text,
    Widths,
    options_of,
    read_file,
    shown,
    types_of,
)
from tinymaml.errors import UsageError
from tinymaml.experiments import MODULES
from tinymaml.experiments.common import Config


KINDS = [module.CONFIG for module in MODULES.values()]
SINE = MODULES["sine"].CONFIG
GLYPHS = MODULES["glyphs"].CONFIG
OTHERS = {"workers": Number(int, least=1, most=256), "out": Text(), "quiet": Flag()}


def taken(kind: click.ParamType, value: object) -> object:
    """Return the value as converted, "refused" when it is refused."""
    try:
        return kind.convert(value, None, None)
    except click.BadParameter:
        return "refused"


# ----- Numbers -----


@pytest.mark.parametrize(
    "text",
    ["", "abc", "nan", "inf", "-inf", "1e400", "1_0.5", "٣", "0x10", "1,5", "--1", "1 2"],
)
def test_texts_that_are_no_finite_number(text):
    """Rejects float(text), which takes nan, inf, underscores and any script's digits."""
    assert taken(Number(float), text) == "refused"


@pytest.mark.parametrize(
    "text", ["", "1.5", "1_000", "٣", "²", "1e3", "true", "0x10", "nan", "9" * 5000]
)
def test_texts_that_are_no_integer(text):
    """Rejects int(text), which takes underscores and any script's digits."""
    assert taken(Number(int), text) == "refused"


@given(st.floats(allow_nan=False, allow_infinity=False))
def test_every_finite_float_comes_back(value):
    """Rejects a conversion that rounds."""
    assert taken(Number(float), repr(value)) == value


@given(st.integers(), st.integers(0, 10), st.integers(10, 20))
def test_integers_in_the_range_and_no_others(value, least, most):
    """Rejects a range that is off by one, or that huge integers overflow."""
    inside = least <= value <= most
    number = Number(int, least=least, most=most)
    for given_as in (value, str(value)):
        assert taken(number, given_as) == (value if inside else "refused")


@pytest.mark.parametrize("value", [10**400, -(10**400), str(10**400)], ids=["+", "-", "s"])
def test_integers_beyond_floats_are_refused(value):
    """Rejects math.isfinite of an integer that no float holds: OverflowError."""
    assert taken(Number(int, least=0, most=9), value) == "refused"
    assert taken(Number(float, least=0, most=9), value) == "refused"


@pytest.mark.parametrize("value", [True, None, [], {}, 1.5, "1.5", math.nan, b"1"])
def test_values_of_other_types_are_no_integers(value):
    """Rejects True for 1, and what only a file can hold."""
    assert taken(Number(int), value) == "refused"


def test_ends_of_ranges():
    """Rejects an open end that is closed, or the other way round; -0.0 is 0."""
    assert taken(Number(float, above=0), "0") == "refused"
    assert taken(Number(float, above=0), "5e-324") == 5e-324
    assert taken(Number(float, least=0), "-0.0") == 0
    assert taken(Number(float, least=0), "1e-400") == 0
    assert taken(Number(float, least=0), "-5e-324") == "refused"


# ----- Widths, texts, flags -----


@pytest.mark.parametrize("text", ["40,,40", "40,x", "40,0", "", ",", "40,", "1e9", "4.0"])
def test_widths_that_are_none(text):
    """Rejects leaving a bad element out."""
    assert taken(Widths(Number(int, least=1, most=10**4)), text) == "refused"


@pytest.mark.parametrize("value", [3, {"a": 1}, [1, "x"], [1.5], [True], None])
def test_widths_in_a_file_are_lists_of_integers(value):
    """Rejects a width that is no integer."""
    assert taken(Widths(Number(int)), value) == "refused"


@given(st.lists(st.integers(1, 10**4), min_size=1))
def test_widths_come_back(widths):
    """Rejects a value shown in a form that is not taken."""
    kind = Widths(Number(int, least=1, most=10**4))
    assert taken(kind, shown(tuple(widths))) == tuple(widths) == taken(kind, widths)


@pytest.mark.parametrize("value", ["a\nb", "a\0b", "\udcff", "\x1b[31m", 3, None])
def test_texts_that_cannot_be_shown(value):
    """Rejects an error message of two lines, and bytes that are no UTF-8."""
    assert taken(Text(), value) == "refused"


@pytest.mark.parametrize("value", ["true", 1, 0, None])
def test_flags_are_true_or_false(value):
    """Rejects "false", which is true."""
    assert taken(Flag(), value) == "refused"


# ----- Every experiment's fields -----


@pytest.mark.parametrize("kind", KINDS)
def test_every_default_passes_its_own_check(kind: type[Config]):
    """Rejects a default outside of its range, and a field without help."""
    types = types_of(kind)
    for field in dataclasses.fields(kind):
        assert taken(types[field.name], field.default) == field.default
        assert field.metadata["help"]
        if not isinstance(field.default, bool):
            assert taken(types[field.name], shown(field.default)) == field.default


@pytest.mark.parametrize("kind", KINDS)
def test_every_field_is_an_option(kind):
    """Rejects an option that the command line does not have."""
    options = {option.name: option for option in options_of(kind)}
    assert [*options] == [field.name for field in dataclasses.fields(kind)]
    command = click.Command("train", params=[*options.values()], callback=kind)
    assert command.main([], standalone_mode=False) == kind()


# ----- Configuration files -----


def read(tmp_path, text: str | bytes, kind: type[Config] = SINE) -> dict:
    file = tmp_path / "c.toml"
    file.write_bytes(text if isinstance(text, bytes) else text.encode())
    return read_file(str(file), kind, OTHERS)


def test_a_file_has_the_names_of_the_command_line(tmp_path):
    """Rejects names with underscores only, and files that only know the experiment."""
    text = (
        'inner-steps = 2\nalpha = 1\nhidden = [8, 4]\nout = "x"\nquiet = true\nworkers = 2'
    )
    told = read(tmp_path, text)
    assert told == {
        "inner_steps": 2,
        "alpha": 1.0,
        "hidden": (8, 4),
        "out": "x",
        "quiet": True,
        "workers": 2,
    }
    assert type(told["alpha"]) is float
    assert read(tmp_path, 'adapt_norm = true\nnet = "dense"', GLYPHS)["adapt_norm"] is True


@given(st.builds(SINE, seed=st.integers(0, 2**63), alpha=st.floats(0, 1e9)))
def test_a_configuration_written_is_the_one_read(tmp_path_factory, config):
    """Rejects an option that a file cannot hold."""
    values = dataclasses.asdict(config)
    # JSON writes these values as TOML does.
    lines = [f"{name} = {json.dumps(value)}" for name, value in values.items()]
    assert SINE(**read(tmp_path_factory.getbasetemp(), "\n".join(lines))) == config


BAD_FILES = {
    "syntax": ("alpha = ", r"Invalid value \(at end of document\)"),
    "line": ("alpha = 1\nbeta 2\n", "line 2"),
    "twice": ("alpha = 1\nalpha = 2", "overwrite"),
    "not-utf8": (b"alpha = 1 # \xff", "utf-8"),
    "utf16": ("alpha = 1".encode("utf-16"), "utf-8"),
    "deep": ("alpha = " + "[" * 5000, "recursion|nest"),
    "unknown": ("alhpa = 1", "unknown key 'alhpa'; did you mean 'alpha'"),
    "far-off": ("zzzz = 1", "unknown key 'zzzz'$"),
    "section": ("[sine]\nalpha = 1", "unknown key 'sine'"),
    "options-of-others": ("ways = 5", "unknown key 'ways'"),
    "itself": ('config = "x"', "unknown key 'config'"),
    "text": ('alpha = "0.1"', r"alpha: '0\.1' is text, not number"),
    "text-for-list": ('hidden = "4,4"', "hidden: '4,4' is text, not widths"),
    "true": ("tasks = true", "tasks: True is not an integer"),
    "float": ("tasks = 1.0", "tasks: 1.0 is not an integer"),
    "date": ("alpha = 1979-05-27", "alpha: .* is not a number"),
    "list": ("alpha = [1]", "alpha: .* is not a number"),
    "table": ("alpha.x = 1", "alpha: .* is not a number"),
    "nan": ("alpha = nan", "alpha: nan is not finite"),
    "overflow": ("alpha = 1e999", "alpha: inf is not finite"),
    "range": ("beta = 0", "beta: 0 is not above 0"),
    "long": ("seed = " + "9" * 400, "seed: 9* is above"),
    "longer": ("seed = " + "9" * 5000, "digits"),
    "choice": ('algorithm = "MAML"', "algorithm: "),
    "choice-list": ('algorithm = ["maml"]', "algorithm: "),
    "choice-number": ("dtype = 32", "dtype: "),
    "width": ('hidden = [4, "x"]', "hidden: 'x' is not an integer"),
    "path": ("out = 3", "out: 3 is not text"),
    "nul": ('out = "a\\u0000b"', "out: .* cannot be printed"),
    "flag": ('quiet = "no"', "quiet: 'no' is not true or false"),
    "workers": ("workers = 0", "workers: 0 is below 1"),
    "large": (b"#" * (2**20 + 1), "too large"),
}


@pytest.mark.parametrize("kind", BAD_FILES)
def test_bad_files(tmp_path, kind):
    """Rejects a file whose mistakes are passed over, or told by a traceback."""
    text, message = BAD_FILES[kind]
    with pytest.raises(UsageError, match=message) as told:
        read(tmp_path, text)
    assert "c.toml" in str(told.value)
