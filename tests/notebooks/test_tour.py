"""The notebook runs from top to bottom, and its figures say what its text says."""

import json
import sys
from pathlib import Path

import matplotlib
import numpy as np
import pytest


CELLS = json.loads(Path(__file__).with_name("tour.ipynb").read_text(encoding="utf-8"))[
    "cells"
]


@pytest.fixture(scope="module")
def told(tmp_path_factory):
    """What the cells left behind, and what they printed."""
    matplotlib.use("agg")
    names, printed, before = {}, [], {*sys.modules}
    names["print"] = lambda *parts: printed.append(" ".join(map(str, parts)))
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(tmp_path_factory.mktemp("tour"))
        for cell in CELLS:
            if cell["cell_type"] == "code":
                exec(compile("".join(cell["source"]), cell["id"], "exec"), names)
    for name in {"matplotlib.pyplot"} - before:  # whose figures are global
        sys.modules.pop(name, None)
    return names, printed


def test_both_gradients_are_recognised(told):
    """Rejects a notebook whose verdicts have changed, or that shows only one of them."""
    verdicts = [line for line in told[1] if line.startswith(("exact", "first-order"))]
    assert [line.partition(":")[0] for line in verdicts] == ["exact", "first-order"]


def test_everything_learns(told):
    """Rejects a tour through nets that have not learned."""
    names, _ = told
    scores = names["scores"].mean
    assert scores[10] < 0.6 * scores[0]
    assert names["glyphs"].evaluate(tasks=20, steps=3).mean[3] > 0.4
    curve = names["run"].adapt(names["x"], names["y"], 10)
    error = np.mean((curve(names["x"]) - names["y"]) ** 2)
    assert error < 0.5 * np.mean(
        (names["run"].adapt(names["x"], names["y"], 0)(names["x"]) - names["y"]) ** 2
    )


def test_it_is_kept_without_outputs():
    """Rejects outputs of somebody's machine in the repository."""
    code = [cell for cell in CELLS if cell["cell_type"] == "code"]
    assert not any(cell["outputs"] or cell["execution_count"] for cell in code)
    assert len({cell["id"] for cell in CELLS}) == len(CELLS)
