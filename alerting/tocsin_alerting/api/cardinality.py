"""`/api/v1/status/tsdb`: which metrics and labels the series in memory are made of."""

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

from starlette.routing import Route

from tocsin_alerting.api.answers import ApiError
from tocsin_alerting.api.asked import EVERYTHING, Asked, whole_number
from tocsin_alerting.api.encoding import Body, whole
from tocsin_alerting.api.handler import route
from tocsin_alerting.api.turn import Queries, Work
from tocsin_alerting.promql.evaluation.budget import Budget
from tocsin_alerting.store.columns import Part
from tocsin_alerting.store.selection import Selection
from tocsin_alerting.store.target import NAME
from tocsin_exporter.snapshot import Labels

_AFTER_ALL_MS = 2**62  # nothing that is in segments alone is as late
_MOST = 10  # entries in each list, unless `limit` says otherwise


def routes(queries: Queries) -> list[Route]:
    return [route("/api/v1/status/tsdb", _tsdb, queries)]


def _tsdb(asked: Asked, queries: Queries) -> Work:
    limit = whole_number(asked.get("limit") or str(_MOST))
    if limit is None or limit < 1:
        raise ApiError("bad_data", "limit must be a positive number")

    def work(budget: Budget) -> Body:
        check = budget.check_time
        memory = queries.store.select(EVERYTHING, _AFTER_ALL_MS, _AFTER_ALL_MS, check)
        return whole(tables(memory.series.labels, _extent(memory), limit))

    return work


def _extent(memory: Selection) -> dict[str, int]:
    """When the samples in memory begin and end, and in how many blocks those in columns lie."""
    columns = [one.columns for one in memory.parts if isinstance(one, Part)]
    loose = [one.between(-_AFTER_ALL_MS, _AFTER_ALL_MS).times for one in memory.scattered]
    times = [one for one in (*(each.times for each in columns), *loose) if len(one)]
    ends = [(int(one.min()), int(one.max())) for one in times]
    return {
        "chunkCount": sum(len(one.blocks) for one in columns),
        "minTime": min((first for first, _ in ends), default=0),
        "maxTime": max((last for _, last in ends), default=0),
    }


def tables(series: Sequence[Labels], head: Mapping[str, int], limit: int) -> dict[str, Any]:
    """Prometheus's object; the longest entries of each list first, equals by name."""
    pairs = Counter(pair for labels in series for pair in labels)
    values: Counter[str] = Counter()
    sizes: Counter[str] = Counter()
    for name, value in pairs:
        values[name] += 1
        sizes[name] += len(value.encode())
    names = Counter({value: count for (name, value), count in pairs.items() if name == NAME})
    texts = Counter({f"{name}={value}": count for (name, value), count in pairs.items()})
    return {
        "headStats": {"numSeries": len(series), "numLabelPairs": len(pairs), **head},
        "seriesCountByMetricName": _top(names, limit),
        "labelValueCountByLabelName": _top(values, limit),
        "memoryInBytesByLabelName": _top(sizes, limit),
        "seriesCountByLabelValuePair": _top(texts, limit),
    }


def _top(counts: Counter[str], limit: int) -> list[dict[str, Any]]:
    ordered = sorted(counts.items(), key=lambda item: (-item[1], item[0]))
    return [{"name": name, "value": count} for name, count in ordered[:limit]]
