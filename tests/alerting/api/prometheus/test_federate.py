"""`/federate` beside a real Prometheus 2.42 that holds the same samples and scrapes ours."""

import asyncio
import re
import struct
import time
from collections.abc import AsyncIterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any
from urllib.parse import urlencode
from urllib.request import Request, urlopen

import pytest

from support.api_client import api_client
from support.prometheus import Prometheus, running_prometheus
from support.remote_write import remote_write
from support.served import served
from tocsin_alerting.api.prometheus.federate import escaped_name
from tocsin_alerting.api.prometheus.query import routes
from tocsin_alerting.api.prometheus.query_response import QueryLimits
from tocsin_alerting.promql.engine import QueryEngine
from tocsin_alerting.tsdb.store import Store
from tocsin_alerting.tsdb.values import STALE_BITS
from tocsin_exporter.negotiation import negotiate_names
from tocsin_exporter.snapshot import Labels, labels

VALUES = (1.0, 0.1, -2.5, 1e21, 1e-9, float("inf"), float("-inf"), float("nan"), 123456789.125)
(STALE,) = struct.unpack("<d", struct.pack("<q", STALE_BITS))
CONFIG = """
global: {{external_labels: {{cluster: a, instance: "of all", text: more}}}}
scrape_configs:
- job_name: federate
  honor_labels: true
  metrics_path: /federate
  scrape_interval: 1s
  params: {{'match[]': ['{{__name__=~"own_.*"}}', own_up, 'nosuch']}}
  static_configs: [{{targets: ['{target}']}}]
"""
ASKED = [
    ["m"],
    ['{__name__=~"m|b:c"}', "m", 'm{text=~".+"}'],
    ['{job="j",__name__!~"own_.*"}'],
    ["nosuch"],
]
EXTERNAL = {"cluster": "a", "instance": "of all", "text": "more"}
Points = list[tuple[int, float]]


def _series(name: str, at_ms: int) -> dict[Labels, Points]:
    """Of the last minute; some ended, and some are too old to be told."""
    made: dict[Labels, Points] = {}
    for number, text in enumerate(("x", 'quote " and \\', "line\nbreak", "日志", "")):
        own = labels(__name__=name, job="j", instance=str(number), text=text)
        times = range(at_ms - 50_000 + number, at_ms, 10_000)
        made[tuple(pair for pair in own if pair[1])] = [
            (at, VALUES[(index + number) % len(VALUES)]) for index, at in enumerate(times)
        ]
    made[labels(__name__="b:c", job="j")] = [(at_ms - 240_000, 7.0)]
    made[labels(__name__=name, job="j", instance="old")] = [(at_ms - 400_000, 7.0)]
    made[labels(__name__=name, job="k", instance="ended")] = [
        (at_ms - 2_000, 7.0),
        (at_ms - 1_000, STALE),
    ]
    return made


def _written(store: Store, made: dict[Labels, Points]) -> None:
    store.write(
        (ls, at, v) for at, ls, v in sorted((at, ls, v) for ls, ps in made.items() for at, v in ps)
    )


def _now_ms() -> int:
    """Not once for the module: among 16,000 tests this one may run ten minutes after its import."""
    return int(time.time() * 1000)


@asynccontextmanager
async def _federating(store: Store, **more: Any) -> AsyncIterator[str]:
    engine, monotonic = QueryEngine(store, semantics=2), time.monotonic
    with ThreadPoolExecutor(2) as threads:
        async with served(routes(store, engine, threads, _now_ms, monotonic, **more)) as url:
            yield url


def _page(url: str, selectors: list[str], accept: str = "") -> str:
    asked = urlencode([("match[]", text) for text in selectors])
    headers = {"Accept": accept} if accept else {}
    with urlopen(Request(f"{url}/federate?{asked}", headers=headers), timeout=20) as answer:
        return str(answer.read().decode())


def _blocks(page: str) -> list[list[str]]:
    """Metrics in their order, series of one sorted: in Prometheus they come as they may."""
    metrics = re.split("(?m)^(?=# TYPE )", page)
    return [sorted(map(_line, metric.splitlines())) for metric in metrics]


def _line(line: str) -> str:
    """With the number in one form: Go writes 1e+06."""
    if line.startswith("#"):
        return line
    series, value, at = line.rsplit(" ", 2)
    return f"{series} {float(value)} {at}"


async def test_our_page_is_that_of_a_prometheus_and_it_takes_from_ours(tmp_path: Path) -> None:
    store, now_ms = Store(), _now_ms()
    shared, own = _series("m", now_ms), _series("own_m", now_ms)
    own[labels(__name__="own_up", job="k")] = [(now_ms - 3_000, 0.0)]
    _written(store, shared | own)

    def beside(url: str) -> None:
        config = CONFIG.format(target=url.removeprefix("http://"))
        flag = "--web.enable-remote-write-receiver"
        with running_prometheus(tmp_path, flag, config=config) as theirs:
            remote_write(theirs.url, shared.items())
            for selectors in ASKED:
                pages = [_blocks(_page(one, selectors)) for one in (url, theirs.url)]
                assert pages[0] == pages[1], selectors
            _check_taken(theirs, url)

    async with _federating(store, external_labels=EXTERNAL) as url:
        await asyncio.to_thread(beside, url)


def _check_taken(theirs: Prometheus, url: str) -> None:
    """Values, times and labels as here, but for the labels that the agent adds."""
    query = '{__name__=~"own_.+"}[10m]'

    def found() -> list[Any]:
        return list(theirs.get("query", query=query)["data"]["result"])

    end = time.monotonic() + 15
    while not found() and time.monotonic() < end:
        time.sleep(0.1)
    got = {tuple(sorted(one["metric"].items())): one["values"] for one in found()}
    assert len(got) == 6
    ours = Prometheus(url).get("query", query=query)["data"]["result"]
    for one in ours:
        if one["metric"].get("instance") in ("old", "ended"):
            continue
        labelled = tuple(sorted((EXTERNAL | one["metric"]).items()))
        assert got[labelled] == one["values"][-1:], labelled


async def test_what_is_asked_for_wrongly_is_said_in_plain_words() -> None:
    store = Store()
    with ThreadPoolExecutor(2) as threads:
        engine, now_ms = QueryEngine(store), _now_ms()
        limits = QueryLimits(max_samples=3)
        served_routes = routes(
            store, engine, threads, lambda: now_ms, time.monotonic, limits=limits
        )
        _written(store, _series("m", now_ms))
        async with api_client(served_routes) as client:
            told = [
                await client.get(f"/federate{query}")
                for query in ("", "?match[]=up{", "?match[]={}", "?match[]=m", "?match[]=nosuch")
            ]
            told.append(await client.post("/federate?match[]=m"))
        async with api_client(served_routes, read="read", x="respond") as client:
            told.append(await client.get("/federate?match[]=m"))
    assert [one.status_code for one in told] == [400, 400, 400, 422, 200, 405, 401]
    said = [one.text for one in told]
    assert said[0].startswith("no match[] parameter provided; say which series to take, as in /fed")
    assert said[1].startswith('invalid parameter "match[]": 1:4: parse error: ')
    assert "at least one non-empty matcher" in said[2]
    assert "too many samples" in said[3] and "ask for fewer series" in said[3]
    assert said[4] == "" and "token" in said[6]
    assert all(one.headers["content-type"].startswith("text/plain") for one in told)


async def test_utf8_names_are_written_for_those_who_read_them() -> None:
    store, now_ms = Store(), _now_ms()
    utf8 = labels(**{"__name__": "my.metric_日", "job": "j", "a.b": 'x"'})
    _written(store, {utf8: [(now_ms, 1.5)]})
    pages = {}
    async with _federating(store) as url:
        for name in ("", "allow-utf-8", "underscores", "dots", "values"):
            accept = f"text/plain;version=1.0.0;escaping={name}" if name else ""
            pages[name] = await asyncio.to_thread(
                _page, url, ['{job="j",__name__!~"own_.*"}'], accept
            )
    rest = f'="x\\"",job="j",instance=""}} 1.5 {now_ms}\n'
    assert pages == {
        "": f"# TYPE my_metric__ untyped\nmy_metric__{{a_b{rest}",
        "underscores": f"# TYPE my_metric__ untyped\nmy_metric__{{a_b{rest}",
        "allow-utf-8": f'# TYPE "my.metric_日" untyped\n{{"my.metric_日","a.b"{rest}',
        "dots": f"# TYPE my_dot_metric____ untyped\nmy_dot_metric____{{a_dot_b{rest}",
        "values": f"# TYPE U__my_2e_metric___65e5_ untyped\n"
        f"U__my_2e_metric___65e5_{{U__a_2e_b{rest}",
    }


@pytest.mark.parametrize(
    ("name", "underscores", "dots", "values"),
    [  # the cases of Prometheus's model.EscapeName
        ("no_escapes:allowed", "no_escapes:allowed", "no__escapes:allowed", "no_escapes:allowed"),
        ("http.status:sum", "http_status:sum", "http_dot_status:sum", "U__http_2e_status:sum"),
        ("label with 😱", "label_with__", "label__with____", "U__label_20_with_20__1f631_"),
        ("花火", "__", "____", "U___82b1__706b_"),
        ("7 up", "__up", "____up", "U___37__20_up"),
    ],
)
def test_names_are_escaped_as_by_prometheus(
    name: str, underscores: str, dots: str, values: str
) -> None:
    assert escaped_name(name, "underscores") == underscores
    assert escaped_name(name, "dots") == dots
    assert escaped_name(name, "values") == values
    assert escaped_name(name, "allow-utf-8") == name


@pytest.mark.parametrize(
    ("accept", "content_type", "escaping"),
    [
        ("", "0.0.4", "underscores"),
        ("application/openmetrics-text;version=1.0.0;q=0.9,*/*;q=0.1", "0.0.4", "underscores"),
        (
            "application/openmetrics-text;version=1.0.0;escaping=allow-utf-8;q=0.6,"
            "text/plain;version=1.0.0;escaping=allow-utf-8;q=0.4,text/plain;version=0.0.4;q=0.3",
            "1.0.0",
            "allow-utf-8",
        ),
        ("text/plain;version=0.0.4;q=0.1;escaping=dots", "0.0.4", "dots"),
        ("text/plain;escaping=loudly", "0.0.4", "underscores"),
        ("text/plain;q=0.2;escaping=dots,text/plain;q=0.5;escaping=values", "0.0.4", "values"),
    ],
)
def test_what_the_scraper_reads(accept: str, content_type: str, escaping: str) -> None:
    form = negotiate_names(accept)
    assert form.escaping == escaping
    assert form.content_type.startswith(f"text/plain; version={content_type}; charset=utf-8")
    assert ("escaping=" in form.content_type) == ("escaping=" in accept and "loud" not in accept)
