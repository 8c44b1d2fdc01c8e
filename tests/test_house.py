"""The order of the package, read from its source: who imports whom, and who names what."""

import ast
from pathlib import Path

import pytest

from places import ROOT
from tinymaml import algorithms
from tinymaml.experiments import MODULES
from tinymaml.options import options_of


PACKAGE = ROOT / "tinymaml"
# From the top to the bottom; a module imports from its own line and from those below.
LAYERS = (
    ("__main__",),
    ("cli",),
    ("examples",),
    ("study",),
    ("plots",),
    ("report",),
    ("harness",),
    ("experiments", "check"),
    ("algorithms",),
    ("data", "rl", "prepare"),
    ("fewshot",),
    ("models", "losses", "similarity", "published", "speed"),
    ("chain",),
    (
        *("maml", "ops", "kernels", "params", "optim"),
        *("contracts", "tracing", "options", "errors", "summary", "loading"),
    ),
)
LEVEL = {name: level for level, names in enumerate(LAYERS) for name in names}
LOWEST = len(LAYERS)  # of the package's own __init__
FILES = sorted(PACKAGE.rglob("*.py"))
TREES = {file: ast.parse(file.read_text(encoding="utf-8")) for file in FILES}
PARAMETERS = [pytest.param(f, id=str(f.relative_to(PACKAGE))) for f in FILES]
OPTIONS = {
    *(name for module in MODULES.values() for name in options_of(module.CONFIG)),
    *(name for row in algorithms.ROWS for name in options_of(row.options)),
}


def layer(file: Path) -> str:
    """Return the file's room: a folder of the package, or the module itself."""
    return file.relative_to(PACKAGE).parts[0].removesuffix(".py")


def imported(tree: ast.AST) -> list[tuple[int, str]]:
    """Return (line, full name) of everything of ours that a module imports."""
    found = []
    for node in ast.walk(tree):
        if isinstance(node, ast.ImportFrom):
            assert not node.level, f"line {node.lineno}: a relative import"
            found += [(node.lineno, f"{node.module}.{alias.name}") for alias in node.names]
        elif isinstance(node, ast.Import):
            found += [(node.lineno, alias.name) for alias in node.names]
    return [(line, name) for line, name in found if name.split(".")[0] == "tinymaml"]


def up(file: Path, tree: ast.AST) -> list[str]:
    """Return the imports that go up."""
    room = layer(file)
    return [
        f"{file.relative_to(ROOT)}:{line}: {room} imports {name}"
        for line, name in imported(tree)
        if LEVEL.get([*name.split("."), ""][1], LOWEST) < LEVEL.get(room, LOWEST)
    ]


@pytest.mark.parametrize("file", PARAMETERS)
def test_no_import_goes_up(file):
    """Rejects a lower room that needs a higher one, as a checker that needs the harness."""
    assert layer(file) in {*LEVEL, "__init__"}, f"{file} is in no layer"
    assert up(file, TREES[file]) == []


def test_an_import_that_goes_up_is_found():
    """Rejects a reader of imports that finds none, or reads only the head of a file."""
    tree = ast.parse("def f():\n    from tinymaml.harness import runs\nimport tinymaml.cli")
    found = up(PACKAGE / "fewshot.py", tree)
    assert sorted(found) == [
        "tinymaml/fewshot.py:2: fewshot imports tinymaml.harness.runs",
        "tinymaml/fewshot.py:3: fewshot imports tinymaml.cli",
    ]
    assert up(PACKAGE / "cli" / "main.py", tree) == []


def test_the_algorithm_imports_nothing_of_ours():
    """Rejects a maml.py that cannot be read, or copied with one small file, alone."""
    found = imported(TREES[PACKAGE / "maml.py"])
    names = "isbox", "parameters", "scalar"
    assert [name for _, name in found] == [f"tinymaml.tracing.{name}" for name in names]
    assert imported(TREES[PACKAGE / "tracing.py"]) == []


# ----- Names -----


def strings(tree: ast.AST) -> list[ast.Constant]:
    """Return the string constants of a module that are not the whole of a statement."""
    prose = {id(node.value) for node in ast.walk(tree) if isinstance(node, ast.Expr)}
    return [
        node
        for node in ast.walk(tree)
        if isinstance(node, ast.Constant)
        and isinstance(node.value, str)
        and id(node) not in prose
    ]


def named(file: Path, tree: ast.AST) -> list[str]:
    """Return where a module has an algorithm's name as a string."""
    return [
        f"{file.relative_to(ROOT)}:{node.lineno}: {node.value!r}"
        for node in strings(tree)
        if node.value in algorithms.ALGORITHMS
    ]


def test_no_other_room_names_an_algorithm():
    """Rejects an algorithm that is a string, interpreted far from its own file.

    The one exception is the default of the option `algorithm`.
    """
    found = [
        place
        for file in FILES
        if layer(file) not in ("algorithms", "published")
        for place in named(file, TREES[file])
    ]
    default = [place for place in found if "experiments/common.py" in place]
    assert [place for place in found if place not in default] == []
    assert [place.rpartition(": ")[2] for place in default] == ["'maml'"]


def listed(file: Path, tree: ast.AST) -> list[str]:
    """Return where a module lists options by name.

    An algorithm's record says so which of the experiment's options it ignores.
    """
    declared = {
        id(part)
        for node in ast.walk(tree)
        if isinstance(node, ast.keyword) and node.arg == "ignores"
        for part in ast.walk(node.value)
    }
    found = []
    for node in ast.walk(tree):
        if not isinstance(node, ast.Tuple | ast.List | ast.Set) or id(node) in declared:
            continue
        names = [one.value for one in node.elts if isinstance(one, ast.Constant)]
        if len(names) == len(node.elts) > 1 and {*names} <= OPTIONS:
            found.append(f"{file.relative_to(ROOT)}:{node.lineno}: {names}")
    return found


@pytest.mark.parametrize("file", PARAMETERS)
def test_no_list_of_options_is_kept_by_hand(file):
    """Rejects a list of names beside the options: a role of the option says the same, and
    a new option cannot be forgotten in it."""
    assert listed(file, TREES[file]) == []


@pytest.mark.parametrize(
    ("source", "lists", "names"),
    [
        ('KEPT = ("alpha", "beta")', 1, 0),
        ('def f():\n    return {"shots", "ways"}', 1, 0),
        ('x = ["alpha"], ("alpha", "no option"), ("mean", "sum")', 0, 0),
        ('row = Algorithm(ignores=("tasks", "beta"))', 0, 0),
        ('row = Algorithm(ignores=(*OTHERS, *("tasks", "beta")))', 0, 0),
        ('"maml"\nif name == "maml":\n    pass', 0, 1),
        ('TABLE = {"averaged-l2": 1}', 0, 1),
    ],
)
def test_names_are_found(source, lists, names):
    """Rejects a search that finds nothing, which every package would pass."""
    file, tree = PACKAGE / "fewshot.py", ast.parse(source)
    assert len(listed(file, tree)) == lists
    assert len(named(file, tree)) == names
