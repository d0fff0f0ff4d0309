"""Which Host headers are ours, and what a page that rebinds its name gets to read."""

import socket

import pytest
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response
from starlette.routing import Route

from tocsin_alerting.http import httpx
from tocsin_exporter.allowed_hosts import HEALTH, AllowedHosts, HostCheck, own_hosts
from tocsin_exporter.clock import Clock
from tocsin_exporter.exporter import ExporterOptions, build
from tocsin_exporter.loop_watchdog import LoopWatchdog

OURS = [
    "127.0.0.1:4911",
    "10.0.0.7",
    "[::1]:4911",
    "[fe80::1]",
    "localhost",
    "LOCALHOST:80",
    "localhost.:4911",
    "box",
    "Box.Example.org.:4911",
    "agent:4911",
]
STRANGE = [
    "evil.example",
    "evil.example:4911",
    "localhost.evil.example",
    "127.0.0.1.evil.example",
    "box.evil.example",
    "[evil.example]",
    "evil@localhost",
    "localhost@evil.example",
    "localhost/evil.example",
    "evil.example#localhost",
    "agent:4911x",
    "",
]


def request(*hosts: str, version: str = "1.1") -> Request:
    headers = [(b"host", host.encode()) for host in hosts]
    return Request({"type": "http", "headers": headers, "http_version": version})


@pytest.mark.parametrize("host", OURS)
def test_addresses_and_our_names_are_ours(host: str) -> None:
    assert AllowedHosts(["box", "box.example.ORG", "agent."]).refused(request(host)) is None


@pytest.mark.parametrize("host", STRANGE)
def test_other_names_are_not_and_the_answer_says_what_to_set(host: str) -> None:
    why = AllowedHosts(["box", "agent"]).refused(request(host))
    assert why is not None and "web.allow_hosts" in why


def test_a_second_host_or_none_at_all_is_not_ours() -> None:
    hosts = AllowedHosts()
    assert hosts.refused(request("localhost", "evil.example"))
    assert hosts.refused(request())
    assert hosts.refused(request(version="1.0")) is None
    assert hosts.refused(request("evil.example", version="1.0"))


def test_this_machine_knows_its_own_name() -> None:
    hosts = own_hosts(["bell.example"])
    assert hosts.refused(request(socket.gethostname())) is None
    assert hosts.refused(request("bell.example:443")) is None
    hosts.add("late.example")
    assert hosts.refused(request("late.example")) is None


async def test_only_metrics_and_health_are_for_any_name() -> None:
    def page(request: Request) -> Response:
        return PlainTextResponse("read")

    paths = ("/metrics", *HEALTH, "/", "/api/v1/incidents", "/metrics/", "/-/reload")
    app = Starlette(routes=[Route(path, page) for path in paths])
    checked = HostCheck(
        app,
        AllowedHosts(),
        paths[:3],
        lambda request: request.headers.get("authorization") == "right",
    )
    transport = httpx.ASGITransport(checked)
    async with httpx.AsyncClient(transport=transport, base_url="http://127.0.0.1") as client:
        for path in paths:
            strange = await client.get(path, headers={"host": "evil.example"})
            assert strange.status_code == (200 if path in paths[:3] else 403)
            told = {"host": "evil.example", "authorization": "right"}
            assert (await client.get(path, headers=told)).text == "read"
            assert (await client.get(path)).text == "read"


async def test_the_exporter_alone_checks_it_too() -> None:
    clock = Clock()
    _, app = build(
        ExporterOptions(telemetry_path="/page"), clock, LoopWatchdog(lambda: None, clock.monotonic)
    )
    transport = httpx.ASGITransport(app)
    async with httpx.AsyncClient(transport=transport, base_url="http://evil.example") as client:
        assert (await client.get("/")).status_code == 403
        assert (await client.get("/page")).status_code == 200
        assert (await client.get("/-/healthy")).status_code == 200
        assert (await client.get("/", headers={"host": "[::1]:4911"})).status_code == 200
