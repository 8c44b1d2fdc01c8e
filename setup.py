"""Metadata of tinymaml; pyproject.toml names only the build system and tool settings."""

import re
from pathlib import Path

from setuptools import find_packages, setup
from setuptools.command.sdist import sdist


HERE = Path(__file__).parent
BESIDES = "tests", "data_scripts", ".github", ".ci"  # what the tests of an sdist need
SOURCE = (HERE / "tinymaml" / "__init__.py").read_text(encoding="utf-8")
# Each lower bound is a version that exists: .ci/run tests with exactly these.
EXTRAS = {
    "plot": ["matplotlib>=3.8.4"],
    "dask": ["distributed>=2024.7"],
    "mpi": ["mpi4py>=4"],
    "mujoco": ["mujoco-core>=4"],
    "lint": ["ruff>=0.13", "mypy>=2"],
}
OWN = ["pytest>=8", "pytest-xdist>=3.0.2", "hypothesis>=6.100", "setuptools>=77.0.1"]
DIGITS = "scikit-learn>=1.7"  # images for the tests, in the package itself
EXTRAS["test"] = [*OWN, DIGITS, *EXTRAS["plot"], *EXTRAS["mujoco"]]


class SourceArchive(sdist):
    """An sdist whose tests run, without a MANIFEST.in."""

    def make_distribution(self) -> None:
        """Add the folders beside the package, without what Python writes into them."""
        found = [file for folder in BESIDES for file in (HERE / folder).rglob("*")]
        kept = (file for file in found if file.is_file() and file.suffix != ".pyc")
        self.filelist.extend(sorted(str(file.relative_to(HERE)) for file in kept))
        super().make_distribution()


setup(
    name="tinymaml",
    version=re.search(r'__version__ = "(.+)"', SOURCE).group(1),
    description="MAML with its second-order term written out, on NumPy and autograd",
    long_description=(HERE / "README.md").read_text(encoding="utf-8"),
    long_description_content_type="text/markdown",
    license="MIT",
    license_files=["LICENSE"],
    python_requires=">=3.11",
    packages=find_packages(include=["tinymaml", "tinymaml.*"]),
    package_data={"tinymaml": ["py.typed", "kept/*/*"]},
    install_requires=[
        "numpy>=2.3,<3",
        "autograd>=1.9.1,<2",
        "pillow>=10.1",
        "click>=8.2",
    ],
    extras_require=EXTRAS,
    cmdclass={"sdist": SourceArchive},
    entry_points={"console_scripts": ["tinymaml = tinymaml.__main__:main"]},
)
