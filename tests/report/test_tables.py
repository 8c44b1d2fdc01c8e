"""Reports: the table for people, the Markdown for a paper, the JSON for machines."""

import json
import re

import numpy as np
import pytest

from tinymaml.experiments.glyphs import Glyphs
from tinymaml.experiments.miniimagenet import MiniImageNet
from tinymaml.experiments.omniglot import Omniglot
from tinymaml.experiments.sine import Sine
from tinymaml.harness.results import Result, over_seeds, over_tasks
from tinymaml.report import tables


NAN = float("nan")
SCORES = np.array([[[0.25, 0.75], [0.5, 1.0], [1.0, 1.0]]])
ONE = Result(
    Glyphs(),
    Glyphs(),
    "val",
    (3,),
    (70,),
    (NAN,),
    "beef",
    SCORES,
    SCORES[:, [2]] / 2,
    (2,),
    (),
)
PLAIN = ONE._replace(alone=None)
SINE = PLAIN._replace(config=Sine(), trained=Sine(), split="test")


def several(result):
    """The same of two runs, the second with half the scores."""
    both = np.concatenate([result.scores, result.scores / 2])
    return result._replace(
        seeds=(3, 4), iterations=(70, 70), validations=(NAN, NAN), scores=both, alone=None
    )


# ----- For people -----


def test_table_of_accuracies_is_in_per_cent():
    """Rejects shares that are shown as per cent, and half-widths on another scale.

    Standard error of 0.25, 0.75: 0.25; 12.706 of it are 318 %.
    """
    assert tables.as_text([PLAIN], (0, 2)).splitlines() == [
        "gradient steps   accuracy on 2 tasks (95 % interval)",
        "             0   50.00 +- 317.66 %",
        "             2   100.00 +- 0.00 %",
        "tasks, 1 shot: sha256 beef",
    ]


def test_table_of_errors_has_no_unit_and_leaves_out_steps_not_made():
    """Rejects an index error when fewer steps were made than the table would show."""
    assert tables.as_text([SINE], Sine.shown_steps).splitlines() == [
        "gradient steps   MSE on 2 tasks (95 % interval)",
        "             0   0.5000 +- 3.1766",
        "             1   0.7500 +- 3.1766",
        "             2   1.0000 +- 0.0000",
        "tasks, 10 shots: sha256 beef",
    ]


def test_queries_alone_have_a_column_at_their_steps():
    """Rejects a score that stands at another step than it was made after."""
    lines = tables.as_text([ONE], (0, 1, 2)).splitlines()
    assert [line.split("   ")[-1].strip() for line in lines[:4]] == [
        "each query alone (not transductive)",
        "50.00 +- 317.66 %",
        "75.00 +- 317.66 %",
        "50.00 +- 0.00 %",
    ]


def test_several_shots_have_a_column_each():
    """Rejects columns out of order, and one hash for different tasks."""
    other = SINE._replace(
        config=Sine(shots=20), scores=SINE.scores + 1, tasks_sha256="cafe", remarks=("r",)
    )
    lines = tables.as_text([SINE, other], (1,)).splitlines()
    assert lines[0].endswith(
        "MSE with 10 shots (95 % interval)   MSE with 20 shots (95 % interval)"
    )
    assert lines[1].split() == ["1", "0.7500", "+-", "3.1766", "1.7500", "+-", "3.1766"]
    assert lines[2] == "tasks, 10 shots: sha256 beef"
    assert lines[3:] == ["tasks, 20 shots: sha256 cafe", "r"]


def test_several_seeds_have_both_intervals():
    """Rejects one interval for the other, or in the other's place."""
    result = several(SINE)
    mean, half = over_tasks(result.scores)
    seeds = over_seeds(result.scores)
    lines = tables.as_text([result], (1,)).splitlines()
    assert lines[0].endswith("MSE on 2 tasks (95 % over tasks, over seeds)")
    told = f"{mean[1]:.4f} +- {half[1]:.4f} +- {seeds[1]:.4f}"
    assert lines[1] == f"             1   {told}"


def test_title_says_what_was_evaluated():
    """Rejects a theta that validation chose and that is told as the last."""
    assert tables.title(PLAIN) == "glyphs, 70 iterations, 2 val tasks"
    assert tables.title(several(PLAIN)) == "glyphs, 70 iterations, 2 val tasks, seeds 3, 4"
    options = {"ways": 3, "head": "normal", "adapt_norm": True, "chunk": 3}
    random = Glyphs(**options, algorithm="random")
    other = PLAIN._replace(trained=random.restored(random.values() | {"alpha": 0.1}))
    told = "glyphs --algorithm random --ways 3 --head normal --adapt-norm, 70 iterations"
    assert tables.title(other).startswith(told + ",")
    preset = Omniglot(**{"preset": "finn2017-paper", "split": "finn-1200", "alpha": 0.4})
    tested = preset.with_changes({"test_queries": 3})
    told = tables.title(PLAIN._replace(config=tested, trained=tested))
    assert told.startswith("omniglot --preset finn2017-paper --test-queries 3")
    chosen = PLAIN._replace(validations=(0.875,), iterations=(60,))
    told = (
        "glyphs, 60 iterations, 2 val tasks, chosen on validation tasks (accuracy 87.50 %)"
    )
    assert tables.title(chosen) == told


# ----- Beside what was published -----


def test_published_figures_stand_beside_ours_at_their_steps():
    """Rejects our last step beside a figure after three, ours beside another method's,
    and test figures beside validation tasks."""
    scores = np.linspace(0, 0.9, 10).reshape(1, 5, 2)
    both = {"config": Omniglot(), "trained": Omniglot()}
    result = PLAIN._replace(**both, split="test", scores=scores)
    text = tables.as_text([result], range(5))
    rows = {line.split("   ")[0]: line for line in reversed(text.splitlines())}
    maml = rows["MAML"].split()
    mean, half = over_tasks(scores)
    ours = f"{100 * mean[3]:.2f} +- {100 * half[3]:.2f} %"
    assert " ".join(maml) == f"MAML 3 98.7 +- 0.4 % {ours} Finn et al. 2017, table 1"
    assert rows["MAML++"].split()[:3] == ["MAML++", "99.47", "%"]
    assert rows["MAML++"].count("+-") == 0
    assert "MAML" not in tables.as_text([result._replace(split="val")], range(5))
    few = tables.as_text([result._replace(scores=scores[:, :2])], range(5))
    assert re.search(r"98\.7 \+- 0\.4 % +- ", few)


def test_what_differs_is_a_line_in_every_form():
    """Rejects 98.7 % beside another split, net or rotation, with nothing said, and other
    works' figures as if their settings were ours."""
    options = {"split": "lake", "rotate": False, "filters": 4, "head": "normal"}
    config = Omniglot(**options, iterations=60000)
    result = PLAIN._replace(config=config, trained=config, split="test")
    result = result._replace(iterations=(60000,))
    line = (
        "differs from Finn et al. 2017: --split lake (finn-1200 or finn),"
        " --no-rotate (--rotate), --filters 4 (64)"
    )
    text = tables.as_text([result], range(3)).splitlines()
    assert text[-1] == line
    assert tables.as_markdown([result]).endswith(f"|\n\n{line}\n")
    others = [row for row in text if "learn2learn" in row]
    assert [row.endswith("learn2learn; settings of its own") for row in others] == [True]
    [first, second, *_] = json.loads(tables.as_json([result]))["published"]
    assert first["differs"] == {
        "split": {"ours": "lake", "published": ["finn-1200", "finn"]},
        "rotate": {"ours": False, "published": [True]},
        "filters": {"ours": 4, "published": [64]},
    }
    assert second["differs"] is None
    agreeing = config.with_changes({"split": "finn", "rotate": True, "filters": 64})
    result = result._replace(config=agreeing, trained=agreeing)
    for told in (tables.as_text([result], [0]), tables.as_markdown([result])):
        assert "98.7" in told
        assert "differs" not in told


@pytest.mark.parametrize(("validation", "ours"), [(NAN, 400), (0.9, None)])
def test_the_shortest_training_is_compared(validation, ours):
    """Rejects several seeds of which one was stopped early as runs of the published length,
    and the iteration of a theta that validation chose taken for that length."""
    config = Omniglot(iterations=60000, head="normal")
    result = several(PLAIN._replace(config=config, trained=config, split="test"))
    both = {"iterations": (60000, 400), "validations": (validation, validation)}
    told = json.loads(tables.as_json([result._replace(**both)]))["published"][0]["differs"]
    assert told.get("iterations", {}).get("ours") == ours


def test_other_images_have_no_figures_in_any_form():
    """Rejects mini-ImageNet's figures below one's own images."""
    config = MiniImageNet()
    result = PLAIN._replace(config=config, trained=config, split="test")
    assert "published" not in tables.as_text([result], [0])
    assert "published" not in tables.as_markdown([result])
    assert json.loads(tables.as_json([result]))["published"] == []


def test_several_steps_of_one_method_are_one_row():
    """Rejects 0.38 beside our figure after one step."""
    scores = np.arange(11.0)[None, :, None].repeat(2, -1)
    result = SINE._replace(config=Sine(shots=5), trained=Sine(), scores=scores)
    [row] = [x for x in tables.as_text([result], [0]).splitlines() if x.startswith("MAML")]
    assert "1, 5, 10   0.67, 0.38, 0.35   1.0000 +- 0.0000, 5.0000 +- 0.0000, 10.0" in row


def test_a_figure_without_steps_stands_beside_our_last_score():
    """Rejects our score before the first step beside a figure that does not give steps."""
    config = Omniglot(algorithm="maml++")
    scores = np.linspace(0, 0.5, 6)[None, :, None].repeat(2, -1)
    result = PLAIN._replace(config=config, trained=config, split="test", scores=scores)
    lines = tables.as_text([result], [0]).splitlines()
    [row] = [line for line in lines if line.startswith("MAML++")]
    assert re.split(" {2,}", row)[:3] == ["MAML++", "99.47 %", "50.00 +- 0.00 %"]


# ----- Markdown -----


def test_markdown_is_a_table_with_every_step():
    """Rejects rows of different lengths, and text that breaks a table."""
    result = ONE._replace(config=Omniglot(), split="test", remarks=("a remark",))
    result = result._replace(trained=Omniglot())
    blocks = tables.as_markdown([result]).split("\n\n")
    assert blocks[0].startswith("**omniglot, 70 iterations")
    assert blocks[2] == "tasks, 1 shot: sha256 `beef`; a remark"
    for block, rows, columns in ((blocks[1], 3, 3), (blocks[3], None, 5)):
        lines = block.strip().splitlines()
        assert rows is None or len(lines) == rows + 2
        assert {line.count("|") for line in lines} == {columns + 1}
        assert set(lines[1]) == {"|", " ", "-"}
    assert "| 2 | 100.00 +- 0.00 % | 50.00 +- 0.00 % |" in blocks[1]


# ----- Machines -----


def test_json_has_the_numbers_in_full():
    """Rejects rounded numbers, a missing split or iteration, an unfinished last line."""
    text = tables.as_json([ONE])
    assert text.endswith("}\n")
    mean, half = over_tasks(SCORES)
    assert json.loads(text) == {
        "experiment": "glyphs",
        "algorithm": "maml",
        "alpha": 0.4,
        "options": {k: x for k, x in Glyphs().values().items() if k != "seed"},
        "score": "accuracy",
        "split": "val",
        "shots": 1,
        "seeds": [3],
        "iterations": [70],
        "validations": [None],
        "tasks": 2,
        "tasks_sha256": "beef",
        "remarks": [],
        "mean": mean.tolist(),
        "half_width_95": half.tolist(),
        "not_finite": [0, 0, 0],
        "alone": {"steps": [2], "mean": [0.5], "half_width_95": [0.0], "not_finite": [0]},
        "published": [],
    }


def test_other_shots_at_test_are_those_of_the_result():
    """Rejects the number of shots in training beside the scores of another number."""
    result = SINE._replace(config=Sine(shots=5))
    told = json.loads(tables.as_json([result]))
    assert (told["shots"], told["options"]["shots"]) == (5, 10)
    for text in (tables.as_text([result], [0]), tables.as_markdown([result])):
        assert "tasks, 5 shots: sha256" in text


def test_a_tuned_step_size_is_the_results():
    """Rejects the step size of the options in training beside scores with another."""
    tuned = Sine.restored(Sine(algorithm="pretrained").values() | {"alpha": 0.5})
    result = SINE._replace(config=tuned, trained=Sine(algorithm="pretrained"))
    assert json.loads(tables.as_json([result]))["alpha"] == 0.5


def test_the_path_of_the_data_stands_nowhere():
    """Rejects a report that gives the names of folders away."""
    config = Omniglot(data="/home/lovelace/omniglot.npz")
    result = PLAIN._replace(config=config, trained=config, split="test")
    forms = tables.as_json([result]), tables.as_markdown([result])
    for text in (*forms, tables.as_text([result], [0]), tables.title(result)):
        assert "lovelace" not in text
    assert "data" not in json.loads(forms[0])["options"]


def test_json_of_several_is_a_list():
    """Rejects results that overwrite each other; the interval over seeds is there."""
    told = json.loads(tables.as_json([SINE, several(SINE)]))
    assert "half_width_95_over_seeds" not in told[0]
    expected = over_seeds(several(SINE).scores).tolist()
    assert told[1]["half_width_95_over_seeds"] == expected
    both = {"config": Omniglot(), "trained": Omniglot()}
    omniglot = json.loads(tables.as_json([PLAIN._replace(**both, split="test")]))
    assert omniglot["published"][0]["values"] == [[3, 98.7, 0.4]]


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_divergence_is_null_and_counted(value):
    """Rejects NaN, which is no JSON, in every place: scores, alone, seeds, validations."""
    scores = np.array([[[1.0, 2.0], [value, 1.0]], [[1.0, 2.0], [value, value]]])
    two = several(ONE)._replace(scores=scores, alone=scores, alone_steps=(0, 1))
    two = two._replace(validations=(0.5, value))
    told = json.loads(tables.as_json([two]), parse_constant=pytest.fail)
    for found in (told, told["alone"]):
        assert found["mean"] == [1.5, None]
        assert found["half_width_95"][1] is found["half_width_95_over_seeds"][1] is None
        assert found["not_finite"] == [0, 3]
    assert told["validations"] == [0.5, None]


def test_tables_count_what_is_not_finite():
    """Rejects a mean over the finite rest, for a score, for queries alone and for one seed
    of several, in text and in Markdown."""
    scores = np.array([[[0.25, 0.75], [NAN, 1.0], [1.0, 1.0]]])
    alone = np.array([[[NAN, NAN]]])
    one = ONE._replace(scores=scores, alone=alone)
    lines = tables.as_text([one], range(3)).splitlines()
    assert " ".join(lines[2].split()) == "1 not finite in 1 of 2"
    assert " ".join(lines[3].split()) == "2 100.00 +- 0.00 % not finite in 2 of 2"
    assert "| 2 | 100.00 +- 0.00 % | not finite in 2 of 2 |" in tables.as_markdown([one])
    pooled = several(PLAIN)._replace(scores=np.concatenate([scores, SCORES]))
    lines = tables.as_text([pooled], (0, 1)).splitlines()
    assert lines[2].endswith("   not finite in 1 of 4")
    assert "not finite" not in lines[1]


def test_a_seed_that_validation_chose_nothing_of_is_named():
    """Rejects fewer validation scores than seeds, without a word on which is missing."""
    told = tables.title(several(PLAIN)._replace(validations=(0.875, NAN)))
    assert told.endswith("chosen on validation tasks (accuracy 87.50 %, not finite)")
