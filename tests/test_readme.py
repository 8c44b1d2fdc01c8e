"""What the README says is what the project does."""

import inspect
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from conftest import ROOT

from tinymaml import maml
from tinymaml.check import chain
from tinymaml.experiments.sine import Sine


README = (ROOT / "README.md").read_text(encoding="utf-8")
BLOCKS = re.findall(r"```(\w*)\n(.*?)```", README, re.DOTALL)


def block(start: str) -> str:
    """Return the code block that begins with `start`."""
    return next(text for _, text in BLOCKS if text.startswith(start))


def test_the_chain_is_the_file_s():
    """Rejects a README whose algorithm is not the one that runs."""
    told = block("trail = []").strip().splitlines()
    body = inspect.getsource(maml.meta_gradient).partition("trail = []")[2].splitlines()
    assert [line.strip() for line in told[1:]] == [line.strip() for line in body[1:]]
    assert len(told) == 9


def test_check_prints_what_the_readme_shows():
    """Rejects an output that was typed in: the same rows, figures aside."""

    figures = r"\d\.\de[+-]\d+|[\d.]+ %|-?\d\.\d{4}"

    def rows(text):
        return [re.sub(figures, "#", line).split() for line in text.splitlines()]

    shown = block("sine, K = 3")
    found = chain.verify_experiment(Sine(tasks=2, inner_steps=3))
    assert rows(shown) == rows(str(found))


def test_the_recipe_learns_what_the_readme_says():
    """Rejects a recipe that does not run, is long, or does not adapt better than zeros."""
    recipe = block("import autograd.numpy as np")
    assert len([line for line in recipe.splitlines() if line.strip()]) <= 20
    names: dict = {}
    exec(compile(recipe, "README.md", "exec"), names)
    task = names["cups"](np.random.default_rng(1), 1000)

    def error(theta):
        theta = maml.adapt(np.tile(theta, (1000, 1)), task, 0.05, 3)
        return float(task.query(theta)(theta)) / 1000

    learned, zeros = re.findall(r"leave ([\d.]+) .*?and ([\d.]+)\s", README, re.DOTALL)[0]
    told = [float(learned), float(zeros)]
    assert [error(names["theta"]), error(np.zeros(3))] == pytest.approx(told, rel=0.02)


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
    script = Path(sys.executable).with_name("tinymaml")
    for words in {tuple(command.split()[1:]) for command in commands}:
        verb = [word for word in words[:2] if word.isalpha()]
        if verb[0] not in ("train", "check"):
            verb = verb[:1]
        shown = subprocess.run([script, *verb, "--help"], capture_output=True, text=True)
        assert shown.returncode == 0, words
        for flag in (word for word in words if word.startswith("--")):
            assert flag in shown.stdout, (flag, words)
