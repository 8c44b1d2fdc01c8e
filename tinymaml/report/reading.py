"""The page of `tinymaml read`: a file after the other, equations beside the code."""

import ast
import re
from collections.abc import Iterator, Sequence
from itertools import groupby
from textwrap import dedent

from tinymaml.report import equations, html
from tinymaml.report.equations import Equation, docstring, mathml, source
from tinymaml.report.html import Html, element


TITLE = "The algorithms of tinymaml, beside their equations"
INTRODUCTION = (
    "An equation stands beside the code that computes it. A symbol links to the line where"
    " that code's function names it first. All is read from the source files."
)


def as_html(picture: Sequence[Html]) -> bytes:
    """Return the page. picture: that of the chain, or a sentence in its place

    Raises WorldError when an equation or its code is gone.
    """
    found = {file: equations.of(file) for file in equations.files()}
    marked: dict[str, set[int]] = {file: set() for file in found}
    for one in (one for some in found.values() for one in some):
        marked[one.file] |= {*range(one.first, one.last + 1)}
    links = element("nav", *(element("a", file, href=f"#{file}") for file in found))
    sections = [_section(file, found[file], marked[file]) for file in found]
    sections[0] = html.joined([sections[0], *picture])
    return html.page(TITLE, element("p", INTRODUCTION), links, *sections)


def _section(file: str, found: Sequence[Equation], marked: set[int]) -> Html:
    """Return a file: its docstring with equations, and the code below it."""
    by_line = {one.text: one for one in found}
    parts = [element("h2", file, id=file)]
    for lines in _paragraphs(docstring(file)):
        if not lines[0].startswith(" "):
            parts.append(element("p", *_prose(" ".join(lines))))
            continue
        for known, some in groupby(lines, lambda line: line.strip() in by_line):
            if known:
                parts += [_equation(by_line[line.strip()]) for line in some]
            else:
                parts.append(element("pre", "\n".join(some)))
    end = ast.parse(source(file)).body[0].end_lineno or 0
    numbered = [*enumerate(source(file).splitlines(), 1)][end:]
    kinds = {True: "line belongs", False: "line"}
    code = (_line(file, n, text, kinds[n in marked]) for n, text in numbered)
    return element("section", *parts, element("pre", *code))


def _paragraphs(lines: Sequence[str]) -> Iterator[list[str]]:
    """Yield paragraphs, and runs of indented lines."""
    group: list[str] = []
    for line in [*lines, ""]:
        if group and (not line or line.startswith(" ") != group[0].startswith(" ")):
            yield group
            group = []
        group += [line] if line else []


def _prose(text: str) -> Iterator[str]:
    """Yield the parts of a paragraph: `code`, symbols, and texts."""
    for n, part in enumerate(text.split("`")):
        if n % 2:
            yield element("code", part)
        else:
            for i, word in enumerate(equations.INLINE.split(part)):
                yield mathml(word) if i % 2 else word


def _line(file: str, number: int, text: str, kind: str) -> Html:
    anchor = f"{file}-{number}"
    link = element("a", str(number), href=f"#{anchor}")
    return element("span", link, text, id=anchor, class_=kind)


def _equation(one: Equation) -> Html:
    """Return an equation with the lines of its symbols, and the code beside it."""
    parts = re.split(r"(?<=,)\s{2,}|\s{3,}", one.text)
    maths = element("div", *(element("span", mathml(x)) for x in parts), class_="parts")
    links = (
        element("a", mathml(symbol), f" line {number}", href=f"#{one.file}-{number}")
        for symbol, number in equations.symbols(one).items()
    )
    legend = element("div", *links, class_="parts faint")
    lines = source(one.file).splitlines()[one.first - 1 : one.last]
    code = element("pre", dedent("\n".join(lines)))
    place = f"{one.file}, line {one.first}"
    head = element("a", place, href=f"#{one.file}-{one.first}", class_="faint")
    both = element("div", maths, legend), element("div", head, code)
    return element("div", *both, class_="equation")
