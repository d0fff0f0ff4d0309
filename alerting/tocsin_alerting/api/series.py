"""`/api/v1/series`, `/labels` and `/label/NAME/values`: which series there are."""

from collections.abc import Callable, Iterable, Iterator
from heapq import merge
from itertools import islice

from starlette.routing import Route

from tocsin_alerting.api.answers import ApiError
from tocsin_alerting.api.asked import TRUNCATED, Asked
from tocsin_alerting.api.encoding import listing
from tocsin_alerting.api.handler import route
from tocsin_alerting.api.label_name import unescaped
from tocsin_alerting.api.turn import Queries, Work
from tocsin_alerting.promql.evaluation.budget import Budget
from tocsin_alerting.promql.quoting import quote
from tocsin_alerting.store.target import NAME
from tocsin_exporter.snapshot import Labels

_SORTED_AT_ONCE = 2_000  # series; sorting lets nobody else work, so it is done in short runs


def routes(queries: Queries) -> list[Route]:
    return [
        route("/api/v1/series", _series, queries, "POST"),
        route("/api/v1/labels", _labels, queries, "POST"),
        route("/api/v1/label/{name}/values", _values, queries, "POST"),
    ]


def _series(asked: Asked, queries: Queries) -> Work:
    if not asked.all("match[]"):
        raise ApiError("bad_data", "no match[] parameter provided")
    limit, found = asked.limit, _found(asked, queries)

    def work(budget: Budget) -> Iterator[bytes]:
        labels = found(budget)
        chosen = (dict(one) for one in islice(_ordered(labels), limit or None))
        return listing(chosen, _warnings(len(labels), limit))

    return work


def _labels(asked: Asked, queries: Queries) -> Work:
    limit, found = asked.limit, _found(asked, queries)

    def work(budget: Budget) -> Iterator[bytes]:
        return _texts({name for one in found(budget) for name, _ in one}, limit)

    return work


def _values(asked: Asked, queries: Queries) -> Work:
    wanted = unescaped(asked.path["name"])
    if not wanted:
        raise ApiError("bad_data", f"invalid label name: {quote(wanted)}")
    limit, found = asked.limit, _found(asked, queries)

    def work(budget: Budget) -> Iterator[bytes]:
        labels = found(budget)
        return _texts({text for one in labels for name, text in one if name == wanted}, limit)

    return work


def _found(asked: Asked, queries: Queries) -> Callable[[Budget], list[Labels]]:
    now_ms = queries.now_ms()
    start_ms = asked.moment("start", now_ms - queries.store.retention_ms)
    end_ms = asked.moment("end", now_ms)

    def search(budget: Budget) -> list[Labels]:
        found = queries.store.series(asked.matcher_sets(), start_ms, end_ms)
        budget.spend(0)
        return found

    return search


def _texts(texts: set[str], limit: int) -> Iterator[bytes]:
    return listing(sorted(texts)[: limit or None], _warnings(len(texts), limit))


def _warnings(count: int, limit: int) -> tuple[str, ...]:
    return (TRUNCATED,) if limit and count > limit else ()


def _ordered(labels: Iterable[Labels]) -> Iterator[Labels]:
    """By metric, and by labels within one: the order of a Prometheus."""
    metrics: dict[str, list[Labels]] = {}
    for one in labels:
        metrics.setdefault(dict(one).get(NAME, ""), []).append(one)
    for name in sorted(metrics):
        found = metrics[name]
        starts = range(0, len(found), _SORTED_AT_ONCE)
        yield from merge(*(sorted(found[at : at + _SORTED_AT_ONCE]) for at in starts))
