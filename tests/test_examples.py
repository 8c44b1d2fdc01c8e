"""The files of tinymaml/examples: each does what its first lines say."""

import re
import shutil
import subprocess
import sys

import numpy as np
import pytest
from PIL import Image

from places import ROOT
from processes import here, one_error
from tinymaml import loading
from tinymaml.experiments import problem


EXAMPLES = ROOT / "tinymaml" / "examples"


@pytest.fixture(autouse=True)
def folder(tmp_path, monkeypatch):
    """A folder with the examples, where everything runs."""
    for file in EXAMPLES.glob("[a-z]*.py"):
        shutil.copy(file, tmp_path)
    monkeypatch.chdir(tmp_path)
    problem.cache_clear()
    return tmp_path


def test_algorithm_1_is_short_and_learns(folder, capsys):
    """Rejects a file that needs scrolling, and an outer loop that learns nothing."""
    lines = (folder / "algorithm_1.py").read_text(encoding="utf-8").splitlines()
    assert len(lines) <= 60
    module = loading.module("algorithm_1.py")
    learned = module.train(iterations=300)
    printed = re.findall(
        r"^iteration (\d+): loss (\d\.\d+)$", capsys.readouterr().out, re.M
    )
    assert [int(number) for number, _ in printed] == [60, 120, 180, 240, 300]
    assert module.error(learned, 2, 100) < module.error(learned, 0, 100)
    assert module.error(learned, 2, 100) < module.error(np.zeros_like(learned), 2, 100)


@pytest.mark.slow
def test_algorithm_1_prints_its_numbers(folder):
    """Rejects a file that fails at the end of its training."""
    done = subprocess.run(
        [sys.executable, "algorithm_1.py"], capture_output=True, text=True, check=True
    )
    after = [float(x) for x in re.findall(r"MSE after \d+ steps: (\d\.\d+)", done.stdout)]
    assert len(after) == 5
    assert after[2] < 0.25 * after[0]


def write_table(folder, tasks=20, lines=12, columns=2):
    """Write table.csv: lines y = a x of a slope for each task."""
    rng = np.random.default_rng(0)
    rows = ["task," + ",".join(f"c{i}" for i in range(columns))]
    for task in range(tasks):
        slope = rng.uniform(-2, 2)
        for x in rng.uniform(-1, 1, lines):
            cells = [x] * (columns - 1) + [slope * x]
            rows.append(f"task {task}," + ",".join(f"{cell:.6f}" for cell in cells))
    (folder / "table.csv").write_text("\n".join(rows) + "\n", encoding="utf-8")


def test_a_table_trains(folder):
    """Rejects an example that needs the author's file, or whose inputs are ignored."""
    write_table(folder)
    told = here(
        *("train", "table.py", "--iterations", "300", "--beta", "0.01", "--out", "run"),
        *("--test-tasks", "40", "--test-steps", "5", "--hidden", "10", "--quiet"),
    )
    assert told.code == 0, told
    means = [float(x) for x in re.findall(r"^ +\d+ +(\d\.\d+) \+-", told.out, re.M)]
    assert means[-1] < 0.5 * means[0]
    write_table(folder, columns=3)
    assert here("check", "table.py", "--inputs", "2", "--hidden", "4").code == 0


def test_photos_train_and_classify_others(folder):
    """Rejects an example that needs prepared data, that learns nothing from colours, or
    whose run `predict` does not take."""
    rng = np.random.default_rng(0)
    for name in "abcdefghij":
        colour = rng.integers(0, 200, 3)
        for number in range(4):
            place = "photos" if name < "i" else "known" if number < 2 else "new"
            file = folder / place / name / f"{number}.png"
            file.parent.mkdir(parents=True, exist_ok=True)
            photo = (colour + rng.integers(0, 55, (20, 30, 3))).astype(np.uint8)
            Image.fromarray(photo).save(file)
    told = here(
        *("train", "photos.py", "--side", "16", "--filters", "4", "--ways", "3"),
        *("--held-out", "3", "--iterations", "40", "--tasks", "8", "--test-tasks", "20"),
        *("--test-steps", "3", "--out", "run", "--quiet"),
    )
    assert told.code == 0, told
    means = [float(x) for x in re.findall(r"^ +\d+ +(\d+\.\d+) \+-", told.out, re.M)]
    assert means[-1] > max(60, means[0])
    told = here("predict", "run", "--support", "known", "--query", "new")
    assert told.code == 0, told
    assert "2-way tasks, trained for 3 ways" in told.out


@pytest.mark.parametrize(
    ("text", "code"),
    [
        ("", 1),
        ("task,x,y\n", 1),
        ("task,x,y\na,1\n", 1),
        ("task,x,y\na,1,b\n", 1),
        (None, 1),
    ],
)
def test_a_wrong_table_is_one_line(folder, text, code):
    """Rejects a traceback for a table that is not one."""
    if text is not None:
        (folder / "table.csv").write_text(text, encoding="utf-8")
    loading._loaded.cache_clear()
    told = here("train", "table.py", "--out", "run")
    assert told.code == code
    assert "'table.csv' cannot be used" in one_error(told)


def test_too_few_lines_are_one_line(folder):
    """Rejects episodes that repeat lines in silence."""
    write_table(folder, lines=4)
    loading._loaded.cache_clear()
    told = here("train", "table.py", "--out", "run")
    assert told.code == 2
    assert "no train task has --shots and --queries lines together" in one_error(told)
