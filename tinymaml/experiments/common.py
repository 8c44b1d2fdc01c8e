"""Options of every experiment, and how a configuration is made and checked.

A configuration has the options of an experiment and those of its algorithm, by flat names.
It is checked when it is made, so Python, the command line and a file raise the same errors.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

from tinymaml import algorithms
from tinymaml.algorithms.algorithm import FEW_SHOT, Algorithm
from tinymaml.errors import UsageError
from tinymaml.losses import Score
from tinymaml.options import (
    LENGTH,
    MANNER,
    MOST,
    NET,
    SCHEDULE,
    SEED,
    TESTING,
    TRAINING,
    Option,
    check,
    flag,
    option,
    options_of,
    shown,
    unknown,
)
from tinymaml.published import presets


# The decorator of a class of options: `Config` makes its instances.
configuration = dataclass(frozen=True, init=False)


@configuration
class Config:
    """Options of every experiment; an experiment's own class adds and overrides.

    Values that are not given are the preset's, then the algorithm's defaults, then the
    defaults here.
    Raises UsageError for an unknown option, a value out of range, an option that the
    algorithm does not use, and a preset that does not fit.
    """

    name: ClassVar[str]
    title: ClassVar[str]  # what pictures call it
    score: ClassVar[Score]  # what is reported after each gradient step
    picture: ClassVar[str]  # which picture of single tasks is drawn, a module of `plots`
    # What learning curves show of the metrics; the second only of one run that adapts.
    learning: ClassVar[tuple[str, ...]] = ("loss",)
    setting: ClassVar[str] = FEW_SHOT
    offers: ClassVar[tuple[str, ...]] = ()  # what Algorithm.needs may name
    anchors: ClassVar[dict[str, float]] = {}  # scores to compare with
    shown_steps: ClassVar[tuple[int, ...]] = tuple(range(11))
    # Tasks side by side in an evaluation; it does not change what is measured.
    test_chunk: ClassVar[int] = 20

    preset: str = option(
        "none",
        "start from published settings; options you give override them",
        choices=("none", *presets.NAMES),
        role=TRAINING,
    )
    algorithm: str = option(
        "maml",
        "the algorithm, from `tinymaml list`, or FILE.py:NAME, a record of your own",
        choices=tuple(algorithms.ALGORITHMS),
        others=algorithms.OWN,
    )
    iterations: int = option(
        1000, "number of outer steps", role=LENGTH, least=0, most=10**8
    )
    seed: int = option(
        0, "seed of the initial theta and of the tasks", role=SEED, least=0, most=2**64 - 1
    )
    tasks: int = option(32, "tasks in a meta-batch", least=1, most=MOST)
    alpha: float = option(0.01, "inner-loop learning rate", least=0, most=1e9)
    tune: bool = option(
        True,
        "choose alpha on validation tasks; for algorithms that train without inner steps",
        "section 5.1 of the paper, for its baselines",
        role=TRAINING,
    )
    inner_steps: int = option(1, "inner gradient steps in training", least=0, most=1000)
    beta: float = option(
        1e-3,
        "outer learning rate, of Adam",
        "main.py of the official code",
        role=TRAINING,
        above=0,
        most=1e9,
    )
    clip: float = option(
        0.0,
        "limit on each entry of the mean meta-gradient; 0: no limit",
        "maml.py:147-148: 10, on mini-ImageNet only",
        role=TRAINING,
        least=0,
        most=1e9,
    )
    activation: str = option(
        "relu",
        "activation of the hidden layers",
        "section 5 of the paper",
        role=NET._replace(checked=False),  # a check has every activation
        choices=("relu", "tanh"),
    )
    dtype: str = option(
        "float32", "precision", role=TRAINING, choices=("float32", "float64")
    )
    chunk: int = option(
        4,
        "tasks computed side by side; the last bits depend on it",
        role=SCHEDULE,
        least=1,
        most=MOST,
    )
    replay: bool = option(
        True, "record the NumPy calls and replay them: faster, the same bits", role=MANNER
    )
    checkpoint_every: int = option(
        500, "iterations between checkpoints", role=SCHEDULE, least=1, most=10**8
    )
    validate_every: int = option(
        0,
        "validate every N iterations and test the best theta; 0: no validation, test the"
        " last",
        role=SCHEDULE,
        least=0,
        most=10**8,
    )
    validation_tasks: int = option(
        200, "number of validation tasks", role=SCHEDULE, least=2, most=MOST
    )
    test: bool = option(True, "evaluate on test tasks after training", role=MANNER)
    test_tasks: int = option(
        600,
        "number of test tasks",
        "the paper and its code",
        role=TESTING,
        least=2,
        most=MOST,
    )
    test_steps: int = option(
        10,
        "gradient steps at test time",
        "section 5.1 of the paper",
        role=TESTING,
        least=0,
        most=1000,
    )
    own: Any = None  # the algorithm's own options

    def __init__(self, **given: Any) -> None:
        self._fill({}, given)

    @classmethod
    def restored(cls, options: Mapping[str, Any]) -> Config:
        """Return the configuration that `values` described; it need not use every option.

        Raises UsageError as the constructor does.
        """
        config = object.__new__(cls)
        config._fill(options, {})
        return config

    def with_changes(self, changes: Mapping[str, Any]) -> Config:
        """Return a copy with some options changed. Raises UsageError as the constructor.

        Another algorithm keeps what both have; not the options and defaults of the former.
        """
        config = object.__new__(type(self))
        before = self.values()
        if changes.get("algorithm", self.algorithm) != self.algorithm:
            options = self.options_for(algorithm_of(type(self), changes["algorithm"]))
            former = self.method.defaults(before)
            before = {
                name: value
                for name, value in before.items()
                if name in options and self.uses(name) and former.get(name) != value
            }
        config._fill(before, changes)
        return config

    def _fill(self, before: Mapping[str, Any], given: Mapping[str, Any]) -> None:
        """Set every option: as given, else as before, else the default."""
        kind, name = type(self), given.get("algorithm", before.get("algorithm"))
        name = kind.algorithm if name is None else name
        record = algorithm_of(kind, name)
        options = self.options_for(record)
        for key in given:
            if key not in options:
                raise UsageError(self.unknown(record, key, options))
        usual = {key: one.default for key, one in options.items()}
        values = usual | check(options, before)
        given = check(options, given)
        if name != before.get("algorithm"):
            values |= {
                key: x
                for key, x in record.defaults({**before, **given}).items()
                if values[key] == usual[key] or not _uses(record, key, values)
            }
        if given.get("preset", "none") not in ("none", before.get("preset")):
            told = presets.values(kind.name, given["preset"], values | given)
            final = values | told | given
            values |= {k: x for k, x in told.items() if _uses(record, k, final)}
        values |= given
        for key in given:
            if not _uses(record, key, values):
                unless = " unless --no-tune" if key == "alpha" else ""
                having = f"has no effect with --algorithm {name}{unless}"
                raise UsageError(f"{flag(key)} {having}")
        own = {key: values.pop(key) for key in options_of(record.options)}
        for key, value in values.items():
            object.__setattr__(self, key, value)
        object.__setattr__(self, "own", record.options(**own))
        if reason := record.refuses(self):
            raise UsageError(reason)

    def __getattr__(self, name: str) -> Any:
        own = self.__dict__.get("own")
        if name.startswith("__") or own is None:
            raise AttributeError(name)
        return getattr(own, name)

    def __reduce__(self) -> tuple:
        return _unpickled, (type(self), self.values())

    @classmethod
    def options_for(cls, record: Algorithm) -> dict[str, Option]:
        """Return the experiment's options and an algorithm's own, by name."""
        return {**options_of(cls), **options_of(record.options)}

    @classmethod
    def unknown(cls, record: Algorithm, name: str, names: Iterable[str]) -> str:
        """Return the message about an option that is none of `names`.

        It says which algorithms have the option, or which name is close.
        """
        rows = map(algorithms.find, algorithms.available(cls.setting, cls.offers))
        owners = [row.name for row in rows if name in options_of(row.options)]
        if not owners:
            return unknown(name, names)
        having = " or ".join(owners)
        return f"{flag(name)}: an option of --algorithm {having}, not of {record.name}"

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

    def differences(self) -> dict[str, Any]:
        """Return the options in use that differ from the preset, or from the defaults."""
        usual = {name: one.default for name, one in self.options.items()}
        usual |= self.method.defaults(self.values())
        if self.preset != "none":
            usual |= presets.column(self.name, self.preset, self.values())
        values = self.values()
        return {
            name: value
            for name, value in values.items()
            if value != usual[name] and _uses(self.method, name, values)
        }

    @property
    def is_original(self) -> bool:
        """Whether the data are those that published figures are about."""
        return True

    def but_for_its_seed(self) -> Config:
        """Return what is the same for runs that are pooled as seeds of one experiment."""
        usual = {k: o.default for k, o in self.options.items() if not o.role.compared}
        return self.restored(self.values() | usual)


def _unpickled(kind: type[Config], values: dict[str, Any]) -> Config:
    """Return a configuration that was checked before it was pickled."""
    config = object.__new__(kind)
    record = algorithms.find(values["algorithm"])
    own = {key: values.pop(key) for key in options_of(record.options)}
    config.__dict__.update(values, own=record.options(**own))
    return config


def algorithm_of(kind: type[Config], name: Any) -> Algorithm:
    """Return an algorithm by name. Raises UsageError when the experiment has none such."""
    record = algorithms.find(check(options_of(kind), {"algorithm": name})["algorithm"])
    if not algorithms.fits(record, kind.setting, kind.offers):
        having = ", ".join(algorithms.available(kind.setting, kind.offers))
        raise UsageError(f"--algorithm {name}: {kind.name} has {having}")
    return record


def check_resumable(saved: Config, wanted: Config) -> None:
    """Raise UsageError when an option that the next iteration depends on was changed."""
    before, now = saved.values(), wanted.values()
    for name, one in saved.options.items():
        if before[name] != now.get(name) and one.role.fixed:
            told = f"the run was begun with {shown(before[name])}"
            raise UsageError(f"{one.flag} {shown(now.get(name))}: {told}")


def _uses(record: Algorithm, name: str, values: Mapping[str, Any]) -> bool:
    if name == "tune":
        return not record.inner_loop
    if name == "alpha":
        return record.inner_loop or not values["tune"]
    return name not in record.ignores
