"""The published settings of Finn et al. 2017, and what presets do; see test_works.py."""

import json
import re

import numpy as np
import pytest
from autograd import grad
from hypothesis import given
from hypothesis import strategies as st

from processes import here, one_error
from tinymaml import losses, maml, params
from tinymaml.errors import UsageError
from tinymaml.experiments import MODULES, images, problem
from tinymaml.fewshot import drawn, stream
from tinymaml.harness import runs
from tinymaml.options import options_of
from tinymaml.published import presets


PAPER, CODE = "finn2017-paper", "finn2017-code"
PUBLISHED = presets.WORKS["finn2017"].experiments
KINDS = {name: MODULES[name].CONFIG for name in PUBLISHED}

# The published protocols, one line of their tables after the other, typed again: what is
# said, of which experiment and setting, and what the paper and the code have.
SINE, CONV, DENSE = ("sine", {}), ("omniglot", {}), ("omniglot", {"net": "dense"})
WAYS_20 = ("omniglot", {"ways": 20})
MINI_1, MINI_5 = ("miniimagenet", {}), ("miniimagenet", {"shots": 5})
POINT = ("pointnav", {})
RUN, ANT_DIR = ("locomotion", {}), ("locomotion", {"task": "ant-dir"})
PRETRAINED = ("sine", {"algorithm": "pretrained"})
IMAGES = (CONV, DENSE, WAYS_20, MINI_1, MINI_5)
PROTOCOL = [
    # inner step size
    (SINE, "alpha", 0.01, 0.001),
    (CONV, "alpha", 0.4, 0.4),
    (DENSE, "alpha", 0.4, 0.4),
    (WAYS_20, "alpha", 0.1, 0.1),
    (MINI_1, "alpha", 0.01, 0.01),
    (MINI_5, "alpha", 0.01, 0.01),
    # inner steps in training, and at test in the paper; the code always makes ten
    (SINE, "inner_steps", 1, 1),
    (SINE, "test_steps", 10, 10),
    (CONV, "inner_steps", 1, 1),
    (CONV, "test_steps", 3, 10),
    (DENSE, "inner_steps", 1, 1),
    (DENSE, "test_steps", 3, 10),
    (WAYS_20, "inner_steps", 5, 5),
    (WAYS_20, "test_steps", 5, 10),
    (MINI_1, "inner_steps", 5, 5),
    (MINI_1, "test_steps", 10, 10),
    (MINI_5, "inner_steps", 5, 5),
    (MINI_5, "test_steps", 10, 10),
    # meta-batch
    (SINE, "tasks", 25, 25),
    (CONV, "tasks", 32, 32),
    (DENSE, "tasks", 32, 32),
    (WAYS_20, "tasks", 16, 16),
    (MINI_1, "tasks", 4, 4),
    (MINI_5, "tasks", 2, 4),
    # iterations
    (SINE, "iterations", 70000, 70000),
    *((one, "iterations", 60000, 60000) for one in IMAGES),
    # shots: the sine theta that is tested with 5, 10 and 20 is trained with 10
    (SINE, "shots", 10, 10),
    # queries in training and at test: 0 is as many as shots, or as in training, and -1 at
    # test as many as shots
    (SINE, "queries", 0, 0),
    (CONV, "queries", 0, 0),
    (CONV, "test_queries", 0, 0),
    (WAYS_20, "queries", 0, 0),
    (WAYS_20, "test_queries", 0, 0),
    (MINI_1, "queries", 15, 15),
    (MINI_1, "test_queries", 0, -1),
    (MINI_5, "queries", 15, 15),
    (MINI_5, "test_queries", 0, -1),
    # loss scale
    *((one, "inner_loss", "mean", "sum_over_shots") for one in IMAGES),
    *((one, "outer_loss", "mean", "sum_over_shots") for one in IMAGES),
    # Adam and the clip
    *((one, "beta", 1e-3, 1e-3) for one in (SINE, *IMAGES)),
    *((one, "clip", 0, 0) for one in (SINE, CONV, DENSE, WAYS_20)),
    (MINI_1, "clip", 0, 10),
    (MINI_5, "clip", 0, 10),
    # nets
    (SINE, "hidden", (40, 40), (40, 40)),
    (SINE, "activation", "relu", "relu"),
    (CONV, "filters", 64, 64),
    (CONV, "head", "normal", "normal"),
    (WAYS_20, "head", "normal", "normal"),
    (MINI_1, "filters", 32, 32),
    (MINI_1, "head", "glorot", "glorot"),
    *((one, "norm_eps", 1e-3, 1e-3) for one in IMAGES),
    *((one, "adapt_norm", False, False) for one in IMAGES),
    # data, selection and evaluation
    (CONV, "split", "finn-1200", "finn"),
    (CONV, "rotate", True, True),
    *((one, "validate_every", 0, 0) for one in (SINE, *IMAGES)),
    *((one, "test_tasks", 600, 600) for one in (SINE, *IMAGES)),
    # 2D navigation: where text and code disagree, and where not
    (POINT, "reward", "negative_squared_distance", "negative_distance"),
    (POINT, "alpha", 0.1, 0.5),
    (POINT, "tasks", 20, 40),
    (POINT, "iterations", 500, 100),
    (POINT, "test_steps", 4, 4),
    (POINT, "trajectories", 20, 20),
    (POINT, "horizon", 100, 100),
    (POINT, "inner_steps", 1, 1),
    (POINT, "surrogate", "naive", "naive"),
    (POINT, "hidden", (100, 100), (100, 100)),
    (POINT, "activation", "relu", "relu"),
    (POINT, "discount", 0.99, 0.99),
    (POINT, "outer", "trpo", "trpo"),
    (POINT, "max_kl", 0.01, 0.01),
    (POINT, "fisher_stride", 1, 1),
    (POINT, "clip", 0, 0),
    (POINT, "test_tasks", 40, 40),
    (POINT, "test_trajectories", 40, 40),
    (POINT, "validate_every", 10, 0),
    # locomotion: the ant's directions have more trajectories in the paper
    (RUN, "iterations", 500, 800),
    (RUN, "tasks", 40, 40),
    (RUN, "horizon", 200, 200),
    (RUN, "rules", "rllab", "rllab"),
    (RUN, "frame_skip", 1, 1),
    (RUN, "velocity", "com", "com"),
    (RUN, "alpha", 0.1, 0.1),
    (RUN, "inner_steps", 1, 1),
    (RUN, "surrogate", "naive", "naive"),
    (RUN, "hidden", (100, 100), (100, 100)),
    (RUN, "activation", "relu", "relu"),
    (RUN, "discount", 0.99, 0.99),
    (RUN, "outer", "trpo", "trpo"),
    (RUN, "max_kl", 0.01, 0.01),
    (RUN, "fisher_stride", 1, 1),
    (RUN, "clip", 0, 0),
    (RUN, "test_tasks", 40, 40),
    (RUN, "test_steps", 3, 3),
    (RUN, "trajectories", 20, 20),
    (RUN, "test_trajectories", 20, 20),
    (ANT_DIR, "trajectories", 40, 20),
    (ANT_DIR, "test_trajectories", 40, 40),
    (RUN, "validate_every", 10, 0),
    # a baseline's step size: tuned, or update_lr
    (PRETRAINED, "tune", True, False),
    (("pointnav", {"algorithm": "pretrained"}), "tune", True, True),
    (("locomotion", {"algorithm": "pretrained"}), "tune", True, True),
]


def published(name, preset, **setting):
    """What a preset has of a setting; typed values win over our defaults only."""
    usual = KINDS[name](**setting).values()
    return presets.values(name, preset, usual)


# ----- Against the protocols -----


@pytest.mark.parametrize(("which", "option", "paper", "code"), PROTOCOL)
def test_preset_has_the_published_value(which, option, paper, code):
    """Rejects a slip in any value, and a value that only happens to be our default."""
    name, setting = which
    for preset, expected in ((PAPER, paper), (CODE, code)):
        assert published(name, preset, **setting)[option] == expected, preset
        config = KINDS[name](preset=preset, **setting)
        if config.uses(option):
            assert getattr(config, option) == expected, preset


def test_every_published_value_was_compared():
    """Rejects a row of a preset that no line of the protocols was held against."""
    told = {(which[0], option) for which, option, *_ in PROTOCOL}
    rows = {
        (name, row.option)
        for name, published in PUBLISHED.items()
        for part in published.parts
        for row in part.rows
    }
    assert rows - told == {("omniglot", "activation"), ("miniimagenet", "activation")}


def rows():
    for name in KINDS:
        for part in PUBLISHED[name].parts:
            yield from ((name, part.when, row) for row in part.rows)


def test_every_value_has_a_source_and_is_a_value_of_its_option():
    """Rejects a misspelt option, a value out of its range, and a number from nowhere."""
    for name, when, row in rows():
        options = options_of(KINDS[name])
        for value in (row.paper, row.code):
            assert options[row.option].values.checked(value) == value
        for option, value in when.items():
            assert options[option].values.checked(value) == value
        assert row.paper_source.startswith(
            ("section", "appendix", "equation", "figure", "not in the", "as in")
        )
        file = r"(main|maml|utils|data_generator|maml_trpo_point|maml_npo"
        file += r"|point_env_randgoal|test_maml_point|conjugate_gradient_optimizer"
        file += r"|cluster_maml_trpo_cheetah|half_cheetah_env_rand_direc|mjcore|mujoco_env"
        file += r"|test_maml_cheetah_direc|test_maml_ant_direc|cluster_maml_trpo_ant)\.py"
        assert re.match(rf"{file}\b|icml/|not", row.code_source)


@pytest.mark.parametrize("name", KINDS)
def test_a_setting_has_every_option_once(name):
    """Rejects two rows for one option, of which the later would silently win."""
    settings, parts, *_ = PUBLISHED[name]
    for setting in settings:
        told = [
            row.option
            for part in parts
            if part.when.items() <= setting.items()
            for row in part.rows
        ]
        assert len(told) == len(set(told))
        assert not set(told) & set(setting)
        config = KINDS[name](preset=CODE, **setting)
        code = published(name, CODE, **setting)
        for option in told:
            assert not config.uses(option) or getattr(config, option) == code[option]


# ----- Settings that were not published -----


@pytest.mark.parametrize(
    ("name", "setting", "having"),
    [
        ("sine", {"algorithm": "random"}, "--algorithm maml; --algorithm pretrained; "),
        ("omniglot", {"ways": 10}, "--net conv --ways 20 --shots 5; "),
        ("omniglot", {"net": "dense", "ways": 20}, "--net dense --ways 5 --shots 5"),
        ("omniglot", {"algorithm": "fomaml"}, "--algorithm maml --net conv"),
        (
            "miniimagenet",
            {"ways": 20},
            "--algorithm fomaml --net pooled --ways 5 --shots 5",
        ),
    ],
)
def test_other_settings_are_refused(name, setting, having):
    """Rejects a preset that is a guess, and a refusal that does not say what there is."""
    for preset in (PAPER, CODE):
        with pytest.raises(UsageError, match=having):
            KINDS[name](preset=preset, **setting)


def test_a_preset_has_nothing_that_an_algorithm_does_not_use():
    """Rejects a step size for the pretrained net, whose own is tuned, and none for that of
    the code, which is not."""
    usual, paper = KINDS["sine"](), KINDS["sine"](preset=PAPER, algorithm="pretrained")
    assert paper.iterations == 70000
    assert (paper.alpha, paper.inner_steps) == (usual.alpha, usual.inner_steps)
    assert {*paper.differences()} == {"preset", "algorithm"}
    code = KINDS["sine"](preset=CODE, algorithm="oracle")
    assert (code.alpha, code.tune) == (0.001, False)
    assert code.inner_steps == usual.inner_steps


def test_a_typed_no_tune_takes_the_presets_step_size():
    """Rejects our default where the code's step size was asked for."""
    kind = KINDS["pointnav"]
    assert kind(preset=CODE, algorithm="oracle", tune=False).alpha == 0.5
    assert kind(preset=CODE, algorithm="oracle").alpha == kind.alpha


def test_no_preset_changes_nothing():
    """Rejects a preset that nobody asked for."""
    config = KINDS["sine"](shots=7)
    assert config.differences() == {"shots": 7}
    assert config == KINDS["sine"](shots=7, preset="none")


# ----- In Python -----


def test_a_preset_in_python_has_the_values_of_the_code():
    """Rejects Sine(preset="finn2017-code") that keeps our defaults."""
    config = KINDS["sine"](preset=CODE)
    assert (config.iterations, config.alpha, config.inner_steps) == (70000, 0.001, 1)
    assert (config.tasks, config.beta, config.test_steps) == (25, 0.001, 10)
    assert config.differences() == {"preset": CODE}


def test_what_is_given_wins_over_the_preset():
    """Rejects a preset that overrules an explicit option, one with our default included."""
    usual = KINDS["sine"]()
    config = KINDS["sine"](preset=CODE, alpha=usual.alpha, inner_steps=3, tasks=9)
    assert (config.alpha, config.inner_steps, config.tasks) == (0.01, 3, 9)
    assert config.iterations == 70000
    assert {*config.differences()} == {"preset", "alpha", "inner_steps", "tasks"}


def test_a_preset_is_resolved_once():
    """Rejects a copy or a restored run in which the preset overrules what was given."""
    config = KINDS["sine"](preset=CODE, alpha=0.5)
    for copy in (
        config.with_changes({"seed": 1}),
        config.with_changes({"preset": CODE}),
        KINDS["sine"].restored(config.values()),
    ):
        assert (copy.alpha, copy.inner_steps) == (0.5, 1)
    changed = KINDS["sine"](alpha=0.5).with_changes({"preset": CODE, "tasks": 9})
    assert (changed.alpha, changed.tasks, changed.iterations) == (0.001, 9, 70000)


def test_a_setting_near_a_published_one_can_be_described():
    """Rejects an evaluation with other shots that fails at its title."""
    config = KINDS["omniglot"](preset=CODE, ways=5, shots=1)
    assert config.with_changes({"shots": 3}).differences() == {"preset": CODE, "shots": 3}


# ----- What the numbers do -----


@pytest.fixture
def loaded_noise(monkeypatch):
    """Omniglot and mini-ImageNet without their files: 60 classes of noise each."""
    classes = dict(zip(("train", "val", "test"), np.arange(60).reshape(3, 20), strict=True))
    for name, size in (("omniglot", (28, 28)), ("miniimagenet", (84, 84, 3))):
        noise = np.random.default_rng(0).integers(0, 256, (60, 20, *size), np.uint8)
        loaded = noise, classes
        monkeypatch.setattr(f"tinymaml.data.{name}.load", lambda *_, x=loaded: x)
    problem.cache_clear()
    yield
    problem.cache_clear()


def one_step(config):
    """A theta, and what one inner step makes of it, and the mean loss's plain step."""
    config = config.with_changes({"dtype": "float64", "filters": 3})
    family = problem(config)
    episode = drawn(family, 0, "train", 0, range(1))
    theta = family.model.init(stream(0, "init", 0, 0))[None]
    after = maml.adapt(theta, family.task(episode), family.alpha, 1)

    def mean(at):
        logits = family.model.apply(at, episode.x_support)
        return losses.cross_entropy(logits, episode.y_support)

    slope = grad(mean)(theta)
    for name, span in params.spans(family.model.shapes).items():
        if name.startswith("beta"):
            slope[:, span] = 0
    return theta, after, slope


@pytest.mark.parametrize(
    ("preset", "name", "setting", "rate"),
    [
        (PAPER, "omniglot", {}, 0.4),
        (CODE, "omniglot", {}, 2.0),
        (CODE, "omniglot", {"shots": 5}, 2.0),
        (CODE, "omniglot", {"net": "dense"}, 2.0),
        (CODE, "omniglot", {"ways": 20}, 2.0),
        (PAPER, "miniimagenet", {}, 0.01),
        (CODE, "miniimagenet", {}, 0.05),
        (CODE, "miniimagenet", {"shots": 5}, 0.05),
    ],
)
def test_effective_inner_rate(loaded_noise, preset, name, setting, rate):
    """Rejects 0.4 on the mean where the code's is 2.0, and offsets that are adapted."""
    theta, after, slope = one_step(KINDS[name](preset=preset, data="drawn", **setting))
    np.testing.assert_allclose(after, theta - rate * slope, rtol=0, atol=1e-14)
    assert np.abs(after - theta).max() > 1e-4


@given(
    scale=st.sampled_from(images.SCALES),
    ways=st.integers(2, 4),
    shots=st.integers(1, 3),
    queries=st.integers(1, 3),
    seed=st.integers(0, 99),
)
def test_a_sum_over_shots_is_a_mean_with_n_times_the_rate(
    scale, ways, shots, queries, seed
):
    """Rejects a sum over all examples, over queries' number, and a scale on one side only.

    With the loss summed over shots, alpha is N alpha on the mean; the meta-gradient of
    the scaled query loss is N queries / shots times that of the mean.
    """
    noise = np.random.default_rng(seed).integers(0, 256, (4, 6, 8, 8), np.uint8)
    shared = {"ways": ways, "shots": shots, "queries": queries, "filters": 2}
    shared |= {"dtype": "float64", "validate_every": 0}
    summed = images.Images(
        **shared, alpha=0.3, inner_loss="sum_over_shots", outer_loss=scale
    )
    meant = images.Images(**shared, alpha=0.3 * ways)
    told = []
    for config in (summed, meant):
        family = images.build(config, noise, {"train": np.arange(4)}, rotate=False)
        episode = drawn(family, seed, "train", 0, range(1))
        theta = family.model.init(stream(seed, "init", 0, 0))[None]
        task = family.task(episode)
        adapted = maml.adapt(theta, task, family.alpha, 2)
        told.append((adapted, *maml.meta_gradient(theta, task, family.alpha, 2)))
    factor = ways * queries / shots if scale == "sum_over_shots" else 1
    (adapted, loss, gradient), (expected, loss_1, gradient_1) = told
    assert relative(adapted, expected) < 1e-12
    assert loss == pytest.approx(factor * loss_1, rel=1e-12)
    assert relative(gradient, factor * gradient_1) < 1e-11


def relative(a, b):
    return np.linalg.norm(a - b) / np.linalg.norm(b)


# ----- The command line -----


def trained(monkeypatch, tmp_path, *arguments):
    """Run `train` for no iterations; return what it was set to."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("tinymaml.plots.draw", lambda path: [])
    few = ("--iterations", "0", "--test-tasks", "2", "--test-steps", "0", "--out", "run")
    told = here("train", *arguments, *few)
    assert told.code == 0, told
    return runs.read_config(tmp_path / "run")


def test_command_line_and_file_win_over_the_preset(monkeypatch, tmp_path):
    """Rejects a preset that overrules what is typed, or a file; its name is recorded."""
    (tmp_path / "c.toml").write_text('preset = "finn2017-code"\nbeta = 0.5\ntasks = 9\n')
    arguments = ("sine", "--config", "c.toml", "--tasks", "8", "--shots", "5")
    config = trained(monkeypatch, tmp_path, *arguments)
    assert (config.preset, config.alpha, config.inner_steps) == (CODE, 0.001, 1)
    assert (config.beta, config.tasks, config.shots, config.queries) == (0.5, 8, 5, 0)
    written = json.loads((tmp_path / "run" / runs.CONFIG).read_text())
    assert written["options"]["preset"] == CODE


def test_typed_options_choose_the_setting(monkeypatch, tmp_path, loaded_noise):
    """Rejects the 5-way values for a 20-way run."""
    arguments = ("omniglot", "--preset", CODE, "--ways", "20", "--data", "drawn")
    config = trained(monkeypatch, tmp_path, *arguments, "--filters", "2")
    assert (config.alpha, config.inner_steps, config.tasks) == (0.1, 5, 16)
    assert (config.inner_loss, config.head, config.filters) == (
        "sum_over_shots",
        "normal",
        2,
    )


def test_a_run_keeps_its_preset(monkeypatch, tmp_path):
    """Rejects a preset that overrules, on going on, what the run was begun with."""
    arguments = ("sine", "--preset", CODE, "--alpha", "0.1")
    config = trained(monkeypatch, tmp_path, *arguments)
    told = here("train", "--resume", "run", "--preset", CODE, "--iterations", "0")
    assert told.code == 0, told
    assert runs.read_config(tmp_path / "run") == config
    told = here("train", "--resume", "run", "--preset", PAPER)
    assert told.code == 2
    assert "--preset finn2017-paper: the run was begun with finn2017-code" in told.err


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("sine", "--preset", CODE, "--algorithm", "fomaml"), "--algorithm oracle"),
        (("omniglot", "--preset", PAPER, "--net", "dense", "--ways", "20"), "--ways 5"),
        (("glyphs", "--preset", CODE), "no published settings for glyphs"),
        (("sine", "--preset", "finn"), "not one of none, finn2017-paper, finn2017-code"),
    ],
)
def test_what_was_not_published_is_a_wrong_option(tmp_path, monkeypatch, arguments, words):
    """Rejects a traceback, another exit code and a folder that was made already."""
    monkeypatch.chdir(tmp_path)
    told = here("train", *arguments)
    assert (told.code, told.out) == (2, "")
    assert words in one_error(told)
    assert not [*tmp_path.iterdir()]


def test_list_prints_both_with_sources_and_marks_disagreements():
    """Rejects a list that leaves a setting or a source out, or marks what agrees."""
    text = here("list", "--presets").out
    for _, _, row in rows():
        assert row.paper_source in text
        assert row.code_source in text
    losses_differ = {"--inner-loss", "--outer-loss"}
    disagreements = {
        "sine": {"--alpha", "--tune"},
        "omniglot": {*losses_differ, "--test-steps", "--split"},
        "miniimagenet": {*losses_differ, "--clip", "--tasks", "--test-queries", "classes:"},
        "locomotion": {"--iterations", "--trajectories", "--validate-every"}
        | {"the", "MuJoCo"},  # the notes
        "pointnav": {"--reward", "--alpha", "--tasks", "--iterations", "--validate-every"},
    }
    for name in KINDS:
        lines = here("list", name, "--presets").out.split("\n\n")[0].splitlines()
        marked = {line.split()[1] for line in lines if line.startswith("! ")}
        assert marked == disagreements[name]
    sine = here("list", "sine", "--presets").out.split("\n\n")[0].splitlines()
    [alpha] = [line for line in sine if "--alpha" in line]
    assert alpha.split() == ["!", "--alpha", "0.01", "0.001", "0.01"]
    told = json.loads(here("list", "sine", "--presets", "--json").out)
    assert told["sine"]["finn2017"]["parts"][0]["rows"][4]["code"] == 0.001
