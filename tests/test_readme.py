"""What the project's documents say is what the project does.

A code block of the README is a language's, or begins with `$ COMMAND` and continues with
what that prints, where a line `...` stands for lines that are left out. In Python,
`print(...)  # OUTPUT` says what is printed, or lines `# OUTPUT` below it do. A block that
imports a framework is run where the framework is installed.
"""

import inspect
import os
import re
import shlex
import subprocess
import sys
from pathlib import Path
from textwrap import dedent

import click
import pytest
from click.core import ParameterSource

from outputs import same
from places import ROOT
from processes import SMALL, here
from tinymaml import maml
from tinymaml.cli.main import main as commands
from tinymaml.cli.new import TEMPLATE
from tinymaml.cli.train import OTHERS
from tinymaml.experiments import find


README = (ROOT / "README.md").read_text(encoding="utf-8")
DOCUMENTS = {
    name: (ROOT / name).read_text(encoding="utf-8")
    for name in ("README.md", ".github/results.md", "tests/README.md")
}
BLOCKS = re.findall(r"^```(\w*)\n(.*?)^```$", README, re.DOTALL | re.MULTILINE)
SHOWN = [text.partition("\n") for kind, text in BLOCKS if text.startswith("$ ")]
(TREE,) = [text for kind, text in BLOCKS if not kind and not text.startswith("$ ")]
PRINTED = re.compile(r"^(?:print\(.*\)  )?# (.+)$", re.MULTILINE)
PYTHON = [text for kind, text in BLOCKS if kind == "python"]
RECIPES = [text for text in PYTHON if PRINTED.search(text)]
ALGORITHM = (ROOT / "tinymaml" / "examples" / "every_step.py").read_text(encoding="utf-8")


def written(program: str) -> list[str]:
    """Return every command of a program in the documents, in code blocks and in text."""
    found = []
    for text in DOCUMENTS.values():
        for kind, block in re.findall(r"^```(\w*)\n(.*?)^```$", text, re.DOTALL | re.M):
            lines = block.splitlines() if kind == "sh" else []
            lines += [block[2:].split("\n")[0]] if block.startswith("$ ") else []
            found += [part.strip() for line in lines for part in line.split("&&")]
        prose = re.sub(r"^```.*?^```$", "", text, flags=re.DOTALL | re.M)
        found += [" ".join(span.split()) for span in re.findall(r"`([^`]+)`", prose)]
    return sorted({line for line in found if line.startswith(f"{program} ")})


def first_lines(shown: str, printed: str) -> tuple[str, str]:
    """Return both without the lines for which a last line `...` stands."""
    *lines, last = shown.splitlines()
    if last != "...":
        return shown, printed
    return "\n".join(lines), "\n".join(printed.splitlines()[: len(lines)])


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
    assert same(*first_lines(shown, done.stdout)), done.stdout


def test_dots_stand_for_the_rest():
    """Rejects dots that hide a line before them, and a comparison of what they omit."""
    assert first_lines("a\n...\n", "a\nb\n") == ("a", "a")
    assert first_lines("a\nc\n...\n", "a\nb\n") == ("a\nc", "a\nb")
    assert first_lines("a\n", "a\nb\n") == ("a\n", "a\nb\n")


def test_there_are_outputs():
    """Rejects a search that finds no output, with which all of them would pass."""
    assert {command.split()[1] for command, *_ in SHOWN} >= {"tinymaml"}
    assert len(RECIPES) >= 3


@pytest.mark.parametrize("recipe", RECIPES)
def test_recipes_print_what_they_say(recipe, capsys):
    """Rejects a recipe that does not run, is long, or learns less than it says."""
    lines = [line for line in recipe.splitlines() if not line.startswith("# ")]
    assert len(lines) <= 8
    for framework in re.findall(r"^import (torch|jax)\b", recipe, re.MULTILINE):
        pytest.importorskip(framework)
    exec(compile(recipe, "README.md", "exec"), {})
    assert same("\n".join(PRINTED.findall(recipe)), capsys.readouterr().out)


def test_the_tea_is_learned():
    """Rejects a recipe for one's own model that learns nothing."""
    done = subprocess.run(
        [sys.executable, str(ROOT / "tests" / "recipes" / "tea.py")],
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    before, after = map(float, re.findall(r"\d+\.\d+", done.stdout))
    assert after < 0.05 * before


@pytest.mark.parametrize(
    ("old", "new", "code"),
    [("", "", 0), ("[1 / steps]", "[1.0]", 1), ("alpha]", "alpha / 2]", 1)],
    ids=["as it is", "a sum for the mean", "another step size"],
)
def test_the_algorithm_is_verified_and_trained(old, new, code, tmp_path, monkeypatch):
    """Rejects an example whose gradient is not that of its loss, or that does not train."""
    monkeypatch.chdir(tmp_path)
    assert old in ALGORITHM
    (tmp_path / "every_step.py").write_text(
        ALGORITHM.replace(old, new) if old else ALGORITHM
    )
    named = ("sine", "--algorithm", "every_step.py:EVERY_STEP")
    verified = here("check", *named, "--steps", "3")
    assert verified.code == code, verified
    trained = here("train", *named, *SMALL, "--inner-steps", "2", "--quiet")
    assert trained.code == 0, trained


# ----- Commands -----


@pytest.mark.parametrize("command", written("tinymaml"))
def test_every_command_parses(command, tmp_path, monkeypatch):
    """Rejects an option that is gone, a wrong value, or what its algorithm refuses."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "every_step.py").write_text(ALGORITHM)
    (tmp_path / "mine.py").write_text(TEMPLATE.read_text(encoding="utf-8"))
    for folder in ("photos", "known", "new"):
        (tmp_path / folder).mkdir()
    (tmp_path / "tinymaml").symlink_to(ROOT / "tinymaml")
    words = shlex.split(command, comments=True)[1:]
    if "--resume" in words:  # it reads the run
        words[words.index("--resume") :] = []
        assert "--resume" in here("train", "sine", "--help").out
        assert words == ["train"]
        return
    found = []

    def note(command, context):
        if not isinstance(command, click.Group):
            found.append(context)

    monkeypatch.setattr(click.Command, "invoke", note)
    commands.main(words, standalone_mode=False)
    if words == ["check"]:  # a group that is also a command
        return
    (context,) = found
    if words[0] == "train":
        given = {
            name: value
            for name, value in context.params.items()
            if context.get_parameter_source(name) is ParameterSource.COMMANDLINE
            and name not in {*OTHERS, "config_file"}
        }
        find(words[1]).kind(**given)


def test_there_are_commands():
    """Rejects a search that finds none, with which all of them would pass."""
    verbs = {command.split()[1] for command in written("tinymaml")}
    assert verbs >= {"train", "evaluate", "plot", "check", "list", "chain"}
    assert len(written("tinymaml")) > 30


@pytest.mark.parametrize("command", written("python"))
def test_every_program_exists_and_has_its_options(command):
    """Rejects a program that was moved, and an option that it no longer has."""
    _, file, *words = shlex.split(command, comments=True)
    source = (ROOT / file).read_text(encoding="utf-8")
    for flag in (word for word in words if word.startswith("--")):
        assert flag in source


# ----- Files -----


def test_the_readme_is_short():
    """Rejects a README that grows again; long tables are in .github/results.md."""
    assert len(README.splitlines()) <= 150


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


@pytest.mark.parametrize("name", DOCUMENTS)
def test_every_link_and_file_exists(name):
    """Rejects a document that outlives a file."""
    folder, text = (ROOT / name).parent, DOCUMENTS[name]
    links = [link for link in re.findall(r"\]\(([^)]+)\)", text) if "://" not in link]
    assert links
    for link in links:
        assert (folder / link).exists(), link
    for file in re.findall(r"`((?:tinymaml|tests|data_scripts)/[\w/]+\.\w+)`", text):
        assert (ROOT / file).is_file(), file


def folders(pattern: str) -> list[str]:
    """Return the folders in the tree's first column, of which a line may have several."""
    found = re.findall(pattern, TREE, re.MULTILINE)
    return [folder.removesuffix("/") for line in found for folder in line.split(", ")]


def test_the_tree_is_that_of_the_source():
    """Rejects a folder without a line, a line without its folder, and a file that moved."""
    inside = folders(r"^  ((?:\w+/(?:, )?)+) ")
    package = ROOT / "tinymaml"
    there = {file.parent.name for file in package.glob("*/__init__.py")} | {"kept"}
    assert sorted(inside) == sorted(there)
    for folder in folders(r"^((?:\w+/(?:, )?)+) "):
        assert (ROOT / folder).is_dir(), folder
    for file in re.findall(r"\w+\.py", TREE):
        assert (package / file).is_file(), file


def test_words_of_the_old_dialect_are_gone():
    """Rejects sentences that a reader from elsewhere must read twice."""
    for name, text in DOCUMENTS.items():
        assert not re.findall(r"\b(?:told|apart|judged)\b", text), name
