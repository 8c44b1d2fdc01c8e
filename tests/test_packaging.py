"""What is shipped: the source archive, the wheel, the version and the changelog."""

import re
import shutil
import subprocess
import sys
import tarfile
import zipfile
from pathlib import Path

import pytest

import tinymaml
from places import ROOT


BUILD = """
import sys
from setuptools import build_meta
print(getattr(build_meta, sys.argv[1])(sys.argv[2]))
"""
# Of a checkout, what neither the package nor its tests need.
LEFT_OUT = {".gitignore"}


@pytest.fixture(scope="module")
def source(tmp_path_factory) -> Path:
    """A copy of the tree, with what Python writes into it."""
    folder = tmp_path_factory.mktemp("source") / "tree"
    skipped = shutil.ignore_patterns(
        *(".git", ".*_cache", ".hypothesis", "runs", "*.egg-info", "build", "dist")
    )
    shutil.copytree(ROOT, folder, ignore=skipped)
    (folder / "tests" / "helpers" / "__pycache__").mkdir(exist_ok=True)
    (folder / "tests" / "helpers" / "__pycache__" / "x.pyc").write_bytes(b"")
    return folder


def built(source: Path, kind: str, folder: Path) -> Path:
    """Build an sdist or a wheel of a tree; return the file."""
    pytest.importorskip("setuptools", minversion="77.0.1")
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", BUILD, f"build_{kind}", str(folder)],
        cwd=source,
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    return folder / done.stdout.splitlines()[-1]


def files(archive: Path) -> dict[str, bytes]:
    """Return the content of every file of an sdist, without its first folder."""
    with tarfile.open(archive) as tar:
        members = [member for member in tar if member.isfile()]
        return {
            member.name.partition("/")[2]: tar.extractfile(member).read()
            for member in members
        }


def test_the_source_archive_has_what_its_tests_need(source, tmp_path):
    """Rejects an sdist without the tests' helpers, golden bytes and old runs, without
    data_scripts or the pages that tests read; compiled files; and one that loses them when
    it is built from an sdist."""
    first = files(built(source, "sdist", tmp_path))
    needed = {
        *("setup.py", "pyproject.toml", "README.md", "LICENSE", ".github/results.md"),
        *("data_scripts/omniglot.py", "tests/conftest.py", "tests/golden.json"),
        *("tests/helpers/places.py", "tests/old_runs/sine-maml/checkpoint.npz"),
        *("tests/recipes/tea.py", "tests/bench/measure.py", "tests/mutants.md"),
    }
    assert needed <= {*first}
    assert not [name for name in first if "__pycache__" in name or name.endswith(".pyc")]
    with tarfile.open(next(tmp_path.glob("*.tar.gz"))) as tar:
        tar.extractall(tmp_path / "unpacked", filter="data")
    (unpacked,) = (tmp_path / "unpacked").iterdir()
    again = files(built(unpacked, "sdist", tmp_path / "again"))
    assert {*again} == {*first}


@pytest.mark.skipif(not (ROOT / ".git").exists(), reason="no checkout")
def test_the_source_archive_has_every_file_of_the_checkout(source, tmp_path):
    """Rejects an sdist that leaves out a file which Git has."""
    listed = subprocess.run(
        ["git", "ls-files"], cwd=ROOT, capture_output=True, text=True, check=True
    )
    there = {name for name in listed.stdout.splitlines() if (ROOT / name).is_file()}
    assert there - {*files(built(source, "sdist", tmp_path))} == LEFT_OUT


def test_the_wheel_has_the_whole_package_and_nothing_else(source, tmp_path):
    """Rejects a wheel that cannot prepare data, without its kept thetas or types, and one
    that installs our tests beside other people's."""
    with zipfile.ZipFile(built(source, "wheel", tmp_path)) as archive:
        found = {name for name in archive.namelist() if ".dist-info/" not in name}
    package = (ROOT / "tinymaml").rglob("*")
    there = {str(file.relative_to(ROOT)) for file in package if file.is_file()}
    assert found == {name for name in there if not name.endswith(".pyc")}
    assert {"tinymaml/prepare/omniglot.py", "tinymaml/py.typed"} <= found


def test_the_version_stands_once():
    """Rejects a version in two files, of which one is forgotten."""
    other = re.compile(rf"(?<![\d.]){re.escape(tinymaml.__version__)}(?![\d.])")
    named = ["setup.py", "pyproject.toml", "README.md", ".github/CITATION.cff"]
    assert not [name for name in named if other.search((ROOT / name).read_text("utf-8"))]


def test_the_changelog_begins_with_this_version():
    """Rejects a release whose changes nobody wrote down."""
    text = (ROOT / ".github" / "CHANGELOG.md").read_text(encoding="utf-8")
    versions = re.findall(r"^## (\S+)$", text, re.MULTILINE)
    assert versions[0] == tinymaml.__version__
    numbers = [tuple(map(int, version.split("."))) for version in versions]
    assert numbers == sorted({*numbers}, reverse=True)


def test_the_citation_has_what_its_format_requires():
    """Rejects a file that a reader of CITATION.cff refuses."""
    text = (ROOT / ".github" / "CITATION.cff").read_text(encoding="utf-8")
    keys = set(re.findall(r"^([\w-]+):", text, re.MULTILINE))
    assert {"cff-version", "message", "title", "authors"} <= keys
    assert "family-names: Finn" in text
