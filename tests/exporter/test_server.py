"""The metrics page and its neighbours, over ASGI without a socket."""

import asyncio
import gzip
from collections.abc import Collection, Mapping

import httpx2
import pytest
from starlette.applications import Starlette

from support.site import only, table
from support.snapshots import snapshot
from tocsin_exporter.server import MetricsPage, ScrapeCounters, routes
from tocsin_exporter.snapshot import Family, Sample, Snapshot, labels

OPEN_METRICS = "application/openmetrics-text;version=1.0.0"
LOAD = Family("node_load1", "gauge", "Load.")
UP = Family("llm_engine_up", "gauge", "Up.")


class Agent:
    """An agent with a page of two areas, which can be made to wait."""

    def __init__(self) -> None:
        self.ready = False
        self.duplicates = 3
        self.original = False
        self.may_answer = asyncio.Event()
        self.may_answer.set()
        self.asked: list[str] = []
        self.pages = {
            "host": snapshot([Sample(LOAD, 0.5)]),
            "llm": snapshot([Sample(UP, 1, labels(target="h:1"))], job="llm"),
        }

    @property
    def collectors(self) -> Mapping[str, Collection[str]]:
        return {"host": ("cpu", "loadavg"), "llm": ("engine",)}

    async def page(
        self, parts: Collection[str] | None = None, original: bool = False
    ) -> list[Snapshot]:
        await self.may_answer.wait()
        self.original = original
        self.asked = sorted(parts or ())
        return [page for area, page in self.pages.items() if parts is None or area in parts]


class Rig:
    def __init__(self, most: int = 40) -> None:
        self.agent, self.scrapes = Agent(), ScrapeCounters()
        self.time = iter(range(1000))
        page = MetricsPage(self.agent, lambda: next(self.time) / 100, self.scrapes, most)
        links = {"Alerts": "/alerts?a=1&b=<2>"}
        app = Starlette(routes=routes(page, self.unready, "/metrics", links))
        transport = httpx2.ASGITransport(app=app)
        self.client = httpx2.AsyncClient(transport=transport, base_url="http://agent")

    def unready(self) -> str:
        return "" if self.agent.ready else "a source has not been read yet"

    async def get(self, path: str, **headers: str) -> httpx2.Response:
        sent = {name.replace("_", "-"): value for name, value in headers.items()}
        return await self.client.get(path, headers={"accept-encoding": "identity", **sent})


async def test_a_page_as_text() -> None:
    answer = await Rig().get("/metrics")
    assert answer.status_code == 200
    assert answer.headers["content-type"] == "text/plain; version=0.0.4; charset=utf-8"
    assert "content-encoding" not in answer.headers
    assert answer.text.splitlines()[-1] == 'llm_engine_up{target="h:1"} 1'


@pytest.mark.parametrize(("query", "asked"), [("", False), ("?original=true", True)])
async def test_the_engines_own_pages_come_when_they_are_asked_for(query: str, asked: bool) -> None:
    rig = Rig()
    assert (await rig.get("/metrics" + query)).status_code == 200
    assert rig.agent.original is asked


async def test_a_parameter_that_means_nothing_is_refused() -> None:
    answer = await Rig().get("/metrics?original=yes")
    assert answer.status_code == 400
    assert answer.text == "original must be true or false, not 'yes'\n"


async def test_open_metrics_and_gzip_when_asked_for() -> None:
    rig = Rig()
    request = rig.client.build_request(
        "GET",
        "/metrics",
        headers={"accept": "application/openmetrics-text", "accept-encoding": "gzip"},
    )
    answer = await rig.client.send(request, stream=True)
    raw = b"".join([part async for part in answer.aiter_raw()])
    assert answer.headers["content-encoding"] == "gzip"
    assert answer.headers["content-type"].startswith("application/openmetrics-text; version=1.0.0")
    assert gzip.decompress(raw).endswith(b"# EOF\n")
    assert answer.headers["vary"] == "Accept, Accept-Encoding"


async def test_head_has_the_headers_of_get() -> None:
    rig = Rig()
    answer = await rig.client.head("/metrics")
    assert answer.status_code == 200 and answer.headers["content-type"].startswith("text/plain")
    assert (await rig.client.post("/metrics")).status_code == 405


@pytest.mark.parametrize(
    ("query", "names"),
    [
        ("collect[]=host", {"node_load1"}),
        ("collect[]=llm&collect[]=host", {"node_load1", "llm_engine_up"}),
        ("collect[]=gpu", set()),
        ("exclude[]=host", {"llm_engine_up"}),
    ],
)
async def test_a_scrape_may_ask_for_areas(query: str, names: set[str]) -> None:
    body = (await Rig().get(f"/metrics?{query}")).text
    assert {line.split()[2] for line in body.splitlines() if line.startswith("# TYPE")} == names


@pytest.mark.parametrize(
    ("query", "parts"),
    [
        ("collect[]=cpu", ["cpu"]),
        ("collect[]=cpu&collect[]=llm", ["cpu", "llm"]),
        ("exclude[]=cpu", ["gpu", "llm", "loadavg", "process", "tocsin"]),
        ("exclude[]=cpu&exclude[]=llm", ["gpu", "loadavg", "process", "tocsin"]),
        ("", ["gpu", "host", "llm", "process", "tocsin"]),
    ],
)
async def test_a_scrape_may_ask_for_collectors_as_of_node_exporter(
    query: str, parts: list[str]
) -> None:
    rig = Rig()
    assert (await rig.get(f"/metrics?{query}")).status_code == 200
    assert rig.agent.asked == parts


@pytest.mark.parametrize(
    ("query", "names"),
    [
        ("name[]=node_load1", {"node_load1"}),
        ("name[]=node_load1&name[]=llm_engine_up", {"node_load1", "llm_engine_up"}),
        ("collect[]=llm&name[]=node_load1", set()),
        ("name[]=nothing", set()),
    ],
)
async def test_a_scrape_may_ask_for_metrics_by_name(query: str, names: set[str]) -> None:
    body = (await Rig().get(f"/metrics?{query}")).text
    assert {line.split()[2] for line in body.splitlines() if line.startswith("# TYPE")} == names


@pytest.mark.parametrize(
    ("query", "why"),
    [
        (
            "collect[]=hosts",
            "no such area or collector: 'hosts'; the areas are host, process, gpu, llm, tocsin, "
            "the collectors cpu, engine, loadavg",
        ),
        ("collect[]=tcpstat", "collector tcpstat is off here; --collector.tcpstat turns it on"),
        (
            "exclude[]=wifii",
            "no such area or collector: 'wifii'; the areas are host, process, gpu, llm, tocsin, "
            "the collectors cpu, engine, loadavg",
        ),
        ("collect[]=host&exclude[]=llm", "collect[] and exclude[] cannot be used together"),
    ],
)
async def test_a_bad_question_is_answered_with_what_is_wrong(query: str, why: str) -> None:
    answer = await Rig().get(f"/metrics?{query}")
    assert (answer.status_code, answer.text) == (400, why + "\n")


@pytest.mark.parametrize("part", ["tcpstat", "wifi", "softirqs"])
async def test_what_is_off_or_node_exporters_alone_is_left_out_already(part: str) -> None:
    rig = Rig()
    assert (await rig.get(f"/metrics?exclude[]={part}&exclude[]=gpu")).status_code == 200
    assert "gpu" not in rig.agent.asked and "host" in rig.agent.asked


async def test_more_scrapes_than_allowed_are_refused_and_the_others_answered() -> None:
    rig = Rig(most=2)
    rig.agent.may_answer.clear()
    waiting = [asyncio.create_task(rig.get("/metrics")) for _ in range(2)]
    while rig.scrapes.in_flight < 2:
        await asyncio.sleep(0)
    refused = await rig.get("/metrics")
    rig.agent.may_answer.set()
    assert refused.status_code == 503 and "(2)" in refused.text
    assert [answer.status_code for answer in await asyncio.gather(*waiting)] == [200, 200]
    assert (await rig.get("/metrics")).status_code == 200


async def test_it_counts_what_it_answers() -> None:
    rig = Rig()
    await rig.get("/metrics")
    await rig.get("/metrics", accept="application/openmetrics-text")
    await rig.get("/metrics?collect[]=x")
    rows = table(rig.scrapes.samples())
    assert only(rows, "tocsin_scrapes_total", format="text", code="200") == 1
    assert only(rows, "tocsin_scrapes_total", format="openmetrics", code="200") == 1
    assert only(rows, "tocsin_scrapes_total", format="text", code="400") == 1
    assert only(rows, "tocsin_scrape_duration_seconds_bucket", le="0.005") == 0
    assert only(rows, "tocsin_scrape_duration_seconds_bucket", le="0.01") in (2, 3)
    assert only(rows, "tocsin_scrape_duration_seconds_bucket", le="+Inf") == 3
    assert only(rows, "tocsin_scrape_duration_seconds_count") == 3
    assert only(rows, "tocsin_exposition_series", job="llm") == 1
    await rig.get("/metrics?collect[]=host")
    assert only(table(rig.scrapes.samples()), "tocsin_exposition_series", job="llm") == 0
    assert only(rows, "tocsin_exposition_bytes") > 100
    assert only(rows, "tocsin_exposition_duplicates_total") == 3
    assert only(rows, "tocsin_scrapes_in_flight") == 0


async def test_healthy_at_once_and_ready_when_every_source_was_read() -> None:
    rig = Rig()
    assert (await rig.get("/-/healthy")).status_code == 200
    assert (await rig.get("/-/ready")).status_code == 503
    rig.agent.ready = True
    assert (await rig.get("/-/ready")).text == "Tocsin is Ready.\n"


async def test_the_landing_page_links_and_escapes() -> None:
    answer = await Rig().get("/")
    assert '<a href="/metrics">' in answer.text
    assert '<a href="/alerts?a=1&amp;b=&lt;2&gt;">' in answer.text
    assert (await Rig().get("/nothing")).status_code == 404


async def test_a_page_shows_what_is_new_although_one_like_it_was_written_before() -> None:
    rig = Rig()
    first = await rig.get("/metrics")
    assert (await rig.get("/metrics")).content == first.content
    assert "openmetrics" in (await rig.get("/metrics", accept=OPEN_METRICS)).headers["content-type"]
    rig.agent.pages["host"] = snapshot([Sample(LOAD, 123456.5)])
    assert "node_load1 123456.5" in (await rig.get("/metrics")).text
    assert "node_load1" not in (await rig.get("/metrics?collect[]=llm")).text
    assert "node_load1 123456.5" in (await rig.get("/metrics")).text
