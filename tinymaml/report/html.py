"""One HTML file that needs no network and no script: elements, tables, pictures, the page.

Every text is escaped where an element is made. Only what an element returned is HTML.
"""

import base64
import html
import re
from collections.abc import Iterable, Sequence
from pathlib import Path

from tinymaml.errors import UsageError
from tinymaml.harness import runs
from tinymaml.report.layout import Rows


VOID = ("meta", "img")  # elements without an end
# A browser loads nothing and runs nothing, whatever the page contains.
POLICY = "default-src 'none'; img-src data:; style-src 'unsafe-inline'"
STYLE = """
:root { color-scheme: light; --text: #1c1c1c; --page: #fff; --faint: #595959;
  --line: #d0d0d0; --box: #f5f5f3; --link: #0057a8; --mark: #fff0c2; }
@media screen and (prefers-color-scheme: dark) { :root { color-scheme: dark;
  --text: #e6e6e6; --page: #161616; --faint: #a6a6a6; --line: #444; --box: #222;
  --link: #8cc4ff; --mark: #4a3b00; } }
* { box-sizing: border-box; }
body { margin: 0 auto; max-width: 72rem; padding: 1rem; color: var(--text);
  background: var(--page); font: 1rem/1.5 system-ui, sans-serif; overflow-wrap: anywhere;
  -webkit-text-size-adjust: 100%; }
h1, h2, h3 { line-height: 1.25; }
h2 { margin-top: 2.5rem; border-top: 1px solid var(--line); padding-top: 1rem; }
a { color: var(--link); }
figure { margin: 1rem 0; break-inside: avoid; }
img { display: block; max-width: 100%; height: auto; background: #fff; }
figcaption, .faint { color: var(--faint); font-size: 0.875rem; }
.scroll { overflow-x: auto; margin: 1rem 0; }
table { border-collapse: collapse; font-size: 0.875rem; width: max-content;
  font-variant-numeric: tabular-nums; }
th, td { padding: 0.25rem 1.25rem 0.25rem 0; border-bottom: 1px solid var(--line);
  text-align: left; vertical-align: top; max-width: min(18rem, 70vw); }
th { color: var(--faint); font-weight: 600; }
pre, code { font-family: ui-monospace, Menlo, Consolas, "DejaVu Sans Mono", monospace;
  font-size: 0.8125rem; }
pre { background: var(--box); padding: 0.75rem; overflow-x: auto; line-height: 1.45;
  overflow-wrap: normal; }
math { font-size: 1.1em; }
nav a { display: inline-block; margin-right: 1rem; }
.equation pre { margin: 0.25rem 0; }
.equation { display: grid; grid-template-columns: minmax(0, 1fr); gap: 0 1.5rem;
  border-left: 3px solid var(--link); padding-left: 0.75rem; margin: 1rem 0;
  break-inside: avoid; }
.parts { overflow-x: auto; padding: 0.25rem 0; }
.parts > * { display: inline-block; margin: 0.2rem 1.5rem 0.2rem 0; }
.line { display: block; }
.line > a { display: inline-block; width: 2.5rem; color: var(--faint);
  text-decoration: none; user-select: none; }
.line.belongs { border-left: 3px solid var(--link); margin-left: -0.6rem;
  padding-left: calc(0.6rem - 3px); }
:target { background: var(--mark); }
@media (min-width: 60rem) {
  .equation { grid-template-columns: minmax(0, 5fr) minmax(0, 6fr); align-items: start; }
}
@media print {
  body { max-width: none; padding: 0; font-size: 10pt; }
  .scroll, pre, .parts { overflow: visible; }
  pre { white-space: pre-wrap; font-size: 7.5pt; }
  table { font-size: 7.5pt; width: 100%; }
  th, td { padding-right: 0.4rem; }
  tr { break-inside: avoid; }
  h2, h3 { break-after: avoid; }
}
"""


class Html(str):
    """Text that is HTML, and is not escaped again."""


def element(tag: str, *children: str, **attributes: str) -> Html:
    """Return an element; children and the values of attributes are escaped.

    attributes: a name may end with _, as class_, and has - in place of other underscores
    """
    named = {name.rstrip("_").replace("_", "-"): x for name, x in attributes.items()}
    head = "".join(f' {name}="{html.escape(x)}"' for name, x in named.items())
    end = "" if tag in VOID else f"</{tag}>"
    return Html(f"<{tag}{head}>{joined(children)}{end}")


def joined(parts: Iterable[str]) -> Html:
    """Return texts and elements one after the other; the texts are escaped."""
    return Html("".join(x if isinstance(x, Html) else html.escape(x) for x in parts))


def table(rows: Rows) -> Html:
    """Return a table, of which the first row has the names of the columns. It scrolls."""
    head, *others = [[_figures(cell.strip()) for cell in row] for row in rows]
    top = element("tr", *(element("th", cell, scope="col") for cell in head))
    lines = (element("tr", *(element("td", cell) for cell in row)) for row in others)
    body = element("table", element("thead", top), element("tbody", *lines))
    return element("div", body, class_="scroll", tabindex="0")


def _figures(text: str) -> str:
    """Return a text in which figures stay with their intervals: 0.66 ± 0.07."""
    return re.sub(r"(?<=\d) \+- (?=\d)", "\N{NO-BREAK SPACE}±\N{NO-BREAK SPACE}", text)


def blocks(found: Sequence[str | Rows]) -> Html:
    """Return sentences and tables as those of `layout.laid_out`."""
    return joined(element("p", x) if isinstance(x, str) else table(x) for x in found if x)


def picture(data: bytes, kind: str, caption: str) -> Html:
    """Return a picture that is part of the page. kind: png or gif"""
    address = f"data:image/{kind};base64,{base64.b64encode(data).decode()}"
    shown = element("img", src=address, alt=caption)
    return element("figure", shown, element("figcaption", caption))


def page(title: str, *body: str) -> bytes:
    """Return the whole page in UTF-8."""
    head = element(
        "head",
        element("meta", charset="utf-8"),
        element("meta", http_equiv="Content-Security-Policy", content=POLICY),
        element("meta", name="viewport", content="width=device-width, initial-scale=1"),
        element("title", title),
        element("style", Html(STYLE)),
    )
    main = element("body", element("main", element("h1", title), *body))
    text = f"<!DOCTYPE html>\n{element('html', head, main, lang='en')}\n"
    return text.encode("utf-8", "replace")  # a file's name may be no text


def check_place(out: Path) -> None:
    """Raise UsageError when a page cannot be written there, before the work begins."""
    if out.suffix != ".html":
        raise UsageError(f"--out: the page is HTML, so {str(out)!r} must end with .html")
    if out.is_dir():
        raise UsageError(f"--out {str(out)!r} is a folder")
    if not out.parent.is_dir():
        raise UsageError(f"--out: no folder {str(out.parent)!r}")


def write(out: Path, data: bytes) -> Path:
    """Write a page, whole or not at all; return its path."""
    runs.write(out, data)
    return out
