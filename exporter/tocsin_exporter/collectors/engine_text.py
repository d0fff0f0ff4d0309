"""The Prometheus text format as engines write it: fast, and never stopped by garbage.

A page repeats its series round after round, so whoever reads it remembers what a line's part before
the value meant; here a line is only cut in two, and a series is parsed when it is new. Whoever
wrote the page may be hostile: all of this takes time in proportion to its length, in slices.
"""

import math
import re
from collections.abc import Iterator
from dataclasses import dataclass, field

from tocsin_exporter.slices import SLICE, Work
from tocsin_exporter.snapshot import Exemplar, sorted_labels

LONGEST_LINE = 32 << 10  # characters; an engine's are below 4,000
LONGEST_NAME = 1024  # of a model, or another label's value that stands on many series of ours
MOST_SERIES = 100_000
MOST_EXEMPLARS = 2_000
MOST_HEADINGS = 2 * MOST_SERIES  # a help and a type for each

# Possessive: a page without end quotes costs time in proportion to its length, not to its square.
_LABEL = re.compile(r'\s*+([a-zA-Z_][a-zA-Z0-9_]*+)\s*+=\s*+"((?:[^"\\\n]++|\\.)*+)"\s*+,?')
_LINE = re.compile(
    r'([a-zA-Z_:][a-zA-Z0-9_:]*+[ \t]*+(?:\{(?:[^"}]++|"(?:[^"\\]++|\\.)*+")*+\})?)[ \t]*+(\S++)'
)
_BEHIND = " # {"
_EXEMPLAR = re.compile(
    r'\{((?:[^"}]++|"(?:[^"\\]++|\\.)*+")*+)\}[ \t]++(\S++)(?:[ \t]++(\S++))?[ \t]*+$'
)
_HEADINGS = ("# HELP ", "# TYPE ")
_LONGEST_END = 1_000  # characters in which the end of a page is looked for
_ESCAPE = re.compile(r"\\(.)")
_NAME = re.compile(r"[a-zA-Z_:][a-zA-Z0-9_:]*")


@dataclass(slots=True)
class EnginePageText:
    """The series of a page as they are written, a value for each, and its `# HELP` and `# TYPE`.

    `exemplars` are what stands behind the values of some series, of OpenMetrics alone.

    `left_out` counts lines that are too long, and those after the first `MOST_SERIES` series and
    `MOST_HEADINGS` headings. Other comments mean nothing.
    """

    texts: list[str] = field(default_factory=list)
    values: list[float] = field(default_factory=list)
    headings: list[str] = field(default_factory=list)
    exemplars: dict[str, str] = field(default_factory=dict)
    left_out: int = 0


def read(page: str, most: int = MOST_SERIES) -> Work[EnginePageText]:
    """The lines of a page, `most` series of it; timestamps and garbage fall away."""
    parsed = EnginePageText()
    for part in windows(page):
        _read_part(part, most, parsed)
        yield
    return parsed


def ends_early(page: str, media: str = "", framed: bool = True) -> bool:
    """Whether the page of this Content-Type was cut off: whoever gets it would believe that what
    is missing is not there. OpenMetrics has a last line; in the text format a line that was cut in
    two shows it, or one without its end where the answer (not `framed`) ends when the connection
    does: half of a number is a number."""
    if "openmetrics" in media.lower():
        return not page[-_LONGEST_END:].rstrip().endswith("# EOF")
    last = page[page.rfind("\n") + 1 :].strip()
    if not last or len(last) > LONGEST_LINE:
        return False
    if last[0] == "#":
        return last.startswith(_HEADINGS)
    if not framed and page[-1] != "\n":
        return True
    text, number = cut(last)
    try:
        float(number)
    except ValueError:
        return True
    return series(text) is None


def windows(page: str) -> Iterator[str]:
    """The page in pieces that end where a line ends."""
    at = 0
    while at < len(page):
        end = page.find("\n", at + SLICE)
        end = len(page) if end < 0 else end
        yield page[at:end]
        at = end + 1


def series(text: str) -> tuple[str, dict[str, str]] | None:
    """`name{a="b"}` as (name, labels); None for what is no series."""
    name, brace, inside = text.partition("{")
    name = name.strip()
    if not _NAME.fullmatch(name):
        return None
    if not brace:
        return name, {}
    return _labels(name, inside.rstrip().removesuffix("}"))


def repeated_label(text: str) -> str:
    """A label that a series has twice, "" where there is none."""
    names = [match[1] for match in _LABEL.finditer(text.partition("{")[2])]
    return next((name for name in names if names.count(name) > 1), "")


def exemplar(text: str, now_ms: int) -> Exemplar | None:
    """`{trace_id="a"} 0.67 1520879607.789`, whose time may be missing; None for what is none."""
    match = _EXEMPLAR.match(text)
    parsed = _labels("", match[1]) if match else None
    if match is None or parsed is None:
        return None
    try:
        value = float(match[2])
        at_ms = int(float(match[3]) * 1000) if match[3] else now_ms
    except (ValueError, OverflowError):
        return None
    return Exemplar(sorted_labels(parsed[1]), value, at_ms) if math.isfinite(value) else None


def unescaped(value: str) -> str:
    if "\\" not in value:
        return value
    return _ESCAPE.sub(lambda match: "\n" if match[1] == "n" else match[1], value)


def _read_part(part: str, most: int, parsed: EnginePageText) -> None:
    texts, values = parsed.texts, parsed.values
    for line in part.split("\n"):  # splitlines would split at what a label may hold
        if not line:
            continue
        if len(line) > LONGEST_LINE:
            parsed.left_out += 1
        elif line[0] == "#":
            if line.startswith(_HEADINGS):
                _add_heading(line, parsed)
        elif len(texts) >= most:
            parsed.left_out += 1
        else:
            text, number = cut(line.rstrip())
            try:
                values.append(float(number))
            except ValueError:
                continue
            texts.append(text)
            if _BEHIND in line and len(parsed.exemplars) < MOST_EXEMPLARS:
                parsed.exemplars[text] = _behind(line)


def _behind(line: str) -> str:
    """What stands behind the value, and not in a label."""
    match = _LINE.match(line)
    at = line.find(_BEHIND, match.end()) if match else -1
    return line[at + len(_BEHIND) - 1 :] if at >= 0 else ""


def _add_heading(line: str, parsed: EnginePageText) -> None:
    if len(parsed.headings) < MOST_HEADINGS:
        parsed.headings.append(line)
    else:
        parsed.left_out += 1


def cut(line: str) -> tuple[str, str]:
    """The series and its value; a timestamp and an exemplar fall away, as our times are our own."""
    text, _, number = line.rpartition(" ")
    if (text[-1:] == "}" and " # " not in text) or (text and " " not in text):
        return text, number
    match = _LINE.match(line)
    return (match[1], match[2]) if match else ("", "")


def _labels(name: str, inside: str) -> tuple[str, dict[str, str]] | None:
    labels_of_series: dict[str, str] = {}
    at, end = 0, len(inside)
    while at < end:
        match = _LABEL.match(inside, at)
        if match is None:
            return None if inside[at:].strip() else (name, labels_of_series)
        labels_of_series[match[1]] = unescaped(match[2])
        at = match.end()
    return name, labels_of_series
