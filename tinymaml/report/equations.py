"""Equations of the docstrings: the code that computes each, and how they are written.

An equation is a line of a module's docstring. The table below names it by its beginning,
and the code that computes it by its text. Where either is gone, `of` raises.
"""

import ast
import re
from functools import cache
from pathlib import Path
from typing import NamedTuple

from tinymaml.errors import WorldError
from tinymaml.report.html import Html, element


ROOT = Path(__file__).parents[1]
FIRST = ("maml.py", "chain.py", "algorithms/algorithm.py")  # in the order of reading
ALGORITHMS = "algorithms/"
# Code of more than a line.
BACK = """\
    loss, v = value_and_gradient(task.query(theta), theta)
    for alpha_k, hvp_k in reversed(trail):
        v = v - hvp_k(alpha_k * v)
"""
GENERAL = """\
        if second_order:
            v = v - hvp(alpha.adjoint(v) if linear else alpha * v)
        if added is not None:
            v = v + added(k)
"""
WALK = """\
        moves.append(problem.alpha * d)
        thetas.append(thetas[-1] - moves[-1])
"""
SHARES = """\
    others = max(1 / steps - epoch / (steps * last), FLOOR / steps)
    return np.array([*[others] * (steps - 1), 1 - others * (steps - 1)])
"""
SUM, TERM = "loss = sum(u * value for u, value", "(u * slope for u, slope in zip(weights"
# FILE: how the line with the equation begins, and FILE: the code.
EQUATIONS = {
    "maml.py: theta_0 = theta": "maml.py: theta = theta - alpha_k * g_k\n",
    "maml.py: v_K = grad Q": f"maml.py: {BACK}",
    "chain.py: theta_{k+1} =": "chain.py: theta = theta - _move(alpha, g)",
    "chain.py: L = sum": f"chain.py: {SUM}",
    "chain.py: v_K = u_K": f"chain.py: {TERM}",
    "chain.py: s_k =": "chain.py: slopes.append(v if linear else -g * v)",
    "chain.py: v_k =": f"chain.py: {GENERAL}",
    "averaged.py: L_i": "averaged.py: gradient = (gradients + 2 * pull * away).ravel()",
    "curvature.py: w =": "curvature.py: lambda g: alpha * transformed(g, model, arrays)",
    "curvature.py: dense": "kronecker.py: x = multiplied(x, [*map(_transposed, own)] if",
    "curvature.py: convolution": 'kronecker.py: axes = {"kernel": KERNEL, "in": rows //',
    "curvature.py: biases": "kronecker.py: x = own[0] * x",
    "curvature.py: v_k =": "curvature.py: lambda v: transformed(alpha * v, model, arrays, ",
    "curvature.py: d L": "curvature.py: extras = -grad(along)(w)",
    "features.py: d L": "features.py: [pull(v[..., n:]), v[..., :n]]",
    "imaml.py: phi* =": "imaml.py: half * anp.sum((phi - theta) * (phi - theta))",
    "imaml.py: phi :=": "imaml.py: phi - alpha_k * maml.gradient(near.support(phi), phi)",
    "imaml.py: (H_mm": "imaml.py: system = lambda p: hvp(p) / problem.options.proximal",
    "imaml.py: (I +": "imaml.py: x, r, stopped = conjugate.solve(system, q, mask",
    "learned.py: w =": "learned.py: theta, rates = w[..., :size], w[..., size:]",
    "learned.py: parameter": "learned.py: concatenate([v, mask * sum(slopes, 0.0 * v)]",
    "learned.py: tensor": "learned.py: [params.totals(mask * s, problem.model.shapes)",
    "mamlpp.py: w =": f"chain.py: {SUM}",
    "metasgd.py: w =": "learned.py: return theta, [mask * rates[..., :size]] * steps",
    "minibatch.py: theta_{k+1} =": f"minibatch.py: {WALK}",
    "multistep.py: u_k =": f"multistep.py: {SHARES}",
    "reptile.py: theta_{k+1} =": f"minibatch.py: {WALK}",
    "reptile.py: theta :=": "reptile.py: away = anp.concatenate([sum(moves[1:], moves[0])",
    "stepnorm.py: w =": "stepnorm.py: return layout(problem).joined(theta, alphas, w[",
    "tnet.py: x W + b": "tnet.py: mapped = {name: matmul(p[name], p[t])",
    "tnet.py: W T": "maml.py: theta = theta - alpha_k * g_k\n",
}
# The names in the code of symbols that have others in the equations.
NAMES = {
    "g": "gradient",
    "H": "hvp",
    "Q": "query",
    "S": "support",
    "P": "adjoint",
    "a": "added",
    "s": "slopes",
    "u": "weights",
    "L": "loss",
    "L_i": "gradients",
    "c": "center",
    "U": "transformed",
    "M": "own",
    "m": "own",
    "G": "g",
    "J": "pull",
    "lambda": "proximal",
    "I": "system",
    "K": "steps",
    "e": "epoch",
    "E": "last",
    "T": "t",
    "d_k": "moves",
}
GREEK = ("theta", "alpha", "beta", "gamma", "phi", "lambda")  # names in HTML too
SIGNS = {"-": "minus", "*": "middot", "->": "rarr", ":=": "coloneq", "...": "hellip"}
ATOM = re.compile(
    r"(?P<space>\s+)|(?P<sum>sum over (?P<from>\w(?: = \d)?)(?:\.\.(?P<to>\w))? of)"
    r"|(?P<base>[A-Za-z]+|\d+(?:\.\d+)?|->|:=|<=|\.{2,3}|\S)"
    r"(?:_(?P<sub>\{[^}]*\}|\w+))?(?P<sup>'|\*(?=[ )])|\^\w)?"
)
LETTERS = "|".join(GREEK)
SUBSCRIPT = r"_(?:\{[^}]*\}|\w+)"
SYMBOL = re.compile(rf"\b(?:[A-Zb-ce-z]|[ad](?=_)|{LETTERS})(?![A-Za-z])(?:{SUBSCRIPT})?")
# A symbol in a sentence; an option or a name in code is none.
INLINE = re.compile(
    rf"(?<![\w-])((?:[A-Za-z]|{LETTERS})_(?:\{{[^}}]*\}}|\w)|{LETTERS})(?![\w-])"
)


class Equation(NamedTuple):
    """An equation, and the lines `first` to `last` of the file that computes it."""

    text: str
    file: str
    first: int
    last: int


def files() -> list[str]:
    """Return the files of the page, in the order of reading."""
    others = sorted(f"{ALGORITHMS}{x.name}" for x in (ROOT / ALGORITHMS).glob("[!_]*.py"))
    return [*FIRST, *(x for x in others if x not in FIRST)]


def _file(name: str) -> str:
    return name if name in FIRST else f"{ALGORITHMS}{name}"


@cache
def source(file: str) -> str:
    """Return the text of a file of the package."""
    return (ROOT / file).read_text(encoding="utf-8")


def of(file: str) -> list[Equation]:
    """Return the equations of a file. Raises WorldError where one or its code is gone."""
    found = []
    for named, made in EQUATIONS.items():
        (name, _, begin), (where, _, code) = named.partition(": "), made.partition(": ")
        if _file(name) != file:
            continue
        where = _file(where)
        lines = [x.strip() for x in docstring(file) if x.startswith("    " + begin)]
        if len(lines) != 1 or source(where).count(code) != 1:
            text = f"{begin!r} in {file} has not one line, or {code!r} not one in {where}"
            raise WorldError(f"an equation is out of date: {text}")
        first = source(where)[: source(where).index(code)].count("\n") + 1
        found.append(Equation(lines[0], where, first, first + code.rstrip().count("\n")))
    return found


def docstring(file: str) -> list[str]:
    """Return the lines of a module's docstring."""
    return (ast.get_docstring(ast.parse(source(file))) or "").splitlines()


# ----- An equation -----


def mathml(text: str) -> Html:
    """Return an equation, as docstrings write it, in MathML."""
    return element("math", *_atoms(text))


def _atoms(text: str) -> list[Html]:
    parts, names = [], False  # whether the last atom was a name
    for match in ATOM.finditer(text):
        if match["space"]:
            if names and text[match.end() :][:1].isalnum():
                parts.append(element("mspace", width="0.2em"))
            continue
        parts.append(_sum(match) if match["sum"] else _scripted(match))
        names = match["base"] is not None and match["base"].isalnum()
    return parts


def _sum(match: re.Match[str]) -> Html:
    ends = [element("mrow", *_atoms(x)) for x in (match["from"], match["to"]) if x]
    kind = "munderover" if match["to"] else "munder"
    return element(kind, element("mo", "∑"), *ends)


def _scripted(match: re.Match[str]) -> Html:
    base, sub, sup = _base(match["base"]), match["sub"], match["sup"]
    low = [element("mrow", *_atoms(sub.strip("{}")))] if sub else []
    high = [element("mo", Html("&prime;") if sup == "'" else sup.strip("^"))] if sup else []
    kind = {(1, 0): "msub", (0, 1): "msup", (1, 1): "msubsup"}.get((len(low), len(high)))
    return element(kind, base, *low, *high) if kind else base


def _base(text: str) -> Html:
    if text == "grad":
        return element("mi", "∇")
    if text == "hess":
        return element("msup", element("mi", "∇"), element("mn", "2"))
    if text in GREEK:
        return element("mi", Html(f"&{text};"))
    if len(text) == 1 and text.isalpha():
        return element("mi", text)
    if text.isalpha():
        return element("mtext", f"\N{NO-BREAK SPACE}{text}\N{NO-BREAK SPACE}")
    if text[0].isdigit():
        return element("mn", text)
    sign = Html(f"&{SIGNS[text]};") if text in SIGNS else text
    return element("mo", sign, stretchy="false")


def symbols(one: Equation) -> dict[str, int]:
    """Return the symbols of an equation, and the line of the code where each stands first.

    The line is in the function that computes the equation.
    """
    tree = ast.parse(source(one.file))
    # The function or class at the top of the file in which the code stands.
    around = (x for x in tree.body if x.lineno <= one.first <= (x.end_lineno or 0))
    scope = next(around, tree)
    places: dict[str, int] = {}
    for node in ast.walk(scope):
        for field in ("id", "arg", "attr", "name"):
            if isinstance(name := getattr(node, field, None), str):
                at = getattr(node, "lineno", 0)
                places[name] = min(places.get(name, at), at)
    found: dict[str, int] = {}
    for symbol in dict.fromkeys(SYMBOL.findall(one.text)):
        base = symbol.partition("_")[0]
        named = NAMES.get(symbol, NAMES.get(base, base))
        tried = symbol, f"{base}_k", f"{named}_k", base, f"{base}s", named
        lines = [places[name] for name in tried if name in places]
        found |= {symbol: lines[0]} if lines else {}
    return found
