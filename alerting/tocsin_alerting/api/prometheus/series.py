"""`/api/v1/series`, `/labels` and `/label/NAME/values`: which series there are."""

import re
from collections.abc import Set
from functools import partial
from sys import getsizeof

from starlette.routing import Route

from tocsin_alerting.api.http.envelope import ApiError
from tocsin_alerting.api.prometheus.encoding import ResponseBody, labels_bytes, list_body
from tocsin_alerting.api.prometheus.params import TRUNCATED, Params
from tocsin_alerting.api.prometheus.query_response import QueryContext, QueryWork
from tocsin_alerting.api.prometheus.query_route import query_route
from tocsin_alerting.promql.eval.limits import Budget
from tocsin_alerting.strconv import quote

_ESCAPED = "U__"
_WHOLE = re.compile(r"(?:[^_]|__|_[0-9a-fA-F]{1,5}_)*", re.DOTALL)
_ESCAPE = re.compile(r"__|_([0-9a-fA-F]{1,5})_")


def unescape_label_name(name: str) -> str:
    """`U__http_2e_status` is `http.status`: Prometheus's value encoding, in which `__` is `_` and
    `_2e_` a code point. A name that is not wholly in it stands for itself."""
    if not name.startswith(_ESCAPED):
        return name
    rest = name.removeprefix(_ESCAPED)
    if not _WHOLE.fullmatch(rest) or any(not _is_character(code) for code in _ESCAPE.findall(rest)):
        return name
    return _ESCAPE.sub(lambda match: chr(int(match[1], 16)) if match[1] else "_", rest)


def _is_character(code: str) -> bool:
    """Surrogates are none."""
    return not 0xD800 <= int(code or "0", 16) <= 0xDFFF


def routes(context: QueryContext) -> list[Route]:
    return [
        query_route("/api/v1/series", _series, context, "POST"),
        query_route("/api/v1/labels", _labels, context, "POST"),
        query_route("/api/v1/label/{name}/values", _values, context, "POST"),
    ]


def _series(params: Params, context: QueryContext) -> QueryWork:
    if not params.get_all("match[]"):
        raise ApiError("bad_data", "no match[] parameter provided")
    limit, interval = params.limit, _interval(params, context)

    def work(budget: Budget) -> ResponseBody:
        labels = context.store.series(params.matcher_sets(), *interval, budget.check_time)
        budget.spend(0)
        chosen = labels[: limit or None]
        size = partial(labels_bytes, chosen)
        return list_body(map(dict, chosen), size, _warnings(len(labels), limit))

    return work


def _labels(params: Params, context: QueryContext) -> QueryWork:
    limit, interval = params.limit, _interval(params, context)

    def work(budget: Budget) -> ResponseBody:
        names = context.store.label_names(params.matcher_sets(), *interval, budget.check_time)
        return _texts(names, limit, budget)

    return work


def _values(params: Params, context: QueryContext) -> QueryWork:
    name = unescape_label_name(params.path["name"])
    if not name:
        raise ApiError("bad_data", f"invalid label name: {quote(name)}")
    limit, interval = params.limit, _interval(params, context)

    def work(budget: Budget) -> ResponseBody:
        sets = params.matcher_sets()
        texts = context.store.label_values(name, sets, *interval, budget.check_time)
        return _texts(texts, limit, budget)

    return work


def _interval(params: Params, context: QueryContext) -> tuple[int, int]:
    now_ms = context.now_ms()
    start_ms = params.time_or("start", now_ms - context.store.retention_ms)
    return start_ms, params.time_or("end", now_ms)


def _texts(texts: Set[str], limit: int, budget: Budget) -> ResponseBody:
    budget.spend(0)
    chosen = sorted(texts)[: limit or None]
    size = lambda: sum(map(getsizeof, chosen)) + 8 * len(chosen)  # noqa: E731
    return list_body(chosen, size, _warnings(len(texts), limit))


def _warnings(count: int, limit: int) -> tuple[str, ...]:
    return (TRUNCATED,) if limit and count > limit else ()
