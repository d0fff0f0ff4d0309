"""The samples of a query's answer as rows and as lines of a plot."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from tocsin_alerting.cli.legend import Line
from tocsin_alerting.cli.output import labels_text
from tocsin_alerting.time_format import rfc3339

Sample = tuple[Mapping[str, str], float, str]
"""The labels, the Unix seconds and the value as the API wrote it."""


def lines(data: Mapping[str, Any]) -> list[Line]:
    """One a series of an answer to a range query."""
    return [
        Line(series["metric"], [(float(at), float(value)) for at, value in series["values"]])
        for series in data["result"]
    ]


def value_rows(data: Mapping[str, Any]) -> list[list[str]]:
    """Series and value; the values of a range in one cell, each with its time."""
    kind, result = data["resultType"], data["result"]
    if kind in ("scalar", "string"):
        return [[kind, result[1]]]
    if kind == "vector":
        return [[labels_text(series["metric"]), series["value"][1]] for series in result]
    return [
        [labels_text(series["metric"]), " ".join(f"{v}@{at}" for at, v in series["values"])]
        for series in result
    ]


def sample_rows(data: Mapping[str, Any]) -> list[list[str]]:
    """Time, series and value, a row a sample."""
    return [[_utc(at), labels_text(labels), value] for labels, at, value in _samples(data)]


def csv_rows(data: Mapping[str, Any]) -> list[Sequence[str]]:
    """A header, and a row a sample: time, value, and each label in a column of its own."""
    samples = list(_samples(data))
    names = sorted({name for labels, _, _ in samples for name in labels})
    rows = [
        [_utc(at), value, *(labels.get(name, "") for name in names)]
        for labels, at, value in samples
    ]
    return [["time", "value", *names], *rows]


def series_csv_rows(label_sets: Sequence[Mapping[str, str]]) -> list[Sequence[str]]:
    """A header, and a row a series: each label in a column of its own."""
    names = sorted({name for labels in label_sets for name in labels})
    return [names, *([labels.get(name, "") for name in names] for labels in label_sets)]


def _samples(data: Mapping[str, Any]) -> Iterator[Sample]:
    if data["resultType"] in ("scalar", "string"):
        yield {}, float(data["result"][0]), data["result"][1]
        return
    for series in data["result"]:
        pairs = series["values"] if "values" in series else [series["value"]]
        yield from ((series["metric"], float(at), value) for at, value in pairs)


def _utc(seconds: float) -> str:
    return rfc3339(round(seconds * 1000))
