"""Whether an output that is shown somewhere is what its command prints.

The words must be equal. A measured figure may differ a little, as much as other CPUs and
libraries change it, by its kind, which is how it is written:

    1.6e-09     within a factor of 100 below 1e-6, where it is rounding; else 10 %
    18.7 %      within 0.5 points
    0.9835      within 0.002
    2.00        within 0.02

Everything else, as a count, "1e-12" or "1.9 to 2.1", is a word.
"""

import re


ROUNDING = 1e-6  # figures below it are rounding errors
NOTHING = 1e-16  # and those below this are all the same
FIGURE = re.compile(
    r"(?P<error>\b\d\.\d+e[+-]\d+)|(?P<share>\b\d+\.\d+(?= ?%))"
    r"|(?P<four>-?\b\d+\.\d{4}\b)|(?P<two>-?\b\d+\.\d{2}\b)"
)
ALLOWED = {"share": 0.5, "four": 0.002, "two": 0.02}


def same(shown: str, printed: str) -> bool:
    """Return whether two outputs have equal words, and figures that agree."""
    texts = shown, printed
    words = [FIGURE.sub(lambda m: f"<{m.lastgroup}>", text).split() for text in texts]
    pairs = zip(*(FIGURE.finditer(text) for text in texts), strict=False)
    return words[0] == words[1] and all(
        _agree(one.lastgroup, float(one[0]), float(other[0])) for one, other in pairs
    )


def _agree(kind: str, one: float, other: float) -> bool:
    low, high = sorted((one, other))
    if kind != "error":
        return high - low <= ALLOWED[kind] + 1e-9  # 0.02 is 1.02 - 1.00, but for rounding
    factor = 100 if high < ROUNDING else 1.1
    return high <= factor * max(low, NOTHING)
