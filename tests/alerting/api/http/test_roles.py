"""A route is for those who have its role, and who acts is recorded under a name that is theirs."""

import pytest
from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response
from starlette.routing import Route

from support.api_client import api_client
from tocsin_alerting.api.http.envelope import ApiError, success
from tocsin_alerting.api.http.get_route import get_route
from tocsin_alerting.api.http.roles import (
    Principal,
    Role,
    RoleRoute,
    actor,
    principal_of,
    require,
)

ROLES = {"grafana": "read", "li": "respond", "ops": "admin"}
ADMIN, RESPONDER = Principal("ops", Role.ADMIN), Principal("li", Role.RESPOND)


async def _endpoint(request: Request) -> Response:
    return success(principal_of(request).name)


@pytest.mark.parametrize("role", [Role.READ, Role.RESPOND, Role.ADMIN])
async def test_a_role_includes_those_below_it(role: Role) -> None:
    routes = [RoleRoute("/api/v1/x", _endpoint, role, ["POST"])]
    async with api_client(routes, **ROLES) as client:
        for name, has in (("grafana", Role.READ), ("li", Role.RESPOND), ("ops", Role.ADMIN)):
            headers = {"authorization": f"Bearer {name}"}
            answer = await client.post("/api/v1/x", headers=headers)
            if has >= role:
                assert (answer.status_code, answer.json()["data"]) == (200, name)
                continue
            assert answer.status_code == 403
            assert role.name.lower() in answer.json()["error"]
            assert f'"{name}" has the role {has.name.lower()}' in answer.json()["error"]
        nobody = await client.post("/api/v1/x")
    assert nobody.status_code == 401
    assert nobody.headers["www-authenticate"].startswith("Bearer")


async def test_a_route_that_names_no_role_is_for_admin() -> None:
    async with api_client([Route("/api/v1/x", _endpoint)], **ROLES) as client:
        for name, status in (("li", 403), ("ops", 200)):
            headers = {"authorization": f"Bearer {name}"}
            assert (await client.get("/api/v1/x", headers=headers)).status_code == status


async def test_outside_of_the_api_a_refusal_is_plain_text() -> None:
    async with api_client([RoleRoute("/x", _endpoint, Role.READ)], **ROLES) as client:
        answer = await client.get("/x")
    assert answer.status_code == 401
    assert answer.headers["content-type"].startswith("text/plain")


async def test_a_route_may_refuse_in_its_own_way() -> None:
    def refused(error: ApiError) -> Response:
        return PlainTextResponse("no", 418)

    routes = [RoleRoute("/api/v1/x", _endpoint, Role.READ, refused=refused)]
    async with api_client(routes, **ROLES) as client:
        assert (await client.get("/api/v1/x")).status_code == 418


async def test_a_browser_asks_before_it_sends_credentials() -> None:
    async with api_client([get_route("/api/v1/x", _endpoint)], **ROLES) as client:
        assert (await client.options("/api/v1/x")).status_code == 204
        assert (await client.get("/api/v1/x")).status_code == 401


async def test_too_many_wrong_tokens_are_told_when_to_come_again() -> None:
    async with api_client([get_route("/api/v1/x", _endpoint)], **ROLES) as client:
        headers = {"authorization": "Bearer wrong"}
        for _ in range(21):
            answer = await client.get("/api/v1/x", headers=headers)
    assert (answer.status_code, answer.headers["retry-after"]) == (429, "1")


def test_whom_nobody_looked_at_may_ask_for_health_alone() -> None:
    who = principal_of(Request({"type": "http", "headers": []}))
    require(who, Role.HEALTH)
    for role in (Role.METRICS, Role.READ, Role.RESPOND, Role.ADMIN):
        with pytest.raises(ApiError):
            require(who, role)


def test_who_acts_has_the_name_of_the_credential() -> None:
    assert actor(RESPONDER, "") == "li"
    assert actor(RESPONDER, "li", "root") == "li"
    assert actor(RESPONDER, "", "root") == "li"
    assert actor(ADMIN, "") == "ops"


def test_another_name_is_for_admin() -> None:
    assert actor(ADMIN, "wang") == "wang"
    with pytest.raises(ApiError, match='leave "by" out') as refused:
        actor(RESPONDER, "wang")
    assert refused.value.type == "forbidden"


def test_who_has_no_name_is_who_the_client_says() -> None:
    local = Principal("", Role.ADMIN)
    assert actor(local, "", "li") == "li"
    assert actor(local, "wang", "li") == "wang"
    assert actor(local, "") == "somebody"
