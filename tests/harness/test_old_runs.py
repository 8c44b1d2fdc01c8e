"""Run folders of an older program: they are evaluated, go on and are drawn as ever.

Those in old_runs/ were written at commit a2c67f6 by the command lines below, with 10
iterations in the place of 20, and are not to be written anew. glyphs-theta is what `export`
made of glyphs-maml.
"""

import json
import shutil

import pytest

import golden
from places import ROOT


OLD_RUNS = ROOT / "tests" / "old_runs"
WRITTEN_ON = "numpy 2.4.6, SkylakeX, AVX512_ICL"
WAVES = "--regressors 5 --points 6 --pull 0.01 --wave 4"
LINES = {
    "sine-maml": f"{golden.SINE} {golden.INNER} --algorithm maml",
    "sine-context": f"{golden.SINE} {golden.INNER} --algorithm context --order exact"
    " --context 3",
    "sine-averaged": f"{golden.SINE} --algorithm averaged-mean --iterations 20"
    f" --validate-every 5 --beta 0.005 {WAVES}",
    "sine-preset": "sine --preset finn2017-code --iterations 20 --test-tasks 23"
    " --hidden 7,5",
    "sine-seeds": f"{golden.SINE} {golden.INNER} --seeds 2",
    "glyphs-maml": golden.cases("glyphs")[0],
    "omniglot-maml": golden.cases("omniglot")[0],
    "miniimagenet-maml": golden.cases("miniimagenet")[0],
    "pointnav-maml": golden.cases("pointnav")[0],
}
THETA = "glyphs-theta"
PICTURES = {
    ("sine-maml", "sine-context", "sine-averaged"): ["curve.png", "steps.png", "fit.png"],
    ("sine-seeds",): ["curve.png", "steps.png", "fit.png"],
    ("omniglot-maml",): ["curve.png", "steps.png", "sheet.png"],
    ("pointnav-maml",): ["curve.png", "steps.png", "walks.png", "walks.gif"],
}


@pytest.fixture
def folder(tmp_path):
    """A copy of the old runs, where commands run, with the data that they name."""
    shutil.copytree(OLD_RUNS, tmp_path, dirs_exist_ok=True)
    return tmp_path


def told(run):
    """Return what the evaluation.json of an old run tells, as numbers."""
    run = "glyphs-maml" if run == THETA else run
    written = json.loads((OLD_RUNS / run / "evaluation.json").read_text(encoding="utf-8"))
    return without_widths(golden.numbers_of(written))


# Their kernels were folded when they were written, and are turned now: other last bits.
OTHER_BITS = {"miniimagenet-maml"}


def without_widths(numbers):
    """Leave out intervals, which old runs have from the normal distribution, not Student's,
    and numbers of lost tasks, which they do not have."""
    if isinstance(numbers, dict):
        left = ("half_width", "not_finite")
        kept = {k: x for k, x in numbers.items() if not k.startswith(left)}
        return {name: without_widths(x) for name, x in kept.items()}
    return numbers


def test_each_is_evaluated_to_the_numbers_that_it_was(folder):
    """Rejects a file, an option or a format that an old run has and is read no more.

    Also tasks, step sizes or scores that are others than when the run was written.
    """
    names = [*LINES, THETA]
    found = golden.run([["evaluate", name, "--json"] for name in names], folder)
    for name, report in zip(names, found["reports"], strict=True):
        assert report["code"] == 0, report["err"]
        numbers = without_widths(golden.numbers_of(json.loads(report["out"])))
        if found["environment"] == WRITTEN_ON:
            assert numbers == told(name), name
        else:
            assert numbers["mean"] == pytest.approx(told(name)["mean"], rel=1e-3), name


def test_each_goes_on_to_the_bytes_of_a_run_that_was_never_stopped(folder):
    """Rejects an old checkpoint, best theta or record that is lost, or read as another."""
    longer = ("--iterations", "20")
    commands = [["train", "--resume", name, *longer] for name in [*LINES, THETA]]
    found = golden.run(commands, folder)
    *reports, of_theta = found["reports"]
    assert of_theta["code"] == 1, "a theta alone cannot go on"
    kept = golden.kept()[WRITTEN_ON]
    for (name, line), report in zip(LINES.items(), reports, strict=True):
        assert report["code"] == 0, report["err"]
        if found["environment"] == WRITTEN_ON:
            # The first records have the validation intervals of an older version.
            expected = kept[" ".join(line.split())] | {
                "metrics": report["hashes"]["metrics"]
            }
            assert report["hashes"] == expected or name in OTHER_BITS, name
        for old in OLD_RUNS.glob(f"{name}/**/metrics.jsonl"):
            new = folder / old.relative_to(OLD_RUNS)
            before, after = old.read_text().splitlines(), new.read_text().splitlines()
            assert after[: len(before)] == before, name
            assert json.loads(after[-1])["iteration"] == 20, name


def test_they_are_drawn(folder):
    """Rejects pictures that need what an old run does not have."""
    found = golden.run([["plot", *names] for names in PICTURES], folder)
    for (names, files), report in zip(PICTURES.items(), found["reports"], strict=True):
        assert report["code"] == 0, report["err"]
        place = "+".join(names)
        assert report["out"].splitlines() == [f"{place}/{file}" for file in files]
        assert all((folder / place / file).stat().st_size for file in files)
