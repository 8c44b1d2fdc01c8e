"""What the project's documents say is what the project does.

A code block of the README is a language's, or begins with `$ COMMAND` and continues with
what that prints, where a line `...` stands for lines that are left out. In Python,
`print(...)  # OUTPUT` says what is printed.
"""

import inspect
import os
import re
import shlex
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path
from textwrap import dedent

import click
import pytest

from outputs import same
from places import ROOT
from processes import here
from tinymaml import maml
from tinymaml.algorithms import find
from tinymaml.check.chain import case_of, verify
from tinymaml.cli.main import main
from tinymaml.cli.train import OTHERS
from tinymaml.experiments import MODULES


README = (ROOT / "README.md").read_text(encoding="utf-8")
DOCUMENTS = {
    name: (ROOT / name).read_text(encoding="utf-8")
    for name in ("README.md", ".github/results.md", "tests/README.md")
}
BLOCKS = re.findall(r"^```(\w*)\n(.*?)^```$", README, re.DOTALL | re.MULTILINE)
SHOWN = [text.partition("\n") for kind, text in BLOCKS if text.startswith("$ ")]
(TREE,) = [text for kind, text in BLOCKS if not kind and not text.startswith("$ ")]
PRINTED = re.compile(r"^print\(.*\)  # (.+)$", re.MULTILINE)
PYTHON = [text for kind, text in BLOCKS if kind == "python"]
RECIPES = [text for text in PYTHON if PRINTED.search(text)]
(ALGORITHM,) = [text for text in PYTHON if "Algorithm(" in text]
COMMAND = re.compile(r"(?:^|`|&& |\$ )tinymaml ([^`#\n&]+(?:\n[^`#\n&|]+(?=`))?)", re.M)
# Where a package is missing, a program that prints the same.
STAND_INS = {"torch": ("torch_maml.py", "autograd_maml.py")}


# ----- Outputs -----


@pytest.mark.parametrize(
    ("shown", "printed", "agree"),
    [
        ("w0 22.3 % 0.9750", "w0 18.7 % 0.9750", False),
        ("w0 22.3 % 0.9750", "w0 22.3 % 0.9835", False),
        ("w0 22.3 % 0.9750", "w1 22.3 % 0.9750", False),
        ("w0 22.3 % 0.9750", "w0 22.3 % 0.9750 0.9750", False),
        ("w0 22.3 % 0.9750", "w0    22.8 %    0.9731", True),
        ("rate 2.00, -1.00", "rate 2.02, -0.98", True),
        ("rate 2.00", "rate 2.03", False),
        ("rate 1.00", "rate -1.00", False),
        ("off by 1.6e-09", "off by 2.9e-10", True),
        ("off by 1.6e-09", "off by 1.7e-07", False),
        ("off by 0.0e+00", "off by 5.5e-18", True),
        ("off by 0.0e+00", "off by 1.1e-12", False),
        ("off by 1.0e+00", "off by 1.2e+00", False),
        ("<= 1e-12, 147 of 1.9", "<= 1e-12, 147 of 1.9", True),
        ("<= 1e-12", "<= 1e-11", False),
        ("147 programs", "148 programs", False),
        ("1.9 to 2.1", "1.9 to 2.2", False),
        ("exact", "first-order", False),
    ],
)
def test_outputs_are_compared_with_their_figures(shown, printed, agree):
    """Rejects a comparison that leaves figures aside, or takes one kind for another."""
    assert same(shown, printed) is agree
    assert same(printed, shown) is agree


@pytest.mark.parametrize(("command", "_", "shown"), SHOWN, ids=[c for c, *_ in SHOWN])
def test_commands_print_what_is_shown(command, _, shown, tmp_path):
    """Rejects an output that was typed in, or that a change of the program left behind."""
    assert command.startswith("$ "), "an output without its command"
    for package, (program, other) in STAND_INS.items():
        if find_spec(package) is None:
            command = command.replace(program, other)
    os.symlink(ROOT / "tests", tmp_path / "tests")
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    done = subprocess.run(
        command[2:].split(),
        cwd=tmp_path,
        env={**os.environ, "PATH": path},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    assert same(shown, done.stdout), done.stdout


def test_there_are_outputs():
    """Rejects a search that finds no output, with which all of them would pass."""
    assert {command.split()[1] for command, *_ in SHOWN} >= {"tinymaml", "python"}
    assert RECIPES


@pytest.mark.parametrize("recipe", RECIPES)
def test_recipes_print_what_they_say(recipe, capsys):
    """Rejects a recipe that does not run, is long, or learns less than it says."""
    assert len([line for line in recipe.splitlines() if line.strip()]) <= 24
    exec(compile(recipe, "README.md", "exec"), {})
    assert same("\n".join(PRINTED.findall(recipe)), capsys.readouterr().out)


# ----- Files -----


def test_the_chain_is_the_file_s():
    """Rejects a README whose algorithm is not the one that runs, to the letter."""
    _, start, rest = inspect.getsource(maml.meta_gradient).partition("    trail = []\n")
    chain = dedent(start + rest)
    assert ("python", chain) in BLOCKS
    assert len(chain.splitlines()) == 9


def test_the_algorithm_is_as_long_as_it_says():
    """Rejects a promise of 200 lines that was outgrown."""
    lines = (ROOT / "tinymaml" / "maml.py").read_text(encoding="utf-8").splitlines()
    assert len(lines) <= 205


def test_every_file_and_command_it_names_exists():
    """Rejects a README that outlives a file or an option."""
    for name in re.findall(r"`((?:tinymaml|tests|data_scripts)/[\w/]+\.py)`", README):
        assert (ROOT / name).is_file(), name
    commands = re.findall(r"tinymaml (?:train|evaluate|plot|check|list)[^\n`|&#]*", README)
    assert commands
    for words in {tuple(command.split()[1:]) for command in commands}:
        verb = [word for word in words[:2] if word.isalpha()]
        if verb[0] not in ("train", "check"):
            verb = verb[:1]
        shown = here(*verb, "--help")
        assert shown.code == 0, words
        for flag in (word for word in words if word.startswith("--")):
            assert flag in shown.out, (flag, words)
