"""`/api/v1/status/tsdb`: which metrics and labels the series in memory are made of."""

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

from starlette.routing import Route

from tocsin_alerting.api.http.envelope import ApiError
from tocsin_alerting.api.prometheus.encoding import ResponseBody, data_body
from tocsin_alerting.api.prometheus.params import EVERYTHING, Params, whole_number
from tocsin_alerting.api.prometheus.query_response import QueryContext, QueryWork
from tocsin_alerting.api.prometheus.query_route import query_route
from tocsin_alerting.promql.eval.limits import Budget
from tocsin_alerting.tsdb.head.columns import AlignedPart
from tocsin_alerting.tsdb.query.selection import Selection
from tocsin_alerting.tsdb.target_labels import METRIC_NAME
from tocsin_exporter.snapshot import Labels

_AFTER_ALL_MS = 2**62  # nothing that is in blocks alone is as late
_DEFAULT_LIMIT = 10  # entries in each list, unless `limit` says otherwise


def routes(context: QueryContext) -> list[Route]:
    return [query_route("/api/v1/status/tsdb", _tsdb, context)]


def _tsdb(params: Params, context: QueryContext) -> QueryWork:
    limit = whole_number(params.get("limit") or str(_DEFAULT_LIMIT))
    if limit is None or limit < 1:
        raise ApiError("bad_data", "limit must be a positive number")

    def work(budget: Budget) -> ResponseBody:
        check = budget.check_time
        memory = context.store.select(EVERYTHING, _AFTER_ALL_MS, _AFTER_ALL_MS, check)
        return data_body(cardinality(memory.series.labels, _head_stats(memory), limit))

    return work


def _head_stats(memory: Selection) -> dict[str, int]:
    """When the samples in memory begin and end, and in how many blocks those in columns lie."""
    columns = [part.columns for part in memory.parts if isinstance(part, AlignedPart)]
    loose = [part.between(-_AFTER_ALL_MS, _AFTER_ALL_MS).times for part in memory.unaligned]
    times = [axis for axis in (*(each.times for each in columns), *loose) if len(axis)]
    ends = [(int(axis.min()), int(axis.max())) for axis in times]
    return {
        "chunkCount": sum(len(source_columns.blocks) for source_columns in columns),
        "minTime": min((first for first, _ in ends), default=0),
        "maxTime": max((last for _, last in ends), default=0),
    }


def cardinality(series: Sequence[Labels], head: Mapping[str, int], limit: int) -> dict[str, Any]:
    """Prometheus's object; the longest entries of each list first, equals by name."""
    pairs = Counter(pair for labels in series for pair in labels)
    values: Counter[str] = Counter()
    sizes: Counter[str] = Counter()
    for name, value in pairs:
        values[name] += 1
        sizes[name] += len(value.encode())
    names = Counter({value: count for (name, value), count in pairs.items() if name == METRIC_NAME})
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
