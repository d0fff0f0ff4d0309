"""The Prometheus text format as engines write it: fast, and never stopped by garbage.

A page repeats its series round after round, so whoever reads it remembers what a line's part before
the value meant; here a line is only cut in two, and a series is parsed when it is new.
"""

import re
from collections.abc import Iterator

_LABEL = re.compile(r'\s*([a-zA-Z_][a-zA-Z0-9_]*)\s*=\s*"((?:[^"\\\n]|\\.)*)"\s*,?')
_ESCAPE = re.compile(r"\\(.)")
_NAME = re.compile(r"[a-zA-Z_:][a-zA-Z0-9_:]*")


def lines(page: str) -> Iterator[tuple[str, float]]:
    """(series, value) for each sample line; comments, exemplars and garbage fall away."""
    for line in page.split("\n"):  # splitlines would split at what a label may hold
        if not line or line[0] == "#":
            continue
        series, rest = _cut(line)
        try:
            yield series, float(rest.split(None, 1)[0])
        except (ValueError, IndexError):
            continue


def series(text: str) -> tuple[str, dict[str, str]] | None:
    """`name{a="b"}` as (name, labels); None for what is no series."""
    name, brace, inside = text.partition("{")
    name = name.strip()
    if not _NAME.fullmatch(name):
        return None
    if not brace:
        return name, {}
    return _labels(name, inside.rstrip().removesuffix("}"))


def _labels(name: str, inside: str) -> tuple[str, dict[str, str]] | None:
    found: dict[str, str] = {}
    at = 0
    while inside[at:].strip():
        match = _LABEL.match(inside, at)
        if match is None:
            return None
        found[match[1]] = _unescaped(match[2])
        at = match.end()
    return name, found


def _cut(line: str) -> tuple[str, str]:
    """Series and the rest; a `}` inside a label's value does not end the labels."""
    brace = line.find("{")
    if brace < 0:
        series_text, _, rest = line.partition(" ")
        return series_text, rest
    end = line.find("}", brace)
    while end >= 0 and line.count('"', brace, end) - line.count('\\"', brace, end) & 1:
        end = line.find("}", end + 1)
    return line[: end + 1], line[end + 1 :]


def _unescaped(value: str) -> str:
    if "\\" not in value:
        return value
    return _ESCAPE.sub(lambda m: "\n" if m[1] == "n" else m[1], value)
