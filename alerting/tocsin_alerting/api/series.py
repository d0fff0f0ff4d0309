"""`/api/v1/series`, `/labels` and `/label/NAME/values`: which series there are."""

from collections.abc import Set
from functools import partial
from sys import getsizeof

from starlette.routing import Route

from tocsin_alerting.api.answers import ApiError
from tocsin_alerting.api.asked import TRUNCATED, Asked
from tocsin_alerting.api.encoding import Body, labels_bytes, listing
from tocsin_alerting.api.handler import route
from tocsin_alerting.api.label_name import unescaped
from tocsin_alerting.api.turn import Queries, Work
from tocsin_alerting.promql.evaluation.budget import Budget
from tocsin_alerting.promql.quoting import quote


def routes(queries: Queries) -> list[Route]:
    return [
        route("/api/v1/series", _series, queries, "POST"),
        route("/api/v1/labels", _labels, queries, "POST"),
        route("/api/v1/label/{name}/values", _values, queries, "POST"),
    ]


def _series(asked: Asked, queries: Queries) -> Work:
    if not asked.all("match[]"):
        raise ApiError("bad_data", "no match[] parameter provided")
    limit, interval = asked.limit, _interval(asked, queries)

    def work(budget: Budget) -> Body:
        labels = queries.store.series(asked.matcher_sets(), *interval, budget.check_time)
        budget.spend(0)
        chosen = labels[: limit or None]
        size = partial(labels_bytes, chosen)
        return listing(map(dict, chosen), size, _warnings(len(labels), limit))

    return work


def _labels(asked: Asked, queries: Queries) -> Work:
    limit, interval = asked.limit, _interval(asked, queries)

    def work(budget: Budget) -> Body:
        names = queries.store.label_names(asked.matcher_sets(), *interval, budget.check_time)
        return _texts(names, limit, budget)

    return work


def _values(asked: Asked, queries: Queries) -> Work:
    name = unescaped(asked.path["name"])
    if not name:
        raise ApiError("bad_data", f"invalid label name: {quote(name)}")
    limit, interval = asked.limit, _interval(asked, queries)

    def work(budget: Budget) -> Body:
        sets = asked.matcher_sets()
        texts = queries.store.label_values(name, sets, *interval, budget.check_time)
        return _texts(texts, limit, budget)

    return work


def _interval(asked: Asked, queries: Queries) -> tuple[int, int]:
    now_ms = queries.now_ms()
    start_ms = asked.moment("start", now_ms - queries.store.retention_ms)
    return start_ms, asked.moment("end", now_ms)


def _texts(texts: Set[str], limit: int, budget: Budget) -> Body:
    budget.spend(0)
    chosen = sorted(texts)[: limit or None]
    size = lambda: sum(map(getsizeof, chosen)) + 8 * len(chosen)  # noqa: E731
    return listing(chosen, size, _warnings(len(texts), limit))


def _warnings(count: int, limit: int) -> tuple[str, ...]:
    return (TRUNCATED,) if limit and count > limit else ()
