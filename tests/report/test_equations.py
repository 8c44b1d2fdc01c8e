"""The page of the algorithms: equations, their code, and their symbols."""

import re

import pytest

from pages import Page, check
from places import ROOT
from tinymaml.errors import WorldError
from tinymaml.report import equations, reading
from tinymaml.report.equations import mathml


@pytest.fixture(scope="module")
def page():
    return Page(reading.as_html([]))


def test_every_equation_is_beside_its_code():
    """Rejects an equation of a docstring without code, and one twice."""
    for file in equations.files():
        found = equations.of(file)
        lines = [x for x in equations.docstring(file) if x.startswith("    ")]
        stated = [x.strip() for x in lines if re.search(r" (:?=|->) ", x)]
        # In these lines the type of an argument stands, and none is computed.
        stated = [x for x in stated if not re.match(r"(alpha|loss) ", x)]
        assert {*stated} <= {one.text for one in found}, file
        assert len({one.text for one in found}) == len(found)
    total = sum(len(equations.of(file)) for file in equations.files())
    assert total == len(equations.EQUATIONS)


@pytest.mark.parametrize("row", equations.EQUATIONS)
def test_an_equation_whose_code_is_gone_is_refused(row, monkeypatch):
    """Rejects a page with an equation that nothing computes, or that was rewritten."""
    name = row.partition(": ")[0]
    where, _, code = equations.EQUATIONS[row].partition(": ")
    file = equations._file(where)
    text, lines = equations.source(file).replace(code, ""), {}
    for other in equations.files():
        lines[other] = equations.docstring(other)
    monkeypatch.setattr(equations, "docstring", lines.get)
    monkeypatch.setattr(
        equations, "source", lambda x, real=equations.source: text if x == file else real(x)
    )
    with pytest.raises(WorldError, match="out of date"):
        equations.of(equations._file(name))


def test_an_equation_that_left_its_docstring_is_refused(monkeypatch):
    """Rejects a table of equations that the source no longer states."""
    real = equations.source
    monkeypatch.setattr(
        equations, "source", lambda file: real(file).replace("v_K = grad Q", "v_K = Q")
    )
    with pytest.raises(WorldError, match="out of date"):
        equations.of("maml.py")


def test_every_file_is_there_once(page):
    """Rejects an algorithm that the page forgets."""
    files = {f"algorithms/{x.name}" for x in (ROOT / "tinymaml/algorithms").glob("*.py")}
    wanted = (files - {"algorithms/__init__.py"}) | {"maml.py", "chain.py"}
    assert sorted(page.texts["h2"]) == sorted(wanted)
    assert page.texts["h2"][:2] == ["maml.py", "chain.py"]


def test_the_page_is_whole(page):
    """Rejects links without a target, a network, a script, and elements that are open."""
    check(page)


def test_every_line_of_code_has_its_number(page):
    """Rejects lines of another file, numbers that are one off, and lines left out."""
    for file in equations.files():
        lines = (ROOT / "tinymaml" / file).read_text().splitlines()
        shown = {
            int(name.rpartition("-")[2]): text
            for name, text in _lines(page).items()
            if name.rpartition("-")[0] == file
        }
        first = min(shown)
        assert lines[first - 2].endswith('"""')  # the end of the docstring
        assert [*shown] == [*range(first, len(lines) + 1)]
        for number, text in shown.items():
            assert text == f"{number}{lines[number - 1]}"


def _lines(page):
    ids = [v for tag, name, v in page.attributes if (tag, name) == ("span", "id")]
    texts = [x for x in page.texts["span"] if re.match(r"\d+", x)]
    return dict(zip(ids, texts, strict=True))


def test_symbols_link_to_lines_with_their_names():
    """Rejects a symbol that links to a line of another function, or to any line."""
    lines = equations.source("maml.py").splitlines()
    first, second = equations.of("maml.py")
    found = equations.symbols(first) | equations.symbols(second)
    begun = lines.index("def meta_gradient(")
    wanted = {
        "theta_k": "theta",
        "alpha_k": "for alpha_k in",
        "g_k": "hvp_k, g_k =",
        "H_k": "hvp_k, g_k =",
        "S": "task.support(theta)",
        "Q": "task.query(theta)",
        "v_k": "loss, v =",
        "v_{k+1}": "loss, v =",
    }
    for symbol, text in wanted.items():
        assert text in lines[found[symbol] - 1], symbol
        assert begun < found[symbol] <= second.last


@pytest.mark.parametrize("row", equations.EQUATIONS)
def test_every_equation_has_symbols_with_lines(row):
    """Rejects an equation none of whose symbols can be found in the code."""
    for one in equations.of(equations._file(row.partition(": ")[0])):
        assert equations.symbols(one)
        text = equations.source(one.file).splitlines()
        assert all(0 < n <= len(text) for n in equations.symbols(one).values())


SPACE = '<mspace width="0.2em"></mspace>'
CASES = {
    "v_k": "<msub><mi>v</mi><mrow><mi>k</mi></mrow></msub>",
    "x^2": "<msup><mi>x</mi><mo>2</mo></msup>",
    "phi* = 1": "<msup><mi>&phi;</mi><mo>*</mo></msup>"
    '<mo stretchy="false">=</mo><mn>1</mn>',
    "M_in' G": "<msubsup><mi>M</mi><mrow><mtext>\xa0in\xa0</mtext></mrow>"
    f"<mo>&prime;</mo></msubsup>{SPACE}<mi>G</mi>",
    "2 * x": '<mn>2</mn><mo stretchy="false">&middot;</mo><mi>x</mi>',
    "a < b": '<mi>a</mi><mo stretchy="false">&lt;</mo><mi>b</mi>',
    "hess S": f"<msup><mi>∇</mi><mn>2</mn></msup>{SPACE}<mi>S</mi>",
    "sum over k = 1..K of u": "<munderover><mo>∑</mo><mrow><mi>k</mi>"
    '<mo stretchy="false">=</mo><mn>1</mn></mrow><mrow><mi>K</mi></mrow></munderover>'
    "<mi>u</mi>",
}


@pytest.mark.parametrize("text", CASES)
def test_an_equation_in_mathml(text):
    """Rejects a subscript as a factor, a prime as a sign, and < as the begin of a tag."""
    assert mathml(text) == f"<math>{CASES[text]}</math>"


def test_no_part_of_an_equation_is_lost(page):
    """Rejects a converter that leaves out what it does not know."""
    drop = str.maketrans("", "", " _{}^\xa0")
    for file in equations.files():
        for one in equations.of(file):
            text = re.sub(r"sum over (\w)( = 1\.\.K)? of", r"∑\1", one.text)
            found = Page(mathml(one.text).encode()).texts["math"][0].translate(drop)
            for name, sign in (
                ("grad", "∇"),
                ("hess", "∇2"),
                (" * ", "·"),
                ("'", "\N{PRIME}"),
            ):
                text = text.replace(name, sign)
            for name, sign in (
                ("->", "→"),
                (":=", "≔"),
                ("...", "…"),
                ("-", "\N{MINUS SIGN}"),
            ):
                text = text.replace(name, sign)
            for name, sign in zip(equations.GREEK, "θαβγφλ", strict=True):
                text = text.replace(name, sign)
            found = found.replace("k=1K", "k")
            assert found == text.translate(drop), one.text


def test_symbols_in_sentences_are_found():
    """Rejects names in code and options that become symbols."""
    text = "v_{k+1} and theta of --beta-end in few_shot_x.py, J_F, x_support, gammas"
    assert equations.INLINE.findall(text) == ["v_{k+1}", "theta", "J_F"]
