"""Who may change something: each way in which a stranger's page or machine might try."""

from collections.abc import Mapping

import pytest
from starlette.requests import Request
from starlette.responses import Response

from support.api_client import api_client
from tocsin_alerting.api.http.envelope import success
from tocsin_alerting.api.http.guard import BODIES, new_guard
from tocsin_alerting.api.http.roles import Role, RoleRoute
from tocsin_alerting.http import httpx
from tocsin_exporter.allowed_hosts import AllowedHosts

JSON = {"content-type": "application/json"}
FORM = {"content-type": "application/x-www-form-urlencoded"}
RIGHT = {"authorization": "Bearer hunter2"}
CHANGED = 200


class Site:
    """One route that changes something; `changes` counts how often it did."""

    def __init__(
        self,
        token: str | None = None,
        hosts: tuple[str, ...] = (),
        bodies: tuple[str, ...] = BODIES,
    ) -> None:
        self.changes = 0
        self._guard, self._token = new_guard(AllowedHosts(hosts), bodies), token

    async def _change(self, request: Request) -> Response:
        self._guard(request)
        self.changes += 1
        return success({})

    async def post(
        self,
        headers: Mapping[str, str],
        address: str = "127.0.0.1",
        host: str = "127.0.0.1:4911",
    ) -> httpx.Response:
        routes = [RoleRoute("/api/v1/change", self._change, Role.RESPOND, ["POST"])]
        async with api_client(routes, address, token=self._token) as client:
            every = {"host": host, **headers}
            answer = await client.post("/api/v1/change", content=b"{}", headers=every)
        assert (answer.status_code == CHANGED) == (self.changes == 1)
        return answer


LOOPBACK = ["127.0.0.1", "127.8.8.8", "::1", "::ffff:127.0.0.1"]


@pytest.mark.parametrize("address", LOOPBACK)
async def test_this_machine_may_where_there_is_no_token(address: str) -> None:
    assert (await Site(None).post(JSON, address)).status_code == CHANGED


@pytest.mark.parametrize(
    "address", [*LOOPBACK, "10.0.0.7", "192.168.1.2", "fe80::1", "::ffff:10.0.0.7", ""]
)
async def test_where_there_is_a_token_every_client_over_tcp_needs_it(address: str) -> None:
    assert (await Site("hunter2").post({**JSON, **RIGHT}, address)).status_code == CHANGED
    without = await Site("hunter2").post(JSON, address)
    assert without.status_code == 401
    assert without.json()["errorType"] == "unauthorized"
    assert "hunter2" not in without.text


@pytest.mark.parametrize(
    "given",
    ["Bearer hunter", "Bearer hunter22", "Bearer", "hunter2", "Basic hunter2", "", "Bearer \xff"],
)
async def test_a_wrong_token_is_none(given: str) -> None:
    headers = {**JSON, "authorization": given.encode("latin-1").decode("latin-1")}
    sent = {name: value.encode("latin-1") for name, value in headers.items()}
    answer = await Site("hunter2").post(sent, "10.0.0.7")  # type: ignore[arg-type]
    assert answer.status_code == 401


async def test_the_scheme_is_written_in_any_case() -> None:
    headers = {**JSON, "authorization": "bearer hunter2"}
    assert (await Site("hunter2").post(headers, "10.0.0.7")).status_code == CHANGED


async def test_without_a_configured_token_no_other_machine_may() -> None:
    for headers in (JSON, {**JSON, **RIGHT}, {**JSON, "authorization": "Bearer "}):
        answer = await Site(None).post(headers, "10.0.0.7")
        assert answer.status_code == 403
        assert "alertctl token add" in answer.json()["error"]


@pytest.mark.parametrize(
    "header",
    [
        *("forwarded", "via", "x-forwarded-for", "x-forwarded-host", "x-forwarded-proto"),
        *("x-real-ip", "x-client-ip", "true-client-ip", "cf-connecting-ip", "fastly-client-ip"),
        *("x-envoy-external-address", "x-original-forwarded-for", "cdn-loop", "x-azure-clientip"),
    ],
)
async def test_a_proxy_on_this_machine_speaks_for_somebody_else(header: str) -> None:
    forwarded = {**JSON, header: "127.0.0.1"}
    assert (await Site(None).post(forwarded)).status_code == 403
    assert (await Site("hunter2").post({**forwarded, **RIGHT})).status_code == CHANGED


@pytest.mark.parametrize(
    "host",
    ["evil.example", "evil.example:4911", "localhost.evil.example", "127.0.0.1.evil.example",
     "[", "[::1", "", "a b", "127.0.0.1@evil.example", "localhost:80:80.evil"],
)  # fmt: skip
async def test_a_name_that_was_made_to_resolve_to_us_is_refused(host: str) -> None:
    answer = await Site().post(JSON, host=host)
    assert (answer.status_code, answer.json()["errorType"]) == (403, "forbidden")


@pytest.mark.parametrize(
    "host",
    ["localhost", "localhost:4911", "LOCALHOST:80", "127.0.0.1", "10.0.0.7:4911", "[::1]:4911",
     "alerts.example.com", "Alerts.Example.com:443"],
)  # fmt: skip
async def test_addresses_and_our_names_are_ours(host: str) -> None:
    assert (await Site(hosts=("Alerts.example.com",)).post(JSON, host=host)).status_code == CHANGED


@pytest.mark.parametrize(
    "origin",
    ["http://evil.example", "null", "http://127.0.0.1:8000", "http://localhost:4911", "http://[",
     "file://", "127.0.0.1:4911"],
)  # fmt: skip
async def test_a_page_of_another_origin_is_refused(origin: str) -> None:
    answer = await Site("hunter2").post({**JSON, **RIGHT, "origin": origin})
    assert (answer.status_code, answer.json()["errorType"]) == (403, "forbidden")


async def test_a_page_of_ours_is_not() -> None:
    assert (await Site().post({**JSON, "origin": "http://127.0.0.1:4911"})).status_code == CHANGED


@pytest.mark.parametrize(
    "kind", ["text/plain", "multipart/form-data; boundary=x", "application/xml", "", "json",
             "text/plain; application/json"]
)  # fmt: skip
async def test_a_body_that_any_form_can_send_is_refused(kind: str) -> None:
    answer = await Site().post({"content-type": kind} if kind else {})
    assert (answer.status_code, answer.json()["errorType"]) == (415, "unsupported_media_type")


async def test_a_form_is_for_programs_not_for_browsers() -> None:
    assert (await Site().post(FORM)).status_code == CHANGED
    assert (await Site().post({**FORM, "sec-fetch-site": "none"})).status_code == 415
    assert (await Site().post({**FORM, "origin": "http://127.0.0.1:4911"})).status_code == 415


async def test_json_with_a_charset_is_json() -> None:
    headers = {"content-type": "Application/JSON; charset=utf-8"}
    assert (await Site().post(headers)).status_code == CHANGED


async def test_a_route_may_take_bodies_of_its_own() -> None:
    site = Site(bodies=("application/x-protobuf",))
    for kind, status in (("application/x-protobuf", CHANGED), ("application/json", 415)):
        site.changes = 0
        answer = await site.post({"content-type": kind})
        assert answer.status_code == status
    assert "application/x-protobuf" in answer.json()["error"]
