"""Options made from fields: what a value may be, in Python, typed or in a file."""

import dataclasses
import inspect
import json
import math
from functools import partial

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from processes import here
from tinymaml import algorithms
from tinymaml.cli.options import check_file, read_file
from tinymaml.cli.train import OTHERS
from tinymaml.errors import UsageError
from tinymaml.experiments import MODULES, images
from tinymaml.experiments.common import Config
from tinymaml.options import (
    Values,
    check,
    flag,
    flags,
    option,
    options_of,
    redefault,
    shown,
)


KINDS = [module.CONFIG for module in MODULES.values()]
PAIRS = [
    pytest.param(kind, algorithms.find(name), id=f"{kind.name}-{name}")
    for kind in KINDS
    for name in algorithms.available(kind.setting, kind.offers)
]
SINE = MODULES["sine"].CONFIG
GLYPHS = MODULES["glyphs"].CONFIG


def taken(values: Values, value: object) -> object:
    """Return the value as converted, "refused" when it is refused."""
    try:
        return values.parsed(value) if isinstance(value, str) else values.checked(value)
    except ValueError:
        return "refused"


def refused(values: Values, value: object) -> bool:
    """Return whether a value that stands in a file, or is given in Python, is refused."""
    try:
        values.checked(value)
    except ValueError:
        return True
    return False


# ----- Numbers -----


@pytest.mark.parametrize(
    "text",
    ["", "abc", "nan", "inf", "-inf", "1e400", "1_0.5", "٣", "0x10", "1,5", "--1", "1 2"],
)
def test_texts_that_are_no_finite_number(text):
    """Rejects float(text), which takes nan, inf, underscores and any script's digits."""
    assert taken(Values(float), text) == "refused"


@pytest.mark.parametrize(
    "text", ["", "1.5", "1_000", "٣", "²", "1e3", "true", "0x10", "nan", "9" * 5000]
)
def test_texts_that_are_no_integer(text):
    """Rejects int(text), which takes underscores and any script's digits."""
    assert taken(Values(int), text) == "refused"


@given(st.floats(allow_nan=False, allow_infinity=False))
def test_every_finite_float_comes_back(value):
    """Rejects a conversion that rounds."""
    assert taken(Values(float), repr(value)) == value


@given(st.integers(), st.integers(0, 10), st.integers(10, 20))
def test_integers_in_the_range_and_no_others(value, least, most):
    """Rejects a range that is off by one, or that huge integers overflow."""
    inside = least <= value <= most
    number = Values(int, least=least, most=most)
    for given_as in (value, str(value)):
        assert taken(number, given_as) == (value if inside else "refused")


@pytest.mark.parametrize("value", [10**400, -(10**400), str(10**400)], ids=["+", "-", "s"])
def test_integers_beyond_floats_are_refused(value):
    """Rejects math.isfinite of an integer that no float holds: OverflowError."""
    assert taken(Values(int, least=0, most=9), value) == "refused"
    assert taken(Values(float, least=0, most=9), value) == "refused"


@pytest.mark.parametrize("value", [True, None, [], {}, 1.5, "1.5", math.nan, b"1"])
def test_values_of_other_types_are_no_integers(value):
    """Rejects True for 1, and what only a file can hold."""
    assert taken(Values(int), value) == "refused"


def test_ends_of_ranges():
    """Rejects an open end that is closed, or the other way round; -0.0 is 0."""
    assert taken(Values(float, above=0), "0") == "refused"
    assert taken(Values(float, above=0), "5e-324") == 5e-324
    assert taken(Values(float, least=0), "-0.0") == 0
    assert taken(Values(float, least=0), "1e-400") == 0
    assert taken(Values(float, least=0), "-5e-324") == "refused"


# ----- Widths, texts, flags -----


@pytest.mark.parametrize("text", ["40,,40", "40,x", "40,0", "", ",", "40,", "1e9", "4.0"])
def test_widths_that_are_none(text):
    """Rejects leaving a bad element out."""
    assert taken(Values(tuple, least=1, most=10**4), text) == "refused"


@pytest.mark.parametrize("value", [3, {"a": 1}, [1, "x"], [1.5], [True], None])
def test_widths_in_a_file_are_lists_of_integers(value):
    """Rejects a width that is no integer."""
    assert taken(Values(tuple), value) == "refused"


@given(st.lists(st.integers(1, 10**4), min_size=1))
def test_widths_come_back(widths):
    """Rejects a value shown in a form that is not taken."""
    kind = Values(tuple, least=1, most=10**4)
    assert taken(kind, shown(tuple(widths))) == tuple(widths) == taken(kind, widths)


@pytest.mark.parametrize("value", ["a\nb", "a\0b", "\udcff", "\x1b[31m", 3, None])
def test_texts_that_cannot_be_shown(value):
    """Rejects an error message of two lines, and bytes that are no UTF-8."""
    assert refused(Values(str), value)


@pytest.mark.parametrize("value", ["true", 1, 0, None])
def test_flags_are_true_or_false(value):
    """Rejects "false", which is true."""
    assert refused(Values(bool), value)


def test_choices():
    """Rejects a text that is none of the choices, and a pattern that takes too much."""
    values = Values(str, choices=("mean", "sum"), others=r".+\.py:\w+")
    for right in ("mean", "sum", "a/b.py:X"):
        assert taken(values, right) == right
    for wrong in ("Mean", "mea", "means", "", "a.py", ".py:X", "x a.py:X\n"):
        assert taken(values, wrong) == "refused"
    with pytest.raises(ValueError, match=r"'median' is not one of mean, sum$"):
        values.checked("median")
    assert taken(Values(str), "anything") == "anything"


@pytest.mark.parametrize("number", [np.int64(3), np.float32(0.5), np.float64(2.0)])
def test_numbers_of_numpy(number):
    """Rejects `for seed in np.arange(3)`, and a NumPy scalar kept in a configuration."""
    kind = int if isinstance(number, np.integer) else float
    assert Values(kind, least=0, most=9).checked(number) == number
    assert type(Values(kind, least=0, most=9).checked(number)) is kind
    assert refused(Values(kind, least=4, most=9), number)
    assert refused(Values(float, least=0), np.float32(math.nan))


# ----- Declarations -----


@dataclasses.dataclass
class Parent:
    """Options to override."""

    size: int = option(3, "a size", "a source", least=1, most=9)
    name: str = option("a", "a name", choices=("a", "b"))


@dataclasses.dataclass
class Child(Parent):
    """Overrides both."""

    size: int = redefault(5)
    name: str = redefault("b", "another source", "another name")


def test_another_default_keeps_the_rest():
    """Rejects an override that loses the range or the help, or keeps a source that is of
    the old default."""
    before, after = (options_of(kind) for kind in (Parent, Child))
    size, name = after["size"], after["name"]
    assert size == before["size"]._replace(default=5, source="")
    assert size.values == Values(int, least=1, most=9)
    assert name.values == before["name"].values
    assert (name.default, name.source, name.help) == ("b", "another source", "another name")


@pytest.mark.parametrize("kind", KINDS)
def test_what_is_written_once_is_the_same_in_every_experiment(kind):
    """Rejects an inherited option that is written again: its range, choices and role are
    those of the class that has it first."""
    for name, one in options_of(kind).items():
        for base in kind.__mro__[1:]:
            if dataclasses.is_dataclass(base) and name in options_of(base):
                other = options_of(base)[name]
                assert (one.values, one.role) == (other.values, other.role), name


DECLARING = [Config, images.Images, *KINDS, *{row.options for row in algorithms.ROWS}]


def test_every_help_is_written_once():
    """Rejects a default that is overridden by writing the option anew, with its help."""
    modules = {inspect.getmodule(kind) for kind in DECLARING}
    text = "\n".join(map(inspect.getsource, modules))
    text = text.replace('"\n        "', "").replace("'\n        '", "")
    own = {(name, one.help) for kind in DECLARING for name, one in options_of(kind).items()}
    for name, help in own:
        written = text.count(json.dumps(help))
        assert written <= 1, (name, help)


# ----- Every experiment's options -----


@pytest.mark.parametrize(("kind", "record"), PAIRS)
def test_every_default_passes_its_own_check(kind, record):
    """Rejects a default outside of its range, and a field without help."""
    for one in kind.options_for(record).values():
        assert one.help
        assert one.values.checked(one.default) == one.default
        if one.values.kind is not bool:
            assert one.values.parsed(shown(one.default)) == one.default


@pytest.mark.parametrize(("kind", "record"), PAIRS)
def test_every_field_is_an_option(kind, record):
    """Rejects an option that the command line does not have, or not with that default."""
    fields = [one.name for one in dataclasses.fields(kind)]
    fields += [one.name for one in dataclasses.fields(record.options)]
    assert {*kind.options_for(record)} == {*fields} - {"own"}
    text = here("train", kind.name, "--algorithm", record.name, "--help").out
    text = " ".join(text.split())
    unbroken = text.replace(" ", "")  # a line may end at a hyphen
    usual = record.defaults({})
    for one in kind.options_for(record).values():
        without_effect = one.name in record.ignores
        if without_effect or (one.name == "tune" and record.inner_loop):
            assert f" {one.flag} " not in text
            continue
        assert f" {one.flag}" in text
        default = usual.get(one.name, one.default)
        if one.values.kind is not bool and default != "":
            assert f"[default:{shown(default)}]" in unbroken


def test_checking_says_what_is_wrong():
    """Rejects an unknown name that is passed over, and one without the name meant."""
    options = options_of(Parent)
    assert check(options, {"size": 4}) == {"size": 4}
    for wrong, message in (
        ({"size": 10}, "^--size: 10 is above 9$"),
        ({"size": 0}, "^--size: 0 is below 1$"),
        ({"name": "c"}, "^--name: 'c' is not one of a, b$"),
        ({"sice": 4}, r"^--sice: no such option; did you mean --size\?$"),
        ({"zzzz": 4}, "^--zzzz: no such option$"),
    ):
        with pytest.raises(UsageError, match=message):
            check(options, wrong)


def test_flags_are_what_one_types():
    """Rejects --tune True, a list in brackets, and underscores."""
    values = {"inner_steps": 2, "tune": False, "adapt_norm": True, "hidden": (4, 4)}
    assert flags(values) == "--inner-steps 2 --no-tune --adapt-norm --hidden 4,4"
    assert flag("inner_steps") == "--inner-steps"


# ----- Configuration files -----


def read(tmp_path, text: str | bytes, kind=SINE, algorithm="maml") -> dict:
    file = tmp_path / "c.toml"
    file.write_bytes(text if isinstance(text, bytes) else text.encode())
    record = algorithms.find(algorithm)
    options, unknown = kind.options_for(record), partial(kind.unknown, record)
    return check_file(str(file), read_file(str(file)), options, OTHERS, unknown)


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


@given(
    st.builds(
        SINE,
        algorithm=st.sampled_from(["maml", "context"]),
        seed=st.integers(0, 2**63),
        alpha=st.floats(0, 1e9),
    )
)
def test_a_configuration_written_is_the_one_read(tmp_path_factory, config):
    """Rejects an option that a file cannot hold."""
    values = {name: x for name, x in config.values().items() if config.uses(name)}
    # JSON writes these values as TOML does.
    lines = [f"{name} = {json.dumps(value)}" for name, value in values.items()]
    folder, text = tmp_path_factory.getbasetemp(), "\n".join(lines)
    assert SINE(**read(folder, text, algorithm=config.algorithm)) == config


BAD_FILES = {
    "syntax": ("alpha = ", r"Invalid value \(at end of document\)"),
    "line": ("alpha = 1\nbeta 2\n", "line 2"),
    "twice": ("alpha = 1\nalpha = 2", "overwrite"),
    "not-utf8": (b"alpha = 1 # \xff", "utf-8"),
    "utf16": ("alpha = 1".encode("utf-16"), "utf-8"),
    "deep": ("alpha = " + "[" * 5000, "recursion|nest"),
    "unknown": ("alhpa = 1", r"--alhpa: no such option; did you mean --alpha\?$"),
    "far-off": ("zzzz = 1", "--zzzz: no such option$"),
    "section": ("[sine]\nalpha = 1", "--sine: no such option"),
    "options-of-others": ("ways = 5", "--ways: no such option"),
    "of-an-algorithm": ("points = 5", "--points: an option of --algorithm averaged or"),
    "itself": ('config = "x"', "--config: no such option"),
    "text": ('alpha = "0.1"', r"alpha: '0\.1' is not a number"),
    "text-for-list": ('hidden = "4,4"', "hidden: '4,4' is not a list of integers"),
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
    "hexadecimal": ("seed = 0x" + "f" * 5000, "a number of too many digits is above"),
    "hexadecimal-text": ("dtype = 0x" + "f" * 5000, "of too many digits is not text"),
    "hexadecimal-flag": ("quiet = 0x" + "f" * 5000, "of too many digits is not true"),
    "hexadecimal-list": ("hidden = 0x" + "f" * 5000, "of too many digits is not a list"),
    "hexadecimal-table": ("alpha.x = 0x" + "f" * 5000, "digits is not a number"),
    "no-widths": ("hidden = []", "hidden: the list is empty"),
    "no-folder": ('out = ""', "out: must not be empty"),
    "no-run": ('resume = ""', "resume: must not be empty"),
    "long-text": ('algorithm = "' + "x" * 5000 + '"', r"\.\.\.x* *.* is not one of"),
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
    assert "set_int_max_str_digits" not in str(told.value)
    assert len(str(told.value)) < 600
