"""An engine behind `tocsin proxy` is found once, with the metrics of the proxy."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from alerting.local.test_engine_supervisor import Kept
from support.agent_process import free_port
from support.proxied import proxied_to
from support.webhook_sink import Answer, WebhookSink
from tocsin_alerting.incidents.changeset import EngineRow
from tocsin_alerting.local import discovery
from tocsin_alerting.local.engine_plan import make_plan
from tocsin_alerting.local.engine_supervisor import EngineSupervisor
from tocsin_alerting.local.proxied_engines import behind_proxies, usual_port
from tocsin_exporter.proxy.server import ProxyOptions
from tocsin_exporter.proxy.upstream import UpstreamAddress

LLAMACPP = Answer(body=b"llamacpp:requests_processing 1\n")
METRICS = "http://127.0.0.1:4914"


@asynccontextmanager
async def one_behind_a_proxy() -> AsyncIterator[tuple[WebhookSink, int]]:
    """An engine, and the port of the proxy before it."""
    async with WebhookSink(usual=LLAMACPP) as sink:
        options = ProxyOptions(UpstreamAddress("localhost", sink.port))
        async with proxied_to(options) as (app, port):
            app.metrics_url = METRICS
            yield sink, port


async def found(ports: list[int], proxy_port: int | None) -> list[tuple[str, str]]:
    """Targets and the metrics of their proxies."""
    asked = [discovery.local_engine(port, None) for port in ports]
    engines = await behind_proxies(await discovery.probe(asked), None, proxy_port)
    return [(e.target, e.access.proxy.url if e.access.proxy else "") for e in engines]


async def test_an_engine_on_the_proxys_port_is_the_one_behind_it() -> None:
    async with one_behind_a_proxy() as (sink, port):
        assert await found([port], None) == [(f"127.0.0.1:{sink.port}", METRICS)]


async def test_both_ports_lead_to_one_engine_with_a_proxy() -> None:
    async with one_behind_a_proxy() as (sink, port):
        engine = (f"127.0.0.1:{sink.port}", METRICS)
        assert set(await found([sink.port, port], None)) == {engine}
        assert await found([sink.port], port) == [engine]


async def test_the_proxys_own_port_leads_to_an_engine_that_nobody_asked() -> None:
    async with one_behind_a_proxy() as (sink, port):
        assert await found([], port) == [(f"127.0.0.1:{sink.port}", METRICS)]


async def test_what_is_no_proxy_is_the_engine_that_it_was() -> None:
    junk = Answer(body=b'{"upstream": "ftp://x", "metrics": 7}')
    async with WebhookSink(usual=LLAMACPP) as sink, WebhookSink(usual=junk) as other:
        assert await found([sink.port], other.port) == [(f"127.0.0.1:{sink.port}", "")]
        assert await found([sink.port], free_port()) == [(f"127.0.0.1:{sink.port}", "")]


async def test_a_plan_has_it_once_and_forgets_the_port_of_the_proxy() -> None:
    async with one_behind_a_proxy() as (sink, port):
        row = EngineRow(f"127.0.0.1:{port}", f"http://127.0.0.1:{port}", "llama.cpp", "m", 1)
        usual = [sink.port, port]
        plan = await make_plan([], False, "127.0.0.1", free_port(), usual, [], [row])
    (engine,) = plan.engines
    assert engine.target == f"127.0.0.1:{sink.port}"
    assert engine.access.proxy is not None
    assert [(old, new.target) for old, new in plan.moved] == [(row.target, engine.target)]
    assert plan.silent == ()


async def test_a_proxy_that_comes_later_is_read_too() -> None:
    async with one_behind_a_proxy() as (sink, port):
        plan = await make_plan([], False, "127.0.0.1", free_port(), [sink.port])
        kept = Kept()
        supervisor = EngineSupervisor(plan, None, "", kept.hooks)
        supervisor._ports = (sink.port, port)
        await supervisor.discover()
        await supervisor.discover()
    (engine,) = supervisor.watched.values()
    assert engine.access.proxy is not None
    assert kept.watched == kept.rewatched == [f"http://127.0.0.1:{sink.port}"]


def test_a_proxy_is_looked_for_where_nobody_chose_the_ports() -> None:
    assert usual_port(discovery.USUAL_PORTS) == 4913
    assert usual_port([8000]) is None
