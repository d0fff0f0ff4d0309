"""`/api/v1/metadata` and `/targets/metadata`: what the metrics are, as their sources say."""

from typing import Any

from starlette.routing import Route

from tocsin_alerting.api.asked import EVERYTHING, Asked, selected
from tocsin_alerting.api.encoding import Body, listing, whole
from tocsin_alerting.api.handler import route
from tocsin_alerting.api.turn import Queries, Work
from tocsin_alerting.promql.evaluation.budget import Budget
from tocsin_alerting.store.rows import MatcherSets
from tocsin_exporter.snapshot import Family, Source

_ENTRY_BYTES = 1024  # of one in memory


def routes(queries: Queries) -> list[Route]:
    return [
        route("/api/v1/metadata", _metadata, queries),
        route("/api/v1/targets/metadata", _of_targets, queries),
    ]


def _metadata(asked: Asked, queries: Queries) -> Work:
    """A metric has an entry for each way in which its sources describe it."""
    limit, per_metric = asked.count("limit"), asked.count("limit_per_metric")
    wanted = asked.get("metric")

    def work(budget: object) -> Body:
        told: dict[str, list[dict[str, str]]] = {}
        for families in queries.store.families().values():
            for name, family in families.items():
                entries = told.setdefault(name, [])
                if (entry := _entry(family)) not in entries:
                    entries.append(entry)
        names = [name for name in sorted(told) if wanted in ("", name)]
        chosen = names if limit < 0 else names[:limit]
        most = per_metric if per_metric > 0 else None
        return whole({name: told[name][:most] for name in chosen})

    return work


def _of_targets(asked: Asked, queries: Queries) -> Work:
    """`limit` is one of targets: the entries of one are never cut."""
    limit, wanted = asked.count("limit"), asked.get("metric")
    text = asked.get("match_target")

    def work(budget: Budget) -> Body:
        matchers = selected(text, "match_target") if text else EVERYTHING
        told: list[dict[str, Any]] = []
        for source, families in queries.store.families().items():
            if 0 <= limit <= len(told):
                break
            budget.check_time()
            if _matches(source, matchers):
                told += _entries(source, [f for n, f in families.items() if wanted in ("", n)])
        if wanted:
            told = [{key: text for key, text in one.items() if key != "metric"} for one in told]
        return listing(told, lambda: _ENTRY_BYTES * len(told))

    return work


def _entries(source: Source, families: list[Family]) -> list[dict[str, Any]]:
    target = {"instance": source.instance, "job": source.job}
    return [{"target": target, "metric": one.name, **_entry(one)} for one in families]


def _entry(family: Family) -> dict[str, str]:
    kind = "unknown" if family.type == "untyped" else family.type
    return {"type": kind, "help": family.help, "unit": family.unit}


def _matches(source: Source, sets: MatcherSets) -> bool:
    labels = {"job": source.job, "instance": source.instance}
    return any(all(one.matches(labels.get(one.name, "")) for one in every) for every in sets)
