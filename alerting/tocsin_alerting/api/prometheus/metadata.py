"""`/api/v1/metadata` and `/targets/metadata`: what the metrics are, as their sources say."""

from typing import Any

from starlette.routing import Route

from tocsin_alerting.api.prometheus.encoding import ResponseBody, data_body, list_body
from tocsin_alerting.api.prometheus.params import EVERYTHING, Params, selector_param
from tocsin_alerting.api.prometheus.query_response import QueryContext, QueryWork
from tocsin_alerting.api.prometheus.query_route import query_route
from tocsin_alerting.promql.eval.limits import Budget
from tocsin_alerting.tsdb.series_index import MatcherSets
from tocsin_exporter.snapshot import Family, Source

_ENTRY_BYTES = 1024  # of one in memory


def routes(context: QueryContext) -> list[Route]:
    return [
        query_route("/api/v1/metadata", _metadata, context),
        query_route("/api/v1/targets/metadata", _of_targets, context),
    ]


def _metadata(params: Params, context: QueryContext) -> QueryWork:
    """A metric has an entry for each way in which its sources describe it."""
    limit, per_metric = params.count("limit"), params.count("limit_per_metric")
    wanted = params.get("metric")

    def work(budget: object) -> ResponseBody:
        by_metric: dict[str, list[dict[str, str]]] = {}
        for families in context.store.families().values():
            for name, family in families.items():
                entries = by_metric.setdefault(name, [])
                if (entry := _entry(family)) not in entries:
                    entries.append(entry)
        names = [name for name in sorted(by_metric) if wanted in ("", name)]
        chosen = names if limit < 0 else names[:limit]
        most = per_metric if per_metric > 0 else None
        return data_body({name: by_metric[name][:most] for name in chosen})

    return work


def _of_targets(params: Params, context: QueryContext) -> QueryWork:
    """`limit` is one of targets: the entries of one are never cut."""
    limit, wanted = params.count("limit"), params.get("metric")
    text = params.get("match_target")

    def work(budget: Budget) -> ResponseBody:
        matchers = selector_param(text, "match_target") if text else EVERYTHING
        rows: list[dict[str, Any]] = []
        for source, families in context.store.families().items():
            if 0 <= limit <= len(rows):
                break
            budget.check_time()
            if _matches(source, matchers):
                rows += _entries(source, [f for n, f in families.items() if wanted in ("", n)])
        if wanted:
            rows = [{key: text for key, text in row.items() if key != "metric"} for row in rows]
        return list_body(rows, lambda: _ENTRY_BYTES * len(rows))

    return work


def _entries(source: Source, families: list[Family]) -> list[dict[str, Any]]:
    target = {"instance": source.instance, "job": source.job}
    return [{"target": target, "metric": family.name, **_entry(family)} for family in families]


def _entry(family: Family) -> dict[str, str]:
    kind = "unknown" if family.type == "untyped" else family.type
    return {"type": kind, "help": family.help, "unit": family.unit}


def _matches(source: Source, sets: MatcherSets) -> bool:
    labels = {"job": source.job, "instance": source.instance}
    return any(
        all(matcher.matches(labels.get(matcher.name, "")) for matcher in every) for every in sets
    )
