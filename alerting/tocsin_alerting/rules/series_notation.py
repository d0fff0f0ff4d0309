"""Series and their values as unit tests of rules write them: `m{a="b"}` and `0+1x10 _ _x3 stale`.

The grammar is that of Prometheus's promql/parser (series descriptions).
"""

import re
from collections.abc import Iterator
from math import nan
from typing import NamedTuple

from tocsin_alerting.strconv import unquote
from tocsin_exporter.snapshot import Labels, sorted_labels

STALE = "stale"
# No hexadecimal numbers: 0x10 is 0, eleven times.
_UNSIGNED = r"(?:(?:[0-9]+\.?[0-9]*|\.[0-9]+)(?:[eE][-+]?[0-9]+)?|[iI]nf|[nN]a[nN])"
_START = rf"(?P<start>_|stale|[-+]?{_UNSIGNED})"
_ITEM = re.compile(rf"{_START}(?P<step>[-+]{_UNSIGNED})?(?:x(?P<times>[0-9]+))?")
_NAME = r"[a-zA-Z_:][a-zA-Z0-9_:]*"
_TEXT = r'"(?:\\.|[^"\\\n])*"|\'(?:\\.|[^\'\\\n])*\'|`[^`]*`'
_LABEL = re.compile(rf"\s*(?P<name>[a-zA-Z_][a-zA-Z0-9_]*)\s*=\s*(?P<text>{_TEXT})\s*")
_QUOTED = re.compile(rf"\s*(?P<name>{_TEXT})\s*(?:=\s*(?P<text>{_TEXT})\s*)?")
_METRIC = re.compile(rf"\s*(?P<name>{_NAME})?\s*(?:\{{(?P<labels>.*)\}})?\s*", re.DOTALL)
_MAX_VALUES = 1_000_000  # values of one series: far more than a test can mean

Value = float | str | None
"""A number, STALE, or None for no sample."""


class NotationError(ValueError):
    """Not the notation; `offset` is the character that cannot stand there."""

    def __init__(self, message: str, offset: int) -> None:
        super().__init__(message)
        self.offset = offset


class _Item(NamedTuple):
    start: str
    step: str | None
    times: int | None


def parse_series_notation(text: str) -> list[Value]:
    """One value a step; `a+bxn` and `axn` are n+1 of them, `_xn` is n. Raises NotationError."""
    values: list[Value] = []
    for match in re.finditer(r"\S+", text):
        item = _item(match[0], match.start())
        if len(values) + (item.times or 0) > _MAX_VALUES:
            raise NotationError(f"more than {_MAX_VALUES} values", match.start())
        values.extend(_values(item))
    return values


def parse_metric(text: str, quoted: bool = False) -> Labels:
    """The labels of `name{label="value"}`, `__name__` among them, sorted. Raises NotationError.

    `quoted` allows names in quotes, `{"name", "label"="value"}`, as Prometheus 3 does.
    """
    match = _METRIC.fullmatch(text)
    if match is None:
        raise NotationError(f"not a series: {text}", 0)
    labels = {} if match["name"] is None else {"__name__": match["name"]}
    inside, at = match["labels"] or "", 0
    while at < len(inside):
        label = _LABEL.match(inside, at) or (_QUOTED.match(inside, at) if quoted else None)
        if label is None or inside[label.end() : label.end() + 1] not in ("", ","):
            raise NotationError('not label="value"', match.start("labels") + at)
        name = unquote(label["name"]) if label["name"][0] in "\"'`" else label["name"]
        if label["text"] is None:
            labels["__name__"] = name
        elif name != "__name__" or match["name"] is None:
            labels[name] = unquote(label["text"])
        at = label.end() + 1
        if not inside[at:].strip():
            break
    return sorted_labels(labels)


def _item(word: str, offset: int) -> _Item:
    if word.startswith("{{"):
        raise NotationError("native histograms are not supported in tests", offset)
    match = _ITEM.fullmatch(word)
    if match is None:
        message = f'"{word}" is no value; write 5, 0+1x10, 5x3, _, _x3 or stale'
        raise NotationError(message, offset)
    step, times = match["step"], match["times"]
    if step is not None and (times is None or match["start"] == "_"):
        raise NotationError(f'"{word}": a step needs a start and a count: 0+1x10', offset)
    return _Item(match["start"], step, None if times is None else int(times))


def _values(item: _Item) -> Iterator[Value]:
    if item.start == "_":
        yield from (None for _ in range(1 if item.times is None else item.times))
        return
    count = (item.times or 0) + 1
    if item.start == STALE:
        # What is added to it leaves a NaN that is no marker any more.
        yield from (STALE if not number or item.step is None else nan for number in range(count))
        return
    value = float(item.start)
    step = 0.0 if item.step is None else float(item.step)
    for _ in range(count):  # added up, not multiplied: as Prometheus rounds
        yield value
        value += step
