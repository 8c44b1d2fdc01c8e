"""HTML: what is escaped, and what every page has."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pages import Page, check
from tinymaml.errors import UsageError
from tinymaml.report import html
from tinymaml.report.html import Html, element


ANY = st.text(st.characters(codec="utf-8", exclude_characters="\r\0"))


@given(ANY, ANY)
def test_every_text_comes_back_as_it_was(child, value):
    """Rejects a text or an attribute that is not escaped, or twice."""
    found = Page(html.page("t", element("p", child), element("div", title=value)))
    assert found.texts["p"] == [child]
    assert found.values("title") == [value]
    check(found)


@pytest.mark.parametrize("text", ["<script>x</script>", '"><img src=x onerror=y>', "&lt;"])
def test_titles_cells_and_captions_are_escaped(text):
    """Rejects a place from which a name becomes an element."""
    rows = html.blocks([[[text, "b"], [text, text]], text])
    found = Page(html.page(text, rows, html.picture(b"x", "png", text)))
    assert found.tables == [[[text, "b"], [text, text]]]
    assert found.texts["title"] == found.texts["h1"] == found.texts["p"] == [text]
    assert found.values("alt") == found.texts["figcaption"] == [text]
    check(found)


def test_html_is_not_escaped_again():
    """Rejects elements inside others that are shown as text."""
    assert element("p", element("b", "a < b"), Html("&theta;")) == (
        "<p><b>a &lt; b</b>&theta;</p>"
    )


def test_a_name_that_is_no_text_can_be_written():
    """Rejects a traceback for a file name whose bytes are not UTF-8."""
    name = b"run-\xff".decode("utf-8", "surrogateescape")
    assert Page(html.page(name)).texts["h1"] == ["run-?"]


def test_figures_stay_with_their_intervals():
    """Rejects 0.66 on one line and its interval on the next, and a changed name."""
    (rows,) = Page(html.page("t", html.table([["a +- b"], ["0.66 +- 0.07 +- 0.1"]]))).tables
    assert rows == [["a +- b"], ["0.66 ± 0.07 ± 0.1".replace(" ", "\N{NO-BREAK SPACE}")]]


@pytest.mark.parametrize(
    ("name", "words"),
    [("page.pdf", "must end with .html"), ("d.html", "is a folder"), ("no/p.html", "'no'")],
)
def test_a_place_that_cannot_be_written_is_refused(name, words, tmp_path, monkeypatch):
    """Rejects a minute of work before the error."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "d.html").mkdir()
    with pytest.raises(UsageError, match=words):
        html.check_place(type(tmp_path)(name))
