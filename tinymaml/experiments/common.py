"""Options of every experiment, and how a configuration is made and checked.

A configuration has the options of an experiment and those of its algorithm, by flat names.
Its constructor checks it, so Python, the command line and a file raise the same errors.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, ClassVar, Self

from tinymaml import algorithms, loading
from tinymaml.algorithms.algorithm import FEW_SHOT, RL, Algorithm
from tinymaml.errors import UsageError
from tinymaml.losses import Score
from tinymaml.options import (
    COUNT,
    FACTOR,
    LENGTH,
    MANNER,
    NET,
    POSITIVE,
    SAMPLE,
    SCHEDULE,
    SEED,
    SEEDS,
    STEPS,
    TESTING,
    TRAINING,
    Limits,
    Option,
    check,
    flag,
    option,
    options_of,
    shown,
    unknown,
)
from tinymaml.published import presets


# A number of iterations, and how often something is done.
LONG: Limits = {"least": 0, "most": 10**8}
EVERY: Limits = {"least": 1, "most": 10**8}

FILE = ""  # the key, which is no option's, of the hash of an algorithm's file
MOST_PARAMETERS = 10**7  # far above any use on a CPU

# When an option has an effect after all, for the message that refuses it.
UNLESS = {
    "alpha": " unless --no-tune",
    "beta_end": " without --schedule linear or cosine",
    "epoch": " without --schedule cosine",
}

# The decorator of a class of options: `Config` makes its instances.
configuration = dataclass(frozen=True, init=False)


@configuration
class Config:
    """Options of every experiment; an experiment's own class adds and overrides.

    A value that is not given is the preset's, else the algorithm's default, else the
    default here. Raises UsageError for an unknown option, a value out of range, an option
    that the algorithm does not use, and a preset that does not fit.
    """

    name: ClassVar[str]
    title: ClassVar[str]  # its name in pictures
    score: ClassVar[Score]  # reported after each gradient step
    picture: ClassVar[str] = ""  # the picture of single tasks, a module of `plots`, if any
    # The metrics in learning curves; the second only for one run that adapts.
    learning: ClassVar[tuple[str, ...]] = ("loss",)
    setting: ClassVar[str] = FEW_SHOT
    offers: ClassVar[tuple[str, ...]] = ()  # names that Algorithm.needs may have
    shown_steps: ClassVar[tuple[int, ...]] = tuple(range(11))
    most_tasks: ClassVar[int] = 20  # side by side in an evaluation
    # Inner-loop learning rates to choose from where alpha is tuned. The paper does not say
    # which it tried. The oracle on sine needs the smallest of these.
    step_sizes: ClassVar[tuple[float, ...]] = tuple(
        digit * 10.0**power for power in range(-5, 1) for digit in (1, 2, 5)
    )
    libraries: ClassVar[tuple[str, ...]] = ()  # whose version decides the bits of a run

    preset: str = option(
        "none",
        "start from published settings (`tinymaml list --presets`) and their algorithm;"
        " options you give override them",
        choices=("none", *presets.NAMES),
        role=TRAINING,
    )
    algorithm: str = option(
        "maml",
        "the algorithm, from `tinymaml list`, or FILE.py:NAME, a record of your own",
        choices=tuple(algorithms.ALGORITHMS),
        others=algorithms.OWN,
    )
    iterations: int = option(1000, "number of outer steps", role=LENGTH, **LONG)
    seed: int = option(0, "seed of initial theta and tasks", role=SEED, **SEEDS)
    tasks: int = option(32, "tasks in a meta-batch", **COUNT)
    alpha: float = option(0.01, "inner-loop learning rate", **FACTOR)
    alpha_head: float = option(
        0.0, "inner-loop learning rate of the net's last layer; 0: as --alpha", **FACTOR
    )
    tune: bool = option(
        True,
        "choose alpha on validation tasks; for algorithms that train without inner steps",
        "section 5.1 of the paper, for its baselines",
        role=TRAINING,
    )
    inner_steps: int = option(1, "inner gradient steps in training", **STEPS)
    beta: float = option(
        1e-3,
        "outer learning rate",
        "the code's main.py",
        role=TRAINING,
        **POSITIVE,
    )
    schedule: str = option(
        "constant",
        "outer learning rate: constant, or linear or cosine from --beta to --beta-end",
        "cosine: MAML++; linear: Reptile",
        role=TRAINING,
        choices=("constant", "linear", "cosine"),
    )
    beta_end: float = option(
        0.0, "outer learning rate at the end of a schedule", role=TRAINING, **FACTOR
    )
    epoch: int = option(
        500,
        "iterations of an epoch, in which a cosine schedule is constant",
        "few_shot_learning_system.py of the code of MAML++",
        role=TRAINING,
        **EVERY,
    )
    clip: float = option(
        0.0,
        "limit on each entry of the mean meta-gradient; 0: no limit",
        "maml.py:147-148: 10, on mini-ImageNet only",
        role=TRAINING,
        **FACTOR,
    )
    activation: str = option(
        "relu",
        "activation of the hidden layers",
        "section 5 of the paper",
        role=NET._replace(checked=False),  # a check has every activation
        choices=("relu", "leaky-relu", "tanh"),
    )
    dtype: str = option(
        "float32", "precision", role=TRAINING, choices=("float32", "float64")
    )
    chunk: int = option(
        4, "tasks computed side by side; the last bits depend on it", role=SCHEDULE, **COUNT
    )
    replay: bool = option(
        True, "record the NumPy calls and replay them: faster, the same bits", role=MANNER
    )
    checkpoint_every: int = option(
        500, "iterations between checkpoints", role=SCHEDULE, **EVERY
    )
    validate_every: int = option(
        0,
        "validate every N iterations and test the best theta; 0: test the last theta",
        role=SCHEDULE,
        **LONG,
    )
    validation_tasks: int = option(
        200, "number of validation tasks", role=SCHEDULE, **SAMPLE
    )
    test: bool = option(True, "evaluate on test tasks after training", role=MANNER)
    test_tasks: int = option(
        600, "test tasks", "the paper and its code", role=TESTING, **SAMPLE
    )
    test_steps: int = option(
        10,
        "gradient steps at test time; with learned step sizes as many as in training",
        "section 5.1",
        role=TESTING,
        **STEPS,
    )
    own: Any = None  # the algorithm's own options

    def __init__(self, **given: Any) -> None:
        self._fill({}, given)

    @classmethod
    def restored(cls, options: Mapping[str, Any]) -> Self:
        """Return the configuration of `values`; its algorithm need not use every option."""
        return object.__new__(cls)._fill(options, {})

    def with_changes(self, changes: Mapping[str, Any]) -> Self:
        """Return a copy with some options changed. Raises UsageError as the constructor.

        Another algorithm does not take over the former one's own options and defaults.
        """
        before = self.values()
        if changes.get("algorithm", self.algorithm) != self.algorithm:
            options = self.options_for(algorithm_of(type(self), changes["algorithm"]))
            former = self.method.defaults(before)
            kept = [k for k in before if k in options and _uses(self.method, k, before)]
            before = {k: before[k] for k in kept if former.get(k) != before[k]}
        return object.__new__(type(self))._fill(before, changes)

    def _fill(self, before: Mapping[str, Any], given: Mapping[str, Any]) -> Self:
        """Set every option: as given, else as before, else the default."""
        kind = type(self)
        name = given.get("algorithm", before.get("algorithm"))
        if name is None and "preset" in given:
            name = presets.algorithm(kind.name, given["preset"])
        name = kind.algorithm if name is None else name
        record = algorithm_of(kind, name)
        options = self.options_for(record)
        for key in given:
            if key not in options:
                raise UsageError(self.unknown(record, key, options))
        usual = {key: one.default for key, one in options.items()}
        values = usual | check(options, before) | {"algorithm": name}
        given = check(options, given)
        if name != before.get("algorithm"):
            chosen = {k: x for k, x in values.items() if x != usual[k]} | given
            values |= {
                key: x
                for key, x in check(options, record.defaults(chosen)).items()
                if values[key] == usual[key] or not _uses(record, key, values)
            }
        if given.get("preset", "none") not in ("none", before.get("preset")):
            preset = presets.values(kind.name, given["preset"], values | given)
            final = values | preset | given
            values |= {k: x for k, x in preset.items() if _uses(record, k, final)}
        values |= given
        for key in given:
            if not _uses(record, key, values):
                effect = f"has no effect with --algorithm {name}"
                raise UsageError(f"{flag(key)} {effect}{UNLESS.get(key, '')}")
        self.__setstate__(values)
        if reason := record.refuses(self):
            raise UsageError(reason)
        return self

    def __getattr__(self, name: str) -> Any:
        own = self.__dict__.get("own")
        if name.startswith("__") or own is None:
            raise AttributeError(name)
        return getattr(own, name)

    def __getstate__(self) -> dict[str, Any]:
        # A user's algorithm cannot be pickled.
        file = algorithms.file_of(self.algorithm)
        return self.values() | ({FILE: loading.in_memory(file)} if file else {})

    def __setstate__(self, values: dict[str, Any]) -> None:
        if digest := values.pop(FILE, ""):
            loading.check_same(algorithms.file_of(values["algorithm"]), digest)
        record = algorithms.find(values["algorithm"])
        own = {key: values.pop(key) for key in options_of(record.options)}
        self.__dict__.update(values, own=record.options(**own))

    @classmethod
    def options_for(cls, record: Algorithm) -> dict[str, Option]:
        """Return the experiment's options and an algorithm's own, by name."""
        return {**options_of(cls), **options_of(record.options)}

    @classmethod
    def unknown(cls, record: Algorithm, name: str, names: Iterable[str]) -> str:
        """Return the message about an unknown option: who has it, or a similar name."""
        rows = map(algorithms.find, algorithms.available(cls.setting, cls.offers))
        owner = " or ".join(x.name for x in rows if name in options_of(x.options))
        if not owner:
            return unknown(name, names)
        return f"{flag(name)}: an option of --algorithm {owner}, not of {record.name}"

    @property
    def options(self) -> dict[str, Option]:
        """The options of this experiment and algorithm, by name."""
        return self.options_for(self.method)

    @property
    def method(self) -> Algorithm:
        """The algorithm."""
        return algorithms.find(self.algorithm)

    def values(self) -> dict[str, Any]:
        """Return the value of every option, by name."""
        return {name: getattr(self, name) for name in self.options}

    def uses(self, name: str) -> bool:
        """Return whether an option has an effect with this algorithm."""
        return _uses(self.method, name, self.values())

    def usual(self) -> dict[str, Any]:
        """Return the preset's value of every option, or else the default."""
        usual, values = {k: one.default for k, one in self.options.items()}, self.values()
        usual |= self.method.defaults(values)
        if self.preset != "none":
            usual |= presets.column(self.name, self.preset, values)
        return usual

    def differences(self) -> dict[str, Any]:
        """Return the options in use that differ from the preset, or from the defaults."""
        usual, values = self.usual(), self.values()
        used = {k: x for k, x in values.items() if _uses(self.method, k, values)}
        return {k: x for k, x in used.items() if x != usual[k]}

    @property
    def rows(self) -> list[int]:
        """The numbers of steps that the table after training shows, the last included."""
        return sorted({*self.shown_steps, self.test_steps})

    @property
    def test_chunk(self) -> int:
        """Tasks side by side in an evaluation, with no effect on the scores."""
        return self.most_tasks

    @property
    def anchors(self) -> dict[str, float]:
        """Reference scores by name."""
        return {}

    @property
    def is_original(self) -> bool:
        """Whether published figures are about these data."""
        return True

    def but_for_its_seed(self) -> Self:
        """Return the common configuration of runs that are pooled as seeds."""
        usual = {k: o.default for k, o in self.options.items() if not o.role.compared}
        return self.restored(self.values() | usual)


@configuration
class FewShot(Config):
    """Options of every few-shot experiment."""

    outer: str = option(
        "adam",
        "outer optimiser: adam or sgd, gradient descent",
        "the code's main.py",
        role=TRAINING,
        choices=("adam", "sgd"),
    )


def algorithm_of(kind: type[Config], name: Any) -> Algorithm:
    """Return an algorithm by name. Raises UsageError when the experiment lacks it."""
    record = algorithms.find(check(options_of(kind), {"algorithm": name})["algorithm"])
    if not algorithms.fits(record, kind.setting, kind.offers):
        having = ", ".join(algorithms.available(kind.setting, kind.offers))
        reason = f": {record.not_in_rl}" if kind.setting == RL and record.not_in_rl else ""
        message = f"--algorithm {name} does not work on {kind.name}{reason}"
        raise UsageError(f"{message}; choose from {having}")
    for own in options_of(record.options):
        if hasattr(kind, own):  # a user's option would hide the experiment's
            raise UsageError(f"--algorithm {name}: {kind.name} has its own {flag(own)}")
    return record


def check_parameters(count: int) -> None:
    """Raise UsageError for so many parameters that they would fill the memory."""
    if count > MOST_PARAMETERS:
        raise UsageError(f"the model has {count} parameters, more than {MOST_PARAMETERS}")


def fixed_values(config: Config) -> dict[str, Any]:
    """Return the options that cannot change when a run is resumed, by name."""
    values, options = config.values(), config.options.items()
    return {name: values[name] for name, one in options if one.role.fixed}


def check_resumable(saved: Config, wanted: Config) -> None:
    """Raise UsageError when an option was changed that must stay as the run was begun."""
    now = wanted.values()
    for name, before in fixed_values(saved).items():
        if before != now.get(name):
            begun = f"the run was begun with {shown(before)}"
            raise UsageError(f"{flag(name)} {shown(now.get(name))}: {begun}")
    if saved.schedule != "constant" and saved.iterations != wanted.iterations:
        length = f"--schedule {saved.schedule} was begun for {saved.iterations} iterations"
        raise UsageError(f"--iterations {wanted.iterations}: {length}")


def _uses(record: Algorithm, name: str, values: Mapping[str, Any]) -> bool:
    if name == "tune":
        return not record.inner_loop
    if name == "alpha":
        return record.inner_loop or not values["tune"]
    if name == "alpha_head":
        return record.inner_loop
    if name == "beta_end":
        return "beta" not in record.ignores and values["schedule"] != "constant"
    if name == "epoch":
        return name in record.uses or values["schedule"] == "cosine"
    return name not in record.ignores
